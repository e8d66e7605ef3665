"""What people do to tasks and workers from their lists and pages: by POST, each with a permission of its own.

The log of the admin says what was asked for before anything is done, so that nothing is done that it does not know of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from .. import control
from ..core.states import PENDING, State
from ..selection import Selection
from ..transitions.operate import RETRIABLE
from ..worker.remote import Verb
from .permissions import may
from .readonly import ReadOnlyAdmin

#: tasks that one request changes at most; it is to end before a browser gives up
MAX_TASKS = 1_000

#: the states in which a task's page offers an action
_OFFERED: dict[str, frozenset[State]] = {
    "retry_tasks": RETRIABLE,
    "run_tasks_now": frozenset({State.SCHEDULED}),
    "cancel_tasks": PENDING | {State.RUNNING},
}


class TaskActions(ReadOnlyAdmin):
    """Retry, run now, cancel: for many in the list, for one on its page."""

    actions = ("retry_tasks", "run_tasks_now", "cancel_tasks")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Who may see tasks may not yet touch them."""
        return may(request, "operate_tasks")

    @admin.action(description=gettext_lazy("Retry"), permissions=["operate"])
    def retry_tasks(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Tasks that failed, were cancelled or expired run once more."""
        _carry_out(request, queryset, _("Retry"), control.retry)

    @admin.action(description=gettext_lazy("Run now"), permissions=["operate"])
    def run_tasks_now(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Tasks that are due later are due."""
        _carry_out(request, queryset, _("Run now"), control.requeue)

    @admin.action(description=gettext_lazy("Cancel"), permissions=["operate"])
    def cancel_tasks(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """At once while they wait, by request while they run."""
        _carry_out(request, queryset, _("Cancel"), control.cancel)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """With what can be done in the state the task is in."""
        record, allowed = context.get("original"), self.get_actions(request)
        if record is not None:
            names = [name for name, states in _OFFERED.items() if name in allowed and record.state in states]
            context["taskq_actions"] = [(name, getattr(self, name).short_description) for name in names]
        return super().render_change_form(request, context, *args, **kwargs)


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


def _carry_out(
    request: HttpRequest, queryset: QuerySet[Any], label: str, work: Callable[[str, Selection], control.Report]
) -> None:
    # Read once: a list of the failed ones is empty after they are retried.
    rows = list(queryset.only("pk", "name").order_by("pk")[: MAX_TASKS + 1])
    is_cut = len(rows) > MAX_TASKS
    rows = rows[:MAX_TASKS]
    if not rows:
        # Selection would take no ids for all tasks there are.
        messages.warning(request, _("None of these tasks is there any more."))
        return
    _log(request, rows, label)
    report = work(queryset.db, Selection(ids=tuple(str(row.pk) for row in rows)))
    told = ", ".join(f"{count:,} {reason}" for reason, count in report.counts.items())
    text = f"{label}: {told}." if told else _("%(action)s: nothing to do.") % {"action": label}
    if is_cut:
        text += " " + _("These were the first %(count)s; there are more.") % {"count": f"{MAX_TASKS:,}"}
    messages.add_message(request, messages.SUCCESS if report.changed else messages.WARNING, capfirst(text))


def _order(request: HttpRequest, queryset: QuerySet[Any], label: str, verb: Verb) -> None:
    rows = list(queryset)
    _log(request, rows, label)
    orders = control.order(queryset.db, verb, [row.pk for row in rows])
    text = ngettext("%(count)s process is asked to.", "%(count)s processes are asked to.", len(orders))
    messages.success(request, f"{label}: {text % {'count': len(orders)}}")


def _log(request: HttpRequest, rows: Iterable[Any], label: str) -> None:
    LogEntry.objects.log_actions(request.user.pk, rows, CHANGE, change_message=_("Asked for: %s") % label)  # type: ignore[arg-type]  # any iterable of rows
