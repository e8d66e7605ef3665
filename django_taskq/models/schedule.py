"""Schedules, those of code among them, and which of their ticks have come."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Literal

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..core import codec
from ..core.queues import MAX_QUEUE_NAME
from ..core.schedule import Missed, Overlap
from ..database import as_utc
from ..schedules.definition import Schedule
from .fields import InstantField, NameField

#: where a schedule is defined
Source = Literal["code", "database"]
CODE: Source = "code"
DATABASE: Source = "database"

#: what became of a tick. ``waiting``: it fires when the task of the one before has ended.
FIRED, OVERLAPPED, MISSED, WAITING, BROKEN, BY_HAND = (
    "fired",
    "overlapped",
    "missed",
    "waiting",
    "broken",
    "by hand",
)


class ScheduleRecord(models.Model):
    """A schedule, where it stands, and what its last task was.

    Those of code are here, too: written when a keeper starts, and otherwise left to the code but for ``switched``.
    """

    id = models.BigAutoField(_("id"), primary_key=True)
    name = NameField(_("name"), max_length=255, unique=True)
    source = models.CharField(
        _("source"), max_length=8, choices=[(CODE, _("Code")), (DATABASE, _("Database"))], default=DATABASE
    )
    description = models.TextField(_("description"), default="", blank=True)

    task = NameField(_("task"), max_length=255)
    arguments = models.TextField(_("arguments"), default="[[],{}]", help_text=_("JSON: positional, then keyword"))
    backend = NameField(_("backend"), max_length=64)
    queue_name = NameField(
        _("queue"), max_length=MAX_QUEUE_NAME, default="", blank=True, help_text=_("empty: the task's own")
    )
    priority = models.SmallIntegerField(_("priority"), null=True, blank=True, help_text=_("empty: the task's own"))
    expires = models.FloatField(
        _("expires"), null=True, blank=True, help_text=_("seconds after the tick until it is not started any more")
    )

    kind = models.CharField(
        _("kind"),
        max_length=8,
        choices=[("cron", _("Cron")), ("interval", _("Interval")), ("once", _("Once")), ("solar", _("Solar"))],
    )
    expression = models.CharField(
        _("expression"),
        max_length=255,
        help_text=_("a cron line; seconds of an interval; a moment (ISO 8601); an event of the sun"),
    )
    timezone = models.CharField(_("time zone"), max_length=64)
    latitude = models.FloatField(_("latitude"), null=True, blank=True)
    longitude = models.FloatField(_("longitude"), null=True, blank=True)
    repeat_ambiguous = models.BooleanField(
        _("repeat ambiguous"), default=False, help_text=_("run twice at a local time that comes twice")
    )
    start_at = InstantField(_("start"), null=True, blank=True)
    end_at = InstantField(_("end"), null=True, blank=True)
    jitter = models.FloatField(_("jitter"), default=0.0, help_text=_("seconds by which it may be later"))
    missed = models.CharField(
        _("missed"),
        max_length=8,
        choices=[
            (Missed.SKIP.value, _("skip them")),
            (Missed.LAST.value, _("run the last one")),
            (Missed.ALL.value, _("run them all")),
        ],
        default=Missed.LAST.value,
    )
    window = models.FloatField(_("window"), default=86400.0, help_text=_("seconds for which missed ticks count"))
    overlap = models.CharField(
        _("overlap"),
        max_length=8,
        choices=[
            (Overlap.ALLOW.value, _("allow")),
            (Overlap.SKIP.value, _("skip the new one")),
            (Overlap.QUEUE.value, _("wait for the old one")),
            (Overlap.CANCEL.value, _("cancel the old one")),
        ],
        default=Overlap.ALLOW.value,
    )
    enabled = models.BooleanField(_("enabled"), default=True, help_text=_("as it is defined"))
    switched = models.BooleanField(
        _("switched"), null=True, blank=True, help_text=_("what somebody has said instead; stays when code changes")
    )

    version = models.IntegerField(_("version"), default=1)
    changed_at = InstantField(_("changed"))
    next_at = InstantField(_("next"), null=True, blank=True, help_text=_("empty: disabled, or it never comes again"))
    waiting_tick_at = InstantField(_("waiting"), null=True, blank=True)
    last_tick_at = InstantField(_("last tick"), null=True, blank=True)
    last_task_id = models.UUIDField(_("last task"), null=True, blank=True)
    ticks = models.BigIntegerField(_("ticks"), default=0, help_text=_("tasks enqueued for ticks"))
    problem = models.TextField(_("problem"), default="", blank=True, help_text=_("why it does not run"))

    objects: ClassVar[models.Manager[ScheduleRecord]] = models.Manager()

    class Meta:
        db_table = "django_taskq_schedule"
        verbose_name = _("schedule")
        verbose_name_plural = _("schedules")
        default_permissions = ("view",)
        permissions = [("change_schedules", _("Can change schedules"))]
        indexes = [models.Index(fields=["next_at"], name="taskq_schedule_next")]

    def __str__(self) -> str:
        return str(self.name)

    @property
    def is_enabled(self) -> bool:
        """Whether its ticks count: what somebody has said, else what is defined."""
        return self.enabled if self.switched is None else self.switched

    @property
    def schedule(self) -> Schedule:
        """The definition, ``enabled`` as defined."""
        call: Any = codec.decode(self.arguments)
        args, kwargs = call
        return Schedule(
            name=self.name,
            task=self.task,
            kind=self.kind,  # type: ignore[arg-type]  # one of the choices
            expression=self.expression,
            timezone=self.timezone,
            latitude=self.latitude,
            longitude=self.longitude,
            repeat_ambiguous=self.repeat_ambiguous,
            args=tuple(args),
            kwargs=kwargs,
            backend=self.backend,
            queue_name=self.queue_name or None,
            priority=self.priority,
            start_at=_utc(self.start_at),
            end_at=_utc(self.end_at),
            jitter=self.jitter,
            expires=self.expires,
            missed=Missed(self.missed),
            window=self.window,
            overlap=Overlap(self.overlap),
            enabled=self.enabled,
            description=self.description,
        )


class TickRecord(models.Model):
    """A moment at which a schedule was due: once, whoever kept house then."""

    id = models.BigAutoField(_("id"), primary_key=True)
    # No constraint: it would lock the schedule for each tick. Ticks of a schedule that is gone are deleted as the old are.
    schedule = models.ForeignKey(
        ScheduleRecord,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="tick_records",
        verbose_name=_("schedule"),
    )
    tick_at = InstantField(_("tick"))
    task_id = models.UUIDField(_("task"), null=True, blank=True)
    outcome = models.CharField(
        _("outcome"),
        max_length=10,
        choices=[
            (FIRED, _("Fired")),
            (OVERLAPPED, _("Overlapped")),
            (MISSED, _("Missed")),
            (WAITING, _("Waiting")),
            (BROKEN, _("Broken")),
            (BY_HAND, _("By hand")),
        ],
    )
    fired_at = InstantField(_("fired"))

    objects: ClassVar[models.Manager[TickRecord]] = models.Manager()

    class Meta:
        db_table = "django_taskq_tick"
        verbose_name = _("tick")
        verbose_name_plural = _("ticks")
        default_permissions = ("view",)
        constraints = [models.UniqueConstraint(fields=["schedule", "tick_at"], name="taskq_tick_once")]

    def __str__(self) -> str:
        return f"{self.schedule_id} {self.tick_at}: {self.outcome}"


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else as_utc(moment)
