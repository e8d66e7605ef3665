"""Time limits and cancellation inside a worker process: one thread that interrupts tasks when their time has come.

A task that does not end for it is given up: its end is told for it, and then its process ends, since the slot would
never come back. What cannot even be done from here, as a C extension that holds the interpreter's lock, is the
supervisor's (``overdue``), who finds the deadline on the board.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.outcome import Outcome
from .board import Board
from .guard import Cause, Guard

if TYPE_CHECKING:
    from .slots import Work

logger = logging.getLogger("django_taskq.worker")

#: seconds between a hard limit and the moment at which a task that goes on is given up
_LIMIT_GRACE = 0.5
#: seconds that a task which can see ``context.cancelled`` gets to end by itself, and all get to end once interrupted
_CANCEL_PATIENCE, _CANCEL_GRACE = 0.9, 2.0
#: seconds that giving up may take, before the supervisor kills the process
_KILL = 0.5
#: seconds from a hard limit to its deadline on the board
ALLOWANCE = _LIMIT_GRACE + _KILL
#: seconds to wait in one go: systems have their own ideas of how long is too long
_LONGEST_WAIT = 3600.0
#: seconds between two interrupts of one task: the first must be through
_SPACING = 0.05


@dataclass(slots=True, eq=False)
class _Watched:
    """A task whose time is limited, or that was cancelled. Moments are monotonic, infinite for never.

    ``deadline``: as it stands on the board. ``cause``: why it is given up. ``quiet_until``: it is left alone until then.
    """

    work: Work
    guard: Guard
    soft_at: float = math.inf
    hard_at: float = math.inf
    cancel_at: float = math.inf
    give_up_at: float = math.inf
    deadline: float = math.inf
    cause: Cause = Cause.LIMIT
    quiet_until: float = 0.0

    @property
    def due_at(self) -> float:
        """When there is something to do."""
        return max(min(self.soft_at, self.hard_at, self.cancel_at, self.give_up_at), self.quiet_until)


class Watch:
    """Ends tasks whose time has come.

    ``on_overdue``: told the end of a task that was given up, in a thread of its own.
    """

    def __init__(self, board: Board, on_overdue: Callable[[Work, Outcome], None]) -> None:
        self._board = board
        self._on_overdue = on_overdue
        #: by place. Entries are taken away by slots alone, as they shut their guards.
        self._watched: dict[int, _Watched] = {}
        self._asked: deque[Work] = deque()
        #: when the thread looks again by itself
        self._looks_at = math.inf
        self._news = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self, work: Work, guard: Guard, soft: float | None, hard: float | None) -> None:
        """The task's own code is about to start, with limits in seconds; called in its slot."""
        now = time.monotonic()
        watched = _Watched(work, guard)
        if soft is not None and (hard is None or soft < hard):
            watched.soft_at = now + soft
        if hard is not None:
            watched.hard_at = now + hard
            watched.deadline = watched.hard_at + ALLOWANCE
            self._board.limit(work.place, watched.deadline, Cause.LIMIT)
        self._watched[work.place] = watched
        if watched.due_at < self._looks_at:
            self._wake()

    def end(self, work: Work) -> None:
        """Its code has ended; called in its slot."""
        self._watched.pop(work.place, None)
        self._board.unlimit(work.place)

    def cancel(self, work: Work) -> None:
        """Somebody asked this task to stop; may be called again and again."""
        guard = work.guard
        # One that has not begun is seen to when it has.
        if guard is not None and guard.current is work and not work.is_cancelled:
            work.is_cancelled = True
            self._asked.append(work)
            self._wake()

    def _wake(self) -> None:
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._serve, name="taskq-limits", daemon=True)
                    self._thread.start()
        self._news.set()

    def _serve(self) -> None:
        while True:
            self._news.clear()
            # Who begins while this thread looks around wakes it, and need not afterwards unless it is to look earlier.
            self._looks_at = math.inf
            while self._asked:
                self._hear(self._asked.popleft())
            nearest = math.inf
            for watched in list(self._watched.values()):
                if watched.due_at <= time.monotonic():
                    self._see_to(watched)
                nearest = min(nearest, watched.due_at)
            self._looks_at = nearest
            self._news.wait(None if nearest == math.inf else max(min(nearest - time.monotonic(), _LONGEST_WAIT), 0.0))

    def _hear(self, work: Work) -> None:
        """Note that a task was cancelled, if its code still runs."""
        guard = work.guard
        assert guard is not None  # see cancel()
        if guard.hold(work):
            watched = self._watched.setdefault(work.place, _Watched(work, guard))
            watched.cancel_at = time.monotonic() + (_CANCEL_PATIENCE if work.attempt.can_be_told else 0.0)
            guard.let_go()

    def _see_to(self, watched: _Watched) -> None:
        """Do what is due with one task."""
        now = time.monotonic()
        watched.quiet_until = now + _SPACING
        if not watched.guard.hold(watched.work):
            # About to begin, or just about to be taken away.
            return
        try:
            if watched.give_up_at <= now:
                watched.soft_at = watched.hard_at = watched.cancel_at = watched.give_up_at = math.inf
                self._give_up(watched)
            elif watched.hard_at <= now:
                watched.soft_at = watched.hard_at = watched.cancel_at = math.inf
                self._end(watched, Cause.LIMIT, now + _LIMIT_GRACE)
            elif watched.cancel_at <= now:
                watched.soft_at = watched.cancel_at = math.inf
                self._end(watched, Cause.CANCEL, now + _CANCEL_GRACE)
            else:
                watched.soft_at = math.inf
                watched.guard.interrupt(Cause.SOFT_LIMIT)
        finally:
            watched.guard.let_go()

    def _end(self, watched: _Watched, cause: Cause, give_up_at: float) -> None:
        """Interrupt it, and note when to give it up."""
        if give_up_at < watched.give_up_at:
            watched.give_up_at, watched.cause = give_up_at, cause
            # A hard limit was late to be seen to where it comes out later than before; being cancelled is no respite.
            if cause is Cause.LIMIT or give_up_at + _KILL < watched.deadline:
                watched.deadline = give_up_at + _KILL
                self._board.limit(watched.work.place, watched.deadline, cause)
        watched.guard.interrupt(cause)

    def _give_up(self, watched: _Watched) -> None:
        """Tell how it ended, since its slot will not."""
        watched.guard.is_abandoned = True
        work, cause = watched.work, watched.cause

        def tell() -> None:
            self._on_overdue(work, work.attempt.overdue(cause, getattr(watched.guard, "ident", None)))
            logger.error(
                "Task %s id=%s goes on although it %s; its process is replaced.",
                work.message.name,
                work.message.id,
                "was cancelled" if cause is Cause.CANCEL else "has exceeded its time_limit",
                extra={"action": "task_given_up", "task_id": work.message.id},
            )

        # The author's code has a say in it (backoff, receivers of signals), and may take its time.
        threading.Thread(target=tell, name="taskq-overdue", daemon=True).start()
