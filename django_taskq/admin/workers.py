"""Worker processes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import ExpressionWrapper, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..database import Now
from ..models import InstantField, WorkerRecord
from .actions import WorkerActions


@admin.register(WorkerRecord)
class WorkerRecordAdmin(WorkerActions):
    """The rows of workers that are alive, or were lost and not yet noticed."""

    list_display = ("name", "is_alive", "hostname", "pid", "backends", "queues", "slots", "started_at", "heartbeat_at")
    fields = ("id", *list_display, "lease")
    readonly_fields = ("id", "is_alive")
    ordering = ("name", "id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """With the time by the clock that wrote the heartbeats."""
        now = ExpressionWrapper(Now(), output_field=InstantField())
        rows: QuerySet[Any] = super().get_queryset(request).annotate(database_now=now)
        return rows

    @admin.display(description=_("alive"), boolean=True)
    def is_alive(self, worker: Any) -> bool:
        """Whether its lease holds."""
        lease = timedelta(seconds=worker.lease)
        return bool(worker.heartbeat_at + lease > worker.database_now)
