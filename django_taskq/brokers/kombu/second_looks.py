"""Deliveries that wait for another look.

Some for their time: a row that somebody else had locked, a database that failed, a task that only the I/O thread can
decide about. The others for a slot: none that was free could run them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from .inbox import Delivery

#: seconds until a task is claimed again whose row somebody else has locked
_LOCKED = 0.1
#: seconds between two looks whether a slot has come free for such tasks, before they are returned
_UNSUITED_LOOK = 0.01
#: seconds between two rings for what is due
_LOOK_AGAIN = 0.05


class SecondLooks:
    """For the I/O thread, but for ``at_once``. Moments are monotonic."""

    def __init__(self) -> None:
        #: with the moment from which on they are looked at, the earliest first
        self._timed: deque[tuple[float, Delivery]] = deque()
        self._unsuited: deque[Delivery] = deque()
        self._unsuited_since = 0.0
        self._unsuited_at = 0.0

    def __bool__(self) -> bool:
        """Whether any wait."""
        return bool(self._timed or self._unsuited)

    @property
    def unsuited_since(self) -> float | None:
        """Since when there are any that no free slot can run."""
        return self._unsuited_since if self._unsuited else None

    # What waits

    def at_once(self, deliveries: Sequence[Delivery]) -> None:
        """Look at them before all others; for any thread."""
        self._timed.extendleft((0.0, delivery) for delivery in reversed(deliveries))

    def when_unlocked(self, deliveries: Sequence[Delivery], now: float) -> None:
        """Look at them when whoever has locked their rows may be done."""
        self._timed.extend((now + _LOCKED, delivery) for delivery in deliveries)

    def when_suited(self, deliveries: Sequence[Delivery], now: float) -> None:
        """Look at them when slots of another kind are free."""
        if not self._unsuited:
            self._unsuited_since = now
        self._unsuited.extend(deliveries)

    # Looks

    def suits(self) -> None:
        """Slots of every kind are free."""
        if self._unsuited:
            self.at_once(self._unsuited)
            self._unsuited.clear()

    def suits_some(self, now: float) -> None:
        """Some kind of slot is free, and asks for what it can run: those that wait for another kind go on waiting."""
        self._unsuited_at = now + _UNSUITED_LOOK

    def take_due(self, now: float) -> Delivery | None:
        """The next one whose time has come."""
        return self._timed.popleft()[1] if self._timed and self._timed[0][0] <= now else None

    def take_all(self) -> list[Delivery]:
        """Everything, for good: whoever takes it answers it."""
        waiting = [*self._unsuited]
        self._unsuited.clear()
        # One by one: another thread may add to them at the same time, and what it adds must not be forgotten.
        with suppress(IndexError):
            while True:
                waiting.append(self._timed.popleft()[1])
        return waiting

    # When

    def is_due(self, now: float) -> bool:
        """Whether the time of any has come."""
        return bool(self._timed) and self._timed[0][0] <= now

    def has_news(self, now: float) -> bool:
        """Whether a look is worth it."""
        return self.is_due(now) or bool(self._unsuited and self._unsuited_at <= now)

    def due_at(self, now: float, *, for_slots: bool) -> float:
        """When to look again. ``for_slots``: also whether a slot has come free."""
        at = float("inf")
        if self._timed:
            # Whether there is a slot to look for is not known here.
            at = max(self._timed[0][0], now + _LOOK_AGAIN)
        return min(at, self._unsuited_at) if for_slots and self._unsuited else at
