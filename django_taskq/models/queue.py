"""Queues, for the admin: no rows of their own."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from .task import TaskRecord


class QueueRecord(TaskRecord):
    """What waits and runs, by its queue, as ``overview`` counts it."""

    class Meta:
        proxy = True
        verbose_name = _("queue")
        verbose_name_plural = _("queues")
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.queue_name)
