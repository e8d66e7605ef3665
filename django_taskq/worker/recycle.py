"""When a worker process has done enough, and makes room for a fresh one.

A process over its limit takes no more tasks, lets those it runs end, and is succeeded. A limit never ends a
task: one that needs more memory than there is, is the system's to stop.
"""

from __future__ import annotations

import os
import random
import resource
import sys
from pathlib import Path

from .pulse import Retirement

#: the share of a limit by which it may be lower in one process, so that not all of them are replaced at once
JITTER = 0.1
#: seconds between two looks at the memory, while there is reason to look
_LOOK = 0.5

_STATM = Path("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_in(statm: Path) -> int:
    """Bytes of memory in which the process resides to which this file of /proc belongs."""
    return int(statm.read_bytes().split()[1]) * _PAGE


def resident_memory() -> int:
    """Bytes in which this process resides now; where the system has no /proc, the most there were."""
    try:
        return resident_in(_STATM)
    except FileNotFoundError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def lowered(limit: int, chance: float) -> int:
    """A limit of one process, lower by up to a tenth. ``chance``: 0 to 1."""
    return limit - int(limit * JITTER * chance)


class Recycling:
    """Counts for one process. None: no limit. ``max_memory``: in bytes.

    Used by its I/O thread; tasks that go past it are noted by others, and two at the very same time may count as one.
    """

    def __init__(self, max_tasks: int | None, max_memory: int | None, *, chance: float | None = None) -> None:
        if chance is None:
            chance = random.random()  # noqa: S311  # jitter, not a secret
        self._tasks_left = None if max_tasks is None else lowered(max_tasks, chance)
        self.max_memory = None if max_memory is None else lowered(max_memory, chance)
        self._look_at = float("inf")

    def room(self, wanted: int) -> int:
        """How many of ``wanted`` tasks this process may still take."""
        return wanted if self._tasks_left is None else min(wanted, self._tasks_left)

    def took(self, tasks: int, now: float) -> None:
        """Tasks were claimed."""
        if self._tasks_left is not None:
            self._tasks_left -= tasks
        if self.max_memory is not None and self._look_at == float("inf"):
            self._look_at = now + _LOOK

    def gave_back(self, tasks: int) -> None:
        """Tasks that were taken, and not run."""
        if self._tasks_left is not None:
            self._tasks_left += tasks

    def due_in(self, now: float) -> float | None:
        """Seconds until the next look at the memory; None while nothing can have changed."""
        return None if self._look_at == float("inf") else max(self._look_at - now, 0.0)

    def verdict(self, now: float, *, is_idle: bool) -> Retirement:
        """Whether this process has done enough. ``is_idle``: it runs nothing, and its memory stays what it is."""
        if self._tasks_left is not None and self._tasks_left <= 0:
            return Retirement.TASKS
        if self.max_memory is not None and now >= self._look_at:
            # Idle from here on: looked at once more, since the last task may have ended a moment ago.
            self._look_at = float("inf") if is_idle else now + _LOOK
            if resident_memory() > self.max_memory:
                return Retirement.MEMORY
        return Retirement.NONE
