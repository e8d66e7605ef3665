"""The duty that makes a message broker know of every READY task.

Publishes what never was, and what the broker has lost: a queue that was deleted or purged, a broker that
was wiped or came back without its memory. What it publishes twice is dropped by the worker's claim.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from ..backend import TaskqBackend
from ..brokers.kombu.prefetch import MOST
from ..core.paused import NOTHING_PAUSED
from ..models import PauseRecord
from ..publication import publish_rows
from ..transitions.outbox import (
    Unpublished,
    adopt,
    longest_waiting,
    mark_published,
    unpublished,
    waiting_since,
)

logger = logging.getLogger("django_taskq.keeper")

#: seconds between two looks for tasks that nobody published; whoever makes one READY hints at it besides
_LOOK = 1.0
#: seconds until the next try at what the broker did not take
_AGAIN = 0.5
#: tasks per burst, and bursts before the other duties have their turn
_BURST, _BURSTS = 1_000, 20
#: seconds after which a task that was published and is still READY may be missing at the broker
_GRACE = 5.0
#: seconds between two looks for such tasks, at least; beyond, a share of how long a look takes
_SEARCH, _SEARCH_SHARE = 4.0, 20.0
#: tasks of a queue with a backlog that are published again at each look, the longest published first: what got lost
#: beneath a backlog comes to the front of that line before the backlog is gone
_TRICKLE = 10
#: seconds between two looks for tasks that were enqueued before their alias had a message broker
_ADOPTION = 30.0


class Outbox:
    """A duty; see ``duties``. ``backends``: those with a message broker whose rows are in this database."""

    def __init__(self, using: str, backends: Sequence[TaskqBackend]) -> None:
        self._using = using
        self._backends = {backend.alias: backend for backend in backends}
        self._paused = NOTHING_PAUSED
        self._search_at = 0.0
        self._adopt_at = 0.0

    def __call__(self, now: float) -> float:
        """Publish; gives the seconds to the next look."""
        if now >= self._adopt_at and self._adopt():
            self._adopt_at = now + _ADOPTION
        # Tasks that are paused by their name wait here, and those of paused queues at their broker, where nobody looks.
        self._paused = PauseRecord.objects.using(self._using).paused()
        # Each by itself: what waits for a broker that is down must not keep others' tasks from theirs.
        pause = min(self._publish_new(backend) for backend in self._backends.values())
        if now >= self._search_at:
            self._search()
            took = time.monotonic() - now
            self._search_at = now + max(_SEARCH, took * _SEARCH_SHARE)
        return pause

    def _adopt(self) -> bool:
        """Whether all are in the outbox that belong there."""
        return not all(adopt(self._using, self._backends) for _ in range(_BURSTS))

    def _publish_new(self, backend: TaskqBackend) -> float:
        """Tell a broker of what it never was; gives the seconds to the next try."""
        after: str | None = None
        for _ in range(_BURSTS):
            # While the broker is down one task is enough to notice that it is back.
            limit = _BURST if backend.publisher.is_up else 1
            rows = unpublished(self._using, backend.alias, limit, after, paused=self._paused.tasks)
            if not rows:
                return _LOOK
            if self._publish(backend, rows) < len(rows):
                if not backend.publisher.is_up:
                    return _AGAIN
                # It refuses some of them. Those behind these can go.
                after = rows[-1].id
        return _AGAIN if after else 0.0

    def _publish(self, backend: TaskqBackend, rows: Sequence[Unpublished]) -> int:
        taken = publish_rows(backend, rows)
        mark_published(self._using, taken)
        return len(taken)

    def _search(self) -> None:
        """Compare what should wait at the brokers with what does."""
        waiting = waiting_since(self._using, self._backends, _GRACE)
        for alias, backend in self._backends.items():
            counts = {
                queue: count
                for (one, queue), count in waiting.items()
                if one == alias and queue not in self._paused.queues
            }
            if counts and backend.publisher.is_up:
                self._restore(backend, counts)

    def _restore(self, backend: TaskqBackend, counts: dict[str, int]) -> None:
        from ..brokers.kombu.facts import ask  # noqa: PLC0415  # who has no message broker does not load kombu

        facts = ask(backend.config, list(counts))
        if facts is None:
            # The broker does not answer: it is searched when it does.
            return
        for queue_name, count in counts.items():
            ready, _, consumers = facts[queue_name]
            missing = 0
            if ready == 0:
                missing = count
            elif ready is not None:
                # Under a backlog each consumer may have that many in its hands, where no queue counts them.
                missing = max(count - ready - (consumers or 1) * MOST, 0)
            if missing:
                logger.warning(
                    "%d tasks in queue %r are unknown to the broker, which was told of them; it is told again.",
                    missing,
                    queue_name,
                    extra={"action": "republished", "queue": queue_name},
                )
            self._publish_again(backend, queue_name, max(missing, min(count, _TRICKLE)))

    def _publish_again(self, backend: TaskqBackend, queue_name: str, count: int) -> None:
        while count > 0:
            rows = longest_waiting(self._using, backend.alias, queue_name, _GRACE, min(count, _BURST))
            if not rows or self._publish(backend, rows) < len(rows):
                return
            count -= len(rows)
