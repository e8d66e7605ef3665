"""Where schedules stand: which ticks came, what became of them, and when the next one is.

A tick, its task and the schedule's next tick are written in one transaction, under the lock of the schedule's row.
What keepers do at the same time, or long after they lost their election, finds ``next_at`` moved on and changes
nothing; and should it not, the row of the tick is there once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F

from ..database import AsUtc, Now, id_param, moment_param, retry_conflicts
from ..models import ScheduleRecord, TaskRecord, TickRecord
from ..models.schedule import BROKEN, FIRED, WAITING

#: seconds after which PostgreSQL ends a transaction that fires schedules and does nothing more; receivers of
#: ``task_enqueued`` may take their time
IDLE_LIMIT = 30

_COLUMNS = "next_at = {}, last_tick_at = {}, last_task_id = {}, waiting_tick_at = {}, ticks = ticks + {}, problem = {}"
_GUARD = "id = {} AND version = {} AND next_at = {}"

_MOVE = f"UPDATE django_taskq_schedule SET {_COLUMNS.format(*['%s'] * 6)} WHERE {_GUARD.format(*['%s'] * 3)}"
_NOTE_COLUMNS = "schedule_id, tick_at, task_id, outcome, fired_at"
#: Django's ORM takes longer for the ticks than all else does for their tasks.
_NOTE = f"INSERT INTO django_taskq_tick ({_NOTE_COLUMNS}) VALUES (%s, %s, %s, %s, %s)"
_NOTE_POSTGRESQL = (
    f"INSERT INTO django_taskq_tick ({_NOTE_COLUMNS}) SELECT new.*, moment FROM "
    "unnest(%s::bigint[], %s::timestamptz[], %s::uuid[], %s::text[]) AS new, (VALUES (%s::timestamptz)) AS at(moment)"
)
#: All in one statement.
_MOVE_POSTGRESQL = (
    "UPDATE django_taskq_schedule AS s SET next_at = m.next_at, last_tick_at = m.last_tick_at, "
    "last_task_id = m.last_task_id, waiting_tick_at = m.waiting_tick_at, ticks = s.ticks + m.fired, "
    "problem = m.problem FROM unnest(%s::timestamptz[], %s::timestamptz[], %s::uuid[], %s::timestamptz[], %s::int[], "
    "%s::text[], %s::bigint[], %s::int[], %s::timestamptz[]) "
    "AS m(next_at, last_tick_at, last_task_id, waiting_tick_at, fired, problem, id, version, was_at) "
    "WHERE s.id = m.id AND s.version = m.version AND s.next_at = m.was_at"
)


_BRIEFLY = f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_LIMIT:d}s'"


class Moved(Exception):
    """A schedule was moved on by somebody else, or changed."""


class Standing(NamedTuple):
    """Where a schedule stands; moments are aware, in UTC. ``next_at`` is never None among those that are due."""

    id: int
    version: int
    next_at: datetime | None
    last_tick_at: datetime | None
    last_task_id: UUID | None
    waiting_tick_at: datetime | None
    problem: str


class Tick(NamedTuple):
    """A tick that came; ``task_id`` when it has a task."""

    schedule_id: int
    tick_at: datetime
    outcome: str
    task_id: str | None = None


class Move(NamedTuple):
    """Where a schedule stands from now on. ``was``: where it stood."""

    was: Standing
    next_at: datetime | None
    last_tick_at: datetime | None
    last_task_id: str | None
    waiting_tick_at: datetime | None
    fired: int
    problem: str

    def params(self, connection: BaseDatabaseWrapper) -> list[Any]:
        """In the order of the statements."""
        return [
            moment_param(connection, self.next_at),
            moment_param(connection, self.last_tick_at),
            None if self.last_task_id is None else id_param(connection, self.last_task_id),
            moment_param(connection, self.waiting_tick_at),
            self.fired,
            self.problem,
            self.was.id,
            self.was.version,
            moment_param(connection, self.was.next_at),
        ]


def seconds_to_tick(using: str) -> float | None:
    """Seconds until the next tick of any schedule (0 and less: now); None when there is none."""
    rows = ScheduleRecord.objects.using(using).filter(next_at__isnull=False).order_by("next_at")
    row = rows.annotate(at=AsUtc("next_at"), now=AsUtc(Now())).values_list("at", "now").first()
    return None if row is None else (row[0] - row[1]).total_seconds()


def due(using: str, limit: int) -> tuple[list[tuple[int, int, datetime]], datetime | None]:
    """``(id, version, next_at)`` of the schedules that are due, the longest due first; and the database's now."""
    rows = ScheduleRecord.objects.using(using).filter(next_at__lte=Now()).order_by("next_at", "pk")
    found = list(rows.annotate(at=AsUtc("next_at"), now=AsUtc(Now())).values_list("pk", "version", "at", "now")[:limit])
    return [(pk, version, at) for pk, version, at, _ in found], found[0][3] if found else None


