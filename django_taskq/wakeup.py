"""How a process that waits for rows hears of them sooner than by asking.

A wake-up is only ever a hint: who waits looks at the rows on a timer as well, because
notifications get lost with a connection, a proxy or a file system. ``timeout`` says how long
the hint may be trusted between two looks.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from django.db import connections

#: PostgreSQL channels (NOTIFY). ``ready``: something can be claimed. ``due``: a run_after came into
#: being. ``done``: payload of finished ids separated by spaces, or "*" for "look yourself". ``word``: workers are told something.
#: ``schedule``: a schedule was changed. ``operation``: something is to be done to many tasks.
READY_CHANNEL = "django_taskq_ready"
DUE_CHANNEL = "django_taskq_due"
DONE_CHANNEL = "django_taskq_done"
WORD_CHANNEL = "django_taskq_word"
SCHEDULE_CHANNEL = "django_taskq_schedule"
OPERATION_CHANNEL = "django_taskq_operation"

#: PostgreSQL refuses payloads of 8,000 bytes and more (NOTIFY, "Parameters")
MAX_PAYLOAD = 7_900

_IN_MODIFY = 0x2
_IN_NONBLOCK = 0o4000
_IN_CLOEXEC = 0o2000000


class Hint(NamedTuple):
    """Something happened. ``channel`` is "" where a source cannot tell what."""

    channel: str
    payload: str = ""


class Wakeup(Protocol):
    """A source of hints, for one thread's connection."""

    #: seconds to wait at most between two looks while nothing happens; None leaves it to the caller
    trusted_for: float | None
    #: seconds until what a hint tells of can be seen at the latest; until then look again and again
    settles_in: float

    def filenos(self) -> list[int]:
        """File descriptors that turn readable with a hint."""

    def arrived(self) -> bool:
        """Whether a hint came along with something else, so that no descriptor tells of it."""

    def has_news(self) -> bool:
        """Whether anything may have changed since the last call; cheap enough to ask before each look."""

    def drain(self) -> list[Hint]:
        """Take the hints that are there, without waiting."""

    def close(self) -> None:
        """Stop listening."""


class PollWakeup:
    """No hints: MySQL, MariaDB, SQLite away from Linux."""

    trusted_for: float | None = None
    settles_in = 0.0

    def filenos(self) -> list[int]:
        """None."""
        return []

    def arrived(self) -> bool:
        """Never."""
        return False

    def has_news(self) -> bool:
        """Always: who looks finds out."""
        return True

    def drain(self) -> list[Hint]:
        """None."""
        return []

    def close(self) -> None:
        """Nothing to do."""


class PostgresWakeup:
    """LISTEN on the calling thread's own connection (one connection for work and hints)."""

    #: LISTEN connections die silently behind proxies, hence not longer
    trusted_for: float | None = 5.0
    #: PostgreSQL notifies once the transaction can be seen
    settles_in = 0.0

    def __init__(self, using: str, channels: Sequence[str]) -> None:
        self._connection = connections[using]
        with self._connection.cursor() as cursor:
            for channel in channels:
                cursor.execute(f"LISTEN {channel}")
        self._psycopg = self._connection.connection
        #: notifications that came with the answer to some other statement
        self._arrived: list[Hint] = []
        self._psycopg.add_notify_handler(lambda one: self._arrived.append(Hint(one.channel, one.payload)))

    def filenos(self) -> list[int]:
        """The connection's socket; also readable when the server went away."""
        return [self._psycopg.fileno()]

    def arrived(self) -> bool:
        """Whether one came with the answer to a statement."""
        return bool(self._arrived)

    def has_news(self) -> bool:
        """Always: a notification brings news."""
        return True

    def drain(self) -> list[Hint]:
        """Notifications that have arrived. Raises the driver's error when the connection is gone."""
        with self._connection.wrap_database_errors:
            # What psycopg's own notifies() does, less its wait: 4 µs instead of 40 on the busiest path.
            self._psycopg.pgconn.consume_input()
            while (one := self._psycopg.pgconn.notifies()) is not None:
                self._arrived.append(Hint(one.relname.decode(), one.extra.decode()))
        hints, self._arrived[:] = list(self._arrived), []
        return hints

    def close(self) -> None:
        """Nothing to do: LISTEN ends with the connection."""


class FileWakeup:
    """Linux tells when SQLite's write-ahead log was written to (inotify), by whichever process."""

    trusted_for: float | None = 5.0
    #: the log is written first, then synced to disk, and only then the commit can be seen, without another event
    settles_in = 1.0

    def __init__(self, using: str, path: str) -> None:
        self._connection = connections[using]
        self._version = -1
        libc = ctypes.CDLL(None, use_errno=True)
        self._file = libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
        if self._file < 0 or libc.inotify_add_watch(self._file, os.fsencode(path), _IN_MODIFY) < 0:
            error = ctypes.get_errno()
            self.close()
            raise OSError(error, f"cannot watch {path}: {os.strerror(error)}")

    def filenos(self) -> list[int]:
        """The inotify descriptor."""
        return [self._file]

    def arrived(self) -> bool:
        """Never: the descriptor tells."""
        return False

    def has_news(self) -> bool:
        """Whether another connection has committed (SQLite's ``PRAGMA data_version``): 3 µs where a look takes 200."""
        with self._connection.wrap_database_errors:
            (version,) = self._connection.connection.execute("PRAGMA data_version").fetchone()
        is_new = version != self._version
        self._version = version
        return bool(is_new)

    def drain(self) -> list[Hint]:
        """One hint, however often the log was written to."""
        try:
            return [Hint("")] if os.read(self._file, 65536) else []
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Give the descriptor back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def settling_pause(since_hint: float) -> float:
    """Seconds to the next look, ``since_hint`` seconds after a hint that still settles.

    From 1 ms, about what a sync to disk takes, half as long again each time, and twice as long once it
    takes long: a dozen looks in all.
    """
    return since_hint if since_hint > 0.02 else max(since_hint / 2, 0.001)


def open_wakeup(using: str, channels: Sequence[str]) -> Wakeup:
    """The best source of hints that the calling thread's connection offers."""
    connection = connections[using]
    connection.ensure_connection()
    if connection.vendor == "postgresql" and hasattr(connection.connection, "notifies"):
        return PostgresWakeup(using, channels)
    if connection.vendor == "sqlite" and sys.platform == "linux":
        # A connection that has read keeps the log's file in place; before that, the last one to close
        # deletes it, and the watch would be on a file that nobody writes to.
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM sqlite_master").fetchone()
        path = f"{connection.settings_dict['NAME']}-wal"
        if Path(path).exists():
            try:
                return FileWakeup(using, path)
            except OSError:
                # No watches left on this host, or a file system without them: polling serves.
                return PollWakeup()
    return PollWakeup()
