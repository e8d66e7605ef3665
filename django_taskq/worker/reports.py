"""What is said about running tasks: how far they are, outwards; that they should stop, inwards."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

from ..core.message import Message
from ..core.states import State
from ..models import TaskRecord
from ..transitions.finish import save_progress

#: a task's id and the claim under which this process has it
Key: TypeAlias = tuple[str, int]

#: seconds between looks whether running tasks were cancelled, and between reports of their progress
_CANCEL_CHECK, _PROGRESS = 1.0, 0.2


class Reports:
    """Used by the I/O thread, but for :meth:`note` and :meth:`is_cancelled`, which slots call.

    Tasks without rows report to nobody, and nobody can cancel them.
    """

    def __init__(self) -> None:
        self._progress: dict[Key, str] = {}
        #: ids of tasks that somebody asked to stop, as of the last look
        self.cancelled: frozenset[str] = frozenset()
        self._next_progress = self._next_cancel_check = 0.0

    def note(self, message: Message, progress: str) -> None:
        """A task says how far it is, as JSON text."""
        if message.delivery is None:
            self._progress[message.id, message.claim] = progress

    def is_cancelled(self, message: Message) -> bool:
        """Whether somebody asked this task to stop."""
        return message.id in self.cancelled

    def ended(self, key: Key) -> None:
        """The last report of a task goes before its end, after which nothing is written to its row."""
        if key in self._progress:
            self._next_progress = 0.0

    def forget(self, key: Key) -> None:
        """The task is not this process's any more."""
        self._progress.pop(key, None)

    def pass_on(self, now: float, database_of: Callable[[Key], str | None]) -> None:
        """Write the newest report of each task, now and then. ``database_of``: None for a task that is not held."""
        if not self._progress or now < self._next_progress:
            return
        self._next_progress = now + _PROGRESS
        by_database: dict[str, list[tuple[str, int, str]]] = {}
        # Taken one by one: slots add to the dict meanwhile.
        for key in list(self._progress):
            progress = self._progress.pop(key)
            using = database_of(key)
            if using is not None:
                by_database.setdefault(using, []).append((*key, progress))
        for using, reports in by_database.items():
            save_progress(using, reports)

    def look_for_cancelled(self, now: float, worker_id: str, databases: Collection[str], *, is_idle: bool) -> None:
        """Learn which of this worker's tasks somebody asked to stop. ``is_idle``: it has none."""
        if is_idle:
            self._next_cancel_check = 0.0
        elif now >= self._next_cancel_check:
            # Not at once: most tasks end before anybody could cancel them.
            if self._next_cancel_check:
                self.cancelled = frozenset(
                    str(pk)
                    for using in databases
                    for pk in TaskRecord.objects.using(using)
                    .filter(state=State.RUNNING, worker_id=worker_id, cancel_requested=True)
                    .values_list("pk", flat=True)
                )
            self._next_cancel_check = now + _CANCEL_CHECK

    def due_in(self, now: float, *, is_idle: bool) -> float | None:
        """Seconds until there is something to do; None while there is nothing."""
        waits = [self._next_progress - now] if self._progress else []
        if not is_idle:
            waits.append(self._next_cancel_check - now)
        return min(waits, default=None)
