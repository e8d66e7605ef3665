"""One row per task: what to run, where it stands, how it ended."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Self

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..core import codec
from ..core.outcome import AttemptError
from ..core.states import AT_REST, FINAL, PENDING, UNSUCCESSFUL, State
from .fields import InstantField, NameField, StateIndex

#: what ``published_at`` says of a task that no broker has been told of yet
NEVER_PUBLISHED = datetime(1970, 1, 1, tzinfo=UTC)

#: the states as people are told them
STATE_LABELS = {
    State.WAITING: _("Waiting"),
    State.SCHEDULED: _("Scheduled"),
    State.READY: _("Ready"),
    State.RUNNING: _("Running"),
    State.SUCCESSFUL: _("Successful"),
    State.FAILED: _("Failed"),
    State.CANCELLED: _("Cancelled"),
    State.EXPIRED: _("Expired"),
}


class TaskQuerySet(models.QuerySet["TaskRecord"]):
    """Questions one asks about tasks."""

    def in_queues(self, queue_names: Iterable[str]) -> Self:
        """Tasks of these queues."""
        return self.filter(queue_name__in=list(queue_names))

    def finished(self) -> Self:
        """Tasks that have ended."""
        return self.filter(state__in=sorted(FINAL))

    def unfinished(self) -> Self:
        """Tasks that have not ended."""
        return self.exclude(state__in=sorted(FINAL))


class TaskRecord(models.Model):
    """A task, from its enqueue to its end.

    JSON lives in text columns, written and read by ``core.codec``: a typed JSON column would
    change values (PostgreSQL's turns 1e5 into an integer) and cost a second parse.
    """

    id = models.UUIDField(_("id"), primary_key=True, editable=False)
    name = NameField(_("task"), max_length=255)
    queue_name = NameField(_("queue"), max_length=128)
    backend = NameField(_("backend"), max_length=64)
    priority = models.SmallIntegerField(_("priority"), default=0)
    state = models.CharField(
        _("state"), max_length=10, choices=[(state.value, label) for state, label in STATE_LABELS.items()]
    )

    arguments = models.TextField(_("arguments"), default="[[],{}]", help_text=_("JSON: positional, then keyword"))
    options = models.TextField(_("options"), default="", blank=True, help_text=_("JSON: what this call changed"))
    metadata = models.TextField(_("metadata"), default="", blank=True, help_text=_("JSON object"))
    headers = models.TextField(
        _("headers"), default="", blank=True, help_text=_("JSON object of texts: what tracing carries to the run")
    )

    result = models.TextField(_("result"), null=True, blank=True, help_text=_("JSON"))  # noqa: DJ001  # NULL: no result; JSON null: None
    errors = models.TextField(_("errors"), default="", blank=True, help_text=_("JSON, a line per failed attempt"))
    fingerprint = models.CharField(  # noqa: DJ001  # NULL: it has not failed, and no index holds it
        _("fingerprint"),
        max_length=16,
        null=True,
        blank=True,
        help_text=_("the same for failures that are the same one"),
    )
    log = models.TextField(_("log"), default="", blank=True, help_text=_("what the task logged, the newest lines"))
    progress = models.TextField(_("progress"), default="", blank=True, help_text=_("JSON object"))

    worker_id = models.CharField(_("worker"), max_length=128, default="", blank=True)
    worker_ids = models.TextField(_("workers"), default="", blank=True, help_text=_("a line per attempt"))
    attempt = models.IntegerField(_("attempt"), default=0)
    claim = models.IntegerField(_("claim"), default=0, help_text=_("fencing token: never the same twice"))
    losses = models.SmallIntegerField(_("losses"), default=0, help_text=_("attempts that died with their worker"))
    max_deliveries = models.SmallIntegerField(_("max deliveries"), default=3)
    acks_late = models.BooleanField(_("acks late"), default=True)
    cancel_requested = models.BooleanField(_("cancel requested"), default=False)

    reply_to = models.CharField(
        _("reply to"), max_length=512, default="", blank=True, help_text=_("the queue of who waits for the result")
    )
    published_at = InstantField(
        _("published"),
        null=True,
        blank=True,
        help_text=_("when the broker was last told; 1970: not yet; empty: it is not to be told"),
    )
    enqueued_at = InstantField(_("enqueued"))
    run_after = InstantField(_("run after"), null=True, blank=True)
    expires_at = InstantField(_("expires"), null=True, blank=True)
    started_at = InstantField(_("started"), null=True, blank=True)
    last_attempted_at = InstantField(_("last attempted"), null=True, blank=True)
    finished_at = InstantField(_("finished"), null=True, blank=True)
    duration = models.FloatField(_("duration"), null=True, blank=True, help_text=_("seconds of the last attempt"))

    objects = TaskQuerySet.as_manager()

    class Meta:
        db_table = "django_taskq_task"
        verbose_name = _("task")
        verbose_name_plural = _("tasks")
        default_permissions = ("view",)
        permissions = [
            ("view_payload", _("Can see arguments, results and errors")),
            ("operate_tasks", _("Can retry, run and cancel tasks")),
            ("delete_tasks", _("Can delete tasks")),
            ("control_queues", _("Can pause and resume queues and tasks")),
            ("control_workers", _("Can drain and stop workers")),
            ("view_dashboard", _("Can see the dashboard")),
        ]
        indexes = [
            # Claims by a worker that serves every queue, and by one that names its queues.
            StateIndex("backend", "-priority", "id", states=[State.READY], name="taskq_ready"),
            StateIndex("backend", "queue_name", "-priority", "id", states=[State.READY], name="taskq_ready_queue"),
            # The keeper's: what is due, whose worker is lost, what has ended.
            StateIndex("run_after", states=[State.SCHEDULED], name="taskq_scheduled"),
            StateIndex("worker_id", states=[State.RUNNING], name="taskq_running"),
            StateIndex("finished_at", states=sorted(FINAL), name="taskq_finished"),
            # The admin's: the runs of a task, and what ended badly, by kind of failure.
            StateIndex("name", "id", states=sorted(AT_REST), name="taskq_name", unset_elsewhere=True),
            StateIndex(
                "fingerprint", "id", states=sorted(UNSUCCESSFUL), name="taskq_unsuccessful", unset_elsewhere=True
            ),
            StateIndex("expires_at", states=sorted(PENDING), name="taskq_expires", only_set=True),
            # What a message broker has been told of, or not yet: empty for the embedded one.
            StateIndex(
                "published_at", "id", states=[State.READY], name="taskq_outbox", only_set=True, unset_elsewhere=True
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.id}"

    @property
    def call_arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments, decoded."""
        args, kwargs = codec.decode(self.arguments)  # type: ignore[misc, str-unpack]  # always a pair, see producer
        return args, kwargs  # type: ignore[return-value]  # a list and a dict

    @property
    def attempt_errors(self) -> list[AttemptError]:
        """Errors of the failed attempts, oldest first."""
        return AttemptError.parse(self.errors)
