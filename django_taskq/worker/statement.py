"""What a worker has to say of an attempt, to callers and to stores."""

from __future__ import annotations

from datetime import timedelta

from ..core.message import Message
from ..core.outcome import Outcome
from ..core.reply import Reply


def reply_of(message: Message, outcome: Outcome, *, task_id: str = "", correlation_id: str = "") -> Reply:
    """What is told of an attempt that has ended its task. ``task_id``: the message's, unless its producer had another."""
    return Reply(
        task_id=task_id or message.id,
        correlation_id=correlation_id,
        state=outcome.state,
        result=outcome.result,
        error=outcome.error,
        name=message.name,
        worker=message.worker_ids.rstrip("\n").rpartition("\n")[2],
        attempt=message.attempt,
        enqueued_at=message.enqueued_at,
        started_at=message.last_attempted_at,
        # The claim's moment is the database's; this process's monotonic clock adds how long it took.
        finished_at=message.last_attempted_at + timedelta(seconds=outcome.duration),
    )
