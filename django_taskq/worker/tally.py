"""From outcomes to a process's counters: those that its supervisor reads, and those that become statistics."""

from __future__ import annotations

from ..core.message import Message
from ..core.outcome import Outcome
from ..core.states import State
from ..transitions.workers import LostTask
from .gauges import Sheet
from .statistics import Statistics

_ENDS = {
    State.SUCCESSFUL: "succeeded",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.EXPIRED: "expired",
    State.READY: "retried",
    State.SCHEDULED: "retried",
}


class Tally:
    """Counts each attempt of this process once. For the one thread that writes its sheet."""

    def __init__(self, sheet: Sheet, statistics: Statistics) -> None:
        self._sheet = sheet
        self.statistics = statistics

    def ended(self, message: Message, outcome: Outcome, *, is_cancelled: bool = False) -> None:
        """``is_cancelled``: somebody asked it to stop, so that only a success is one."""
        if outcome.is_unstarted:
            return
        end = "cancelled" if is_cancelled and outcome.state is not State.SUCCESSFUL else _ENDS[outcome.state]
        waited = _waited(message)
        self._sheet.ended(message.name, message.queue_name, end, seconds=outcome.duration, waited=waited)
        self.statistics.ended(
            message.backend, message.name, message.queue_name, end, seconds=outcome.duration, waited=waited
        )

    def lost(self, task: LostTask) -> None:
        """Count an attempt that died with another process; as a failure, too, where it was the task's last one."""
        self._sheet.ended(task.name, task.queue_name, "lost", seconds=None, waited=None)
        for end in ("lost",) if task.runs_again else ("lost", "failed"):
            self.statistics.ended(task.backend, task.name, task.queue_name, end, seconds=None, waited=None)


def _waited(message: Message) -> float | None:
    """Seconds between being due and being claimed; moments of one clock, the database's.

    Of later attempts nobody knows since when they could have run.
    """
    if message.attempt != 1:
        return None
    due_at = message.enqueued_at if message.run_after is None else max(message.run_after, message.enqueued_at)
    return max((message.last_attempted_at - due_at).total_seconds(), 0.0)
