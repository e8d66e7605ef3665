"""Failures by kind: tasks that FAILED, grouped by their fingerprint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..core.outcome import AttemptError
from ..database import id_param, read_id
from ..models import TaskRecord
from ..sight import SPOILT
from .lanes import TABLE, UNSUCCESSFUL_SQL

#: kinds that are looked at; where there are more, some are left out. MySQL ends a recursion after 1,000 steps
#: (``cte_max_recursion_depth``)
MOST_GROUPS = 500
#: tasks of one kind that are counted
MOST_TASKS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Tasks that FAILED in the same way.

    ``count`` ends at ``MOST_TASKS``, see ``is_more``. ``first_at``, ``last_at``: when the oldest and the newest of them
    failed. ``newest``: that task; ``error``: its last, None where none is kept.
    """

    fingerprint: str
    count: int
    first_at: datetime | None
    last_at: datetime | None
    newest: TaskRecord
    error: AttemptError | None

    @property
    def is_more(self) -> bool:
        """Whether there are more than were counted."""
        return self.count > MOST_TASKS


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroups:
    """The kinds of failures, the newest first. ``total`` ends at ``MOST_GROUPS``."""

    groups: Sequence[FailureGroup]
    total: int


def failure_groups(using: str, *, limit: int) -> FailureGroups:
    """The ``limit`` kinds that were seen last. Raises the database's errors."""
    connection = connections[using]
    ends = _ends(connection)
    rows = TaskRecord.objects.using(using)
    moments = {
        str(pk): moment
        for pk, moment in rows.filter(pk__in={one for pair in ends.values() for one in pair}).values_list(
            "pk", "finished_at"
        )
    }
    # What was retried or deleted since is not there any more.
    present = [(moments[last], kind) for kind, (_first, last) in ends.items() if moments.get(last) is not None]
    chosen = [kind for _moment, kind in sorted(present, reverse=True)[:limit]]
    counts = _counts(connection, chosen)
    newest = rows.defer("result", "log").in_bulk([ends[kind][1] for kind in chosen])
    by_id = {str(pk): record for pk, record in newest.items()}
    groups = [
        FailureGroup(
            fingerprint=kind,
            count=counts[kind],
            first_at=moments.get(ends[kind][0]),
            last_at=moments.get(ends[kind][1]),
            newest=by_id[ends[kind][1]],
            error=_error_of(by_id[ends[kind][1]]),
        )
        for kind in chosen
        if ends[kind][1] in by_id
    ]
    return FailureGroups(groups=groups, total=len(ends))


def newest_failures(using: str, kinds: Sequence[tuple[str, str]]) -> list[FailureGroup]:
    """Groups of which the newest task's id is known; without the first of each. One statement.

    Raises the database's errors.
    """
    if not kinds:
        return []
    connection = connections[using]
    columns = "id, name, queue_name, backend, state, arguments, options, errors, finished_at"
    one = (
        f"SELECT {columns}, %s AS kind, (SELECT COUNT(*) FROM (SELECT 1 FROM {TABLE} WHERE {_condition(connection)} "
        f"AND fingerprint = %s LIMIT {MOST_TASKS + 1:d}) AS found) AS tasks FROM {TABLE} WHERE id = %s"
    )
    params = [value for kind, last in kinds for value in (kind, kind, id_param(connection, last))]
    rows: list[Any] = list(TaskRecord.objects.using(using).raw(" UNION ALL ".join([one] * len(kinds)), params))
    by_kind = {row.kind: row for row in rows}
    return [
        FailureGroup(
            fingerprint=kind,
            count=row.tasks,
            first_at=None,
            last_at=row.finished_at,
            newest=row,
            error=_error_of(row),
        )
        for kind, _last in kinds
        # What was retried since has no end.
        if (row := by_kind.get(kind)) is not None and row.finished_at is not None
    ]


def kinds_with_newest(connection: BaseDatabaseWrapper, limit: int) -> tuple[str, str]:
    """A common table expression, and a query that needs it: kind, and id and end of its newest task, newest first."""
    mine = f"SELECT t.id FROM {TABLE} AS t WHERE {_condition(connection)} AND t.fingerprint = kinds.kind"
    newest = (
        "SELECT ends.kind, task.id, task.finished_at FROM "
        f"(SELECT kind, ({mine} ORDER BY t.fingerprint DESC, t.id DESC LIMIT 1) AS last FROM kinds WHERE kind IS NOT NULL) "
        f"AS ends JOIN {TABLE} AS task ON task.id = ends.last WHERE task.finished_at IS NOT NULL "
        f"ORDER BY task.finished_at DESC LIMIT {limit:d}"
    )
    return _hops(connection), newest


def _hops(connection: BaseDatabaseWrapper) -> str:
    """The kinds there are: hops through the index from one to the next."""
    where = _condition(connection)
    return (
        "kinds (kind, hops) AS ("
        f"SELECT * FROM (SELECT fingerprint, 1 FROM {TABLE} WHERE {where} AND fingerprint >= '' "
        "ORDER BY fingerprint LIMIT 1) AS head "
        f"UNION ALL SELECT (SELECT t.fingerprint FROM {TABLE} AS t WHERE {where} AND t.fingerprint > kinds.kind "
        f"ORDER BY t.fingerprint LIMIT 1), hops + 1 FROM kinds WHERE kinds.kind IS NOT NULL AND hops < {MOST_GROUPS:d})"
    )


def _ends(connection: BaseDatabaseWrapper) -> Mapping[str, tuple[str, str]]:
    """Kind -> its oldest and its newest task."""
    where = _condition(connection)
    mine = f"SELECT t.id FROM {TABLE} AS t WHERE {where} AND t.fingerprint = kinds.kind ORDER BY t.fingerprint"
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE {_hops(connection)} "
            f"SELECT kind, ({mine}, t.id LIMIT 1), ({mine} DESC, t.id DESC LIMIT 1) FROM kinds WHERE kind IS NOT NULL"
        )
        return {kind: (read_id(first), read_id(last)) for kind, first, last in cursor.fetchall() if first and last}


def _counts(connection: BaseDatabaseWrapper, kinds: Sequence[str]) -> dict[str, int]:
    if not kinds:
        return {}
    one = (
        f"SELECT %s, COUNT(*) FROM (SELECT 1 FROM {TABLE} WHERE {_condition(connection)} AND fingerprint = %s "
        f"LIMIT {MOST_TASKS + 1:d}) AS found"
    )
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join([one] * len(kinds)), [kind for kind in kinds for _ in range(2)])
        return dict(cursor.fetchall())


def _condition(connection: BaseDatabaseWrapper) -> str:
    """What the index's statements have to repeat."""
    return "1 = 1" if connection.vendor == "mysql" else UNSUCCESSFUL_SQL


def _error_of(record: TaskRecord) -> AttemptError | None:
    try:
        errors = record.attempt_errors
    except SPOILT:
        return None
    return errors[-1] if errors else None
