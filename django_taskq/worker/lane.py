"""The short way of tasks without rows: from the connection's thread into a free slot, and from the slot to the ack.

Whoever waits for such a task waits for each thread that it is handed to. Here it is two: the one that receives it, and
the slot, which takes the next one itself when it has come free. The I/O thread gets what needs more than that: rows,
other attempts, tasks behind slots that are stuck.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..core.message import Message
from ..core.outcome import Outcome
from .replies import Replies
from .slots import Work


class FastLane:
    """See ``brokers.base.Lane``. ``has_room``, ``is_moving``: see there. ``start``: hands a message to a slot."""

    def __init__(
        self,
        replies: Replies,
        *,
        has_room: Callable[[], bool],
        is_moving: Callable[[], bool],
        start: Callable[[Message, Callable[[Work], None]], None],
    ) -> None:
        self._replies = replies
        self.has_room = has_room
        self.is_moving = is_moving
        self._start = start
        self._lock = threading.Lock()
        #: those whose answer the broker has not got yet
        self._untold: set[Work] = set()

    def submit(self, message: Message) -> bool:
        """See ``Lane``."""
        with self._lock:
            # Once more: another thread may have taken the slot, or this process may have been told to stop.
            if not self.has_room():
                return False
            self._start(message, self._told)
        return True

    def is_over(self, condition: Callable[[], bool]) -> bool:
        """Whether the condition holds and nothing is under way here. No race: nothing is submitted meanwhile."""
        with self._lock:
            return not self._untold and condition()

    def settle(self, work: Work, outcome: Outcome) -> bool:
        """In its slot: answer who waits, and ack it when the broker has the answer. False: there is more to do."""
        if not outcome.state.is_final or outcome.is_unstarted or outcome.is_rejected:
            return False
        self._untold.add(work)
        self._replies.answer(work, outcome)
        if not work.is_answered:
            self._told(work)
        return True

    def _told(self, work: Work) -> None:
        self._untold.discard(work)
        work.message.delivery.consumer.settle_soon(work.message)
