"""What a process does for one that died before it: its tasks are taken back, and the guilty one ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from django.db import transaction

from ..announcements import announce_lost
from ..backend import TaskqBackend
from ..core.message import Message
from ..core.outcome import Outcome
from ..core.states import State
from ..database import retry_conflicts
from ..models import TaskRecord
from ..transitions import workers
from .guard import Cause
from .replies import Replies
from .runner import Attempt
from .slots import Work
from .writer import Writer

logger = logging.getLogger("django_taskq.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """A process that died: its worker id, and the tasks it had really started.

    ``suspects``: those of them that it may have died of. ``overdue``: those that it was killed for.
    """

    worker_id: str
    started: frozenset[str]
    suspects: frozenset[str]
    overdue: Mapping[str, Cause] = field(default_factory=dict)


class Takeover:
    """``attempt_of``: how a task would be run here, which says how it ends. ``count``: takes each end that is known here."""

    def __init__(
        self,
        backend_of: Callable[[str], TaskqBackend],
        attempt_of: Callable[[Message], Attempt],
        replies: Replies,
        count: Callable[[Message, Outcome], None],
    ) -> None:
        self._backend_of = backend_of
        self._attempt_of = attempt_of
        self._replies = replies
        self._count = count
        #: tasks that were given back, or ended
        self.tasks = 0

    def take(self, using: str, predecessor: Predecessor) -> None:
        """Take over in one database; after an error all of it may be done again."""
        worker_id = predecessor.worker_id
        ended = self._end_overdue(using, predecessor) if predecessor.overdue else 0
        lost: list[workers.LostTask] = []
        again, failed = retry_conflicts(using, lambda: _rescue(using, predecessor, lost))
        announce_lost(lost)
        self.tasks += ended + again + failed
        logger.warning(
            "Took over from %s: %d tasks run again, %d failed.",
            worker_id,
            again,
            ended + failed,
            extra={"action": "took_over"},
        )

    def _end_overdue(self, using: str, predecessor: Predecessor) -> int:
        """Write the ends of the tasks that their process was killed for, as it would have if it could."""
        writer = Writer(lambda alias: self._backend_of(alias).database, self._replies)
        rows = TaskRecord.objects.using(using).filter(
            pk__in=list(predecessor.overdue), state=State.RUNNING, worker_id=predecessor.worker_id
        )
        for row in rows:
            message = _message_of(row)
            attempt = self._attempt_of(message)
            outcome = attempt.overdue(predecessor.overdue[message.id])
            self._count(message, outcome)
            writer.add(Work(message, attempt, 0, False), outcome, worker_id=predecessor.worker_id, now=time.monotonic())
        ended = 0
        while not writer.is_empty():
            ended += len(list(writer.write()))
        return ended


def _rescue(using: str, predecessor: Predecessor, lost: list[workers.LostTask]) -> tuple[int, int]:
    lost.clear()
    # One commit for all: a process that tasks kill again and again is soon replaced.
    with transaction.atomic(using=using, savepoint=False):
        done = workers.rescue(
            using, predecessor.worker_id, started=predecessor.started, suspects=predecessor.suspects, lost=lost
        )
        workers.deregister(using, predecessor.worker_id)
        workers.resign(using, predecessor.worker_id)
    return done


def _message_of(row: TaskRecord) -> Message:
    """A claimed task, as it was claimed."""
    assert row.started_at is not None  # a row that is RUNNING has these
    assert row.last_attempted_at is not None
    return Message(
        id=str(row.pk),
        name=row.name,
        queue_name=row.queue_name,
        backend=row.backend,
        priority=row.priority,
        arguments=row.arguments,
        options=row.options,
        metadata=row.metadata,
        errors=row.errors,
        worker_ids=row.worker_ids,
        attempt=row.attempt,
        claim=row.claim,
        losses=row.losses,
        acks_late=row.acks_late,
        enqueued_at=row.enqueued_at,
        run_after=row.run_after,
        started_at=row.started_at,
        last_attempted_at=row.last_attempted_at,
        expires_at=row.expires_at,
        reply_to=row.reply_to,
        headers=row.headers,
    )
