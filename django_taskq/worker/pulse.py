"""A sheet of memory on which a worker process says how it is, so that nobody has to ask it.

The process's I/O thread writes it, the supervisor reads it: whether the process still turns, whether it has its
database and its brokers, and whether it wants a successor.
"""

from __future__ import annotations

import mmap
import struct
import time
from dataclasses import dataclass
from enum import IntEnum

#: when the I/O thread last turned (monotonic); tasks that have ended; reports of stacks; flags
_BEAT, _TASKS, _STACKS = struct.Struct("=d"), struct.Struct("=q"), struct.Struct("=q")
_BEAT_AT, _TASKS_AT, _STACKS_AT, _DATABASE_AT, _BROKERS_AT, _RETIRING_AT, _STOP_AT, _SIZE = 0, 8, 16, 24, 25, 26, 27, 32


class Retirement(IntEnum):
    """Why a process wants a successor."""

    NONE = 0
    TASKS = 1
    MEMORY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Vital:
    """What a pulse says at one moment. ``age``: seconds since the I/O thread last turned."""

    index: int
    pid: int
    age: float
    has_database: bool
    has_brokers: bool
    retirement: Retirement


class Pulse:
    """In memory shared over ``fork``. Each value has one writer, and is stored in one piece."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SIZE)
        self.beat(time.monotonic())

    def beat(self, now: float) -> None:
        """The I/O thread turns."""
        _BEAT.pack_into(self._memory, _BEAT_AT, now)

    def count(self, tasks: int) -> None:
        """So many more tasks have ended."""
        _TASKS.pack_into(self._memory, _TASKS_AT, self.tasks + tasks)

    @property
    def tasks(self) -> int:
        """Tasks that have ended in this process."""
        return int(_TASKS.unpack_from(self._memory, _TASKS_AT)[0])

    def set_database(self, is_connected: bool) -> None:
        """Whether the process has its databases."""
        self._memory[_DATABASE_AT] = is_connected

    def set_brokers(self, are_connected: bool) -> None:
        """Whether the process has its brokers."""
        self._memory[_BROKERS_AT] = are_connected

    @property
    def retirement(self) -> Retirement:
        """Whether the process wants a successor."""
        return Retirement(self._memory[_RETIRING_AT])

    def retire(self, reason: Retirement) -> None:
        """This process takes no more tasks."""
        self._memory[_RETIRING_AT] = reason

    @property
    def wants_stop(self) -> bool:
        """Whether the process was told to stop the whole worker."""
        return self._memory[_STOP_AT] == 1

    def ask_to_stop(self) -> None:
        """The whole worker is to stop. However many of its processes say so, it is once."""
        self._memory[_STOP_AT] = 1

    @property
    def stacks(self) -> int:
        """How often the process has shown its stacks."""
        return int(_STACKS.unpack_from(self._memory, _STACKS_AT)[0])

    def showed_stacks(self) -> None:
        """The process has shown its stacks once more."""
        _STACKS.pack_into(self._memory, _STACKS_AT, self.stacks + 1)

    def read(self, now: float, *, index: int, pid: int) -> Vital:
        """What it says now."""
        return Vital(
            index=index,
            pid=pid,
            age=max(now - float(_BEAT.unpack_from(self._memory, _BEAT_AT)[0]), 0.0),
            has_database=self._memory[_DATABASE_AT] == 1,
            has_brokers=self._memory[_BROKERS_AT] == 1,
            retirement=self.retirement,
        )

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
