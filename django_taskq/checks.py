"""System checks beyond those of each alias's ``OPTIONS``, which ``TaskqBackend.check`` makes.

Imported when the app is ready, in every process: what costs time to import is imported when a
check runs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import django
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004  # Django's own name
from django.core.exceptions import ImproperlyConfigured
from django.core.management import get_commands
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.module_loading import import_string

from .conf import OptionsError
from .core.queues import MAX_QUEUE_NAME
from .database import in_memory

if TYPE_CHECKING:
    from .backend import TaskqBackend

#: PyPI's ``django-taskq``, by other authors, installs a package of the same name as ours
_NAMESAKE = "django-taskq"

#: the width of the column that holds the alias
_MAX_ALIAS = 64

#: what Django takes for QUEUES where none are given (django/tasks/base.py, DEFAULT_TASK_QUEUE_NAME)
_DEFAULT_QUEUES = ("default",)

#: SQLite learnt UPDATE … RETURNING in 3.35 (its release notes of 2021-03-12)
_MIN_SQLITE = (3, 35)

#: ours, and what helps where another app has a command of that name
_COMMANDS = ("runworker", "taskq", "cleartasks")
_SHADOWED = {
    "runworker": "manage.py taskq worker is the same as ours; or put django_taskq before it in INSTALLED_APPS."
}

#: what Django's test runner calls a database in memory; tests run their tasks in their own process
_TEST_DATABASE = "file:memorydb_"

if django.VERSION >= (6, 0):
    # Registers upstream's check, which calls TaskqBackend.check. Without this it would be registered
    # only after somebody else had imported django.tasks, which may be in the middle of the checks.
    import_module("django.tasks")


@register
def check_aliases(app_configs: Sequence[Any] | None = None, **kwargs: Any) -> Iterator[CheckMessage]:
    """``TASKS``: what stands beside ``OPTIONS``."""
    try:
        backends = _backends()
    except ImproperlyConfigured as error:
        yield Error(
            f"TASKS: {error}", hint="Each BACKEND must be the path of an importable class.", id="django_taskq.E006"
        )
        return
    if not backends:
        yield Warning(
            "django_taskq is installed, and no alias of TASKS uses it.",
            hint='Write TASKS = {"default": {"BACKEND": "django_taskq.TaskqBackend"}}, or take the app out.',
            id="django_taskq.W006",
        )
    for backend in backends:
        yield from _check_alias(backend.alias, settings.TASKS[backend.alias])
        if django.VERSION < (6, 0) and not apps.is_installed("django_tasks"):
            # The backport checks its backends only where it is an installed app.
            yield from backend.check()


@register
def check_namesake(app_configs: Sequence[Any] | None = None, **kwargs: Any) -> Iterator[CheckMessage]:
    """Somebody else's distribution with the same import package."""
    metadata = import_module("importlib.metadata")
    try:
        version = metadata.version(_NAMESAKE)
    except metadata.PackageNotFoundError:
        return
    yield Error(
        f"The distribution {_NAMESAKE} {version} is installed. It is another project, and its files take the place of ours.",
        hint=f"pip uninstall {_NAMESAKE}, then pip install --force-reinstall django-taskq-kombu.",
        id="django_taskq.E009",
    )


@register
def check_commands(app_configs: Sequence[Any] | None = None, **kwargs: Any) -> Iterator[CheckMessage]:
    """Commands of ours that another app takes the place of: Channels has a ``runworker``, too."""
    found = get_commands()
    for name in _COMMANDS:
        # An object instead of a name: somebody's tests have put it there.
        owner = found.get(name)
        if isinstance(owner, str) and owner != "django_taskq":
            yield Warning(
                f"manage.py {name} is the command of {owner}, and not that of django_taskq.",
                hint=_SHADOWED.get(name, "Put django_taskq before it in INSTALLED_APPS."),
                id="django_taskq.W020",
            )


@register
def check_schedules(app_configs: Sequence[Any] | None = None, **kwargs: Any) -> Iterator[CheckMessage]:
    """Schedules that stand in code."""
    backends = _sound_backends()
    if backends:
        yield from import_string("django_taskq.schedule_checks.check_code_schedules")(backends)


@register
def check_hosts(app_configs: Sequence[Any] | None = None, **kwargs: Any) -> Iterator[CheckMessage]:
    """A broker that other hosts reach, and rows that they don't."""
    yield from _check_sound_options("check_hosts")


@register(Tags.security, deploy=True)
def check_deployment(app_configs: Sequence[Any] | None = None, **kwargs: Any) -> Iterator[CheckMessage]:
    """What crosses a network in the clear, or may get lost there."""
    yield from _check_sound_options("check_deployment")


