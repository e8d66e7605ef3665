"""The task list and a task's page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.db.models.expressions import Combinable
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

from ..models import TaskRecord
from . import display
from .actions import TaskActions
from .filters import QueueFilter, StateFilter, TaskFilter
from .paginator import BoundedPaginator

#: columns that may hold megabytes, and that the list does not show
_LONG = ("arguments", "options", "metadata", "result", "errors", "log", "headers", "progress", "worker_ids")


def _moment(column: str, label: Any, timespec: str = "milliseconds") -> Callable[[Any, TaskRecord], str]:
    """A column of moments, for lists and pages."""

    @admin.display(description=label)
    def text(self: Any, record: TaskRecord) -> str:
        return display.show_moment(getattr(record, column), timespec)

    return text


class TaskList(ChangeList):
    """The list, newest first whatever the query string says: the key is the one order every database has at hand."""

    def get_queryset(self, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        """Without the long columns."""
        return super().get_queryset(*args, **kwargs).defer(*_LONG)

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[str | Combinable]:
        """By id, which begins with the time it was made at."""
        return ["-pk"]


@admin.register(TaskRecord)
class TaskRecordAdmin(TaskActions):
    """Tasks, to look at and to act on."""

    list_display = (
        "name",
        "state_text",
        "queue_name",
        "attempt",
        "enqueued",
        "finished",
        "duration_text",
        "worker_id",
    )
    list_filter = (StateFilter, QueueFilter, TaskFilter)
    sortable_by = ()
    list_per_page = 100
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator
    search_fields = ("pk",)
    search_help_text = _("The id of a task, or its whole name")
    fieldsets = (
        (None, {"fields": ("name", "id", "state_text", "queue_name", "backend", "priority", "attempt")}),
        (_("Call"), {"fields": ("arguments_text", "options_text", "metadata_text")}),
        (_("Outcome"), {"fields": ("result_text", "errors_text", "log_text", "progress_text")}),
        (
            _("Times"),
            {
                "fields": (
                    "enqueued_exactly",
                    "due_exactly",
                    "expires_exactly",
                    "started_exactly",
                    "attempted_exactly",
                    "finished_exactly",
                    "duration_text",
                )
            },
        ),
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
                )
            },
        ),
    )
    readonly_fields = (
        "id",
        "state_text",
        "arguments_text",
        "options_text",
        "metadata_text",
        "result_text",
        "errors_text",
        "log_text",
        "progress_text",
        "enqueued_exactly",
        "due_exactly",
        "expires_exactly",
        "started_exactly",
        "attempted_exactly",
        "finished_exactly",
        "duration_text",
    )

    enqueued = _moment("enqueued_at", _("enqueued"), "seconds")
    finished = _moment("finished_at", _("finished"), "seconds")
    enqueued_exactly = _moment("enqueued_at", _("enqueued"))
    due_exactly = _moment("run_after", _("run after"))
    expires_exactly = _moment("expires_at", _("expires"))
    started_exactly = _moment("started_at", _("started"))
    attempted_exactly = _moment("last_attempted_at", _("last attempted"))
    finished_exactly = _moment("finished_at", _("finished"))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Ours."""
        return TaskList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """The filters' own, no others: ``?arguments__startswith=…`` would let readers guess what is hidden from them."""
        return lookup in {one.parameter_name for one in self.list_filter}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """By id, else by the whole name; free text would read every row."""
        term = search_term.strip()
        if not term:
            return queryset, False
        try:
            return queryset.filter(pk=UUID(term)), False
        except ValueError:
            return queryset.filter(name=term), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list; says so where it ends before the rows do."""
        response = super().changelist_view(request, extra_context)
        if isinstance(response, TemplateResponse) and response.context_data:
            changes = response.context_data.get("cl")
            if changes is not None and changes.paginator.is_cut:
                count = f"{changes.paginator.count:,}"
                response.context_data["subtitle"] = _("The newest %(count)s, of more") % {"count": count}
        return response

    @admin.display(description=_("state"))
    def state_text(self, record: TaskRecord) -> str:
        """In its colour."""
        return display.show_state(record)

    @admin.display(description=_("duration"))
    def duration_text(self, record: TaskRecord) -> str:
        """Seconds of the last attempt."""
        return "-" if record.duration is None else f"{record.duration:,.3f} s"

    @admin.display(description=_("arguments"))
    def arguments_text(self, record: TaskRecord) -> str:
        """Without what is sensitive."""
        return display.show_arguments(record)

    @admin.display(description=_("options"))
    def options_text(self, record: TaskRecord) -> str:
        """What this call changed."""
        return display.show_json(record.options)

    @admin.display(description=_("metadata"))
    def metadata_text(self, record: TaskRecord) -> str:
        """The task's own notes."""
        return display.show_json(record.metadata)

    @admin.display(description=_("result"))
    def result_text(self, record: TaskRecord) -> str:
        """The returned value."""
        return display.show_json(record.result)

    @admin.display(description=_("errors"))
    def errors_text(self, record: TaskRecord) -> str:
        """Of each failed attempt."""
        return display.show_errors(record)

    @admin.display(description=_("log"))
    def log_text(self, record: TaskRecord) -> str:
        """The newest lines that the task logged."""
        return display.show_text(record.log)

    @admin.display(description=_("progress"))
    def progress_text(self, record: TaskRecord) -> str:
        """As the task last said."""
        return display.show_json(record.progress)
