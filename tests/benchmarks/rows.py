"""The table between runs: empty, or filled with what a long life leaves in it."""

from __future__ import annotations

import os
import secrets
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import connection, transaction

from django_taskq.models import TaskRecord

#: The name of the rows that make up the history; no such task exists.
NAME = "tests.benchmarks.history"

#: Rows that differ in everything; the others are copies of them under ids of their own.
_ORIGINALS = 1_000
#: Well within the week after which the keeper deletes what has succeeded.
_SPAN = timedelta(days=6)

_WORKER = "benchmark-4711-0123456789ab"

#: An id made of the given first twelve hexadecimal digits (the milliseconds of a UUIDv7) and the rest of another id.
_NEW_ID = {
    "postgresql": "(%s || substr(replace(id::text, '-', ''), 13))::uuid",
    "sqlite": "%s || substr(id, 13)",
    "mysql": "CONCAT(%s, SUBSTR(REPLACE(id, '-', ''), 13))",
}


def clear() -> None:
    """Remove all rows but the history, and what they leave behind."""
    table = TaskRecord._meta.db_table
    with connection.cursor() as cursor:
        if connection.vendor != "sqlite" and not TaskRecord.objects.filter(name=NAME).exists():
            cursor.execute(f"TRUNCATE TABLE {table}")
        else:
            cursor.execute(f"DELETE FROM {table} WHERE name <> %s", [NAME])
    _settle()


def fill(count: int) -> None:
    """Add finished rows, until there are `count` of them."""
    originals = [_original(index) for index in range(min(_ORIGINALS, count))]
    TaskRecord.objects.bulk_create(originals)
    table, key = TaskRecord._meta.db_table, TaskRecord._meta.pk
    columns = ", ".join(str(field.column) for field in TaskRecord._meta.concrete_fields if field is not key)
    copy = f"INSERT INTO {table} (id, {columns}) SELECT {_NEW_ID[connection.vendor]}, {columns} FROM originals LIMIT %s"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE originals AS SELECT * FROM {table} WHERE name = %s", [NAME])
        first = int((time.time() - _SPAN.total_seconds()) * 1000)
        missing = range(count - len(originals), 0, -_ORIGINALS)
        for start in range(0, len(missing), 50):
            with transaction.atomic():
                for index in range(start, min(start + 50, len(missing))):
                    cursor.execute(copy, [f"{first - index:012x}", min(missing[index], _ORIGINALS)])
        cursor.execute("DROP TABLE originals")
    _settle()


def _original(index: int) -> TaskRecord:
    ended_at = datetime.now(UTC) - _SPAN * (index / _ORIGINALS)
    milliseconds = int(ended_at.timestamp() * 1000)
    return TaskRecord(
        # RFC 9562, section 5.7: version 7 and variant 2, the rest at random.
        id=UUID(int=milliseconds << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)),
        name=NAME,
        queue_name="default",
        backend="default",
        state="SUCCESSFUL",
        result="null",
        attempt=1,
        claim=1,
        worker_id=_WORKER,
        worker_ids=f"{_WORKER}\n",
        enqueued_at=ended_at,
        started_at=ended_at,
        last_attempted_at=ended_at,
        finished_at=ended_at,
        duration=0.001,
    )


def _settle() -> None:
    """Do now what the database would do in the background, during the measurement."""
    table = TaskRecord._meta.db_table
    statements = {
        "postgresql": [f"VACUUM ANALYZE {table}", "CHECKPOINT"],
        "sqlite": ["PRAGMA wal_checkpoint(TRUNCATE)"],
        "mysql": [f"ANALYZE TABLE {table}"],
    }
    with connection.cursor() as cursor:
        for statement in statements[connection.vendor]:
            cursor.execute(statement)
            if cursor.description:
                cursor.fetchall()
    os.sync()
