"""READY -> RUNNING: a worker takes a batch, highest priority first, then oldest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..core.message import Message
from ..core.paused import NOTHING_PAUSED, Paused
from ..core.states import State
from ..database import Now, id_param, moment_reader, read_id, retry_conflicts, sqlite_now, sqlite_text
from ..models import TaskRecord
from ..models.task import NEVER_PUBLISHED

_TABLE = "django_taskq_task"

_RETURNED = (
    "id, name, queue_name, backend, priority, arguments, options, metadata, errors, worker_ids, "
    "attempt, claim, losses, acks_late, enqueued_at, run_after, started_at, last_attempted_at, expires_at, reply_to, "
    "headers"
)
_ORDER = "ORDER BY priority DESC, id"

#: A task that comes back has to be published anew.
_UNPUBLISHED = f"CASE WHEN published_at IS NOT NULL THEN {{type}}'{sqlite_text(NEVER_PUBLISHED)}{{zone}}' END"
_UNPUBLISHED_POSTGRESQL = _UNPUBLISHED.format(type="timestamptz ", zone="+00")
_UNPUBLISHED_PLAIN = _UNPUBLISHED.format(type="", zone="")

#: The same in all of a statement, where two calls of ``clock_timestamp()`` give two moments; and not before the task was
#: enqueued, which may have been committed after the statement began.
_BEGUN_POSTGRESQL = "greatest(statement_timestamp(), enqueued_at)"

#: for one statement: two settings, and so two results before its own
_NO_SORT = "SET LOCAL enable_sort = off; SET LOCAL jit = off; "

#: lanes that get an index range each; beyond, planning so many costs more than passing over other queues' tasks
_MANY_LANES = 32

#: how far a claim by name looks ahead, in tasks
_WINDOW = 500


@dataclass(frozen=True, slots=True)
class Lanes:
    """What a claim may take: tasks of these backends, in these queues or (None) in any, but none of ``paused`` names."""

    backends: tuple[str, ...]
    queues: tuple[str, ...] | None = None
    paused: tuple[str, ...] = ()

    def pairs(self) -> list[tuple[str, str | None]]:
        """One index range each."""
        return [(backend, queue) for backend in self.backends for queue in (self.queues or [None])]


@dataclass(frozen=True, slots=True)
class _Source:
    """Rows a claim may take, as a condition that one index serves; in that index's order, unless ``is_sorted``."""

    where: str
    params: tuple[Any, ...]
    hint: str = ""
    is_sorted: bool = False


def claim(using: str, lanes: Lanes, limit: int, worker_id: str) -> list[Message]:
    """Take up to ``limit`` tasks that are READY and not expired, in the order they are to run.

    Two workers never get the same row; rows locked by another claim are passed over, not waited for.
    """
    pairs = lanes.pairs()
    if lanes.queues is not None and len(pairs) > _MANY_LANES:
        names = ", ".join(["%s"] * len(lanes.queues))
        where = f"state = 'READY' AND backend = %s AND queue_name IN ({names})"
        sources = [_Source(where, (backend, *lanes.queues)) for backend in lanes.backends]
    else:
        sources = [
            _Source("state = 'READY' AND backend = %s", (backend,))
            if queue is None
            else _Source("state = 'READY' AND backend = %s AND queue_name = %s", (backend, queue))
            for backend, queue in pairs
        ]
    if lanes.paused:
        sources = [_but(source, "name", lanes.paused) for source in sources]
    return _claim(using, sources, limit, worker_id)


def claim_named(
    using: str, lanes: Lanes, limit: int, worker_id: str, *, names: Collection[str], wanted: bool
) -> list[Message]:
    """Take tasks by name: those in ``names``, or (not ``wanted``) all others.

    Only looks at the first tasks of each lane, so that a long queue of the other kind costs nothing.
    """
    connection = connections[using]
    ids: list[str] = []
    with connection.cursor() as cursor:
        for backend, queue in lanes.pairs():
            by_queue = "" if queue is None else "AND queue_name = %s "
            by_name = f"AND name NOT IN ({', '.join(['%s'] * len(lanes.paused))}) " if lanes.paused else ""
            cursor.execute(
                f"SELECT id, name FROM {_TABLE} WHERE state = 'READY' AND backend = %s {by_queue}{by_name}"
                f"{_ORDER} LIMIT {_WINDOW:d}",
                [*([backend] if queue is None else [backend, queue]), *lanes.paused],
            )
            ids += [read_id(row[0]) for row in cursor.fetchall() if (row[1] in names) is wanted]
    return _claim(using, [_by_id(connection, ids)], limit, worker_id) if ids else []


