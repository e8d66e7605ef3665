"""How many tasks the processes of one worker may still run (``--max-tasks``)."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_COUNTER = struct.Struct("=q")


class Budget:
    """A counter shared over ``fork``.

    Guarded by a lock on a file, not by a semaphore: the kernel drops the lock of a process that is
    killed while it holds it. Each process opens the file for itself, as locks belong to open files.
    """

    def __init__(self, tasks: int) -> None:
        self._memory = mmap.mmap(-1, _COUNTER.size)
        self._file, self._path = tempfile.mkstemp(prefix="taskq-budget-")
        self._owner = self._opened_by = os.getpid()
        _COUNTER.pack_into(self._memory, 0, tasks)

    def take(self, wanted: int) -> int:
        """Reserve up to ``wanted`` tasks; gives how many."""
        with self._locked():
            left = self.left
            taken = min(wanted, left)
            _COUNTER.pack_into(self._memory, 0, left - taken)
        return taken

    def give_back(self, tasks: int) -> None:
        """Tasks that were reserved and not run."""
        with self._locked():
            _COUNTER.pack_into(self._memory, 0, self.left + tasks)

    @property
    def left(self) -> int:
        """Tasks that may still be reserved."""
        return int(_COUNTER.unpack_from(self._memory)[0])

    def close(self) -> None:
        """Remove the file; for the process that made the budget."""
        os.close(self._file)
        if self._owner == os.getpid():
            Path(self._path).unlink()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._opened_by != os.getpid():
            self._file = os.open(self._path, os.O_RDWR)
            self._opened_by = os.getpid()
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
