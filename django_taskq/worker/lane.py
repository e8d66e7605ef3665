"""The short way of tasks without rows: from the connection's thread into a free slot, and from the slot to the ack.

Whoever waits for such a task waits for each thread that it is handed to. Here it is two: the one that receives it, and
the slot, which takes the next one itself when it has come free. The I/O thread gets what needs more than that: rows,
other attempts, tasks behind slots that are stuck.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from ..core.message import Message
from ..core.outcome import Outcome
from .replies import Replies
from .slots import Work

#: seconds without an answer after which nothing of what comes next is in the CPU's caches
_LULL = 0.05


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
        self._answered_at = 0.0

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

    def answer(self, work: Work, outcome: Outcome) -> None:
        """In its slot: answer who waits, and have it acked when the broker has the answer, where that is all there is."""
        if _is_plain(outcome):
            self._untold.add(work)
        else:
            # The I/O thread's, which does more than ack it.
            work.on_told = None
        self._replies.answer(work, outcome)
        now = time.monotonic()
        if now - self._answered_at > _LULL:
            # The broker first: what this slot still has to do, for which nobody waits, keeps it from the CPU. On two cores
            # the first call after a second gets its reply 0.1 ms sooner, of 2; while calls come one after the other, it
            # would cost a tenth of their rate.
            os.sched_yield()
        self._answered_at = now

    def settle(self, work: Work, outcome: Outcome) -> bool:
        """In its slot: the task has ended. False: there is more to do than to answer, and to ack."""
        if work.is_answered is None:
            self.answer(work, outcome)
        if work.on_told is None:
            return False
        if not work.is_answered:
            self._told(work)
        return True

    def _told(self, work: Work) -> None:
        self._untold.discard(work)
        work.message.delivery.consumer.settle_soon(work.message)


def _is_plain(outcome: Outcome) -> bool:
    """Whether an ack is all that is left to do."""
    return outcome.state.is_final and not (outcome.is_unstarted or outcome.is_rejected)
