"""What a burst has still to wait for when nothing comes any more."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from ..backend import TaskqBackend
from ..brokers.base import Consumer
from ..core.queues import QueueSelection
from ..core.states import State
from ..keeper.outbox import Outbox
from ..models import PauseRecord, TaskRecord

logger = logging.getLogger("django_taskq.worker")

#: seconds between two looks: at a message broker each takes a connection
REMAINDER_LOOK = 0.2


class Remainder:
    """Tasks that are on their way through a message broker.

    The keeper's work on the outbox is done here, too: where only bursts run, nobody else would.
    """

    def __init__(self, backends: Sequence[TaskqBackend], consumers: Sequence[Consumer], queues: QueueSelection) -> None:
        self._backends = [backend for backend in backends if backend.config.is_kombu]
        self._consumers = consumers
        self._queues = queues
        self._outboxes: list[Outbox] = []
        self._look_at = 0.0
        self._was_any = True
        self._had_any = True

    def is_any(self) -> bool:
        """Whether a READY row or a message waits in the queues of this worker.

        It takes two looks to say that there is none: at the first, a message may have left the broker and not be here.
        """
        if not self._backends:
            return False
        now = time.monotonic()
        if now >= self._look_at:
            has_any = self._look(now)
            self._was_any, self._had_any = has_any or self._had_any, has_any
            self._look_at = time.monotonic() + REMAINDER_LOOK
        return self._was_any

    def _look(self, now: float) -> bool:
        if not self._outboxes:
            by_database: dict[str, list[TaskqBackend]] = {}
            for backend in self._backends:
                by_database.setdefault(backend.database, []).append(backend)
            self._outboxes = [Outbox(using, backends) for using, backends in by_database.items()]
        for outbox in self._outboxes:
            outbox(now)
        return any(self._has_rows(backend) for backend in self._backends) or any(
            not consumer.is_drained() for consumer in self._consumers
        )

    def _has_rows(self, backend: TaskqBackend) -> bool:
        ready = TaskRecord.objects.using(backend.database).filter(state=State.READY, backend=backend.alias)
        paused = PauseRecord.objects.using(backend.database).paused()
        if paused:
            ready = ready.exclude(name__in=list(paused.tasks)).exclude(queue_name__in=list(paused.queues))
        names = ready.order_by().values_list("queue_name", flat=True).distinct()
        return bool(self._queues.of(names))
