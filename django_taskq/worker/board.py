"""A sheet of memory that outlives its process: which tasks it had really started, and when these have to have ended.

A worker process notes each task's id when a slot starts it, and wipes it once its end is written.
After a ``kill -9`` the supervisor reads the sheet, so that tasks which only waited in the dead
process are given back uncounted, and only those that ran count as lost with their worker.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping
from uuid import UUID

from ..bell import Bell
from .guard import Cause

_ID_BYTES = 16
_DOUBLE_BYTES = 8
#: the width of the worker id's column, in the four bytes that a character may need
_OWNER_BYTES = 512
_EMPTY = bytes(_ID_BYTES)


class Board:
    """``places`` notes of one id each, in memory shared over ``fork``.

    Storing 16 aligned bytes needs no lock: a place belongs to one task at a time, and a reader comes
    only after the writer's death. An id torn by that death matches no row, as if it had not started.
    Deadlines are of the monotonic clock, which all processes of a machine share; 0 is none.

    ``bell``: rung when a deadline comes before the moment at which the supervisor looks at them by itself.
    """

    def __init__(self, places: int, bell: Bell | None = None) -> None:
        self.places = places
        self._bell = bell
        self._memory = mmap.mmap(-1, places * _ID_BYTES)
        self._ended = mmap.mmap(-1, places)
        self._causes = mmap.mmap(-1, places)
        self._deadlines = memoryview(mmap.mmap(-1, places * _DOUBLE_BYTES)).cast("d")
        #: when the supervisor looks at the deadlines by itself
        self._looks_at = memoryview(mmap.mmap(-1, _DOUBLE_BYTES)).cast("d")
        self._looks_at[0] = math.inf
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
        self._ended[place] = 0
        self._memory[place * _ID_BYTES : (place + 1) * _ID_BYTES] = UUID(task_id).bytes

    def note_end(self, place: int) -> None:
        """The task has come to its end, which is not written yet: whatever kills the process now, it is not this task."""
        self._ended[place] = 1

    def wipe(self, place: int) -> None:
        """The task's end is written."""
        self._memory[place * _ID_BYTES : (place + 1) * _ID_BYTES] = _EMPTY

    def limit(self, place: int, deadline: float, cause: Cause) -> None:
        """Once the deadline has passed, the supervisor may kill this process for the task."""
        self._causes[place] = cause
        self._deadlines[place] = deadline
        # No race: a supervisor that has looked already has said before that it has not.
        if deadline < self._looks_at[0] and self._bell is not None:
            self._bell.ring()

    def unlimit(self, place: int) -> None:
        """The task's own code has ended, or there was no limit."""
        self._deadlines[place] = 0.0

    def next_deadline(self) -> float:
        """The nearest deadline, infinite for none; the supervisor's, who is to call it again then."""
        self._looks_at[0] = math.inf
        nearest = min(filter(None, self._deadlines), default=math.inf)
        self._looks_at[0] = nearest
        return nearest

    def started(self) -> set[str]:
        """Ids that were started and whose end was not written."""
        return {task_id for _, task_id in self._notes()}

    def running(self) -> set[str]:
        """Those of them whose own code had not come to its end."""
        return {task_id for place, task_id in self._notes() if not self._ended[place]}

    def overdue(self, now: float) -> Mapping[str, Cause]:
        """Those of them whose deadlines have passed, and why these were set."""
        return {
            task_id: Cause(self._causes[place])
            for place, task_id in self._notes()
            if 0.0 < self._deadlines[place] <= now
        }

    def _notes(self) -> Iterator[tuple[int, str]]:
        for place in range(self.places):
            note = self._memory[place * _ID_BYTES : (place + 1) * _ID_BYTES]
            if note != _EMPTY:
                yield place, str(UUID(bytes=note))

    def close(self) -> None:
        """Give the memory back."""
        for view in (self._deadlines, self._looks_at):
            view.release()
        for memory in (self._memory, self._ended, self._causes, self._owner, self._ready):
            memory.close()
