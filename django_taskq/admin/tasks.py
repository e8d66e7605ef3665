"""The task list and a task's page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from ..finding.pages import find
from ..finding.search import Search
from ..models import TaskRecord
from ..sight import Sight, sight_of
from . import display, happenings
from .actions import TaskActions
from .filters import QueueFilter, StateFilter, TaskFilter
from .listing import LONG, TaskList, chosen_of
from .permissions import may

#: tasks of the same name that a task's page lists
_RUNS = 20


def _moment(column: str, label: Any, timespec: str = "milliseconds") -> Callable[[Any, TaskRecord], str]:
    """A column of moments, for lists and pages."""

    @admin.display(description=label)
    def text(self: Any, record: TaskRecord) -> str:
        return display.show_moment(getattr(record, column), timespec)

    return text


def _content(label: Any, show: Callable[[TaskRecord, Sight], str]) -> Callable[[Any, TaskRecord], str]:
    """A field that not everybody may see. Whether who asks may, ``get_object`` has left on the row."""

    @admin.display(description=label)
    def text(self: Any, record: TaskRecord) -> str:
        sight = _sight(record)
        return display.masked() if sight is None else show(record, sight)

    return text


def _sight(record: Any) -> Sight | None:
    sight: Sight | None = getattr(record, "sight", None)
    return sight


_CONTENT = (
    "arguments_text",
    "options_text",
    "metadata_text",
    "headers_text",
    "result_text",
    "log_text",
    "progress_text",
)
_TIMES = (
    "enqueued_exactly",
    "due_exactly",
    "expires_exactly",
    "started_exactly",
    "attempted_exactly",
    "finished_exactly",
)


@admin.register(TaskRecord)
class TaskRecordAdmin(TaskActions):
    """Tasks, to look at and to act on."""

    list_display = (
        "name",
        "state_text",
        "queue_name",
        "attempt",
        "enqueued",
        "wait_text",
        "duration_text",
        "worker_id",
    )
    list_filter = (StateFilter, QueueFilter, TaskFilter)
    sortable_by = ()
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("pk",)
    search_help_text = _(
        'An id, how a task’s name begins, or: queue:mail worker:host error:"no such" args.order_id:123 state:failed'
    )
    fieldsets = (
        (None, {"fields": ("name", "id", "state_text", "queue_name", "backend", "priority", "attempt", "group_text")}),
        (_("Timeline"), {"fields": ("timeline_text", "wait_text", "duration_text")}),
        (_("Call"), {"fields": ("arguments_text", "options_text", "metadata_text")}),
        (_("Outcome"), {"fields": ("result_text", "errors_text", "log_text", "progress_text")}),
        (_("Runs of this task"), {"fields": ("runs_text",)}),
        (_("Origin"), {"fields": ("trace_text", "headers_text"), "classes": ("collapse",)}),
        (_("Times"), {"fields": _TIMES, "classes": ("collapse",)}),
        (
            _("Delivery"),
            {
                "fields": (
                    "worker_id",
                    "worker_ids",
                    "claim",
                    "losses",
                    "max_deliveries",
                    "acks_late",
                    "cancel_requested",
                ),
                "classes": ("collapse",),
            },
        ),
    )
    readonly_fields = (
        "id",
        "state_text",
        "group_text",
        "timeline_text",
        "wait_text",
        "duration_text",
        "errors_text",
        "runs_text",
        "trace_text",
        *_CONTENT,
        *_TIMES,
    )

    enqueued = _moment("enqueued_at", _("enqueued"), "seconds")
    enqueued_exactly = _moment("enqueued_at", _("enqueued"))
    due_exactly = _moment("run_after", _("run after"))
    expires_exactly = _moment("expires_at", _("expires"))
    started_exactly = _moment("started_at", _("started"))
    attempted_exactly = _moment("last_attempted_at", _("last attempted"))
    finished_exactly = _moment("finished_at", _("finished"))

    arguments_text = _content(_("arguments"), display.show_arguments)
    options_text = _content(_("options"), lambda record, sight: display.show_json(record.options, sight))
    metadata_text = _content(_("metadata"), lambda record, sight: display.show_json(record.metadata, sight))
    headers_text = _content(_("headers"), lambda record, sight: display.show_json(record.headers, sight))
    result_text = _content(_("result"), lambda record, sight: display.show_json(record.result, sight))
    progress_text = _content(_("progress"), lambda record, sight: display.show_json(record.progress, sight))
    log_text = _content(_("log"), happenings.show_log)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Ours."""
        return TaskList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """The row, with what of it who asks may see."""
        record: Any = super().get_object(request, object_id, from_field)
        if record is not None and may(request, "view_payload"):
            record.sight = sight_of(record)
        return record

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """The filters' own, no others: ``?arguments__startswith=…`` would let readers guess what is hidden from them."""
        return lookup in {one.parameter_name for one in self.list_filter}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """What actions on all that is found act on; the list itself asks in its own way."""
        return (chosen_of(search_term, queryset, request), False) if search_term else (queryset, False)

    @admin.display(description=_("state"))
    def state_text(self, record: TaskRecord) -> str:
        """Its sign, its word, its colour."""
        return display.show_state(record)

    @admin.display(description=_("wait"))
    def wait_text(self, record: Any) -> str:
        """How long it could have run, and did not."""
        return display.show_seconds(display.wait_of(record, getattr(record, "database_now", None)))

    @admin.display(description=_("duration"))
    def duration_text(self, record: TaskRecord) -> str:
        """Of the last attempt."""
        return display.show_seconds(record.duration)

    @admin.display(description=_("group of failures"))
    def group_text(self, record: TaskRecord) -> str:
        """Where the others are that failed the same way."""
        if not record.fingerprint:
            return display.EMPTY
        url = reverse(f"{self.admin_site.name}:django_taskq_taskrecord_changelist")
        return format_html('<a href="{}?q=group:{}">{}</a>', url, record.fingerprint, record.fingerprint)

    @admin.display(description=_("timeline"))
    def timeline_text(self, record: TaskRecord) -> str:
        """From its enqueue to its end."""
        return happenings.show_timeline(record)

    @admin.display(description=_("errors"))
    def errors_text(self, record: TaskRecord) -> str:
        """Of each failed attempt."""
        return happenings.show_errors(record, _sight(record))

    @admin.display(description=_("trace id"))
    def trace_text(self, record: TaskRecord) -> str:
        """Of OpenTelemetry or Sentry."""
        return happenings.trace_id_of(record) or display.EMPTY

    @admin.display(description=_("runs"))
    def runs_text(self, record: TaskRecord) -> str:
        """The newest of the same name."""
        using = record._state.db or "default"  # noqa: SLF001  # public in all but name
        page = find(using, Search(task=record.name), size=_RUNS)
        rows = TaskRecord.objects.using(using).filter(pk__in=page.ids).defer(*LONG).order_by("-pk")
        view = f"{self.admin_site.name}:django_taskq_taskrecord_change"
        return happenings.show_runs(record, [(row, reverse(view, args=[row.pk])) for row in rows])
