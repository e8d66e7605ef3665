"""Leave a slot as a task found it, whatever the task did."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal wraps it in enums, which takes ten times as long
import logging
import os
import signal
import threading
import time
from contextlib import suppress
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from .guard import SIGNAL

logger = logging.getLogger("django_taskq.worker")

#: seconds for which a connection that worked is taken to work still; a check costs a round trip
_TRUSTED = 1.0

_checked_at = "_taskq_checked_at"

#: threads that have opened a connection. Most do once, and some never: to look for connections where there are none
#: would take 4 % of a no-op task's time.
_connected: set[int] = set()


def note_connections() -> None:
    """From now on it is known of this thread, and of others, whether they have opened a connection."""
    connection_created.connect(_note_connection, dispatch_uid="django_taskq.slots")
    if any(connection.connection is not None for connection in connections.all(initialized_only=True)):
        _note_connection()


def has_connected() -> bool:
    """Whether this thread may have connections to databases."""
    return threading.get_ident() in _connected


def _note_connection(**kwargs: object) -> None:
    _connected.add(threading.get_ident())


def clean_connections(*, in_use: bool = False, are_suspect: bool = False) -> None:
    """Make this thread's database connections fit for the next task.

    They stay open whatever ``CONN_MAX_AGE`` says, which is about requests: reconnecting for every task
    costs a factor of 4 to 6. One that has been quiet for a while is tested before its next query.
    ``in_use``: other tasks are at work on the same connections, and an open transaction may be theirs.
    ``are_suspect``: the task was interrupted, maybe between a query and its answer; none of them is used again.
    """
    now = time.monotonic()
    for connection in connections.all(initialized_only=True):
        if connection.connection is None:
            continue
        if are_suspect:
            _replace(connection)
            continue
        if connection.in_atomic_block or connection.needs_rollback or not connection.autocommit:
            if in_use:
                continue
            logger.warning(
                "A task left a transaction open on database %r; it was rolled back.",
                connection.alias,
                extra={"action": "transaction_left_open"},
            )
            _replace(connection)
        elif _is_closed(connection) or (connection.errors_occurred and not connection.is_usable()):
            _replace(connection)
        connection.errors_occurred = False
        connection.health_check_enabled = True  # type: ignore[attr-defined]  # not in the stubs
        if now - getattr(connection, _checked_at, 0.0) > _TRUSTED:
            connection.health_check_done = False  # type: ignore[attr-defined]  # not in the stubs
            setattr(connection, _checked_at, now)


#: what a task may want to handle itself while it runs; the others stop or end a process, or cannot be handled
_SIGNALS = tuple(
    getattr(signal, name)
    for name in (
        "SIGTERM",
        "SIGINT",
        "SIGQUIT",
        "SIGHUP",
        "SIGUSR1",
        "SIGUSR2",
        "SIGCHLD",
        "SIGALRM",
        "SIGPIPE",
        "SIGTSTP",
    )
    if hasattr(signal, name)
)


class Room:
    """What all of a process shares, as tasks find it; made before the first one.

    A task without company may change it while it runs. With several slots in a process it is everybody's at once.
    ``is_main``: the slot is the main thread, where alone signals can be handled.
    """

    def __init__(self, home: str, *, is_main: bool) -> None:
        self._home = home
        self._umask = os.umask(0o022)
        os.umask(self._umask)
        self._zone = os.environ.get("TZ")
        self._zone_names = time.tzname
        self._signals = (*_SIGNALS, SIGNAL) if is_main else ()
        self._handlers = [_signal.getsignal(number) for number in self._signals]

    def tidy(self) -> None:
        """Put back what the last task has changed."""
        restore_directory(self._home)
        # One call asks and answers; to ask only, the kernel has none.
        if os.umask(self._umask) != self._umask:
            _note("umask", "the umask")
        if time.tzname != self._zone_names or os.environ.get("TZ") != self._zone:
            self._restore_zone()
        if self._signals:
            if [_signal.getsignal(number) for number in self._signals] != self._handlers:
                self._restore_signals()
            if _signal.getitimer(signal.ITIMER_REAL)[0]:
                signal.setitimer(signal.ITIMER_REAL, 0)
                _note("alarm", "an alarm")

    def _restore_zone(self) -> None:
        if self._zone is None:
            os.environ.pop("TZ", None)
        else:
            os.environ["TZ"] = self._zone
        time.tzset()
        _note("time_zone", "the time zone of the process")

    def _restore_signals(self) -> None:
        for number, handler in zip(self._signals, self._handlers, strict=True):
            # None: somebody else than Python handles it.
            if handler is not None:
                signal.signal(number, handler)
        _note("signals", "signal handlers")


def free_log_handlers() -> None:
    """Give back the locks of log handlers that this thread has; called where it logs nothing.

    ``logging`` takes them right before the ``try`` whose ``finally`` gives them back. An interrupt that comes in between
    would keep all other threads from logging, for ever.
    """
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for handler in {handler for one in loggers if isinstance(one, logging.Logger) for handler in one.handlers}:
        # Not ours is the rule.
        with suppress(RuntimeError):
            if handler.lock is not None:
                handler.lock.release()


def restore_directory(home: str) -> None:
    """Go back to the directory the worker was started in."""
    try:
        if os.getcwd() == home:  # noqa: PTH109  # Path.cwd() takes 10 % of a no-op task's time
            return
    except FileNotFoundError:
        # The task removed the directory it went to, or a new release took the place of this one.
        logger.debug("The working directory is gone.")
    try:
        os.chdir(home)
    except OSError as error:
        logger.debug("The worker's own directory is gone: %s", error)
        return
    _note("chdir", "the working directory")


def _note(action: str, what: str) -> None:
    logger.warning("A task changed %s; it was changed back.", what, extra={"action": action})


def _is_closed(connection: BaseDatabaseWrapper) -> bool:
    """Whether a task closed the connection below Django, as far as the driver knows without asking the server."""
    driver: Any = connection.connection
    if connection.vendor == "sqlite":
        # Asked for, since ``is_usable`` is always True there.
        try:
            driver.total_changes  # noqa: B018  # raises on a closed connection
        except connection.Database.ProgrammingError:  # type: ignore[attr-defined]  # not in the stubs
            return True
        return False
    return bool(getattr(driver, "closed", False)) or not getattr(driver, "open", True)


def _replace(connection: BaseDatabaseWrapper) -> None:
    """Close a connection in whatever state it is; the next query opens a new one."""
    try:
        connection.close()
    except Exception:  # a broken connection may fail to close in any way of its driver
        logger.debug("A broken connection could not be closed.", exc_info=True)
    del connections[connection.alias]
