"""Queues: how much waits and for how long, how fast it comes and goes, what is paused; and what people do about it."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.models import DELETION
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .. import control
from ..aliases import backends_on
from ..backend import TaskqBackend
from ..core.paused import Paused
from ..models import PauseRecord, QueueRecord
from ..overview import MOST, QueueState, queue_states
from ..pace import Pace, paces
from ..purging import purge_waiting
from ..routes import is_queue_name
from .display import EMPTY, show_moment, show_seconds
from .logbook import log_asked
from .permissions import may
from .readonly import OnePageAdmin
from .wording import in_full

#: tasks that one request deletes; it is to end before a browser gives up
_AT_ONCE = 5_000


@admin.register(QueueRecord)
class QueueAdmin(OnePageAdmin):
    """One page, for who may see tasks, and one to confirm that a queue is to be emptied."""

    needs = "view_taskrecord"

    class Media:
        """Beside those of all pages."""

        css: ClassVar = {"all": ["django_taskq/queues.css"]}

    def get_urls(self) -> list[URLPattern]:
        """With what asks before a purge."""
        view = self.admin_site.admin_view(self.purge_view)
        return [*super().get_urls(), path("purge/", view, name="django_taskq_queuerecord_purge")]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The queues; by POST, one of them or a task is paused or goes on."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        using = self.get_queryset(request).db
        if request.method == "POST":
            return self._pause(request, using)
        pauses = control.paused(using)
        backends = backends_on(using)
        stopped = Paused(*(frozenset(one.name for one in pauses if one.kind == kind) for kind in ("queue", "task")))
        states = queue_states(using, backends, stopped, asks_brokers=True)
        pace = paces(using)
        by_name = {one.name: one for one in pauses if one.kind == "queue"}
        context = {
            "queues": [self._shown(one, pace.get(one.queue, Pace()), by_name.get(one.queue)) for one in states],
            "has_broker": any(backend.config.is_kombu for backend in backends),
            "has_aliases": len(backends) > 1,
            "paused_tasks": [
                {"name": one.name, "paused": show_moment(one.paused_at, "seconds"), "by": one.paused_by}
                for one in pauses
                if one.kind == "task"
            ],
            "may_control": may(request, "control_queues"),
        }
        return self.show(request, "queues.html", _("Queues"), **{**context, **(extra_context or {})})

    def purge_view(self, request: HttpRequest) -> HttpResponse:
        """Asks for the queue's name, and deletes what waits in it once that was typed."""
        if not (self.has_view_permission(request) and may(request, "control_queues")):
            raise PermissionDenied
        using = self.get_queryset(request).db
        asked = request.POST if request.method == "POST" else request.GET
        name = asked.get("queue", "")
        backend = next((one for one in backends_on(using) if one.alias == asked.get("backend")), None)
        if backend is None or not is_queue_name(name):
            messages.error(request, _("There is no such queue."))
            return self._to_list()
        # To the letter, without what a browser or a hand adds at the ends.
        is_typed = request.method == "POST" and request.POST.get("typed", "").strip() == name.strip()
        if is_typed:
            self._purge(request, using, backend, name)
            return self._to_list()
        state = queue_states(using, [backend], Paused(frozenset({name})))
        waiting = next((one.ready for one in state if one.queue == name), 0)
        return self.show(
            request,
            "queue_purge.html",
            _("Delete what waits in a queue"),
            queue=name,
            backend=backend.alias,
            waiting=in_full(waiting, MOST),
            has_broker=_has_messages(backend, name),
            wants_broker=bool(request.POST.get("broker")),
            is_wrong=request.method == "POST",
        )

    def _to_list(self) -> HttpResponse:
        return HttpResponseRedirect(reverse(f"{self.admin_site.name}:django_taskq_queuerecord_changelist"))

    def _shown(self, one: QueueState, pace: Pace, pause: PauseRecord | None) -> dict[str, Any]:
        return {
            "name": one.queue,
            "backend": one.backend,
            "tasks_url": self._tasks_url(one.queue),
            "running_url": self._tasks_url(one.queue, "RUNNING"),
            "purge_url": f"{reverse(f'{self.admin_site.name}:django_taskq_queuerecord_purge')}?"
            + urlencode({"queue": one.queue, "backend": one.backend}),
            "ready": in_full(one.ready, MOST),
            "running": in_full(one.running),
            "wait": _duration(one.oldest_wait),
            "coming": _per_minute(pace.coming),
            "leaving": _per_minute(pace.leaving),
            "drains": _drains(one, pace),
            "broker": EMPTY if one.broker is None else in_full(one.broker),
            "is_paused": one.is_paused,
            "paused": show_moment(pause.paused_at, "seconds") if pause is not None else "",
            "by": pause.paused_by if pause is not None else "",
        }

    def _tasks_url(self, queue: str, state: str = "") -> str:
        words = {"q": f'queue:"{queue}"'} | ({"state": state} if state else {})
        return f"{reverse(f'{self.admin_site.name}:django_taskq_taskrecord_changelist')}?{urlencode(words)}"

    def _pause(self, request: HttpRequest, using: str) -> HttpResponse:
        if not may(request, "control_queues"):
            raise PermissionDenied
        verb, name = request.POST.get("verb"), request.POST.get("name", "")
        is_task = request.POST.get("kind") == "task"
        if verb not in {"pause", "resume"} or not (0 < len(name) <= 255 if is_task else is_queue_name(name)):
            messages.error(request, _("There is no such queue."))
        elif verb == "pause":
            log_asked(request, [QueueRecord(queue_name=name)], _("Pause"))
            is_news = control.pause(using, "task" if is_task else "queue", name, by=request.user.get_username())
            text = _("“%(name)s” is paused.") if is_news else _("“%(name)s” was paused before.")
            messages.add_message(request, messages.SUCCESS if is_news else messages.WARNING, text % {"name": name})
        else:
            log_asked(request, [QueueRecord(queue_name=name)], _("Resume"))
            is_news = control.resume(using, "task" if is_task else "queue", name)
            text = _("“%(name)s” goes on.") if is_news else _("“%(name)s” was not paused.")
            messages.add_message(request, messages.SUCCESS if is_news else messages.WARNING, text % {"name": name})
        return self._to_list()

    def _purge(self, request: HttpRequest, using: str, backend: TaskqBackend, name: str) -> None:
        # Said before it is done, so that nothing is deleted of which nobody knows who did it.
        log_asked(request, [QueueRecord(queue_name=name)], _("Delete what waits"), DELETION)
        done = purge_waiting(using, backend.alias, name, limit=_AT_ONCE)
        text = ngettext(
            "%(count)s task that waited in “%(name)s” was deleted.",
            "%(count)s tasks that waited in “%(name)s” were deleted.",
            done.deleted,
        ) % {"count": in_full(done.deleted), "name": name}
        if done.is_more:
            text += " " + _("There may be more of them: once more for the next.")
        messages.success(request, text)
        if request.POST.get("broker") and _has_messages(backend, name):
            _purge_broker(request, backend, name)


