"""Filters of the task list.

Their choices never come from a DISTINCT over the table, which takes seconds over millions of rows,
but from what is known: the states, the settings, and the newest rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..aliases import taskq_backends
from ..models import TaskRecord
from ..registry import task_names

#: rows whose names and queues are offered; read by primary key in 1 to 3 ms
_NEWEST = 1_000


def _newest(request: Any, model_admin: Any) -> list[dict[str, str]]:
    """Names and queues of the newest rows; read once for all filters of a request."""
    if not hasattr(request, "taskq_newest"):
        rows = model_admin.get_queryset(request).order_by("-pk").values("name", "queue_name")
        request.taskq_newest = list(rows[:_NEWEST])
    found: list[dict[str, str]] = request.taskq_newest
    return found


class StateFilter(admin.SimpleListFilter):
    """By state."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, Any]]:
        """All states there are."""
        return TaskRecord.state.field.flatchoices

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Tasks in this state."""
        return queryset.filter(state=self.value()) if self.value() else queryset


class _NameFilter(admin.SimpleListFilter):
    """By the text of a column that has few different values."""

    column: str

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Values known from elsewhere, of the newest rows, and the one in use."""
        names = {*self.known(), *(row[self.column] for row in _newest(request, model_admin))}
        if chosen := self.value():
            names.add(chosen)
        return [(name, name) for name in sorted(names)]

    def known(self) -> Iterable[str]:
        """Values that are known without a look at the rows."""
        return ()

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Tasks with this value."""
        return queryset.filter(**{self.column: self.value()}) if self.value() else queryset


class TaskFilter(_NameFilter):
    """By the task's name."""

    title = _("task")
    parameter_name = "task"
    column = "name"

    def known(self) -> Iterable[str]:
        """The tasks that this process knows."""
        return task_names()


class QueueFilter(_NameFilter):
    """By queue."""

    title = _("queue")
    parameter_name = "queue"
    column = "queue_name"

    def known(self) -> Iterable[str]:
        """The queues that the settings name."""
        return {name for backend in taskq_backends() for name in backend.queues}
