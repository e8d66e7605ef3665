"""What people have told workers: to leave something alone, or to do something."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..core.paused import Paused, PauseKind
from .fields import InstantField, NameField


class PauseQuerySet(models.QuerySet["PauseRecord"]):
    """Questions one asks about pauses."""

    def paused(self) -> Paused:
        """All that is paused."""
        found = list(self.values_list("kind", "name"))
        return Paused(
            frozenset(name for kind, name in found if kind == PauseKind.QUEUE),
            frozenset(name for kind, name in found if kind == PauseKind.TASK),
        )


class PauseRecord(models.Model):
    """A queue, or a task by its name, of which nothing is to start until this row is gone."""

    id = models.BigAutoField(_("id"), primary_key=True)
    kind = models.CharField(
        _("kind"), max_length=8, choices=[(PauseKind.QUEUE.value, _("Queue")), (PauseKind.TASK.value, _("Task"))]
    )
    name = NameField(_("name"), max_length=255)
    paused_at = InstantField(_("paused"))
    paused_by = models.CharField(_("paused by"), max_length=150, default="", blank=True)

    objects = PauseQuerySet.as_manager()

    class Meta:
        db_table = "django_taskq_pause"
        verbose_name = _("pause")
        verbose_name_plural = _("pauses")
        default_permissions = ("view",)
        constraints = [models.UniqueConstraint(fields=["kind", "name"], name="taskq_pause_once")]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class OrderRecord(models.Model):
    """Something that one worker process is to do, and what it says to it."""

    id = models.BigAutoField(_("id"), primary_key=True)
    worker_id = models.CharField(_("worker"), max_length=128)
    verb = models.CharField(_("verb"), max_length=16)
    made_at = InstantField(_("made"))
    answered_at = InstantField(_("answered"), null=True, blank=True)
    answer = models.TextField(_("answer"), default="", blank=True)

    objects: ClassVar[models.Manager[OrderRecord]] = models.Manager()

    class Meta:
        db_table = "django_taskq_order"
        verbose_name = _("order")
        verbose_name_plural = _("orders")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.verb} {self.worker_id}"
