"""How fast tasks come to queues and leave them, in two statements."""

from __future__ import annotations

import time
from dataclasses import dataclass

from django.db import connections

from . import statistics
from .core.ids import lower_bound
from .database import database_now, id_param, moment_reader

#: seconds that are looked at
_WINDOW = 600.0
#: tasks that are looked at most, the newest; where more came, they came within less time than the window
_MOST = 10_000

_TABLE = "django_taskq_task"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Tasks per second. ``coming``: enqueued, those that are due later included; ``leaving``: ended, in whichever way."""

    coming: float = 0.0
    leaving: float = 0.0

    def seconds_to_drain(self, waiting: int) -> float | None:
        """Until so many are through, should all go on like this; None: never."""
        if not waiting:
            return 0.0
        gain = self.leaving - self.coming
        return waiting / gain if gain > 0 else None


def paces(using: str) -> dict[str, Pace]:
    """By queue, over the last ten minutes. Raises the database's errors."""
    coming = _coming(using)
    # Whole minutes are counted.
    now = time.time()
    span = now - (now - _WINDOW) // 60 * 60
    ended = {queue: one.ended / span for queue, one in statistics.by_queue(using, seconds=_WINDOW).items()}
    return {queue: Pace(coming=coming.get(queue, 0.0), leaving=ended.get(queue, 0.0)) for queue in {*coming, *ended}}


def _coming(using: str) -> dict[str, float]:
    """By the ids, which begin with the time: they have an index, and enqueueing alone makes them."""
    connection = connections[using]
    first = lower_bound(time.time() - _WINDOW)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT queue_name, COUNT(*), MIN(enqueued_at) FROM (SELECT queue_name, enqueued_at FROM {_TABLE} "  # noqa: S608  # a name of ours
            f"WHERE id >= %s ORDER BY id DESC LIMIT {_MOST:d}) AS newest GROUP BY queue_name",
            [id_param(connection, str(first))],
        )
        rows = cursor.fetchall()
    span = _WINDOW
    if sum(count for _, count, _ in rows) >= _MOST:
        read = moment_reader(connection)
        oldest = min(moment for _, _, first_at in rows if (moment := read(first_at)) is not None)
        span = min(max((database_now(using) - oldest).total_seconds(), 1.0), _WINDOW)
    return {queue: count / span for queue, count, _ in rows}
