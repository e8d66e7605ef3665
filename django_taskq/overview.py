"""How things stand, in few questions that stay quick however many rows there are.

What waits and runs is counted through indexes over those rows alone, up to a bound; of what has ended only the newest
are looked at.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from .backend import TaskqBackend
from .backlog import Backlog, Place, backlogs
from .core.paused import Paused
from .core.states import FINAL
from .database import Now, database_now, moment_param, moment_reader
from .models import PauseRecord, WorkerRecord
from .publication import known_queues

#: tasks that are counted at most, in one queue and one state, where nobody wants to know more; beyond, there are more
MOST = 10_000
#: tasks that have ended, of which the newest are counted, and how old they may be, in seconds
NEWEST, RECENT = 10_000, 3600.0
#: seconds that a broker gets to say what waits there
_PATIENCE = 2.0

_TABLE = "django_taskq_task"
_HAS_ENDED = f"state IN ({', '.join(repr(state.value) for state in sorted(FINAL))})"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """One queue of one alias. ``ready`` ends at ``most``, see :func:`overview`.

    ``oldest_wait``: seconds for which the task at its head has been ready to run; None when nothing waits.
    ``broker``: messages at the broker, None where there is none or it does not tell.
    """

    backend: str
    queue: str
    ready: int
    running: int
    oldest_wait: float | None
    is_paused: bool
    broker: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """One worker process. ``silent_for``: seconds since its heartbeat."""

    id: str
    name: str
    host: str
    pid: int
    queues: str
    slots: int
    running: int
    started_at: datetime
    silent_for: float
    is_alive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """One database. ``scheduled`` ends at ``most``, see :func:`overview`; ``next_due``: seconds until the first of them is due.

    ``ended``: counts by state of the newest tasks that have ended within the last hour, ``NEWEST`` at most.
    ``total``: about how many rows there are.
    """

    database: str
    queues: Sequence[QueueState]
    workers: Sequence[WorkerState]
    scheduled: int
    next_due: float | None
    ended: Mapping[str, int]
    total: int | None
    paused: Paused = field(default_factory=Paused)

    @property
    def alive(self) -> int:
        """Worker processes whose lease holds."""
        return sum(worker.is_alive for worker in self.workers)


def overview(using: str, backends: Iterable[TaskqBackend], *, asks_brokers: bool = False, most: int = MOST) -> Overview:
    """How things stand in a database; ``backends``: those with their rows there.

    ``most``: what is counted of one queue, or of what is due later. Raises the database's errors; a broker that does
    not answer within two seconds is left out.
    """
    connection = connections[using]
    now = database_now(using)
    stopped = PauseRecord.objects.using(using).paused()
    running, by_worker = _running(connection)
    queues = _queue_states(using, list(backends), stopped, running, asks_brokers=asks_brokers, most=most)
    scheduled, next_due = _scheduled(connection, now, most)
    return Overview(
        database=using,
        queues=queues,
        workers=worker_states(using, by_worker),
        scheduled=scheduled,
        next_due=next_due,
        ended=_ended(connection, now),
        total=_total(connection),
        paused=stopped,
    )


def queue_states(
    using: str, backends: Sequence[TaskqBackend], stopped: Paused, *, asks_brokers: bool = False, most: int = MOST
) -> list[QueueState]:
    """The queues alone, as :func:`overview` has them, and those that settings and tasks name. ``stopped``: what is paused.

    Four statements, and one more for each 50 queues or so.
    """
    running = _running(connections[using])[0]
    return _queue_states(using, backends, stopped, running, asks_brokers=asks_brokers, most=most, with_empty=True)


def _queue_states(
    using: str,
    backends: Sequence[TaskqBackend],
    stopped: Paused,
    running: Mapping[Place, int],
    *,
    asks_brokers: bool,
    most: int,
    with_empty: bool = False,
) -> list[QueueState]:
    waiting = backlogs(using, [backend.alias for backend in backends], most, likely=known_queues(backends))
    queues: list[QueueState] = []
    for backend in backends:
        known = known_queues([backend]) if with_empty else set()
        busy = {queue for alias, queue in (*waiting, *running) if alias == backend.alias}
        names = sorted(known | busy | stopped.queues)
        depths = _depths(backend, names) if asks_brokers and backend.config.is_kombu else {}
        queues += [
            _queue_state(
                (backend.alias, name), waiting, running, is_paused=name in stopped.queues, broker=depths.get(name)
            )
            for name in names
        ]
    return queues


def _queue_state(
    place: Place,
    waiting: Mapping[Place, Backlog],
    running: Mapping[Place, int],
    *,
    is_paused: bool,
    broker: int | None,
) -> QueueState:
    backend, queue = place
    backlog = waiting.get(place)
    return QueueState(
        backend=backend,
        queue=queue,
        ready=backlog.ready if backlog is not None else 0,
        running=running.get(place, 0),
        oldest_wait=backlog.oldest_wait if backlog is not None else None,
        is_paused=is_paused,
        broker=broker,
    )


def worker_states(using: str, by_worker: Mapping[str, int] | None = None) -> list[WorkerState]:
    """The worker processes, by name."""
    if by_worker is None:
        by_worker = _running(connections[using])[1]
    rows = WorkerRecord.objects.using(using).annotate(now=Now()).order_by("name", "pk")
    states = []
    for row in rows:
        now: Any = row.now
        silent_for = (now - row.heartbeat_at).total_seconds()
        states.append(
            WorkerState(
                id=row.pk,
                name=row.name,
                host=row.hostname,
                pid=row.pid,
                queues=row.queues,
                slots=row.slots,
                running=by_worker.get(row.pk, 0),
                started_at=row.started_at,
                silent_for=max(silent_for, 0.0),
                is_alive=silent_for <= row.lease,
            )
        )
    return states


def _count(connection: BaseDatabaseWrapper, where: str, params: Sequence[Any], most: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM (SELECT 1 FROM {_TABLE} WHERE {where} LIMIT {most:d}) AS found", params)
        return int(cursor.fetchone()[0])


def _running(connection: BaseDatabaseWrapper) -> tuple[dict[tuple[str, str], int], dict[str, int]]:
    """RUNNING tasks by alias and queue, and by worker: there are never more than slots."""
    by_queue: dict[tuple[str, str], int] = {}
    by_worker: dict[str, int] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT backend, queue_name, worker_id, COUNT(*) FROM {_TABLE} WHERE state = 'RUNNING' "
            "GROUP BY backend, queue_name, worker_id"
        )
        for backend, queue_name, worker_id, count in cursor.fetchall():
            by_queue[backend, queue_name] = by_queue.get((backend, queue_name), 0) + count
            by_worker[worker_id] = by_worker.get(worker_id, 0) + count
    return by_queue, by_worker


def _scheduled(connection: BaseDatabaseWrapper, now: datetime, most: int) -> tuple[int, float | None]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT run_after FROM {_TABLE} WHERE state = 'SCHEDULED' AND run_after IS NOT NULL "
            "ORDER BY run_after LIMIT 1"
        )
        row = cursor.fetchone()
    moment = moment_reader(connection)(row[0]) if row else None
    count = _count(connection, "state = 'SCHEDULED' ORDER BY run_after", [], most) if row else 0
    return count, None if moment is None else (moment - now).total_seconds()


def _ended(connection: BaseDatabaseWrapper, now: datetime) -> dict[str, int]:
    since = moment_param(connection, now - timedelta(seconds=RECENT))
    counts: dict[str, int] = {}
    # MySQL's index begins with the state: it serves one at a time.
    conditions = [_HAS_ENDED] if connection.vendor != "mysql" else [f"state = '{state}'" for state in sorted(FINAL)]
    with connection.cursor() as cursor:
        for condition in conditions:
            cursor.execute(
                f"SELECT state, COUNT(*) FROM (SELECT state FROM {_TABLE} WHERE {condition} AND finished_at > %s "
                f"ORDER BY finished_at DESC LIMIT {NEWEST:d}) AS newest GROUP BY state",
                [since],
            )
            counts.update(cursor.fetchall())
    return dict(sorted(counts.items()))


def _total(connection: BaseDatabaseWrapper) -> int | None:
    """About how many rows there are, as far as the database knows without counting."""
    question = {
        "postgresql": f"SELECT reltuples::bigint FROM pg_class WHERE oid = '{_TABLE}'::regclass",
        "sqlite": f"SELECT max(rowid) - min(rowid) + 1 FROM {_TABLE}",
        "mysql": "SELECT table_rows FROM information_schema.tables "
        f"WHERE table_schema = DATABASE() AND table_name = '{_TABLE}'",
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(question)
        row = cursor.fetchone()
    # PostgreSQL says -1 before it has looked at the table (its manual, pg_class).
    return None if row is None or row[0] is None or row[0] < 0 else int(row[0])


def _depths(backend: TaskqBackend, names: Collection[str]) -> Mapping[str, int | None]:
    from .brokers.kombu.facts import ask  # noqa: PLC0415  # who has no message broker does not load kombu

    found: dict[str, int | None] = {}

    def look() -> None:
        found.update({name: facts.ready for name, facts in (ask(backend.config, names) or {}).items()})

    # A thread, since some clients wait for a broker as long as they like.
    thread = threading.Thread(target=look, name="taskq-facts", daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return {} if thread.is_alive() else found
