"""What waits in queues, and for how long: in a few statements, however many queues and tasks there are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from .database import moment_reader, sqlite_now

#: tasks of each priority at the head of a queue among which the longest wait is looked for
_HEAD = 50
#: questions in one statement; SQLite takes 500 SELECTs, and planners take their time for each
_AT_ONCE = 100
#: in place of a count: this is about the head of a queue
_HEADS = -1

_TABLE = "django_taskq_task"

#: for MySQL, which at times takes the index without queues and goes through all others
_FORCED = "FORCE INDEX (taskq_ready_queue)"

#: Hops through the index from one queue to the next, and in each from one priority to the next.
_LANES = (
    "names{n} AS (SELECT queue_name FROM (SELECT queue_name FROM {table} WHERE state = 'READY' AND backend = %s "
    "ORDER BY queue_name LIMIT 1) AS first{n} UNION ALL SELECT (SELECT task.queue_name FROM {table} task "
    "WHERE task.state = 'READY' AND task.backend = %s AND task.queue_name > names{n}.queue_name "
    "ORDER BY task.queue_name LIMIT 1) FROM names{n} WHERE names{n}.queue_name IS NOT NULL), "
    "lanes{n} AS (SELECT names{n}.queue_name, (SELECT task.priority FROM {table} task WHERE task.state = 'READY' "
    "AND task.backend = %s AND task.queue_name = names{n}.queue_name ORDER BY task.priority DESC LIMIT 1) AS priority "
    "FROM names{n} WHERE names{n}.queue_name IS NOT NULL UNION ALL SELECT lanes{n}.queue_name, (SELECT task.priority "
    "FROM {table} task WHERE task.state = 'READY' AND task.backend = %s AND task.queue_name = lanes{n}.queue_name "
    "AND task.priority < lanes{n}.priority ORDER BY task.priority DESC LIMIT 1) FROM lanes{n} "
    "WHERE lanes{n}.priority IS NOT NULL)"
)

#: since when a task could run: the latest of three moments
_SINCE = "{greatest}(enqueued_at, COALESCE(run_after, enqueued_at), COALESCE(last_attempted_at, enqueued_at))"

#: an alias and a queue
Place: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Tasks of one queue that are READY. ``ready``: no more than were to be counted.

    ``oldest_wait``: seconds for which the longest waiting one at the head has been ready to run; None when the last of
    them was taken meanwhile.
    """

    ready: int
    oldest_wait: float | None


@dataclass(frozen=True, slots=True)
class _Question:
    """A SELECT of one row: how many, since when the oldest waits, and the database's time."""

    place: Place
    sql: str
    params: tuple[Any, ...]


def backlogs(using: str, aliases: Sequence[str], most: int, *, likely: Collection[str] = ()) -> dict[Place, Backlog]:
    """The queues of these aliases in which something is READY; of each no more than ``most`` tasks are counted.

    Two statements, and one more for each 50 queues or so; some more on MySQL, where ``likely``, names of queues that there
    may be, make it fewer. Raises the database's errors.
    """
    if not aliases:
        return {}
    connection = connections[using]
    ready: dict[Place, int] = {}
    waits: dict[Place, float] = {}
    read = moment_reader(connection)
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            lanes = _lanes_step_by_step(cursor, [(alias, name) for alias in aliases for name in ("", *likely)])
        else:
            lanes = _lanes(cursor, aliases)
        for place, (count, since, now) in _ask(cursor, [*_counts(connection, lanes, most), *_heads(connection, lanes)]):
            began, until = read(since), read(now)
            if count != _HEADS:
                ready[place] = count
            elif began is not None and until is not None:
                waits[place] = max(waits.get(place, 0.0), (until - began).total_seconds())
    return {place: Backlog(ready=count, oldest_wait=waits.get(place)) for place, count in sorted(ready.items())}


def _ask(cursor: CursorWrapper, questions: Sequence[_Question]) -> Iterator[tuple[Place, Sequence[Any]]]:
    """All questions in as few statements as go; gives each row with what was asked for it."""
    for start in range(0, len(questions), _AT_ONCE):
        some = questions[start : start + _AT_ONCE]
        cursor.execute(
            " UNION ALL ".join(f"SELECT {n:d}, {one.sql}" for n, one in enumerate(some)),
            [param for one in some for param in one.params],
        )
        for n, *row in cursor.fetchall():
            yield some[n].place, row


