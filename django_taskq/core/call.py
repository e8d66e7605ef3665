"""An unrecorded task, as it travels in messages."""

from __future__ import annotations

from datetime import datetime

from .record import record

__all__ = ["Call"]


@record
class Call:
    """An unrecorded task: all there is of it.

    ``id``: what the producer chose, a UUID from ours. ``arguments``, ``options`` and ``metadata``: JSON text, as in a
    row. ``retries``: attempts that failed before this one. ``reply_to``: the queue for the result, "" when
    nobody waits; its name is as the message has it, and no more trustworthy. ``root_id`` and ``parent_id``: the
    task that began it all and the one that enqueued this one, "" for none. From ``options`` on: None, 0 or "" in
    messages that our producers did not write. ``errors`` and ``worker_ids`` are as in a row, with the oldest and
    the longest cut to what a header can carry; in what comes back, a worker that is not known any more is "unknown".
    ``headers``: JSON text, str to str, "" for none; of these only ``wire.CARRIED`` travel, each as a header of its own,
    where the instrumentation of Celery's producers and workers has them.
    """

    id: str
    name: str
    arguments: str
    retries: int = 0
    expires: datetime | None = None
    eta: datetime | None = None
    reply_to: str = ""
    correlation_id: str = ""
    root_id: str = ""
    parent_id: str = ""
    options: str = ""
    metadata: str = ""
    enqueued_at: datetime | None = None
    acks_late: bool | None = None
    max_deliveries: int | None = None
    priority: int = 0
    errors: str = ""
    worker_ids: str = ""
    headers: str = ""
