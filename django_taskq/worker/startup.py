"""What has to be true before the first process is forked; each failure says what to do."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module

from django.apps import apps
from django.db import OperationalError, connections
from django.db.migrations.executor import MigrationExecutor
from django.utils.module_loading import module_has_submodule

from ..database import in_memory
from ..exceptions import TaskqError

logger = logging.getLogger("django_taskq.worker")

#: seconds between two tries to reach a database that is not up yet
_RETRY, _RETRY_MAX = 0.5, 5.0
#: seconds between two looks whether it is told to stop meanwhile
_NAP = 0.1


class CannotStart(TaskqError):
    """The worker cannot start."""


def import_tasks(imports: Sequence[str]) -> None:
    """Import ``tasks`` of every installed app and the modules of ``OPTIONS["imports"]``.

    A worker that lacks tasks would fail every one of them, so a module that does not import stops it.
    """
    configs = [config for config in apps.get_app_configs() if module_has_submodule(config.module, "tasks")]
    for name in (*(f"{config.name}.tasks" for config in configs), *imports):
        try:
            import_module(name)
        except (Exception, SystemExit) as error:
            raise CannotStart(
                f"{name} does not import: {type(error).__name__}: {error}{_place(name, error)}"
            ) from error


def _place(module: str, error: BaseException) -> str:
    """Where in a module an import failed; "" when it was not reached, as with a syntax error, which says it itself."""
    lines = [
        f" (line {line} of {frame.f_code.co_filename})"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__") == module
    ]
    return lines[-1] if lines else ""


def wait_for_database(using: str, is_stopped: Callable[[], bool]) -> bool:
    """Wait until the database answers, and say so; False when told to stop meanwhile."""
    pause = _RETRY
    while not is_stopped():
        try:
            connections[using].ensure_connection()
        except OperationalError as error:
            logger.warning(
                "Database %r is not there yet (%s); trying again in %.1f s.",
                using,
                str(error).strip(),
                pause,
                extra={"action": "database_awaited"},
            )
            again_at = time.monotonic() + pause
            while time.monotonic() < again_at and not is_stopped():
                time.sleep(_NAP)
            pause = min(pause * 2, _RETRY_MAX)
        else:
            return True
    return False


def check_database(using: str) -> None:
    """Raise ``CannotStart`` for a database whose rows workers could not share or read."""
    connection = connections[using]
    if in_memory(connection):
        raise CannotStart(
            f"Database {using!r} is SQLite in memory: every process would see one of its own. Give it a file as NAME."
        )
    executor = MigrationExecutor(connection)
    targets = [key for key in executor.loader.graph.leaf_nodes() if key[0] == apps.get_app_config("django_taskq").label]
    missing = [f"{migration.app_label}.{migration.name}" for migration, _ in executor.migration_plan(targets)]
    if missing:
        raise CannotStart(
            f"Database {using!r} lacks {', '.join(missing)}. Run: python manage.py migrate --database {using}"
        )
