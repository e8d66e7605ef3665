"""How a database stands, in two statements whatever there is: for pages that look again every few seconds.

The first finds what is there: queues in which tasks wait, what runs, workers, pauses, schedules, kinds of failures. The
second counts what waits in each queue, up to a bound, and looks at its head. Moments are seconds since 1970, UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeAlias

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from .backend import TaskqBackend
from .core.paused import Paused, PauseKind
from .database import sqlite_now
from .finding.groups import kinds_with_newest
from .finding.lanes import TABLE
from .overview import MOST, Overview, QueueState, WorkerState

#: queues of an alias that are looked at, and priorities of each: SQLite takes 500 parts of a statement
_QUEUES, _PRIORITIES, _HEADS = 200, 20, 250
#: tasks at the head of a queue among which the longest wait is looked for
_HEAD = 50

#: a column -> what reads it, the same on every database
_Expression: TypeAlias = Callable[[str], str]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Line(NamedTuple):
    """A row of the first statement: what it is about, texts, whole numbers, moments or other fractions."""

    kind: str
    a: str = "''"
    b: str = "''"
    c: str = "''"
    d: str = "''"
    m: str = "0"
    n: str = "0"
    x: str = "0e0"
    y: str = "0e0"
    z: str = "0e0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A schedule and its next tick."""

    id: int
    name: str
    task: str
    problem: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """``overview`` without what has ended. ``current``: worker -> the names of what it runs, and how many of each.

    ``due``: the next schedules. ``kinds``: the kinds of failures that were seen last, each with its newest task's id.
    """

    now: datetime
    overview: Overview
    has_tasks: bool
    current: Mapping[str, Mapping[str, int]]
    due: Sequence[Due]
    kinds: Sequence[tuple[str, str]]


def standing(using: str, backends: Iterable[TaskqBackend], *, schedules: int = 0, kinds: int = 0) -> Standing:
    """How a database stands; ``backends``: those with their rows there. Raises the database's errors.

    ``schedules``, ``kinds``: how many of them are asked for.
    """
    connection = connections[using]
    # Without any there is one that nothing is of.
    aliases = [backend.alias for backend in backends] or [""]
    lines = _read(connection, aliases, schedules, kinds)
    now = next(line[7] for line in lines if line[0] == "now")
    heads = [(line[1], line[2], line[5]) for line in lines if line[0] == "ready"]
    depths, since = _count(connection, heads)
    running, current, by_worker = _running(lines)
    paused = Paused(
        frozenset(line[2] for line in lines if line[0] == "paused" and line[1] == PauseKind.QUEUE),
        frozenset(line[2] for line in lines if line[0] == "paused" and line[1] == PauseKind.TASK),
    )
    scheduled = next(line for line in lines if line[0] == "scheduled")
    names = sorted({*depths, *running, *((alias, name) for alias in aliases for name in paused.queues)})
    queues = [
        QueueState(
            backend=alias,
            queue=name,
            ready=depths.get((alias, name), 0),
            running=running.get((alias, name), 0),
            oldest_wait=max(now - since[alias, name], 0.0) if (alias, name) in since else None,
            is_paused=name in paused.queues,
        )
        for alias, name in names
        if alias in aliases
    ]
    return Standing(
        now=_moment(now),
        overview=Overview(
            database=using,
            queues=queues,
            workers=[_worker(line, now, by_worker) for line in sorted(lines) if line[0] == "worker"],
            scheduled=scheduled[5],
            next_due=scheduled[7] - now if scheduled[5] else None,
            ended={},
            total=None,
            paused=paused,
        ),
        has_tasks=any(line[0] == "any" for line in lines),
        current=current,
        due=[
            Due(id=line[5], name=line[1], task=line[2], problem=line[3], at=_moment(line[7]))
            for line in sorted(lines, key=lambda line: float(line[7]))
            if line[0] == "due"
        ],
        kinds=[(line[1], line[2]) for line in sorted(lines, key=lambda line: -float(line[7])) if line[0] == "kind"],
    )


