"""What a worker asks of a broker."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from ..core.message import Message
from ..core.paused import Paused
from ..core.states import State
from ..core.wire import Call


class QueueFacts(NamedTuple):
    """What a broker tells of a queue; None where it cannot tell.

    ``ready``: tasks that wait to be received. ``unacked``: received, and not done with. ``consumers``:
    workers' processes that receive from it.
    """

    ready: int | None
    unacked: int | None
    consumers: int | None


class Consumer(Protocol):
    """One worker process's ear at one broker; used by its I/O thread alone.

    A task that ``receive`` gave is held by this worker: under its lease until its end is written,
    or, where it has no row (``Message.delivery``), until ``settle`` or ``give_back``. Methods may raise
    the database's errors; those of a broker stay inside, and are logged there.
    """

    #: the ``DATABASES`` alias with the rows
    using: str
    #: under which the rows are claimed
    worker_id: str

    def open(self) -> None:
        """Connect and listen; again after :meth:`disconnect`, too."""

    def disconnect(self) -> None:
        """The database failed: let go of its connection. Never raises for one that is already gone."""

    def close(self) -> None:
        """Give back what nobody took, and let go of everything."""

    def tend(self, now: float, ahead: int) -> float:
        """Do what is due now (monotonic); gives when there is more to do at the latest.

        ``ahead``: tasks that could be started or about to; 0 while no slot is free, negative to stop receiving.
        """

    def receive(self, limit: int, *, names: Collection[str] = (), wanted: bool = False) -> list[Message]:
        """Up to ``limit`` tasks, highest priority first, then oldest; empty when there are none.

        ``names``: tasks to leave out, or (``wanted``) the only ones to take.
        """

    def hand_over(self) -> None:
        """Give the lane what it has room for; for a slot that has come free."""

    def settle_soon(self, message: Message) -> None:
        """This task without a row is done with; for any thread, and without haste."""

    def admit(self, message: Message) -> bool:
        """Whether a task without a row may start now; called in its slot, right before."""

    def settle(self, messages: Sequence[Message]) -> None:
        """These tasks without rows are done with."""

    def reject(self, messages: Sequence[Message]) -> None:
        """These tasks without rows gave up: the queue's dead-letter exchange gets them, where it has one."""

    def give_back(self, messages: Sequence[Message]) -> None:
        """These tasks without rows were not started: others may run them."""

    def filenos(self) -> list[int]:
        """File descriptors that turn readable when there may be something to receive."""

    def has_hints(self) -> bool:
        """Whether a hint is there that no descriptor tells of."""

    def has_news(self) -> bool:
        """Whether there may be something since the last call; cheap enough to ask before each ``receive``."""

    def drain_hints(self) -> bool:
        """Make the descriptors quiet again; whether there was a hint."""

    @property
    def is_connected(self) -> bool:
        """Whether the broker is there, as far as is known; a database's own connection is its user's to watch."""

    @property
    def trusted_for(self) -> float | None:
        """Seconds to rely on the descriptors between two looks; None where there are none."""

    @property
    def settles_in(self) -> float:
        """Seconds until what a hint tells of can be received at the latest."""

    @property
    def hears_words(self) -> bool:
        """Whether its hints tell, too, that workers are told something (``wakeup.WORD_CHANNEL``)."""

    def pause(self, paused: Paused) -> None:
        """Give nothing of this from now on, and leave it where it is."""

    def is_drained(self) -> bool:
        """Whether nothing waits at the broker in the queues that this consumer receives from."""

    def facts(self, queue_names: Collection[str]) -> Mapping[str, QueueFacts]:
        """What the broker tells of these queues now."""


class Lane(Protocol):
    """The short way of a task without a row into a slot that is free; for any thread.

    It goes past the I/O thread, whose turn takes as long as a small task.
    """

    def has_room(self) -> bool:
        """Whether a thread slot is free, and takes whatever comes."""

    def is_moving(self) -> bool:
        """Whether slots end their tasks so soon that they can be left to take the next ones themselves."""

    def submit(self, message: Message) -> bool:
        """Have it run; False when there is no room any more."""


class Rows(Protocol):
    """The rows, as a broker that delivers references needs them. Raises the database's errors."""

    def claim(self, ids: Sequence[str], names: Collection[str], wanted: bool, paused: Paused) -> list[Message]:
        """Claim those of these tasks that are READY and not paused, and by name what ``Consumer.receive`` says."""

    def put_off(self, ids: Sequence[str], paused: Paused) -> set[str]:
        """Have the broker told anew, after the pause, of those of these tasks that are paused; gives their ids."""

    def states(self, ids: Sequence[str]) -> Mapping[str, tuple[State, bool]]:
        """The state of each task that exists, and whether it has expired."""

    def runs_in_thread(self, call: Call) -> bool:
        """Whether this task without a row is a ``def`` task that is known here. Asks no database; for any thread."""

    def refusal(self, call: Call) -> str:
        """Why this task without a row cannot run here; "" when it can."""

    def is_awaited(self, call: Call) -> bool:
        """Whether its end is told to somebody, or kept for somebody, who would wait in vain if it were just dropped."""

    def acks_late(self, call: Call) -> bool:
        """Whether a worker that dies of this task leaves it to others; what the task says, where the call does not."""

    def adopt(self, call: Call, queue_name: str) -> str:
        """Make a task without a row one with a row, unless it has become one already; gives its id."""

    def queue_names(self) -> Collection[str]:
        """The queues in which tasks wait."""
