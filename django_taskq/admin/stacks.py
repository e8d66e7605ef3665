"""What a worker process is doing right now, as it says itself: it is asked, and a page waits for the answer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from django.contrib import messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db import connections
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _

from .. import control
from ..core import codec
from ..core.source_lines import hide_literals
from ..core.states import State
from ..hiding import is_hidden_name
from ..models import OrderRecord, TaskRecord
from ..sight import SPOILT, sight_of
from ..worker.remote import Verb
from .actions import WorkerActions
from .logbook import log_asked
from .permissions import may

#: seconds that a page waits: no longer than a web server's worker can be spared
_PATIENCE = 2.5
#: running tasks whose secrets are looked for in the stacks
_MOST = 100
_ASKED: tuple[Verb, ...] = ("ping", "stacks")


class WorkerStacks(WorkerActions):
    """Asked for by POST, looked at by GET: who looks again does not ask again."""

    def has_stacks_permission(self, request: HttpRequest) -> bool:
        """Stacks may show what is in tasks."""
        return may(request, "control_workers") and may(request, "view_payload") and self.has_view_permission(request)

    def get_urls(self) -> list[URLPattern]:
        """With the page of the answer."""
        view = self.admin_site.admin_view(self.stacks)
        return [path("<path:object_id>/stacks/", view, name="django_taskq_workerrecord_stacks"), *super().get_urls()]

    def stacks(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The question, by POST; the answer."""
        if not self.has_stacks_permission(request):
            raise PermissionDenied
        worker = self.get_object(request, unquote(object_id))
        if request.method == "POST":
            return self._ask(request, worker)
        using = self.get_queryset(request).db
        orders = list(
            OrderRecord.objects.using(using).filter(
                pk__in=[int(one) for one in request.GET.getlist("of")[:2] if one.isdecimal() and len(one) < 19],
                worker_id=unquote(object_id),
                verb__in=_ASKED,
            )
        )
        if not connections[using].in_atomic_block:
            # In a transaction of the whole request (``ATOMIC_REQUESTS``) a wait would hold up the worker, not hear it.
            orders = _wait(using, orders)
        said = {one.verb: one.answer for one in orders if one.answered_at is not None}
        return self.show(
            request,
            "workerrecord/stacks.html",
            _("Stacks"),
            subtitle=unquote(object_id),
            worker=worker,
            worker_url=self._page_of(worker.pk) if worker is not None else "",
            is_asked=bool(orders),
            is_waiting=len(said) < len(orders),
            facts=_facts(said.get("ping", "")),
            stacks=self._shown(using, unquote(object_id), said["stacks"]) if "stacks" in said else "",
        )

    def _ask(self, request: HttpRequest, worker: Any) -> HttpResponse:
        if worker is None:
            raise Http404
        if not self.is_alive(worker):
            messages.warning(request, _("This worker process is lost: it does not answer."))
            return HttpResponseRedirect(self._page_of(worker.pk))
        log_asked(request, [worker], _("Stacks"))
        using = self.get_queryset(request).db
        asked = QueryDict(mutable=True)
        asked.setlist("of", [str(order.pk) for verb in _ASKED for order in control.order(using, verb, [worker.pk])])
        return HttpResponseRedirect(f"{self._page_of(worker.pk, 'stacks')}?{asked.urlencode()}")

    def is_alive(self, worker: Any) -> bool:
        """Whether its lease holds."""
        raise NotImplementedError

    def _page_of(self, worker_id: str, name: str = "change") -> str:
        return reverse(f"{self.admin_site.name}:django_taskq_workerrecord_{name}", args=[quote(worker_id)])

    def _shown(self, using: str, worker_id: str, text: str) -> str:
        """Without what the running tasks call sensitive, and what is a secret by its name."""
        rows = TaskRecord.objects.using(using).filter(state=State.RUNNING, worker_id=worker_id)
        for row in rows.only("name", "backend", "arguments", "options")[:_MOST]:
            text = sight_of(row).text(text)
        return hide_literals(text, is_hidden_name)


def _wait(using: str, orders: Sequence[OrderRecord]) -> list[OrderRecord]:
    deadline = time.monotonic() + _PATIENCE
    found = []
    # The last one first: a worker obeys in the order in which it was asked.
    for order in sorted(orders, key=attrgetter("pk"), reverse=True):
        answered = control.answers(using, [order], max(deadline - time.monotonic(), 0.0))
        found.append(answered.get(order.worker_id, order))
    return found


def _facts(text: str) -> Mapping[str, Any] | None:
    try:
        found = codec.decode(text) if text else None
    except SPOILT:
        return None
    if not isinstance(found, dict):
        return None
    memory, running = found.get("memory"), found.get("running")
    return {
        "doing": _("stops") if found.get("stopping") else _("drains") if found.get("quiet") else _("works"),
        "version": found.get("version") or "",
        "memory": memory if isinstance(memory, int) else None,
        "running": running if isinstance(running, list) else [],
    }
