"""New rows: (nothing) -> READY or SCHEDULED."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from datetime import datetime, timedelta
from enum import Enum, auto
from functools import cache
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..core.record import record
from ..core.reply_queue import encode_address
from ..core.states import State
from ..core.wire import Call, CallForm
from ..database import (
    Now,
    as_project_time,
    database_now,
    id_param,
    moment_param,
    moment_reader,
    notify,
    retry_conflicts,
)
from ..models import TaskRecord
from ..models.task import NEVER_PUBLISHED
from ..wakeup import DUE_CHANNEL, READY_CHANNEL

#: rows per statement; bounds the statement's size, and larger ones gain nothing (measured: 500 to 2,000 alike)
_CHUNK = 1_000

_COLUMNS = (
    "id, arguments, name, queue_name, backend, priority, state, options, metadata, max_deliveries, acks_late, "
    "run_after, expires_at, reply_to, headers, enqueued_at, published_at, errors, log, progress, worker_id, worker_ids, "
    "attempt, claim, losses, cancel_requested"
)
_DEFAULTS = "'', '', '', '', '', 0, 0, 0"
_DEFAULT_VALUES = ("", "", "", "", "", 0, 0, 0, False)
_HEAD = f"INSERT INTO django_taskq_task ({_COLUMNS})"

#: Parameters alone: with anything else in VALUES mysqlclient sends many rows one by one.
_INSERT_PLAIN = f"{_HEAD} VALUES ({', '.join(['%s'] * (_COLUMNS.count(',') + 1))})"


class Publication(Enum):
    """What the row says about the broker."""

    #: workers read the rows themselves
    NONE = auto()
    #: the caller publishes it right after the commit, so that it need not be written a second time
    PRESUMED = auto()
    #: the keeper is to publish it
    PENDING = auto()


_PUBLISHED_POSTGRESQL = {
    Publication.NONE: "NULL",
    Publication.PRESUMED: "clock_timestamp()",
    Publication.PENDING: f"'{NEVER_PUBLISHED.isoformat()}'",
}


@cache
def _insert_postgresql(publication: Publication, notifies: bool) -> str:
    """One round trip: the row, its time and the wake-up. Django's ORM needs 2.5 times as long for the row alone."""
    return (
        f"{_HEAD} VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, clock_timestamp(), "
        f"{_PUBLISHED_POSTGRESQL[publication]}, {_DEFAULTS}, false) "
        f"RETURNING enqueued_at{', pg_notify(%s, %s)' if notifies else ''}"
    )


@cache
def _insert_many_postgresql(publication: Publication) -> str:
    return (
        f"{_HEAD} SELECT new.id, new.arguments, %s, %s, %s, %s::smallint, %s, %s, %s, %s::smallint, %s, "
        f"%s::timestamptz, %s::timestamptz, %s, %s, %s::timestamptz, {_PUBLISHED_POSTGRESQL[publication]}::timestamptz, "
        f"{_DEFAULTS}, false FROM unnest(%s::uuid[], %s::text[]) AS new(id, arguments)"
    )


@record
class NewTask:
    """What all rows of one enqueue have in common."""

    name: str
    queue_name: str
    backend: str
    priority: int
    state: State
    options: str
    metadata: str
    max_deliveries: int
    acks_late: bool
    run_after: datetime | None
    expires_at: datetime | None
    publication: Publication = Publication.NONE
    reply_to: str = ""
    headers: str = ""
    #: what messages for tasks without rows have in common, once there has been one
    form: CallForm | None = field(default=None, init=False, repr=False, compare=False)

    def params(self, connection: BaseDatabaseWrapper) -> list[Any]:
        """The shared columns' values, in the order of the statements."""
        return [
            self.name,
            self.queue_name,
            self.backend,
            self.priority,
            self.state.value,
            self.options,
            self.metadata,
            self.max_deliveries,
            self.acks_late,
            moment_param(connection, self.run_after),
            moment_param(connection, self.expires_at),
            self.reply_to,
            self.headers,
        ]

    @property
    def channel(self) -> str | None:
        """Who is to be woken by the commit; None when the broker does that."""
        if self.state is not State.READY:
            return DUE_CHANNEL
        return None if self.publication is Publication.PRESUMED else READY_CHANNEL

    def published_at(self, enqueued_at: datetime) -> datetime | None:
        """The column's value for databases whose statements carry none of their own."""
        if self.publication is Publication.NONE:
            return None
        return enqueued_at if self.publication is Publication.PRESUMED else NEVER_PUBLISHED


