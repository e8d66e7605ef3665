"""What workers leave alone until somebody says otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PauseKind(StrEnum):
    """What can be paused."""

    QUEUE = "queue"
    TASK = "task"


@dataclass(frozen=True, slots=True)
class Paused:
    """The ``queues`` and the ``tasks``, by name, whose tasks are not to start."""

    queues: frozenset[str] = frozenset()
    tasks: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.queues or self.tasks)

    def covers(self, queue_name: str, name: str) -> bool:
        """Whether the task ``name`` in this queue is to wait."""
        return queue_name in self.queues or name in self.tasks


NOTHING_PAUSED = Paused()
