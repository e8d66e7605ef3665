"""What people do to tasks and workers from their lists and pages: by POST, each with a permission of its own.

The log of the admin says what was asked for before anything is done, so that nothing is done that it does not know of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from .. import control
from ..core.states import State
from ..selection import Selection
from ..worker.remote import Verb as Order
from . import duplicates, operations
from .asking import ask, counts_in_words, form_of, is_sent
from .logbook import log_asked
from .permissions import may
from .readonly import ReadOnlyAdmin
from .reasons import told
from .verbs import CANCEL, DISCARD, REMOVE, REQUEUE, RETRY, RUN, VERBS, Verb
from .wording import in_full

#: tasks that one request changes at most; it is to end before a browser gives up
MAX_TASKS = 1_000

_WORK: Mapping[str, Callable[..., control.Report]] = {
    "retry": control.retry,
    "run": control.requeue,
    "cancel": control.cancel,
    "requeue": control.requeue,
    "discard": control.discard,
    "delete": control.delete,
}

#: the states in which a task's page offers an action
_OFFERED: Mapping[str, frozenset[State]] = {
    **{verb.action: verb.states for verb in VERBS.values()},
    "duplicate_tasks": frozenset(State),
}


class TaskActions(ReadOnlyAdmin):
    """Retry, run now, cancel, requeue, duplicate, discard, delete: for many in the list, for one on its page."""

    actions = (
        "retry_tasks",
        "run_tasks_now",
        "cancel_tasks",
        "requeue_tasks",
        "duplicate_tasks",
        "discard_tasks",
        "delete_tasks",
    )

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Who may see tasks may not yet touch them."""
        return may(request, "operate_tasks")

    def has_remove_permission(self, request: HttpRequest) -> bool:
        """Nor who may touch them delete what is history."""
        return may(request, "delete_tasks")

    @admin.action(description=RETRY.label, permissions=["operate"])
    def retry_tasks(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Tasks that failed, were cancelled or expired run once more."""
        return self._act(request, queryset, RETRY)

    @admin.action(description=RUN.label, permissions=["operate"])
    def run_tasks_now(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Tasks that are due later are due."""
        return self._act(request, queryset, RUN)

    @admin.action(description=CANCEL.label, permissions=["operate"])
    def cancel_tasks(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """At once while they wait, by request while they run."""
        return self._act(request, queryset, CANCEL)

    @admin.action(description=REQUEUE.label, permissions=["operate"])
    def requeue_tasks(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Tasks that wait do so in another queue, or with another priority."""
        return self._act(request, queryset, REQUEUE)

    @admin.action(description=gettext_lazy("Duplicate"), permissions=["operate"])
    def duplicate_tasks(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """The same tasks again, as new ones; of one alone with other arguments."""
        rows = self._chosen(request, queryset)
        return duplicates.duplicate_many(self, request, rows) if rows else None

    @admin.action(description=DISCARD.label, permissions=["operate"])
    def discard_tasks(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Tasks that ended without success are deleted: somebody has seen to them."""
        return self._act(request, queryset, DISCARD)

    @admin.action(description=REMOVE.label, permissions=["remove"])
    def delete_tasks(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Tasks that have ended are deleted."""
        return self._act(request, queryset, REMOVE)

    def get_urls(self) -> list[URLPattern]:
        """With the form of a duplicate."""

        def duplicate(request: HttpRequest, object_id: str) -> HttpResponse:
            return duplicates.duplicate_one(self, request, object_id)

        view = self.admin_site.admin_view(duplicate)
        return [
            path("<path:object_id>/duplicate/", view, name="django_taskq_taskrecord_duplicate"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list; by POST, something is done to those that are chosen, or to all that match."""
        if request.method == "POST" and request.POST.get("taskq_all"):
            return self._act_on_all(request)
        return super().changelist_view(request, extra_context)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """With what can be done in the state the task is in."""
        record, allowed = context.get("original"), self.get_actions(request)
        if record is not None:
            names = [name for name, states in _OFFERED.items() if name in allowed and record.state in states]
            context["taskq_actions"] = [(name, getattr(self, name).short_description) for name in names]
        return super().render_change_form(request, context, *args, **kwargs)

    def _act(self, request: HttpRequest, queryset: QuerySet[Any], verb: Verb) -> HttpResponse | None:
        rows = self._chosen(request, queryset)
        if not rows:
            return None
        form = form_of(verb, queryset.db, request)
        if verb.is_asked and not (is_sent(request) and (form is None or form.is_valid())):
            return ask(
                self,
                request,
                label=verb.label,
                question=verb.question,
                lines=counts_in_words(verb, (row.state for row in rows)),
                hidden=[("action", verb.action), *((ACTION_CHECKBOX_NAME, str(row.pk)) for row in rows)],
                form=form,
                is_destructive=verb in {DISCARD, REMOVE},
            )
        log_asked(request, rows, str(verb.label))
        given = {} if form is None else form.given
        report = _WORK[verb.name](queryset.db, Selection(ids=tuple(str(row.pk) for row in rows)), **given)
        became = told(report.counts)
        text = f"{verb.label}: {became}." if became else _("%(action)s: nothing to do.") % {"action": verb.label}
        messages.add_message(request, messages.SUCCESS if report.changed else messages.WARNING, capfirst(text))
        return None

    def _act_on_all(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        here = HttpResponseRedirect(request.get_full_path())
        named = request.POST.getlist("action")
        index = request.POST.get("index", "0")
        action = named[int(index)] if index.isdecimal() and int(index) < len(named) else ""
        if action == "duplicate_tasks":
            messages.error(request, _("To duplicate tasks, choose them."))
            return here
        verb = next((one for one in VERBS.values() if one.action == action), None)
        if verb is None:
            messages.warning(request, _("No action selected."))
            return here
        if not may(request, verb.permission):
            raise PermissionDenied
        try:
            listed: Any = self.get_changelist_instance(request)
        except IncorrectLookupParameters:
            return HttpResponseRedirect(request.path)
        # What is no search was said to be none.
        search = listed.search
        if search is None or (search.reads_content and not may(request, "view_payload")):
            return here
        return operations.ask_for_all(self, request, verb, search) or here

    def _chosen(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """The rows that are meant; says so where they are not all that were asked for, or none."""
        # Read once: a list of the failed ones is empty after they are retried.
        rows = list(queryset.only("pk", "name", "state").order_by("pk")[: MAX_TASKS + 1])
        if not rows:
            # Selection would take no ids for all tasks there are.
            messages.warning(request, _("None of these tasks is there any more."))
        if len(rows) > MAX_TASKS:
            text = _("These were the first %(count)s; there are more.") % {"count": in_full(MAX_TASKS)}
            messages.warning(request, text)
        return rows[:MAX_TASKS]


class WorkerActions(ReadOnlyAdmin):
    """Drain, go on, stop: asked of worker processes, which hear of it within seconds."""

    actions = ("drain_workers", "resume_workers", "stop_workers")

    def has_control_permission(self, request: HttpRequest) -> bool:
        """Who may see workers may not yet stop them."""
        return may(request, "control_workers")

    @admin.action(description=gettext_lazy("Drain: take no more tasks"), permissions=["control"])
    def drain_workers(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Until they are told to go on."""
        _order(request, queryset, _("Drain"), "drain")

    @admin.action(description=gettext_lazy("Go on after a drain"), permissions=["control"])
    def resume_workers(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """They take tasks again."""
        _order(request, queryset, _("Go on"), "resume")

    @admin.action(description=gettext_lazy("Stop the worker, with all its processes"), permissions=["control"])
    def stop_workers(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """As on SIGTERM: what runs may end first."""
        _order(request, queryset, _("Stop"), "stop")


def _order(request: HttpRequest, queryset: QuerySet[Any], label: str, verb: Order) -> None:
    rows = list(queryset)
    log_asked(request, rows, label)
    orders = control.order(queryset.db, verb, [row.pk for row in rows])
    text = ngettext("%(count)s process is asked to.", "%(count)s processes are asked to.", len(orders))
    messages.success(request, f"{label}: {text % {'count': len(orders)}}")
