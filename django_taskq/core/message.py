"""What a worker holds of a task it has claimed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from .record import record


@record
class Message:
    """A claimed task, as its row had it at the claim.

    ``claim`` is the fencing token: the end of this attempt must name it. ``attempt`` counts this
    one; ``losses`` are the attempts before it that died with their worker. ``arguments``,
    ``options`` and ``metadata`` are JSON text, decoded where the task runs. ``worker_ids`` has a line
    per attempt, this one included, ``errors`` one per failure. ``reply_to``: where the row says that
    somebody waits (``core.reply_queue``). ``headers``: JSON text, str to str, from whoever enqueued it; "" for none.
    ``delivery``: how the broker holds a
    task that has no row (``claim`` is negative then); None where the row's lease does.
    """

    id: str
    name: str
    queue_name: str
    backend: str
    priority: int
    arguments: str
    options: str
    metadata: str
    errors: str
    worker_ids: str
    attempt: int
    claim: int
    losses: int
    acks_late: bool
    enqueued_at: datetime
    run_after: datetime | None
    started_at: datetime
    last_attempted_at: datetime
    expires_at: datetime | None
    reply_to: str = ""
    headers: str = ""
    delivery: Any = None

    @property
    def failures(self) -> int:
        """Attempts before this one that failed by themselves."""
        return self.attempt - self.losses - 1
