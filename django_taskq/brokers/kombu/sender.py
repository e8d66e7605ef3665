"""Messages over one connection. Belongs to one thread at a time; after any error it is good for nothing but ``abandon``."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from threading import Event
from typing import Any, Protocol

from ...core.topology import Topology
from ...core.wire import Wire
from ..topology import TopologyError, declare

logger = logging.getLogger("django_taskq.broker")


class Refused(Exception):
    """The broker is well, and closed the channel or the connection for something in what it was sent."""


class Route:
    """Where messages for a queue go, and how; made once for each queue.

    ``method``: the beginning of their frames (AMQP). ``problem``: why nothing can be sent there, or "".
    """

    __slots__ = (
        "delivery_mode",
        "exchange",
        "is_declared_here",
        "mandatory",
        "method",
        "priorities",
        "problem",
        "queue_name",
        "routing_key",
    )

    def __init__(self, topology: Topology, queue_name: str, *, reply: bool) -> None:
        self.queue_name = queue_name
        self.exchange, self.routing_key = ("", queue_name) if reply else topology.target(queue_name)
        self.is_declared_here = not reply
        # A broadcast that nobody listens to has reached everybody.
        self.mandatory = not reply and not topology.is_broadcast(queue_name)
        # An answer is for a process that waits: it does not outlive a restart of the broker, and need not.
        self.delivery_mode = 2 if topology.is_persistent(queue_name) and not reply else 1
        self.priorities: dict[int, int | None] = {}
        self.method = b""
        self.problem = ""


class Letter:
    """A message on its way.

    ``result``: None until it is known; True: the broker has it. ``problem``: why it never can be sent, or "".
    ``properties``: made in the thread that publishes it (AMQP). ``is_returned``: no queue took it.
    ``is_suspect``: it was under way when the broker refused something.
    """

    __slots__ = ("is_returned", "is_suspect", "priority", "problem", "properties", "result", "route", "wire")

    def __init__(self, route: Route, wire: Wire, priority: int | None) -> None:
        self.route = route
        self.wire = wire
        self.priority = priority
        self.properties = b""
        self.result: bool | None = None
        self.problem = ""
        self.is_returned = False
        self.is_suspect = False

    def give_up(self, problem: str) -> None:
        """Settle what can never be sent."""
        self.result = False
        self.problem = problem


def declare_if_allowed(topology: Topology, channel: Any, queue_name: str) -> None:
    """Make a queue; where the broker refuses, say so and go on."""
    try:
        declare(topology, channel, queue_name)
    except TopologyError as error:
        # It may well be there, with other settings or for others to make. What cannot be delivered comes back.
        logger.warning("%s Publishing to it all the same.", error, extra={"action": "queue_refused"})


class Sender(Protocol):
    """What a publisher needs of a connection. Methods raise the transport's errors."""

    #: when it last did something (monotonic)
    used_at: float

    def check(self) -> None:
        """Take note of what the broker has said meanwhile. Raises when it has hung up."""

    def send(self, letters: Sequence[Letter], deadline: Deadline) -> None:
        """Send all, and see to it that each one has a result. What is sent and has none when this raises is uncertain.

        Raises ``Refused`` when it is the letters' own fault.
        """

    def post(self, letters: Sequence[Letter]) -> bool:
        """Send all and wait for nothing; False when that is not possible now, and nothing was sent."""

    def collect(self, deadline: Deadline, *, wait: bool) -> None:
        """Settle what was posted, as far as the broker has said; ``wait``: all of it."""

    def unsettled(self) -> list[Letter]:
        """After an error: what was sent and has no result."""

    def prove(self, stop: Event) -> None:
        """Wait until the broker has taken a message that nobody gets. Raises when it does not."""

    def close(self, timeout: float) -> None:
        """Say goodbye within ``timeout`` seconds."""

    def abandon(self) -> None:
        """Never waits, never raises."""


class Deadline:
    """When a broker that does nothing is given up: ``patience`` seconds after it last did something.

    Only who sends more than the broker takes at once tells of progress; anybody else has ``patience`` in all. ``limit``
    is the end in any case.
    """

    __slots__ = ("_at", "_limit", "_patience")

    def __init__(self, patience: float, limit: float) -> None:
        now = time.monotonic()
        self._patience = patience
        self._at = now + patience
        self._limit = now + limit

    def remaining(self) -> float:
        """Seconds; negative when it is over."""
        return self._at - time.monotonic()

    def progress(self) -> None:
        """The broker has done something."""
        self._at = min(time.monotonic() + self._patience, self._limit)

    def within(self, seconds: float) -> Deadline:
        """A deadline at most ``seconds`` from now, and not after this one."""
        left = max(min(seconds, self.remaining()), 0.0)
        return Deadline(left, max(self._limit - time.monotonic(), left))
