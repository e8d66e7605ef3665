"""Worker processes: who works, on what, and for how long nothing was heard of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Count, ExpressionWrapper, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from ..core.states import State
from ..database import Now
from ..finding.pages import find
from ..finding.search import Search
from ..models import InstantField, TaskRecord, WorkerRecord
from . import display
from .listing import LONG
from .permissions import may
from .stacks import WorkerStacks
from .wording import in_full

#: tasks of one worker that the list names, of all workers that it reads, and that a worker's page lists
_NAMED, _READ, _LISTED = 3, 1_000, 20


class WorkerList(ChangeList):
    """The list, with what these workers run, asked for once."""

    def get_results(self, request: HttpRequest) -> None:
        """Those of a page, each with its tasks and how many there are."""
        super().get_results(request)
        using = self.queryset.db
        ids = [worker.pk for worker in self.result_list]
        tasks = list(_running(using, ids)[:_READ]) if ids else []
        by_worker: dict[str, list[TaskRecord]] = {}
        for row in tasks:
            by_worker.setdefault(row.worker_id, []).append(row)
        counts = {worker_id: len(rows) for worker_id, rows in by_worker.items()}
        if len(tasks) == _READ:
            counts = _counts(using, ids)
        sees = may(request, "view_taskrecord")
        for worker in self.result_list:
            worker.running = counts.get(worker.pk, 0)
            worker.tasks = by_worker.get(worker.pk, []) if sees else None


@admin.register(WorkerRecord)
class WorkerRecordAdmin(WorkerStacks):
    """The rows of workers that are alive, or were lost and not yet noticed."""

    list_display = (
        "name",
        "is_alive",
        "heartbeat_text",
        "slots_text",
        "tasks_text",
        "queues",
        "hostname",
        "pid",
        "started_text",
    )
    fields = (
        "id",
        "name",
        "is_alive",
        "heartbeat_text",
        "slots_text",
        "runs_now_text",
        "last_tasks_text",
        "queues",
        "backends",
        "hostname",
        "pid",
        "started_text",
        "lease",
    )
    readonly_fields = (
        "id",
        "is_alive",
        "heartbeat_text",
        "slots_text",
        "runs_now_text",
        "last_tasks_text",
        "started_text",
    )
    sortable_by = ("name", "hostname")
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 100
    ordering = ("name", "id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """With the time by the clock that wrote the heartbeats."""
        now = ExpressionWrapper(Now(), output_field=InstantField())
        rows: QuerySet[Any] = super().get_queryset(request).annotate(database_now=now)
        return rows

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Ours."""
        return WorkerList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """The row, with what it runs; without tasks where who asks may not see any."""
        worker: Any = super().get_object(request, object_id, from_field)
        if worker is not None:
            using = worker._state.db  # noqa: SLF001  # public in all but name
            rows = list(_running(using, [worker.pk])[: _LISTED + 1])
            worker.running = len(rows) if len(rows) <= _LISTED else _counts(using, [worker.pk]).get(worker.pk, 0)
            worker.tasks = rows[:_LISTED] if may(request, "view_taskrecord") else None
        return worker

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """With what its process can be asked for."""
        worker, allowed = context.get("original"), self.get_actions(request)
        if worker is not None and self.is_alive(worker):
            context["taskq_actions"] = [
                (name, getattr(self, name).short_description) for name in self.actions if name in allowed
            ]
            if self.has_stacks_permission(request):
                context["stacks_url"] = self._page_of(worker.pk, "stacks")
        return super().render_change_form(request, context, *args, **kwargs)

    # ---- columns ------------------------------------------------------------------------------------------------

    @admin.display(description=_("alive"), boolean=True)
    def is_alive(self, worker: Any) -> bool:
        """Whether its lease holds."""
        lease = timedelta(seconds=worker.lease)
        return bool(worker.heartbeat_at + lease > worker.database_now)

    @admin.display(description=_("heartbeat"), ordering="heartbeat_at")
    def heartbeat_text(self, worker: Any) -> str:
        """For how long nothing was heard of it."""
        silent_for = max((worker.database_now - worker.heartbeat_at).total_seconds(), 0.0)
        ago = gettext("%s ago") % _rounded(silent_for)
        if self.is_alive(worker):
            return ago
        return format_html('<span class="taskq-state taskq-failed">{}</span>', gettext("lost, %s") % ago)

    @admin.display(description=_("busy slots"))
    def slots_text(self, worker: Any) -> str:
        """Of all that it has."""
        return f"{in_full(worker.running)} / {in_full(worker.slots)}"

    @admin.display(description=_("runs now"))
    def tasks_text(self, worker: Any) -> str:
        """The first of them, with links."""
        if worker.tasks is None:
            return display.EMPTY
        if not worker.running:
            return display.EMPTY
        named = worker.tasks[:_NAMED]
        shown = format_html_join("", "<li>{}</li>", ((self._link(row, row.name),) for row in named))
        return format_html('<ul class="taskq-current">{}</ul>{}', shown, _rest(worker.running - len(named)))

    @admin.display(description=_("runs now"))
    def runs_now_text(self, worker: Any) -> str:
        """Its tasks, the oldest first, and since when it has them."""
        if worker.tasks is None:
            return display.EMPTY
        if not worker.tasks:
            return gettext("Nothing.")
        shown = _table(
            (gettext("Task"), gettext("Queue"), gettext("Attempt"), gettext("For")),
            [
                (
                    self._link(row, row.name),
                    row.queue_name,
                    row.attempt,
                    _rounded(max((worker.database_now - row.last_attempted_at).total_seconds(), 0.0))
                    if row.last_attempted_at
                    else display.EMPTY,
                )
                for row in worker.tasks
            ],
            gettext("Tasks that run now"),
        )
        return format_html("{}{}", shown, _rest(worker.running - len(worker.tasks)))

    @admin.display(description=_("last tasks"))
    def last_tasks_text(self, worker: Any) -> str:
        """The newest that it has, or ended, with a link to all."""
        if worker.tasks is None:
            return display.EMPTY
        using = worker._state.db  # noqa: SLF001  # public in all but name
        page = find(using, Search(worker=worker.pk), size=_LISTED)
        rows = TaskRecord.objects.using(using).filter(pk__in=page.ids).defer(*LONG).order_by("-pk")
        tasks_url = reverse(f"{self.admin_site.name}:django_taskq_taskrecord_changelist")
        url = f"{tasks_url}?{urlencode({'q': f'worker:{worker.pk}'})}"
        shown = _table(
            (gettext("Enqueued"), gettext("Task"), gettext("State"), gettext("Duration")),
            [
                (
                    self._link(row, display.show_moment(row.enqueued_at, "seconds")),
                    row.name,
                    display.show_state(row),
                    display.show_seconds(row.duration),
                )
                for row in rows
            ],
            gettext("The newest tasks of this worker"),
        )
        return format_html('{}<p><a href="{}">{}</a></p>', shown, url, gettext("All of them"))

    @admin.display(description=_("started"), ordering="started_at")
    def started_text(self, worker: Any) -> str:
        """To the second."""
        return display.show_moment(worker.started_at, "seconds")

    def _link(self, row: TaskRecord, text: object) -> str:
        url = reverse(f"{self.admin_site.name}:django_taskq_taskrecord_change", args=[row.pk])
        return format_html('<a href="{}">{}</a>', url, text)


def _running(using: str, worker_ids: Collection[str]) -> QuerySet[TaskRecord]:
    """The tasks of these workers, in the order of the index over what runs."""
    rows = TaskRecord.objects.using(using).filter(state=State.RUNNING, worker_id__in=worker_ids)
    return rows.only("pk", "name", "queue_name", "worker_id", "attempt", "last_attempted_at").order_by("worker_id")


def _counts(using: str, worker_ids: Collection[str]) -> dict[str, int]:
    rows = TaskRecord.objects.using(using).filter(state=State.RUNNING, worker_id__in=worker_ids)
    return dict(rows.order_by().values_list("worker_id").annotate(Count("pk")))


def _rest(count: int) -> str:
    return ngettext("and %s more", "and %s more", count) % in_full(count) if count > 0 else ""


def _rounded(seconds: float) -> str:
    return gettext("%s s") % int(seconds) if seconds < 60 else display.show_seconds(seconds)


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str) -> str:
    """One that scrolls by itself where it is wider than the page."""
    shown = display.show_table(columns, rows, caption)
    return format_html('<div class="taskq-scrolls" tabindex="0" role="region" aria-label="{}">{}</div>', caption, shown)