def _lanes(cursor: CursorWrapper, aliases: Sequence[str]) -> Mapping[Place, Sequence[int]]:
    """The priorities of what is READY in each queue."""
    tables = ", ".join(_LANES.format(n=n, table=_TABLE) for n in range(len(aliases)))
    rows = " UNION ALL ".join(
        f"SELECT {n:d}, queue_name, priority FROM lanes{n:d} WHERE priority IS NOT NULL"  # noqa: S608  # names of ours
        for n in range(len(aliases))
    )
    cursor.execute(f"WITH RECURSIVE {tables} {rows}", [alias for alias in aliases for _ in range(4)])
    found: dict[Place, list[int]] = {}
    for n, queue_name, priority in cursor.fetchall():
        found.setdefault((aliases[n], queue_name), []).append(priority)
    return found


def _lanes_step_by_step(cursor: CursorWrapper, ends: Sequence[Place]) -> Mapping[Place, Sequence[int]]:
    """The same for MySQL and MariaDB, which read all that waits to find the next name for each row of another query.

    ``ends``: from each of these to the next name that there is, until there is no new one; one statement for all.
    """
    explored: set[Place] = set()
    found: dict[Place, list[int]] = {}
    while ends := sorted(set(ends) - explored):
        explored |= set(ends)
        ends = [(alias, row[0]) for (alias, _), row in _ask(cursor, [_next_name(end) for end in ends])]
        found |= {end: [] for end in ends if end not in found}
    places = list(found)
    while places:
        steps = [_next_priority(place, found[place]) for place in places]
        places = []
        for place, (priority,) in _ask(cursor, steps):
            found[place].append(priority)
            places.append(place)
    return found


def _next_name(end: Place) -> _Question:
    return _Question(
        end,
        f"queue_name FROM (SELECT queue_name FROM {_TABLE} {_FORCED} WHERE state = 'READY' AND backend = %s "  # noqa: S608  # a name of ours
        "AND queue_name > %s ORDER BY queue_name LIMIT 1) AS next",
        end,
    )


def _next_priority(place: Place, priorities: Sequence[int]) -> _Question:
    below = "AND priority < %s " if priorities else ""
    return _Question(
        place,
        f"priority FROM (SELECT priority FROM {_TABLE} {_FORCED} WHERE state = 'READY' AND backend = %s "  # noqa: S608  # as above
        f"AND queue_name = %s {below}ORDER BY priority DESC LIMIT 1) AS next",
        (*place, *priorities[-1:]),
    )


def _counts(connection: BaseDatabaseWrapper, lanes: Mapping[Place, Sequence[int]], most: int) -> Iterator[_Question]:
    # The same types as those of heads: PostgreSQL takes a bare NULL for a text.
    now, params = _clock(connection)
    hint = _FORCED if connection.vendor == "mysql" else ""
    for place in lanes:
        yield _Question(
            place,
            f"COUNT(*), {now}, {now} FROM (SELECT 1 FROM {_TABLE} {hint} WHERE state = 'READY' AND backend = %s "  # noqa: S608  # as above
            f"AND queue_name = %s ORDER BY priority DESC, id LIMIT {most:d}) AS found",
            (*params, *params, *place),
        )


def _heads(connection: BaseDatabaseWrapper, lanes: Mapping[Place, Sequence[int]]) -> Iterator[_Question]:
    """Within each priority the index has the oldest first."""
    since = _SINCE.format(greatest="MAX" if connection.vendor == "sqlite" else "GREATEST")
    now, params = _clock(connection)
    hint = _FORCED if connection.vendor == "mysql" else ""
    for place, priorities in lanes.items():
        for priority in priorities:
            yield _Question(
                place,
                f"{_HEADS:d}, MIN(since), {now} FROM (SELECT {since} AS since FROM {_TABLE} {hint} WHERE state = 'READY' "  # noqa: S608  # as above
                f"AND backend = %s AND queue_name = %s AND priority = %s ORDER BY id LIMIT {_HEAD:d}) AS head",
                (*params, *place, priority),
            )


def _clock(connection: BaseDatabaseWrapper) -> tuple[str, Sequence[Any]]:
    if connection.vendor == "sqlite":
        return "%s", [sqlite_now()]
    return ("statement_timestamp()" if connection.vendor == "postgresql" else "UTC_TIMESTAMP(6)"), []