def claim_ids(
    using: str, ids: Sequence[str], worker_id: str, *, backends: Collection[str], paused: Paused = NOTHING_PAUSED
) -> list[Message]:
    """Take those of these tasks that are READY, not expired, not ``paused`` and of these backends; see :func:`claim`.

    What a broker delivered: a task that is missing in the answer ran already, is running, was
    cancelled, never was, or is locked by somebody at the moment (see ``states_of``).
    """
    if not ids or not backends:
        return []
    source = _by_id(connections[using], ids)
    marks = ", ".join(["%s"] * len(backends))
    source = replace(source, where=f"{source.where} AND backend IN ({marks})", params=(*source.params, *backends))
    if paused.queues:
        source = _but(source, "queue_name", paused.queues)
    if paused.tasks:
        source = _but(source, "name", paused.tasks)
    return _claim(using, [source], len(ids), worker_id)


def states_of(using: str, ids: Sequence[str], *, backends: Collection[str]) -> dict[str, tuple[State, bool]]:
    """The state of each of these tasks and whether it has expired by now; without those that no backend has."""
    rows = TaskRecord.objects.using(using).filter(pk__in=ids, backend__in=backends).annotate(now=Now())
    return {
        str(pk): (State(state), expires_at is not None and expires_at <= now)
        for pk, state, expires_at, now in rows.values_list("pk", "state", "expires_at", "now")
    }


def queue_names(using: str, backend: str) -> list[str]:
    """The queues of a backend in which something is READY.

    Hops through the index from one name to the next, however many tasks wait in each.
    """
    connection = connections[using]
    names: list[str] = []
    after = ""
    with connection.cursor() as cursor:
        while True:
            cursor.execute(
                f"SELECT queue_name FROM {_TABLE} WHERE state = 'READY' AND backend = %s AND queue_name > %s "
                "ORDER BY queue_name LIMIT 1",
                [backend, after],
            )
            row = cursor.fetchone()
            if row is None:
                return names
            after = row[0]
            names.append(after)


def _by_id(connection: BaseDatabaseWrapper, ids: Sequence[str]) -> _Source:
    """Tasks by primary key, whatever the planner thinks of how few are READY."""
    params = tuple(id_param(connection, task_id) for task_id in ids)
    if connection.vendor == "postgresql":
        return _Source("id = ANY(%s::uuid[]) AND state || '' = 'READY'", (list(params),), is_sorted=True)
    marks = ", ".join(["%s"] * len(params))
    if connection.vendor == "sqlite":
        return _Source(f"id IN ({marks}) AND +state = 'READY'", params, is_sorted=True)
    return _Source(f"id IN ({marks}) AND state = 'READY'", params, hint="FORCE INDEX (PRIMARY) ", is_sorted=True)


def _but(source: _Source, column: str, names: Collection[str]) -> _Source:
    """Without these. Read from the rows, along the same index."""
    marks = ", ".join(["%s"] * len(names))
    return replace(source, where=f"{source.where} AND {column} NOT IN ({marks})", params=(*source.params, *names))


def _claim(using: str, sources: list[_Source], limit: int, worker_id: str) -> list[Message]:
    if limit < 1 or not sources:
        return []
    connection = connections[using]
    take = {"postgresql": _claim_postgresql, "sqlite": _claim_sqlite}.get(connection.vendor, _claim_mysql)
    rows = retry_conflicts(using, lambda: take(connection, sources, limit, worker_id))
    read = moment_reader(connection)
    messages = [_message(row, read) for row in rows]
    # UPDATE … RETURNING gives rows in any order.
    messages.sort(key=lambda message: (-message.priority, message.id))
    return messages


def _claim_postgresql(connection: BaseDatabaseWrapper, sources: list[_Source], limit: int, worker_id: str) -> list[Any]:
    lock = f"LIMIT {limit:d} FOR UPDATE SKIP LOCKED"
    if len(sources) == 1:
        candidates = f"{_select(sources[0], 'id', 'clock_timestamp()')} {lock}"
    else:
        # Each lane gives its best, and the best of these are taken; the others stay locked only until
        # this statement ends. One ordered scan per lane: an IN over lanes would sort them all.
        lanes = " UNION ALL ".join(
            f"SELECT * FROM ({_select(source, 'id, priority', 'clock_timestamp()')} {lock}) AS lane{index:d}"
            for index, source in enumerate(sources)
        )
        candidates = f"SELECT id FROM ({lanes}) AS best {_ORDER} LIMIT {limit:d}"
    # Statistics are older than a burst, and take it for a handful of rows: the planner then prefers to read and
    # sort all that is READY, for each claim. The price this puts on the last sort, over a few rows of each lane,
    # would make it compile the statement, which takes a second. One message, so that both hold for this one alone.
    is_alone = not (
        sources[0].is_sorted
        or connection.in_atomic_block
        or connection.settings_dict["OPTIONS"].get("server_side_binding")
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"{_NO_SORT if is_alone else ''}"
            f"UPDATE {_TABLE} SET state = 'RUNNING', claim = claim + 1, attempt = attempt + 1, worker_id = %s, "
            f"worker_ids = worker_ids || %s, last_attempted_at = {_BEGUN_POSTGRESQL}, progress = '', "
            f"published_at = {_UNPUBLISHED_POSTGRESQL}, "
            f"started_at = coalesce(started_at, {_BEGUN_POSTGRESQL}) "
            # An array, not a join: the planner then goes by primary key whatever its statistics say.
            f"WHERE id = ANY(ARRAY({candidates})) RETURNING {_RETURNED}",
            [worker_id, f"{worker_id}\n", *_params(sources)],
        )
        if is_alone:
            cursor.nextset()
            cursor.nextset()
        return cursor.fetchall()  # type: ignore[no-any-return]


