"""What stands between the thread of a connection and the worker's: deliveries one way, answers the other."""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ...bell import Bell


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """A message as it came, and under which ``epoch`` and ``tag`` it can be answered.

    ``is_lasting``: under any later epoch, too. Redis keeps what is unacked for everybody, and knows of no connections.
    """

    epoch: int
    tag: Any
    queue_name: str
    body: Any
    content_type: Any
    content_encoding: Any
    headers: Any
    properties: Any
    is_redelivered: bool
    is_lasting: bool = False


class Inbox:
    """``ring``: called in the connection's thread when deliveries have come."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self.ring = ring
        self.deliveries: deque[Delivery] = deque()
        #: each is called in the connection's thread
        self.answers: deque[Callable[[], None]] = deque()
        #: of the connection; what came under another one cannot be answered any more
        self.epoch = 0
        self._bell = Bell()

    def take(self, limit: int) -> list[Delivery]:
        """Take up to ``limit`` deliveries, in their order; for either thread."""
        taken: list[Delivery] = []
        # Not by counting first: the other thread may take from there at the same time.
        with suppress(IndexError):
            while len(taken) < limit:
                taken.append(self.deliveries.popleft())
        return taken

    @property
    def wake_in(self) -> int:
        """Turns readable when the connection's thread is to look up."""
        return self._bell.watched

    def wake(self) -> None:
        """Make the connection's thread look up."""
        self._bell.ring()

    def wait(self, timeout: float) -> None:
        """Until woken, ``timeout`` seconds at most."""
        if select.select([self.wake_in], [], [], timeout)[0]:
            self.quieten()

    def quieten(self) -> None:
        """Woken up."""
        self._bell.quieten()

    def announce(self) -> None:
        """Tell the worker if there is something for it."""
        if self.deliveries:
            self.ring()
