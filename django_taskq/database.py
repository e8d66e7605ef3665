"""What differs between databases, below the level of Django's ORM: clocks, values, SQLite's settings."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar, overload
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import DateTimeField, Func, TextField
from django.utils import timezone
from django.utils.dateparse import parse_datetime

Result = TypeVar("Result")

#: errors that mean "the database went away or is busy", not "the statement is wrong"
CONNECTION_ERRORS = (OperationalError, InterfaceError)

#: seconds a SQLite connection waits for another writer; commits take milliseconds, so this is patience, not delay
SQLITE_BUSY_TIMEOUT = 20.0

#: how often a transaction is tried again after a deadlock or a serialisation failure
_CONFLICT_RETRIES = 5

#: seconds of the longest pause before the first of them; a transaction takes a few milliseconds
_CONFLICT_PAUSE = 0.005

#: SQLSTATE of PostgreSQL (appendix A: deadlock_detected, serialization_failure) and errno of MySQL
#: (1213 ER_LOCK_DEADLOCK, 1205 ER_LOCK_WAIT_TIMEOUT, 1020 ER_CHECKREAD)
_CONFLICTS = frozenset({"40P01", "40001", 1213, 1205, 1020})


class Now(Func):
    """The database's own clock, at this statement, in microseconds.

    Django's ``Now`` is the start of the transaction on PostgreSQL, seconds on SQLite and the
    session's local time on MySQL.
    """

    output_field = DateTimeField()
    arity = 0

    def get_db_converters(self, connection: BaseDatabaseWrapper) -> list[Callable[..., Any]]:
        """Read as the columns it is compared with."""
        return [*super().get_db_converters(connection), lambda value, _, connection: read_instant(value, connection)]

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> tuple[str, list[Any]]:
        """As the statement begins: unlike ``clock_timestamp()`` it can be looked up in an index."""
        return "statement_timestamp()", []

    def as_mysql(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> tuple[str, list[Any]]:
        """UTC, as ``InstantField`` stores it."""
        return "UTC_TIMESTAMP(6)", []

    def as_sqlite(  # type: ignore[override]  # Django 5.2 adds lists to lists; the stubs know the tuples of later ones
        self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any
    ) -> tuple[str, list[Any]]:
        """SQLite has no clock of its own: it reads this host's, and to milliseconds only."""
        return "%s", [sqlite_now()]


class AsUtc(Func):
    """One of our columns as an aware moment in UTC, whatever the project's settings.

    Without ``USE_TZ`` PostgreSQL's driver gives local time, in which an hour of autumn comes twice.
    """

    # As text Django leaves it alone; what it gives is a moment all the same.
    output_field: DateTimeField = TextField()  # type: ignore[assignment, type-arg]  # as said; generic in the stubs only
    arity = 1

    def get_db_converters(self, connection: BaseDatabaseWrapper) -> list[Callable[..., Any]]:
        """Not those of text."""
        return [lambda value, _, __: read_moment(value)]

    def as_sql(  # type: ignore[override]  # Django calls it with these alone
        self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any
    ) -> tuple[str, Any]:
        """The column itself, which holds UTC."""
        sql, params = compiler.compile(self.source_expressions[0])
        return (f"({sql}) AT TIME ZONE 'UTC'" if connection.vendor == "postgresql" else sql), params


def sqlite_now() -> str:
    """This moment in the form SQLite columns hold."""
    return sqlite_text(datetime.now(UTC))


def sqlite_text(moment: datetime) -> str:
    """A moment in the form SQLite columns hold: UTC, always with microseconds, so that text sorts as time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def read_moment(value: Any) -> datetime | None:
    """A moment from a raw cursor as an aware datetime."""
    if isinstance(value, str):
        value = parse_datetime(value)
    if value is None:
        return None
    if value.tzinfo is not None:
        return value  # type: ignore[no-any-return]
    return value.replace(tzinfo=UTC)  # type: ignore[no-any-return]


def moment_reader(connection: BaseDatabaseWrapper) -> Callable[[Any], datetime | None]:
    """How to read moments from raw cursors of this connection."""
    if connection.vendor == "postgresql" and not settings.USE_TZ:
        # Django hands out naive local time then.
        return lambda value: None if value is None else timezone.make_aware(value)
    return read_moment


@overload
def as_project_time(moment: datetime) -> datetime: ...


@overload
def as_project_time(moment: None) -> None: ...


@overload
def as_project_time(moment: datetime | None) -> datetime | None: ...


def as_project_time(moment: datetime | None) -> datetime | None:
    """An aware moment as this project's code expects moments: naive local time without ``USE_TZ``."""
    if moment is None or settings.USE_TZ:
        return moment
    return timezone.make_naive(moment)


def as_utc(moment: datetime) -> datetime:
    """A moment as this project's code has moments, as an aware one in UTC."""
    return (timezone.make_aware(moment) if timezone.is_naive(moment) else moment).astimezone(UTC)