def _check_sound_options(name: str) -> Iterator[CheckMessage]:
    """One of the functions in ``transport_checks``, for each alias about which nobody else complains."""
    check = import_string(f"django_taskq.transport_checks.{name}")
    for backend in _sound_backends():
        yield from check(backend.alias, backend.config)


@register
def check_databases(app_configs: Sequence[Any] | None = None, **kwargs: Any) -> Iterator[CheckMessage]:
    """What can be said of our databases without a connection."""
    for alias in _databases():
        connection = connections[alias]
        check = {"sqlite": _check_sqlite, "postgresql": _check_postgresql, "mysql": None}.get(
            connection.vendor, _unknown_vendor
        )
        if check is not None:
            yield from check(connection)


@register(Tags.database)
def check_servers(
    app_configs: Sequence[Any] | None = None, databases: Iterable[str] | None = None, **kwargs: Any
) -> Iterator[CheckMessage]:
    """What only the server can tell; Django asks for it by ``check --database`` and ``migrate``."""
    ours = _databases() if databases else []
    for alias in databases or ():
        if alias in ours:
            yield from _check_server(connections[alias])


def _check_alias(alias: str, params: dict[str, Any]) -> Iterator[CheckMessage]:
    if len(alias) > _MAX_ALIAS:
        yield Error(
            f"TASKS: the alias {alias!r} is longer than {_MAX_ALIAS} characters.",
            hint="Rows keep the alias in a column of this width; give it a shorter name.",
            id="django_taskq.E007",
        )
    queues = params.get("QUEUES", _DEFAULT_QUEUES)
    if isinstance(queues, str) or not all(isinstance(name, str) and 0 < len(name) <= MAX_QUEUE_NAME for name in queues):
        yield Error(
            f"TASKS[{alias!r}]: QUEUES must be a list of queue names.",
            hint=f"Names have 1 to {MAX_QUEUE_NAME} characters; [] allows any queue.",
            id="django_taskq.E008",
        )
        return
    check_queue_names = import_string("django_taskq.option_checks.check_queue_names")
    yield from check_queue_names(alias, queues, params.get("OPTIONS", {}))


def _check_sqlite(connection: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    version = sqlite3.sqlite_version_info
    if version < _MIN_SQLITE:
        yield Error(
            f"DATABASES[{connection.alias!r}]: SQLite {'.'.join(map(str, version))} is too old for the task queue.",
            hint="Python's sqlite3 must be linked with SQLite 3.35 or newer (UPDATE … RETURNING).",
            id="django_taskq.E010",
        )
    if in_memory(connection) and not str(connection.settings_dict["NAME"]).startswith(_TEST_DATABASE):
        yield Warning(
            f"DATABASES[{connection.alias!r}] is a SQLite database in memory: workers cannot see its tasks.",
            hint="A worker is a process of its own; give NAME the path of a file.",
            id="django_taskq.W001",
        )


def _check_postgresql(connection: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    if not import_string("django.db.backends.postgresql.psycopg_any.is_psycopg3"):
        yield Error(
            f"DATABASES[{connection.alias!r}]: the task queue needs psycopg 3, and Django found psycopg2.",
            hint="pip install 'django-taskq-kombu[postgres]'.",
            id="django_taskq.E011",
        )


def _unknown_vendor(connection: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    yield Error(
        f"DATABASES[{connection.alias!r}]: the task queue does not know databases of the kind {connection.vendor!r}.",
        hint='Use SQLite, PostgreSQL, MariaDB or MySQL; "broker": "database://alias" may name another alias.',
        id="django_taskq.E012",
    )


def _check_server(connection: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    if connection.vendor == "mysql" and not connection.features.has_select_for_update_skip_locked:
        yield Error(
            f"DATABASES[{connection.alias!r}]: this server has no SKIP LOCKED, so that workers would wait for each other.",
            hint="Use MariaDB 10.6, MySQL 8.0.17, or newer.",
            id="django_taskq.E013",
        )


def _backends() -> list[TaskqBackend]:
    backends: list[TaskqBackend] = import_string("django_taskq.aliases.taskq_backends")()
    return backends


def _sound_backends() -> list[TaskqBackend]:
    """Those about whose options nobody else complains; none where a class cannot be imported."""
    sound = []
    try:
        backends = _backends()
    except ImproperlyConfigured:
        return []
    for backend in backends:
        try:
            _ = backend.config
        except OptionsError:
            continue
        sound.append(backend)
    return sound


def _databases() -> list[str]:
    """The ``DATABASES`` aliases of our backends, without those that other checks complain about."""
    return list(dict.fromkeys(backend.database for backend in _sound_backends()))