def _purge_broker(request: HttpRequest, backend: TaskqBackend, name: str) -> None:
    from ..brokers.kombu.connection import errors_of  # noqa: PLC0415  # who has no message broker does not load kombu

    try:
        count = control.purge_broker(backend, name)
    except errors_of(None) as error:
        # By its class alone: texts of brokers' clients may hold the URL.
        messages.error(request, _("The broker could not be asked: %(error)s.") % {"error": type(error).__name__})
        return
    if count is not None:
        text = ngettext(
            "%(count)s message at the broker was deleted.", "%(count)s messages at the broker were deleted.", count
        )
        messages.success(request, text % {"count": in_full(count)})


def _has_messages(backend: TaskqBackend, name: str) -> bool:
    return backend.config.is_kombu and not backend.config.topology.is_broadcast(name)


def _duration(seconds: float | None) -> str:
    """Without fractions that change faster than anybody reads them."""
    return f"{seconds:.0f} s" if seconds is not None and 10 <= seconds < 60 else show_seconds(seconds)


def _per_minute(per_second: float) -> str:
    rate = per_second * 60
    return number_format(rate, 1 if rate < 10 else 0, force_grouping=True) if rate else EMPTY


def _drains(one: QueueState, pace: Pace) -> str:
    if one.is_paused or not one.ready or not pace.leaving:
        return EMPTY
    left = pace.seconds_to_drain(one.ready)
    if left is None:
        return _("grows")
    shown = show_seconds(max(float(round(left)), 60.0))
    return f"> {shown}" if one.ready >= MOST else shown