def read_instant(value: Any, connection: BaseDatabaseWrapper) -> Any:
    """A moment that Django has read from one of our columns, as this project's code expects moments.

    Columns without a time zone hold UTC; Django takes them for local time, or for that of ``DATABASES``.
    """
    if connection.vendor == "postgresql" or not isinstance(value, datetime):
        return value
    return as_project_time(value.replace(tzinfo=UTC))


def moment_param(connection: BaseDatabaseWrapper, moment: datetime | None) -> Any:
    """An aware moment as a parameter for a raw cursor."""
    if moment is None:
        return None
    if connection.vendor == "sqlite":
        return sqlite_text(moment)
    if connection.vendor == "mysql":
        return moment.astimezone(UTC).replace(tzinfo=None)
    return moment


def id_param(connection: BaseDatabaseWrapper, task_id: str) -> str:
    """A task's id as a parameter for a raw cursor."""
    return task_id if connection.features.has_native_uuid_field else task_id.replace("-", "")


def read_id(value: Any) -> str:
    """A task's id from a raw cursor, in its canonical form."""
    if isinstance(value, UUID):
        return str(value)
    text = str(value)
    return text if len(text) == 36 else f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def database_now(using: str) -> datetime:
    """The database's clock, as an aware datetime."""
    connection = connections[using]
    if connection.vendor == "sqlite":
        return datetime.now(UTC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()" if connection.vendor == "postgresql" else "SELECT UTC_TIMESTAMP(6)")
        moment = moment_reader(connection)(cursor.fetchone()[0])
    assert moment is not None
    return moment


def in_memory(connection: BaseDatabaseWrapper) -> bool:
    """Whether this is a SQLite database that other processes cannot see."""
    return connection.vendor == "sqlite" and bool(connection.is_in_memory_db())  # type: ignore[attr-defined]


def tune_sqlite(connection: BaseDatabaseWrapper) -> None:
    """Let many processes write to one SQLite file without "database is locked".

    Write-ahead log, so that readers and the writer don't wait for each other; transactions that
    take the write lock when they begin, since one that upgrades later fails at once, whatever its
    timeout; and patience. What the project's own ``OPTIONS`` say wins.
    """
    if connection.vendor != "sqlite" or in_memory(connection):
        return
    given = connection.settings_dict.get("OPTIONS", {})
    with connection.cursor() as cursor:
        if "timeout" not in given:
            cursor.execute(f"PRAGMA busy_timeout = {SQLITE_BUSY_TIMEOUT * 1000:.0f}")
        if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            cursor.execute("PRAGMA journal_mode = WAL")
    if "transaction_mode" not in given:
        connection.transaction_mode = "IMMEDIATE"  # type: ignore[attr-defined]


def is_conflict(error: BaseException) -> bool:
    """Whether the database undid a transaction only because of another one."""
    cause = error.__cause__
    code = getattr(cause, "sqlstate", None) or (cause.args[0] if cause is not None and cause.args else None)
    return code in _CONFLICTS


def retry_conflicts(using: str, work: Callable[[], Result]) -> Result:
    """Run ``work``, and up to five times more when it lost to another transaction, after a random pause.

    Never repeated inside the caller's own transaction: all of that is gone, not only our part.
    """
    for attempt in range(_CONFLICT_RETRIES):
        try:
            return work()
        except OperationalError as error:
            if connections[using].in_atomic_block or not is_conflict(error):
                raise
        # Those that met would meet again if all came back at once.
        time.sleep(random.uniform(0, _CONFLICT_PAUSE * 2**attempt))  # noqa: S311  # nobody is to guess anything
    return work()


def notify(using: str, channel: str, payload: str = "") -> None:
    """Tell who listens; arrives when the surrounding transaction commits. Nothing on other databases."""
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, %s)", [channel, payload])


def leave_pool(connection: BaseDatabaseWrapper) -> None:
    """Let this thread's connection be its own, where ``OPTIONS["pool"]`` would lend it one.

    For threads that LISTEN, which outlives the return to a pool, or hold theirs for good.
    """
    options = connection.settings_dict.get("OPTIONS", {})
    if connection.connection is None and options.get("pool"):
        own = {name: value for name, value in options.items() if name != "pool"}
        connection.settings_dict = {**connection.settings_dict, "OPTIONS": own}


def close_for_fork() -> None:
    """Close every connection of this thread and every pool: a child that shared one would read another's answers."""
    connections.close_all()
    for connection in connections.all(initialized_only=True):
        close_pool = getattr(connection, "close_pool", None)
        if close_pool is not None:
            close_pool()


def tune_worker_connection(connection: BaseDatabaseWrapper) -> None:
    """Prepare a worker's bookkeeping connection: it writes short transactions, many of them.

    SQLite: as :func:`tune_sqlite`, and no fsync per commit. A power cut may then undo the last claims
    and ends, so that those tasks run again; the file stays whole, and what callers commit keeps
    their own connection's durability.
    """
    leave_pool(connection)
    connection.ensure_connection()
    if connection.vendor == "sqlite":
        tune_sqlite(connection)
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA synchronous = NORMAL")
