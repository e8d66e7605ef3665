"""What people have told workers."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from .. import control
from ..models import PauseRecord
from .permissions import may
from .readonly import ReadOnlyAdmin


@admin.register(PauseRecord)
class PauseRecordAdmin(ReadOnlyAdmin):
    """Queues and tasks of which nothing starts: to add one is to pause it, to delete it to resume."""

    list_display = ("kind", "name", "paused_at", "paused_by")
    fields = list_display
    ordering = ("kind", "name")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Who may pause."""
        return may(request, "control_queues")

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Who may resume."""
        return may(request, "control_queues")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """When and by whom is not for people to say."""
        return self.fields if obj is not None else ("kind", "name")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Pause it; one that somebody paused meanwhile stays theirs."""
        using = self.get_queryset(request).db
        control.pause(using, obj.kind, obj.name, by=request.user.get_username())
        obj.pk = (
            PauseRecord.objects.using(using).values_list("pk", flat=True).filter(kind=obj.kind, name=obj.name).first()
        )

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Resume it."""
        control.resume(self.get_queryset(request).db, obj.kind, obj.name)
