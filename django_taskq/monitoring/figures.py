"""How the queues stand, read from the rows: cheap however many rows there are.

Only the small indexes over what has not ended are read, and no more than ``MOST`` entries of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import connections

from ..aliases import taskq_backends
from ..backend import TaskqBackend
from ..core.states import State
from ..database import Now, database_now, moment_reader
from ..models import WorkerRecord
from ..transitions.claim import queue_names

#: tasks of one queue, or of one state, beyond which nobody counts
MOST = 100_000
#: tasks of one priority that are looked at for the one that waits longest: what is due later may have an older id
_LOOKED_AT = 100

_TABLE = "django_taskq_task"
#: in the order of the partial index, so that every planner takes it
_ORDERS = {State.SCHEDULED: "run_after", State.RUNNING: "worker_id"}
#: literal states: SQLite takes a partial index only where its condition stands in the query word for word
_IN_QUEUE = "state = 'READY' AND backend = %s AND queue_name = %s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Worker processes of one database whose lease has not run out, and the tasks they can run at once."""

    database: str
    names: int
    processes: int
    slots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """``depths``: by alias, queue and state, up to ``MOST``. ``waits``: seconds of the longest wait, by alias and queue."""

    depths: dict[tuple[str, str, State], int] = field(default_factory=dict)
    waits: dict[tuple[str, str], float] = field(default_factory=dict)
    workers: list[Workers] = field(default_factory=list)


def read_figures() -> Figures:
    """Of all aliases of this project. Raises the databases' errors."""
    figures = Figures()
    by_database: dict[str, list[TaskqBackend]] = {}
    for backend in taskq_backends():
        by_database.setdefault(backend.database, []).append(backend)
    for using, backends in by_database.items():
        for backend in backends:
            _read_ready(figures, using, backend.alias)
        for state in _ORDERS:
            _read_state(figures, using, state, [backend.alias for backend in backends])
        figures.workers.append(_workers(using))
    return figures


def _read_ready(figures: Figures, using: str, alias: str) -> None:
    connection = connections[using]
    read, now = moment_reader(connection), database_now(using)
    for queue_name in queue_names(using, alias):
        (count,) = _row(
            using,
            f"SELECT count(*) FROM (SELECT id FROM {_TABLE} WHERE {_IN_QUEUE} ORDER BY priority DESC, id "  # noqa: S608  # names are ours
            f"LIMIT {MOST}) AS found",
            [alias, queue_name],
        )
        figures.depths[alias, queue_name, State.READY] = count
        due = [read(value) for value in _oldest(using, alias, queue_name)]
        if due:
            longest = max((now - at).total_seconds() for at in due if at is not None)
            figures.waits[alias, queue_name] = max(longest, 0.0)


def _oldest(using: str, alias: str, queue_name: str) -> Iterable[Any]:
    """Since when the first of each priority have waited; of one priority they are in the order of their age."""
    priority: int | None = None
    while True:
        below = "" if priority is None else f" AND priority < {priority:d}"
        row = _row(
            using,
            f"SELECT priority FROM {_TABLE} WHERE {_IN_QUEUE}{below} ORDER BY priority DESC, id LIMIT 1",  # noqa: S608  # as above
            [alias, queue_name],
        )
        if row is None:
            return
        priority = row[0]
        (due,) = _row(
            using,
            "SELECT min(CASE WHEN run_after > enqueued_at THEN run_after ELSE enqueued_at END) FROM "  # noqa: S608  # as above
            f"(SELECT run_after, enqueued_at FROM {_TABLE} WHERE {_IN_QUEUE} AND priority = {priority:d} "
            f"ORDER BY priority DESC, id LIMIT {_LOOKED_AT}) AS first",
            [alias, queue_name],
        )
        if due is not None:
            yield due


def _read_state(figures: Figures, using: str, state: State, aliases: Sequence[str]) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(
            f"SELECT backend, queue_name, count(*) FROM (SELECT backend, queue_name FROM {_TABLE} "  # noqa: S608  # as above
            f"WHERE state = '{state.value}' ORDER BY {_ORDERS[state]} LIMIT {MOST}) AS found GROUP BY backend, queue_name"
        )
        for backend, queue_name, count in cursor.fetchall():
            if backend in aliases:
                figures.depths[backend, queue_name, state] = count


def _workers(using: str) -> Workers:
    alive = [
        (name, slots)
        for name, slots, heartbeat_at, lease, now in WorkerRecord.objects.using(using)
        .annotate(now=Now())
        .values_list("name", "slots", "heartbeat_at", "lease", "now")
        if heartbeat_at >= now - timedelta(seconds=lease)
    ]
    return Workers(
        database=using,
        names=len({name for name, _ in alive}),
        processes=len(alive),
        slots=sum(slots for _, slots in alive),
    )


def _row(using: str, statement: str, params: Sequence[Any]) -> Any:
    with connections[using].cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchone()
