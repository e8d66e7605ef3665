"""How the queues stand, read from the rows: cheap however many rows there are.

Only the small indexes over what has not ended are read, and no more than ``MOST`` entries of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db import connections

from ..aliases import taskq_backends
from ..backend import TaskqBackend
from ..backlog import backlogs
from ..core.states import State
from ..overview import worker_states
from ..publication import known_queues

#: tasks of one queue, or of one state, beyond which nobody counts
MOST = 100_000

_TABLE = "django_taskq_task"
#: in the order of the partial index, so that every planner takes it
_ORDERS = {State.SCHEDULED: "run_after", State.RUNNING: "worker_id"}


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
        aliases = [backend.alias for backend in backends]
        _read_ready(figures, using, backends)
        for state in _ORDERS:
            _read_state(figures, using, state, aliases)
        figures.workers.append(_workers(using))
    return figures


def _read_ready(figures: Figures, using: str, backends: Sequence[TaskqBackend]) -> None:
    found = backlogs(using, [backend.alias for backend in backends], MOST, likely=known_queues(backends))
    for (alias, queue_name), backlog in found.items():
        figures.depths[alias, queue_name, State.READY] = backlog.ready
        if backlog.oldest_wait is not None:
            figures.waits[alias, queue_name] = backlog.oldest_wait


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
    alive = [worker for worker in worker_states(using) if worker.is_alive]
    return Workers(
        database=using,
        names=len({worker.name for worker in alive}),
        processes=len(alive),
        slots=sum(worker.slots for worker in alive),
    )