def _read(connection: BaseDatabaseWrapper, aliases: Sequence[str], schedules: int, kinds: int) -> list[tuple[Any, ...]]:
    """The first statement. Its parts end with what SQLite's clock says, where it is needed."""
    moment = _MOMENT[connection.vendor].format
    text = _TEXT[connection.vendor].format
    ctes, params = _queues_with_heads(connection, aliases)
    parts = [(_Line("now", x=_NOW[connection.vendor]), ""), *_tasks(text, moment), _workers(text, moment)]
    if schedules:
        parts.append(_due(text, moment, schedules))
    if kinds:
        cte, newest = kinds_with_newest(connection, kinds)
        ctes += f", {cte}"
        line = _Line("kind", a=text("kind"), b=_ID[connection.vendor], x=moment("finished_at"))
        parts.append((line, f"({newest}) AS newest"))
    selects = " UNION ALL ".join(_select(connection, *part) for part in parts)
    with connection.cursor() as cursor:
        clock = [sqlite_now()] if connection.vendor == "sqlite" else []
        cursor.execute(f"WITH RECURSIVE {ctes} {selects}", [*params, *clock])
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def _tasks(text: _Expression, moment: _Expression) -> Iterator[tuple[_Line, str]]:
    """Whether there are any, what waits where, what is paused, what runs, and what is due later."""
    yield _Line("any"), f"(SELECT 1 FROM {TABLE} ORDER BY id DESC LIMIT 1) AS one"
    yield _Line("ready", a=text("alias"), b=text("name"), m="priority"), "heads WHERE priority IS NOT NULL"
    yield _Line("paused", a=text("kind"), b=text("name")), "django_taskq_pause"
    yield (
        _Line("running", a=text("backend"), b=text("queue_name"), c=text("worker_id"), d=text("name"), m="COUNT(*)"),
        f"{TABLE} WHERE state = 'RUNNING' GROUP BY backend, queue_name, worker_id, name",
    )
    yield (
        _Line("scheduled", m="COUNT(*)", x=f"COALESCE({moment('MIN(run_after)')}, 0e0)"),
        f"(SELECT run_after FROM {TABLE} WHERE state = 'SCHEDULED' ORDER BY run_after LIMIT {MOST:d}) AS ahead",
    )


def _workers(text: _Expression, moment: _Expression) -> tuple[_Line, str]:
    line = _Line(
        "worker",
        a=text("id"),
        b=text("name"),
        c=text("hostname"),
        d=text("queues"),
        m="pid",
        n="slots",
        x=moment("started_at"),
        y=moment("heartbeat_at"),
        z="lease",
    )
    return line, "django_taskq_worker"


def _due(text: _Expression, moment: _Expression, count: int) -> tuple[_Line, str]:
    line = _Line("due", a=text("name"), b=text("task"), c=text("problem"), m="id", x=moment("next_at"))
    return line, (
        "(SELECT id, name, task, problem, next_at FROM django_taskq_schedule WHERE next_at IS NOT NULL "
        f"ORDER BY next_at LIMIT {count:d}) AS ahead"
    )


def _queues_with_heads(connection: BaseDatabaseWrapper, aliases: Sequence[str]) -> tuple[str, list[Any]]:
    """Expressions ``queues`` and ``heads``, which hold the priorities in which tasks wait in each.

    Hops through the index from one to the next, however many tasks wait there.
    """
    kind = "char(128)" if connection.vendor == "mysql" else "text"
    name = f"(SELECT CAST(t.queue_name AS {kind}) FROM {TABLE} AS t WHERE t.state = 'READY' AND t.backend = "
    if connection.vendor == "mysql":
        # A comparison of columns of different collations is refused, or no index serves it.
        name = name.replace(f"CAST(t.queue_name AS {kind})", "t.queue_name")
    roots = " UNION ALL ".join(
        [f"SELECT CAST(%s AS {kind}) AS alias, {name}%s ORDER BY t.queue_name LIMIT 1) AS name, 1 AS hops"]
        * len(aliases)
    )
    priority = f"(SELECT t.priority FROM {TABLE} AS t WHERE t.state = 'READY' AND t.backend = {{0}}.alias AND t.queue_name = {{0}}.name"
    first = "ORDER BY t.priority DESC LIMIT 1)"
    sql = (
        f"queues (alias, name, hops) AS (SELECT * FROM ({roots}) AS roots UNION ALL SELECT queues.alias, "
        f"{name}queues.alias AND t.queue_name > queues.name ORDER BY t.queue_name LIMIT 1), hops + 1 "
        f"FROM queues WHERE queues.name IS NOT NULL AND hops < {_QUEUES:d}), "
        f"heads (alias, name, priority, hops) AS (SELECT queues.alias, queues.name, {priority.format('queues')} {first}, 1 "
        "FROM queues WHERE queues.name IS NOT NULL "
        f"UNION ALL SELECT heads.alias, heads.name, {priority.format('heads')} AND t.priority < heads.priority {first}, "
        f"hops + 1 FROM heads WHERE heads.priority IS NOT NULL AND hops < {_PRIORITIES:d})"
    )
    return sql, [alias for alias in aliases for _ in range(2)]


