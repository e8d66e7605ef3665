"""What the supervisor does about tasks that go on after they were to have ended: it kills their process.

That is for what the process cannot do itself: an extension that holds the interpreter's lock lets no thread of
it interrupt anything, or tell anybody.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Iterable
from typing import Protocol

from .board import Board
from .limits import ALLOWANCE
from .takeover import Predecessor

logger = logging.getLogger("django_taskq.worker")


#: seconds to wait in one go: systems have their own ideas of how long is too long
_LONGEST_WAIT = 3600.0


class Child(Protocol):
    """A process, as the supervisor knows it; ``killed_at``: when it was killed for a task (monotonic), 0 before."""

    pid: int
    board: Board
    killed_at: float


def next_deadline(children: Iterable[Child]) -> list[float]:
    """The nearest deadline (monotonic) of a task in these processes, if there is any."""
    nearest = min((child.board.next_deadline() for child in children if not child.killed_at), default=math.inf)
    return [] if nearest == math.inf else [min(nearest, time.monotonic() + _LONGEST_WAIT)]


def kill_overdue(children: Iterable[Child]) -> None:
    """Kill the processes that have a task whose deadline has passed."""
    for child in children:
        now = time.monotonic()
        if child.killed_at or child.board.next_deadline() > now:
            continue
        logger.error(
            "The process with pid %d is killed for a task that does not end.",
            child.pid,
            extra={"action": "process_killed"},
        )
        child.killed_at = now
        os.kill(child.pid, signal.SIGKILL)


def died_of_task(child: Child, *, was_replaced: bool) -> bool:
    """Whether a process that is gone was brought down by a task, which is bounded by what happens to that."""
    return was_replaced or bool(child.killed_at) or (child.board.is_ready and bool(child.board.running()))


def predecessor_of(board: Board, killed_at: float, *, was_replaced: bool) -> Predecessor:
    """What is to be known of a process that is gone. ``was_replaced``: it made room by itself."""
    ended_at = killed_at or (time.monotonic() if was_replaced else 0.0)
    # Who holds the interpreter's lock keeps the others from ending in time: all whose time was over have to end.
    overdue = board.overdue(ended_at + ALLOWANCE) if ended_at else {}
    # It died for one task, and the others have nothing to do with that.
    suspects = frozenset() if killed_at or was_replaced else frozenset(board.running())
    return Predecessor(worker_id=board.owner, started=frozenset(board.started()), suspects=suspects, overdue=overdue)
