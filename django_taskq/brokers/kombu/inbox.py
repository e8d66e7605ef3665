"""What stands between the thread of a connection and the worker's: deliveries one way, answers the other."""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...bell import Bell

#: seconds between two turns of a link's thread at most
TURN = 1.0
#: seconds for which acks wait for company, and for how long after a delivery there may be such
_LATE, _LIVELY = 0.02, 1.0


@dataclass(slots=True, eq=False)
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
    """``ring``: called in the connection's thread when there is news. ``arrived``: the same for deliveries."""

    def __init__(self, ring: Callable[[], None], arrived: Callable[[], None] | None = None) -> None:
        self.ring = ring
        self._arrived = arrived or ring
        self.deliveries: deque[Delivery] = deque()
        #: each is called in the connection's thread
        self.answers: deque[Callable[[], None]] = deque()
        #: deliveries whose acks wait for company
        self._late: deque[Delivery] = deque()
        self._late_since = 0.0
        #: until when there may be such at any moment (monotonic)
        self._late_until = 0.0
        #: of the connection; what came under another one cannot be answered any more
        self.epoch = 0
        self._bell = Bell()

    def take(self, limit: int) -> list[Delivery]:
        """Take up to ``limit`` deliveries, in their order; for either thread."""
        taken: list[Delivery] = []
        deliveries = self.deliveries
        while deliveries and len(taken) < limit:
            try:
                taken.append(deliveries.popleft())
            except IndexError:
                # The other thread took it meanwhile.
                break
        return taken

    @property
    def wake_in(self) -> int:
        """Turns readable when the connection's thread is to look up."""
        return self._bell.watched

    def wake(self) -> None:
        """Make the connection's thread look up."""
        self._bell.ring()

    def ack_soon(self, delivery: Delivery, most: int) -> None:
        """Ack it with others; alone it costs the broker, and the thread that is woken for it, as much as the task.

        ``most``: how many may wait so.
        """
        now = time.monotonic()
        if not self._late:
            self._late_since = now
        self._late.append(delivery)
        if len(self._late) >= most or now >= self._late_until:
            self._late_since = 0.0
            self.wake()

    def take_late(self, *, everything: bool) -> list[Delivery]:
        """What is to be acked now. ``everything``: also what could wait."""
        if not self._late or not (everything or time.monotonic() >= self._late_since + _LATE):
            return []
        return [self._late.popleft() for _ in range(len(self._late))]

    def patience(self) -> float:
        """Seconds for which the connection's thread may wait for something to read."""
        if self.answers:
            return 0.0
        now = time.monotonic()
        if self._late:
            return max(self._late_since + _LATE - now, 0.0)
        return _LATE if now < self._late_until else TURN

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
            self._late_until = time.monotonic() + _LIVELY
            self._arrived()