def _count(
    connection: BaseDatabaseWrapper, heads: Sequence[tuple[str, str, int]]
) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], float]]:
    """What waits in each queue, up to ``MOST``, and since when the longest has."""
    queues = list(dict.fromkeys((alias, name) for alias, name, _ in heads))[:_QUEUES]
    if not queues:
        return {}, {}
    greatest = "MAX" if connection.vendor == "sqlite" else "GREATEST"
    since = _MOMENT[connection.vendor].format(
        f"{greatest}(enqueued_at, COALESCE(run_after, enqueued_at), COALESCE(last_attempted_at, enqueued_at))"
    )
    where = f"FROM {TABLE} WHERE state = 'READY' AND backend = %s AND queue_name = %s"
    depth = f"SELECT {{0:d}}, COUNT(*), 0e0 FROM (SELECT 1 {where} ORDER BY priority DESC, id LIMIT {MOST:d}) AS found"
    head = (
        f"SELECT {{0:d}}, -1, {since} FROM (SELECT enqueued_at, run_after, last_attempted_at {where} "
        f"AND priority = %s ORDER BY id LIMIT {_HEAD:d}) AS found"
    )
    numbers = {queue: number for number, queue in enumerate(queues)}
    heads = [one for one in heads if one[:2] in numbers][:_HEADS]
    parts = [
        *(depth.format(number) for number in numbers.values()),
        *(head.format(numbers[one[:2]]) for one in heads),
    ]
    params = [value for queue in (*queues, *heads) for value in queue]
    depths: dict[tuple[str, str], int] = {}
    waiting: dict[tuple[str, str], float] = {}
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(parts), params)
        for number, count, at in cursor.fetchall():
            queue = queues[number]
            if count >= 0:
                depths[queue] = count
            elif at is not None:
                waiting[queue] = min(at, waiting.get(queue, at))
    return depths, waiting


def _running(
    lines: Sequence[tuple[Any, ...]],
) -> tuple[dict[tuple[str, str], int], dict[str, dict[str, int]], dict[str, int]]:
    """By alias and queue, by worker and name, by worker."""
    by_queue: dict[tuple[str, str], int] = {}
    by_name: dict[str, dict[str, int]] = {}
    by_worker: dict[str, int] = {}
    for kind, alias, queue, worker, name, count, *_ in lines:
        if kind == "running":
            by_queue[alias, queue] = by_queue.get((alias, queue), 0) + count
            by_worker[worker] = by_worker.get(worker, 0) + count
            names = by_name.setdefault(worker, {})
            names[name] = names.get(name, 0) + count
    return by_queue, by_name, by_worker


def _worker(line: tuple[Any, ...], now: float, running: Mapping[str, int]) -> WorkerState:
    _, key, name, host, queues, pid, slots, started, heartbeat, lease = line
    silent_for = now - heartbeat
    return WorkerState(
        id=key,
        name=name,
        host=host,
        pid=pid,
        queues=queues,
        slots=slots,
        running=running.get(key, 0),
        started_at=_moment(started),
        silent_for=max(silent_for, 0.0),
        is_alive=silent_for <= lease,
    )


#: the database's clock; SQLite's is this host's, as a parameter
_NOW = {
    "postgresql": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS double precision)",
    "mysql": "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1e6",
    "sqlite": "(julianday(%s) - 2440587.5) * 86400e0",
}
_MOMENT = {
    "postgresql": "CAST(EXTRACT(EPOCH FROM {}) AS double precision)",
    "mysql": "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {}) / 1e6",
    "sqlite": "(julianday({}) - 2440587.5) * 86400e0",
}
_TEXT = {
    "postgresql": "CAST({} AS text)",
    "mysql": "CONVERT({} USING utf8mb4) COLLATE utf8mb4_bin",
    "sqlite": "CAST({} AS text)",
}
_ID = {"postgresql": "CAST(id AS text)", "mysql": "CONVERT(id USING utf8mb4) COLLATE utf8mb4_bin", "sqlite": "id"}


def _select(connection: BaseDatabaseWrapper, line: _Line, source: str = "") -> str:
    values = list(line[1:])
    if connection.vendor == "mysql":
        values = [*(f"{one} COLLATE utf8mb4_bin" if one == "''" else one for one in values[:4]), *values[4:]]
    return f"SELECT '{line.kind}', {', '.join(values)}{f' FROM {source}' if source else ''}"


def _moment(seconds: float) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)
