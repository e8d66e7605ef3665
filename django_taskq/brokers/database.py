"""The embedded broker: workers claim rows, and need no server beside the database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from django.db import connections

from ..core.message import Message
from ..core.paused import NOTHING_PAUSED, Paused
from ..core.queues import QueueSelection
from ..core.states import State
from ..database import tune_worker_connection
from ..models import TaskRecord
from ..transitions.claim import Lanes, claim, claim_named, queue_names
from ..wakeup import READY_CHANNEL, WORD_CHANNEL, PollWakeup, Wakeup, open_wakeup
from .base import QueueFacts


class DatabaseConsumer:
    """Claims the tasks of some backends that share one database; see ``Consumer``."""

    def __init__(
        self,
        using: str,
        backends: Sequence[str],
        queues: QueueSelection,
        worker_id: str,
        *,
        called: Callable[[float], None] = lambda settles_in: None,
    ) -> None:
        """``called``: with each hint that workers may have been told something, and when that can be seen (seconds)."""
        self.using = using
        self.backends = tuple(backends)
        self.queues = queues
        self.worker_id = worker_id
        self._called = called
        self._paused = NOTHING_PAUSED
        self._wakeup: Wakeup = PollWakeup()

    def open(self) -> None:
        """Connect, and listen for rows."""
        tune_worker_connection(connections[self.using])
        self._wakeup = open_wakeup(self.using, [READY_CHANNEL, WORD_CHANNEL])

    def disconnect(self) -> None:
        """Give the connection back."""
        self._wakeup.close()
        self._wakeup = PollWakeup()
        connections[self.using].close()

    def close(self) -> None:
        """Nothing is held here but the connection."""
        self.disconnect()

    def tend(self, now: float, ahead: int) -> float:
        """Nothing is due, ever."""
        return float("inf")

    def receive(self, limit: int, *, names: Collection[str] = (), wanted: bool = False) -> list[Message]:
        """Claim up to ``limit`` tasks."""
        lanes = self._lanes()
        if names or wanted:
            return claim_named(self.using, lanes, limit, self.worker_id, names=names, wanted=wanted)
        return claim(self.using, lanes, limit, self.worker_id)

    def filenos(self) -> list[int]:
        """The wake-up's descriptors."""
        return self._wakeup.filenos()

    def has_hints(self) -> bool:
        """Whether a notification came with the answer to a statement."""
        return self._wakeup.arrived()

    def has_news(self) -> bool:
        """See ``Wakeup``."""
        return self._wakeup.has_news()

    def drain_hints(self) -> bool:
        """Take the hints that are there."""
        hints = self._wakeup.drain()
        if any(hint.channel in {WORD_CHANNEL, ""} for hint in hints):
            self._called(self._wakeup.settles_in)
        return bool(hints)

    @property
    def hears_words(self) -> bool:
        """Where there are hints."""
        return self._wakeup.trusted_for is not None

    def pause(self, paused: Paused) -> None:
        """From the next claim on."""
        self._paused = paused

    @property
    def is_connected(self) -> bool:
        """There is no other broker than the database."""
        return True

    @property
    def trusted_for(self) -> float | None:
        """See ``Wakeup``."""
        return self._wakeup.trusted_for

    @property
    def settles_in(self) -> float:
        """See ``Wakeup``."""
        return self._wakeup.settles_in

    def hand_over(self) -> None:
        """All tasks have rows here."""

    def settle_soon(self, message: Message) -> None:
        """All tasks have rows here."""

    def admit(self, message: Message) -> bool:
        """All tasks have rows here."""
        return True

    def settle(self, messages: Sequence[Message]) -> None:
        """All tasks have rows here."""

    def reject(self, messages: Sequence[Message]) -> None:
        """All tasks have rows here."""

    def give_back(self, messages: Sequence[Message]) -> None:
        """All tasks have rows here."""

    def is_drained(self) -> bool:
        """Whoever receives nothing has seen all rows there are."""
        return True

    def facts(self, queue_names: Collection[str]) -> Mapping[str, QueueFacts]:
        """READY and RUNNING rows of each queue."""
        rows = TaskRecord.objects.using(self.using).filter(backend__in=self.backends)
        return {
            name: QueueFacts(
                ready=rows.filter(state=State.READY, queue_name=name).count(),
                unacked=rows.filter(state=State.RUNNING, queue_name=name).count(),
                consumers=None,
            )
            for name in queue_names
        }

    def _lanes(self) -> Lanes:
        return open_lanes(self.using, self.backends, self.queues, self._paused)


def open_lanes(using: str, backends: tuple[str, ...], queues: QueueSelection, paused: Paused) -> Lanes:
    """The lanes in which a worker of these queues may claim."""
    names = tuple(paused.tasks)
    if queues.is_everything and not paused.queues:
        return Lanes(backends, paused=names)
    exact = queues.exact
    if exact is None:
        # New queues may turn up at any time; which exist is one hop per queue through an index.
        found = dict.fromkeys(name for backend in backends for name in queue_names(using, backend))
        exact = tuple(queues.of(found))
    if paused.queues:
        exact = tuple(name for name in exact if name not in paused.queues)
    return Lanes(backends if exact else (), exact, names)