def lock(using: str, ids: Collection[int]) -> dict[int, Standing]:
    """Where these schedules stand, for the rest of the transaction; without those that somebody else holds."""
    rows = ScheduleRecord.objects.using(using).filter(pk__in=ids).order_by("pk")
    connection = connections[using]
    if connection.features.has_select_for_update_skip_locked:
        rows = rows.select_for_update(skip_locked=True)
    if connection.vendor == "postgresql":
        # A process that is frozen from here on must not keep others from these schedules for ever.
        with connection.cursor() as cursor:
            cursor.execute(_BRIEFLY)
    columns = rows.annotate(at=AsUtc("next_at"), tick=AsUtc("last_tick_at"), waiting=AsUtc("waiting_tick_at"))
    found = columns.values_list("pk", "version", "at", "tick", "last_task_id", "waiting", "problem")
    return {row[0]: Standing(*row) for row in found}


def known_ticks(using: str, ticks: Iterable[tuple[int, datetime]]) -> set[tuple[int, datetime]]:
    """Those of these ticks that have come before. To be asked under ``lock``."""
    wanted = set(ticks)
    rows = TickRecord.objects.using(using).filter(
        schedule_id__in={pk for pk, _ in wanted}, tick_at__in={at for _, at in wanted}
    )
    return wanted & set(rows.annotate(at=AsUtc("tick_at")).values_list("schedule_id", "at"))


def note_ticks(using: str, ticks: Sequence[Tick], now: datetime) -> None:
    """Write down ticks that came. Raises ``IntegrityError`` for one that has a row."""
    if not ticks:
        return
    connection = connections[using]
    fired_at = moment_param(connection, now)
    rows = [
        (
            tick.schedule_id,
            moment_param(connection, tick.tick_at),
            None if tick.task_id is None else id_param(connection, tick.task_id),
            tick.outcome,
        )
        for tick in ticks
    ]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(_NOTE_POSTGRESQL, [*([*column] for column in zip(*rows, strict=True)), fired_at])
        else:
            cursor.executemany(_NOTE, [(*row, fired_at) for row in rows])


def move_on(using: str, moves: Sequence[Move]) -> None:
    """Move schedules to their next ticks, all or none: raises ``Moved``."""
    connection = connections[using]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            rows = [move.params(connection) for move in moves]
            cursor.execute(_MOVE_POSTGRESQL, [list(column) for column in zip(*rows, strict=True)])
            moved = cursor.rowcount
        else:
            moved = 0
            for move in moves:
                cursor.execute(_MOVE, move.params(connection))
                moved += cursor.rowcount
    if moved != len(moves):
        raise Moved


def note_run(using: str, schedule_id: int, task_id: str) -> None:
    """Take a task that somebody has enqueued by hand for the schedule's last one."""
    ScheduleRecord.objects.using(using).filter(pk=schedule_id).update(last_task_id=task_id, problem="")


def unfinished(using: str, task_ids: Collection[UUID | None]) -> set[UUID | None]:
    """Those of these tasks that have not ended; None is none."""
    known = [task_id for task_id in task_ids if task_id is not None]
    if not known:
        return set()
    return set(TaskRecord.objects.using(using).unfinished().filter(pk__in=known).values_list("pk", flat=True))


def waiting(using: str) -> list[tuple[int, int]]:
    """``(id, version)`` of the schedules that have a tick which waits for the end of a task."""
    rows = ScheduleRecord.objects.using(using).filter(waiting_tick_at__isnull=False)
    return list(rows.order_by("pk").values_list("pk", "version"))


def end_wait(using: str, was: Standing, task_id: str | None, now: datetime, *, problem: str = "") -> None:
    """Give the tick that waits its task; None when it can have none, for this ``problem``. Raises ``Moved``."""
    values: dict[str, Any] = {"waiting_tick_at": None, "problem": problem}
    if task_id is not None:
        values |= {"last_task_id": task_id, "ticks": F("ticks") + 1}
    rows = ScheduleRecord.objects.using(using).filter(pk=was.id, waiting_tick_at=was.waiting_tick_at)
    if not rows.update(**values):
        raise Moved
    assert was.waiting_tick_at is not None
    tick = TickRecord.objects.using(using).filter(schedule_id=was.id, tick_at=was.waiting_tick_at, outcome=WAITING)
    tick.update(outcome=BROKEN if task_id is None else FIRED, task_id=task_id, fired_at=now)


def prune_ticks(using: str, age: float, limit: int) -> int:
    """Delete up to ``limit`` ticks that came more than ``age`` seconds ago; gives how many."""
    rows = TickRecord.objects.using(using)
    # In the order in which they came, so that a look at the first ones is enough, and needs no index of its own.
    first = list(rows.order_by("pk").values_list("pk", flat=True)[:limit])
    if not first:
        return 0
    old = rows.filter(pk__in=first, fired_at__lt=Now() - timedelta(seconds=age))
    return retry_conflicts(using, lambda: old._raw_delete(using))  # noqa: SLF001  # no signals, no cascades