def insert(connection: BaseDatabaseWrapper, task: NewTask, task_id: str, arguments: str) -> datetime:
    """Insert one row; gives its ``enqueued_at``. The wake-up is sent when the transaction commits."""
    channel = task.channel
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            statement = _insert_postgresql(task.publication, channel is not None)
            wakeup = [] if channel is None else [channel, ""]
            cursor.execute(statement, [task_id, arguments, *task.params(connection), *wakeup])
            enqueued_at = moment_reader(connection)(cursor.fetchone()[0])
        else:
            enqueued_at = database_now(connection.alias)
            cursor.execute(_INSERT_PLAIN, _plain_row(connection, task, task_id, arguments, enqueued_at))
    assert enqueued_at is not None
    return enqueued_at


def insert_many(using: str, task: NewTask, rows: Sequence[tuple[str, str]]) -> datetime:
    """Insert rows of ``(id, arguments)``, all or none; gives their common ``enqueued_at``."""
    connection = connections[using]
    with transaction.atomic(using=using, savepoint=False):
        enqueued_at = database_now(using)
        with connection.cursor() as cursor:
            for start in range(0, len(rows), _CHUNK):
                chunk = rows[start : start + _CHUNK]
                if connection.vendor == "postgresql":
                    ids, arguments = zip(*chunk, strict=True)
                    cursor.execute(
                        _insert_many_postgresql(task.publication),
                        [*task.params(connection), enqueued_at, list(ids), list(arguments)],
                    )
                else:
                    cursor.executemany(
                        _INSERT_PLAIN,
                        [_plain_row(connection, task, task_id, text, enqueued_at) for task_id, text in chunk],
                    )
        if task.channel is not None:
            notify(using, task.channel)
    return enqueued_at


def insert_call(using: str, task: NewTask, task_id: str, call: Call, delay: float = 0.0) -> bool:
    """Insert a row for a task that had none until now; False when it has one already.

    ``delay``: seconds until it is due, when ``task`` is SCHEDULED.
    """
    run_after: Any = task.run_after
    if delay:
        run_after = Now() + timedelta(seconds=delay)
    row = TaskRecord(
        id=task_id,
        name=task.name,
        queue_name=task.queue_name,
        backend=task.backend,
        priority=task.priority,
        state=task.state,
        arguments=call.arguments,
        options=task.options,
        metadata=task.metadata,
        headers=call.headers,
        errors=call.errors,
        worker_ids=call.worker_ids,
        attempt=call.retries,
        max_deliveries=task.max_deliveries,
        acks_late=task.acks_late,
        enqueued_at=as_project_time(call.enqueued_at) or Now(),
        run_after=as_project_time(run_after) if isinstance(run_after, datetime) else run_after,
        expires_at=as_project_time(task.expires_at),
        reply_to=encode_address(call.reply_to, call.correlation_id, task_id),
        published_at=as_project_time(NEVER_PUBLISHED),
    )
    rows = TaskRecord.objects.using(using)

    def insert() -> bool:
        with transaction.atomic(using=using, savepoint=False):
            if rows.filter(pk=task_id).exists():
                return False
            rows.bulk_create([row], ignore_conflicts=True)
        return True

    if not retry_conflicts(using, insert):
        return False
    if task.channel is not None:
        notify(using, task.channel)
    return True


def _plain_row(
    connection: BaseDatabaseWrapper, task: NewTask, task_id: str, arguments: str, enqueued_at: datetime
) -> list[Any]:
    return [
        id_param(connection, task_id),
        arguments,
        *task.params(connection),
        moment_param(connection, enqueued_at),
        moment_param(connection, task.published_at(enqueued_at)),
        *_DEFAULT_VALUES,
    ]
