"""What was counted of tasks: written by each process, added up minute by minute, then by hours and days."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from typing import Any

from django.db import connections, transaction

from ..core.counts import Series, add_series, dump_counts, dump_series, load_series, sum_of
from ..database import database_now, retry_conflicts
from ..models import StatisticsRecord
from .once import insert_once

MINUTE, HOUR, DAY = 60, 3600, 86_400

#: seconds after the end of a minute until it is added up: by then nobody writes to it any more
_SETTLED = 300
#: rows of processes that one transaction adds up
MOST_MERGED = 500
#: how long the buckets of a period are kept, in seconds: pages show a day by minutes, a month by hours
KEPT = {MINUTE: 25 * HOUR, HOUR: 35 * DAY, DAY: 400 * DAY}

#: the period of a row that is no bucket: whoever adds up holds its lock
_LOCK = 0
#: should a process be frozen while it adds up, PostgreSQL takes the lock from it after this time
_BRIEFLY = "SET LOCAL idle_in_transaction_session_timeout = '30s'"

_TABLE = "django_taskq_statistics"
_NOW = {
    "postgresql": "extract(epoch FROM clock_timestamp())",
    "sqlite": "CAST(strftime('%%s', 'now') AS INTEGER)",
    "mysql": "UNIX_TIMESTAMP()",
}


def minute_of(using: str) -> int:
    """The minute that the database is in: its begin, in seconds since 1970."""
    return int(database_now(using).timestamp()) // MINUTE * MINUTE


def put(using: str, minute: int, source: str, series: Series) -> bool:
    """Write what a process has counted within a minute, all of it: repeated, it changes nothing.

    False when that minute is long over, as for a process that was frozen: others may have added it up already.
    """
    return _write(using, MINUTE, minute, source, series, before=minute + MINUTE + _SETTLED)


def merge(using: str) -> int:
    """Add up what processes wrote of minutes that are over; gives how many of their rows, ``MOST_MERGED`` at most.

    0 also while another process does it.
    """
    until = minute_of(using) - _SETTLED - MINUTE
    rows = StatisticsRecord.objects.using(using).filter(period=MINUTE)
    over = rows.filter(starts__lt=until, source__gt="")

    def work() -> int:
        with transaction.atomic(using=using, savepoint=False):
            if not _lock(using):
                return 0
            # Their processes leave these alone by now, and so does everybody without the lock.
            of_processes = list(over.order_by("starts", "source")[:MOST_MERGED])
            for starts, group in groupby(of_processes, key=attrgetter("starts")):
                _write(using, MINUTE, starts, "", _sum([*rows.filter(starts=starts, source=""), *group]))
            rows.filter(pk__in=[one.pk for one in of_processes]).delete()
        return len(of_processes)

    # A look first: mostly there is nothing, and a transaction costs more.
    if not over.exists():
        return 0
    locks = StatisticsRecord.objects.using(using).filter(period=_LOCK)
    if not locks.exists():
        # In a transaction of its own: nobody waits for another who makes it.
        insert_once(locks, StatisticsRecord(period=_LOCK, starts=0))
    return retry_conflicts(using, work)


def roll_up(using: str, period: int, into: int) -> int:
    """Write the longer buckets that are over and not written yet, from the shorter ones; gives how many.

    The newest are written anew, for what came late. Two at once write the same.
    """
    rows = StatisticsRecord.objects.using(using)
    now = minute_of(using)
    # By then its last minutes are added up.
    over = (now - 2 * _SETTLED) // into * into
    starts = rows.filter(period=period, starts__lt=over).order_by("starts").values_list("starts", flat=True)
    there = {start // into * into for start in starts}
    # Not the older ones: parts of them may be deleted by now.
    done = rows.filter(period=into, starts__gte=min(there, default=now), starts__lt=over - 2 * into)
    wanted = sorted(there.difference(done.values_list("starts", flat=True)))
    for start in wanted:
        parts = rows.filter(period=period, starts__gte=start, starts__lt=start + into)
        _write(using, into, start, "", _sum(parts))
    return len(wanted)


def prune(using: str) -> int:
    """Delete the buckets that are older than what is kept of their period; gives how many."""
    now = minute_of(using)
    rows = StatisticsRecord.objects.using(using)
    return sum(rows.filter(period=period, starts__lt=now - kept).delete()[0] for period, kept in KEPT.items())


def _lock(using: str) -> bool:
    """Be the only one that adds up, until the transaction ends. Nobody waits: the other may be frozen for hours.

    The first to be read in its transaction, so that what the other has done is seen.
    """
    connection = connections[using]
    rows = StatisticsRecord.objects.using(using).filter(period=_LOCK)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(_BRIEFLY)
    if connection.features.has_select_for_update_skip_locked:
        rows = rows.select_for_update(skip_locked=True)
    return bool(list(rows))


def _sum(records: Iterable[StatisticsRecord]) -> Series:
    series: Series = {}
    for record in records:
        add_series(series, load_series(record.series))
    return series


def _write(using: str, period: int, starts: int, source: str, series: Series, *, before: int | None = None) -> bool:
    """One statement: insert or replace; ``before``: only until then by the database's clock."""
    connection = connections[using]
    values: list[Any] = [period, starts, source, dump_counts(sum_of(series)), dump_series(series)]
    insert = f"INSERT INTO {_TABLE} (period, starts, source, totals, series) SELECT %s, %s, %s, %s, %s"
    table = " FROM DUAL" if connection.vendor == "mysql" else ""
    # Always with a WHERE: without one SQLite takes ON for a join's.
    condition = "1 = 1"
    if before is not None:
        condition = f"{_NOW[connection.vendor]} < %s"
        values.append(before)
    if connection.vendor == "mysql":
        again = "ON DUPLICATE KEY UPDATE totals = VALUES(totals), series = VALUES(series)"
    else:
        again = "ON CONFLICT (period, starts, source) DO UPDATE SET totals = excluded.totals, series = excluded.series"

    def work() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(f"{insert}{table} WHERE {condition} {again}", values)
            return bool(cursor.rowcount)

    return retry_conflicts(using, work)
