"""Something that is done to very many tasks, a slice at a time, in the background."""

from __future__ import annotations

from typing import Any, Self

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..core import codec
from ..core.ids import millisecond_of
from .fields import InstantField

#: where an operation stands
WAITING, RUNNING, DONE, ABORTED, FAILED = "WAITING", "RUNNING", "DONE", "ABORTED", "FAILED"
#: what is not over yet
ACTIVE = (WAITING, RUNNING)


class OperationQuerySet(models.QuerySet["OperationRecord"]):
    """Questions one asks about operations."""

    def active(self) -> Self:
        """What is not over yet, the oldest first."""
        return self.filter(state__in=ACTIVE).order_by("pk")


class OperationRecord(models.Model):
    """An operation: what is done to which tasks, how far it has come, and what became of them.

    Each slice of tasks and the cursor ``after`` are one transaction, so that each task is acted on once.
    """

    id = models.BigAutoField(_("id"), primary_key=True)
    token = models.CharField(
        _("token"), max_length=32, unique=True, help_text=_("of the page that asked: it asks once")
    )
    verb = models.CharField(_("verb"), max_length=16)
    search = models.TextField(_("search"), default="{}", help_text=_("JSON object: which tasks"))
    parameters = models.TextField(_("parameters"), default="{}", help_text=_("JSON object: queue, priority"))
    asked_by = models.CharField(_("asked by"), max_length=150, default="", blank=True)
    asked_at = InstantField(_("asked"))
    state = models.CharField(
        _("state"),
        max_length=8,
        default=WAITING,
        choices=[
            (WAITING, _("Waiting")),
            (RUNNING, _("Running")),
            (DONE, _("Done")),
            (ABORTED, _("Aborted")),
            (FAILED, _("Failed")),
        ],
    )
    first = models.UUIDField(_("first"), help_text=_("no task before this one is looked at"))
    until = models.UUIDField(_("until"), help_text=_("nor any after this one: it came later"))
    after = models.UUIDField(_("after"), null=True, blank=True, help_text=_("up to here all is done"))
    seen = models.BigIntegerField(_("seen"), default=0)
    changed = models.BigIntegerField(_("changed"), default=0)
    counts = models.TextField(_("counts"), default="{}", help_text=_("JSON object: what became of how many"))
    error = models.TextField(_("error"), default="", blank=True)
    finished_at = InstantField(_("finished"), null=True, blank=True)

    objects = OperationQuerySet.as_manager()

    class Meta:
        db_table = "django_taskq_operation"
        verbose_name = _("operation")
        verbose_name_plural = _("operations")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.verb} {self.pk}"

    @property
    def is_active(self) -> bool:
        """Whether it is not over yet."""
        return self.state in ACTIVE

    @property
    def reasons(self) -> dict[str, int]:
        """What became of how many tasks."""
        return dict(_object(self.counts))

    @property
    def fraction(self) -> float:
        """How far it has come, from 0 to 1: of the time in which the tasks were made that it goes through."""
        if self.state == DONE:
            return 1.0
        if self.after is None:
            return 0.0
        begin, end = millisecond_of(self.first), millisecond_of(self.until)
        return min(max((millisecond_of(self.after) - begin) / max(end - begin, 1), 0.0), 1.0)


def _object(text: str) -> dict[str, Any]:
    value = codec.decode(text)
    return value if isinstance(value, dict) else {}
