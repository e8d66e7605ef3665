"""A final state -> nothing: rows that have ended and are not wanted any longer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..core.states import FINAL, State
from ..database import moment_param, retry_conflicts

_TABLE = "django_taskq_task"

#: The guard of every statement here, written as the condition of the index ``taskq_finished`` is:
#: SQLite uses a partial index only where its condition stands in the query word for word.
_HAS_ENDED = f"state IN ({', '.join(repr(state.value) for state in sorted(FINAL))})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Which rows are meant: those that ended in one of ``states``, at ``before`` or earlier.

    ``before``: an aware datetime by the database's clock; ``after``: the same, None for any time before.
    ``queues``, ``backends``, ``names`` (of tasks): None for any; ``other_names``: none of these. All match to
    the letter. Raises ``ValueError`` for a state that is not final.
    """

    states: frozenset[State]
    before: datetime
    after: datetime | None = None
    queues: tuple[str, ...] | None = None
    backends: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None
    other_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.states <= FINAL:
            unfinished = ", ".join(sorted(self.states - FINAL))
            raise ValueError(f"states: {unfinished} is not final; only tasks that have ended can be deleted.")

    @property
    def is_nothing(self) -> bool:
        """Whether no row can be meant."""
        return not self.states or () in (self.queues, self.backends, self.names)

    def where(self, connection: BaseDatabaseWrapper, params: list[Any]) -> str:
        """The condition in SQL; appends its parameters to ``params``."""
        conditions = [_HAS_ENDED, "finished_at <= %s"]
        params.append(moment_param(connection, self.before))
        if self.after is not None:
            conditions.append("finished_at > %s")
            params.append(moment_param(connection, self.after))
        if self.states != FINAL:
            conditions.append(f"state IN ({', '.join(repr(state.value) for state in sorted(self.states))})")
        for column, names in (
            ("queue_name IN", self.queues),
            ("backend IN", self.backends),
            ("name IN", self.names),
            ("name NOT IN", self.other_names or None),
        ):
            if names is not None:
                conditions.append(f"{column} ({', '.join(['%s'] * len(names))})")
                params += names
        return " AND ".join(conditions)


def delete_batches(using: str, which: Finished, batch_size: int) -> Iterator[int]:
    """Delete these rows, those that ended first first; yields how many went after each batch.

    A batch is a transaction of its own, tried again after a deadlock, and starts where the one before it
    ended: rows that stay are looked at once, not once per batch, however many they are. Rows that another
    transaction holds are passed over where the database can (PostgreSQL, MySQL, MariaDB), so that two
    of these at once don't wait for each other.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r}: must be at least 1.")
    if which.is_nothing:
        return
    connection = connections[using]
    # MySQL's index begins with the state: in order of finished_at it serves one state at a time.
    lanes = [replace(which, states=frozenset({state})) for state in sorted(which.states)]
    for lane in lanes if connection.vendor == "mysql" else [which]:
        deleted, mark = batch_size, None
        while deleted == batch_size:
            deleted, mark = retry_conflicts(using, partial(_delete_batch, connection, lane, batch_size, mark))
            if deleted:
                yield deleted


def count_finished(using: str, which: Finished) -> int:
    """How many rows ``delete_batches`` would delete."""
    if which.is_nothing:
        return 0
    connection = connections[using]
    params: list[Any] = []
    where = which.where(connection, params)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM {_TABLE} WHERE {where}", params)
        return int(cursor.fetchone()[0])


def finished_queues(using: str, which: Finished) -> list[str]:
    """The queues these rows are in. Reads them all: for commands, not for every day."""
    if which.is_nothing:
        return []
    connection = connections[using]
    params: list[Any] = []
    where = which.where(connection, params)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT DISTINCT queue_name FROM {_TABLE} WHERE {where}", params)
        return sorted(row[0] for row in cursor.fetchall())


def _delete_batch(connection: BaseDatabaseWrapper, which: Finished, limit: int, mark: Any) -> tuple[int, Any]:
    """Delete the first rows that ended at ``mark`` (None: ever) or later; gives how many, and the new mark."""
    params: list[Any] = []
    where = which.where(connection, params)
    if mark is not None:
        # Not ">": more rows than one batch takes may have ended at the same moment.
        where += " AND finished_at >= " + ("%s::timestamptz" if connection.vendor == "postgresql" else "%s")
        params.append(mark)
    delete = {"postgresql": _delete_postgresql, "sqlite": _delete_sqlite}.get(connection.vendor, _delete_mysql)
    with transaction.atomic(using=connection.alias, savepoint=False), connection.cursor() as cursor:
        return delete(cursor, where, params, limit)


def _delete_postgresql(cursor: Any, where: str, params: list[Any], limit: int) -> tuple[int, Any]:
    # An array, not a join: the planner then goes by primary key whatever its statistics say. The
    # outer condition needs no parameters: the rows are locked, so what the inner one saw still holds.
    cursor.execute(
        f"WITH gone AS (DELETE FROM {_TABLE} WHERE id = ANY(ARRAY(SELECT id FROM {_TABLE} WHERE {where} "
        f"ORDER BY finished_at LIMIT {limit:d} FOR UPDATE SKIP LOCKED)) AND {_HAS_ENDED} RETURNING finished_at) "
        "SELECT COUNT(*), MAX(finished_at)::text FROM gone",
        params,
    )
    deleted, mark = cursor.fetchone()
    return deleted, mark


def _delete_sqlite(cursor: Any, where: str, params: list[Any], limit: int) -> tuple[int, Any]:
    cursor.execute(
        f"DELETE FROM {_TABLE} WHERE rowid IN (SELECT rowid FROM {_TABLE} WHERE {where} "
        f"ORDER BY finished_at LIMIT {limit:d}) AND {_HAS_ENDED} RETURNING finished_at",
        params,
    )
    moments = [row[0] for row in cursor.fetchall()]
    return len(moments), max(moments, default=None)


def _delete_mysql(cursor: Any, where: str, params: list[Any], limit: int) -> tuple[int, Any]:
    cursor.execute(
        f"SELECT id, finished_at FROM {_TABLE} WHERE {where} ORDER BY finished_at LIMIT {limit:d} "
        "FOR UPDATE SKIP LOCKED",
        params,
    )
    rows = cursor.fetchall()
    if not rows:
        return 0, None
    # By primary key, whatever the planner thinks: a scan of a small table would wait for rows that another
    # of these has locked, and both would have to be undone. Only this form of DELETE takes the hint.
    cursor.execute(
        f"DELETE FROM {_TABLE} USING {_TABLE} FORCE INDEX (PRIMARY) "
        f"WHERE id IN ({', '.join(['%s'] * len(rows))}) AND {_HAS_ENDED}",
        [row[0] for row in rows],
    )
    return cursor.rowcount, rows[-1][1]
