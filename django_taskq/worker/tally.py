"""From outcomes to a process's counters."""

from __future__ import annotations

from ..core.message import Message
from ..core.outcome import Outcome
from ..core.states import State
from .gauges import Sheet

_ENDS = {
    State.SUCCESSFUL: "succeeded",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.EXPIRED: "expired",
    State.READY: "retried",
    State.SCHEDULED: "retried",
}


def count_end(sheet: Sheet, message: Message, outcome: Outcome, *, is_cancelled: bool) -> None:
    """Count an attempt of this process. ``is_cancelled``: somebody asked it to stop, so that only a success is one."""
    if outcome.is_unstarted:
        return
    end = "cancelled" if is_cancelled and outcome.state is not State.SUCCESSFUL else _ENDS[outcome.state]
    sheet.ended(message.name, message.queue_name, end, seconds=outcome.duration, waited=_waited(message))


def count_lost(sheet: Sheet, name: str, queue_name: str) -> None:
    """Count an attempt that died with another process."""
    sheet.ended(name, queue_name, "lost", seconds=None, waited=None)


def _waited(message: Message) -> float | None:
    """Seconds between being due and being claimed; moments of one clock, the database's.

    Of later attempts nobody knows since when they could have run.
    """
    if message.attempt != 1:
        return None
    due_at = message.enqueued_at if message.run_after is None else max(message.run_after, message.enqueued_at)
    return max((message.last_attempted_at - due_at).total_seconds(), 0.0)
