"""A sheet of memory that outlives its process: which tasks it had really started.

A worker process notes each task's id when a slot starts it, and wipes it once its end is written.
After a ``kill -9`` the supervisor reads the sheet, so that tasks which only waited in the dead
process are given back uncounted, and only those that ran count as lost with their worker.
"""

from __future__ import annotations

import mmap
from uuid import UUID

_ID_BYTES = 16
#: the width of the worker id's column, in the four bytes that a character may need
_OWNER_BYTES = 512
_EMPTY = bytes(_ID_BYTES)


class Board:
    """``places`` notes of one id each, in memory shared over ``fork``.

    Storing 16 aligned bytes needs no lock: a place belongs to one task at a time, and a reader comes
    only after the writer's death. An id torn by that death matches no row, as if it had not started.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self._memory = mmap.mmap(-1, places * _ID_BYTES)
        self._owner = mmap.mmap(-1, _OWNER_BYTES)
        self._ready = mmap.mmap(-1, 1)

    @property
    def is_ready(self) -> bool:
        """Whether the process has got as far as working."""
        return self._ready[0] == 1

    def set_ready(self) -> None:
        """The process works."""
        self._ready[0] = 1

    @property
    def owner(self) -> str:
        """The worker id under which the process claims; "" before it has one."""
        return self._owner[:].rstrip(b"\0").decode()

    @owner.setter
    def owner(self, worker_id: str) -> None:
        self._owner[:] = worker_id.encode().ljust(_OWNER_BYTES, b"\0")

    def note(self, place: int, task_id: str) -> None:
        """The task has started."""
        self._memory[place * _ID_BYTES : (place + 1) * _ID_BYTES] = UUID(task_id).bytes

    def wipe(self, place: int) -> None:
        """The task's end is written."""
        self._memory[place * _ID_BYTES : (place + 1) * _ID_BYTES] = _EMPTY

    def started(self) -> set[str]:
        """Ids that were started and whose end was not written."""
        notes = {self._memory[start : start + _ID_BYTES] for start in range(0, self.places * _ID_BYTES, _ID_BYTES)}
        return {str(UUID(bytes=note)) for note in notes if note != _EMPTY}

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        self._owner.close()
        self._ready.close()
