"""What people have told workers."""

from __future__ import annotations

from django.contrib import admin

from ..models import PauseRecord
from .readonly import ReadOnlyAdmin


@admin.register(PauseRecord)
class PauseRecordAdmin(ReadOnlyAdmin):
    """Queues and tasks of which nothing starts."""

    list_display = ("kind", "name", "paused_at", "paused_by")
    fields = list_display
    ordering = ("kind", "name")