def _claim_sqlite(connection: BaseDatabaseWrapper, sources: list[_Source], limit: int, worker_id: str) -> list[Any]:
    now = sqlite_now()
    lanes = " UNION ALL ".join(
        f"SELECT * FROM ({_select(source, 'id, priority', repr(now))} LIMIT {limit:d})" for source in sources
    )
    candidates = f"SELECT id FROM ({lanes}) {_ORDER} LIMIT {limit:d}"
    with connection.cursor() as cursor:
        # A look first: it takes no lock, and idle workers must not stop others from writing.
        cursor.execute(f"SELECT 1 FROM ({candidates})", _params(sources))
        if cursor.fetchone() is None:
            return []
        cursor.execute(
            f"UPDATE {_TABLE} SET state = 'RUNNING', claim = claim + 1, attempt = attempt + 1, worker_id = %s, "
            "worker_ids = worker_ids || %s, last_attempted_at = %s, progress = '', "
            f"published_at = {_UNPUBLISHED_PLAIN}, "
            f"started_at = coalesce(started_at, %s) WHERE id IN ({candidates}) RETURNING {_RETURNED}",
            [worker_id, f"{worker_id}\n", now, now, *_params(sources)],
        )
        return cursor.fetchall()  # type: ignore[no-any-return]


def _claim_mysql(connection: BaseDatabaseWrapper, sources: list[_Source], limit: int, worker_id: str) -> list[Any]:
    with connection.cursor() as cursor:
        # A look first: without partial indexes a locking read of an empty range locks its gap.
        looks = " UNION ALL ".join(f"({_select(source, '1', 'UTC_TIMESTAMP(6)')} LIMIT 1)" for source in sources)
        cursor.execute(looks, _params(sources))
        if cursor.fetchone() is None:
            return []
        with transaction.atomic(using=connection.alias, savepoint=False):
            rows: list[Any] = []
            for source in sources:
                select = _select(source, f"{_RETURNED}, UTC_TIMESTAMP(6)", "UTC_TIMESTAMP(6)")
                cursor.execute(f"{select} LIMIT {limit:d} FOR UPDATE SKIP LOCKED", source.params)
                rows += cursor.fetchall()
            rows.sort(key=lambda row: (-row[4], str(row[0])))
            rows = rows[:limit]
            if not rows:
                return []
            now = rows[0][-1]
            ids = [id_param(connection, read_id(row[0])) for row in rows]
            cursor.execute(
                # By primary key: a scan of a small table would wait for rows that other workers hold.
                f"UPDATE {_TABLE} FORCE INDEX (PRIMARY) SET state = 'RUNNING', claim = claim + 1, "
                "attempt = attempt + 1, worker_id = %s, "
                "worker_ids = CONCAT(worker_ids, %s), last_attempted_at = %s, progress = '', "
                f"published_at = {_UNPUBLISHED_PLAIN}, "
                f"started_at = COALESCE(started_at, %s) WHERE id IN ({', '.join(['%s'] * len(ids))})",
                [worker_id, f"{worker_id}\n", now, now, *ids],
            )
    # No RETURNING for UPDATE here: what the statement did to the locked rows is known.
    return [
        (*row[:9], f"{row[9]}{worker_id}\n", row[10] + 1, row[11] + 1, *row[12:16], row[16] or now, now, *row[18:21])
        for row in rows
    ]


def _select(source: _Source, columns: str, now: str) -> str:
    """The rows of a source that may be claimed, in the order they are to run."""
    return (
        f"SELECT {columns} FROM {_TABLE} {source.hint}WHERE {source.where} "
        f"AND (expires_at IS NULL OR expires_at > {now}) {_ORDER}"
    )


def _params(sources: list[_Source]) -> list[Any]:
    return [param for source in sources for param in source.params]


def _message(row: Sequence[Any], read: Callable[[Any], datetime | None]) -> Message:
    return Message(
        id=read_id(row[0]),
        name=row[1],
        queue_name=row[2],
        backend=row[3],
        priority=row[4],
        arguments=row[5],
        options=row[6],
        metadata=row[7],
        errors=row[8],
        worker_ids=row[9],
        attempt=row[10],
        claim=row[11],
        losses=row[12],
        acks_late=bool(row[13]),
        enqueued_at=_moment(read(row[14])),
        run_after=read(row[15]),
        started_at=_moment(read(row[16])),
        last_attempted_at=_moment(read(row[17])),
        expires_at=read(row[18]),
        reply_to=row[19],
        headers=row[20],
    )


def _moment(value: datetime | None) -> datetime:
    assert value is not None  # these columns are never NULL once a row was claimed
    return value
