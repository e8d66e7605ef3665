"""Leave a slot as a task found it, whatever the task did."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

logger = logging.getLogger("django_taskq.worker")

#: seconds for which a connection that worked is taken to work still; a check costs a round trip
_TRUSTED = 1.0

_checked_at = "_taskq_checked_at"


def clean_connections(*, in_use: bool = False) -> None:
    """Make this thread's database connections fit for the next task.

    They stay open whatever ``CONN_MAX_AGE`` says, which is about requests: reconnecting for every task
    costs a factor of 4 to 6. One that has been quiet for a while is tested before its next query.
    ``in_use``: other tasks are at work on the same connections, and an open transaction may be theirs.
    """
    now = time.monotonic()
    for connection in connections.all(initialized_only=True):
        if connection.connection is None:
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
    logger.warning("A task changed the working directory; it was changed back.", extra={"action": "chdir"})


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
