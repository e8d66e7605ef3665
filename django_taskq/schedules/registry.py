"""Schedules that stand in code: in ``OPTIONS["schedules"]`` and above tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any, NamedTuple, Protocol, TypeVar

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from .. import registry
from ..compat import Task, UpstreamTask
from ..core.options import nearest
from ..core.schedule import Missed, Overlap
from ..exceptions import FieldProblem, ScheduleError
from .definition import Schedule, default_timezone, moment_of

#: how the four kinds are written, and what they are
_KINDS = {"cron": "cron", "every": "interval", "at": "once", "solar": "solar"}
_PLAIN = (
    "timezone",
    "latitude",
    "longitude",
    "repeat_ambiguous",
    "queue_name",
    "priority",
    "enabled",
    "description",
)
_SECONDS = ("jitter", "expires", "window")
_OTHERS = ("args", "kwargs", "start_at", "end_at", "missed", "overlap")
#: what can be said of a schedule in code, besides its name, task and alias
KEYS = (*_KINDS, *_PLAIN, *_SECONDS, *_OTHERS)

_Task = TypeVar("_Task", bound=UpstreamTask)


class Backend(Protocol):
    """What is asked of a backend."""

    alias: str

    @property
    def config(self) -> Any:
        """Its parsed ``OPTIONS``."""


class Found(NamedTuple):
    """A schedule in code. ``place``: where. ``schedule`` None: ``problems`` say why."""

    name: str
    place: str
    alias: str
    schedule: Schedule | None
    problems: tuple[FieldProblem, ...]


class _Decorated(NamedTuple):
    name: str
    task: UpstreamTask
    options: dict[str, Any]


#: By task and name: a module that is loaded again replaces its own.
_decorated: dict[tuple[str, str], _Decorated] = {}


def schedule(*, name: str | None = None, **options: Any) -> Callable[[_Task], _Task]:
    """Run a task again and again: ``@schedule(cron="0 3 * * *")`` above ``@task``; several above one are several.

    Exactly one of ``cron`` (a line), ``every`` (seconds or a ``timedelta``), ``at`` (a moment) and ``solar`` (an event);
    the rest is what ``OPTIONS["schedules"]`` takes. ``name``: the task's, unless given. Raises ``TypeError`` for an
    option that does not exist; what the values must be is said by the checks.
    """
    for key in options:
        if key not in KEYS:
            raise TypeError(f"@schedule has no option {key!r}{nearest(key, KEYS) or '.'}")
    if sum(kind in options for kind in _KINDS) != 1:
        raise TypeError(f"@schedule takes exactly one of {', '.join(_KINDS)}.")

    def wrap(task: _Task) -> _Task:
        if not isinstance(task, Task):
            raise TypeError("@schedule stands above @task: it takes a task, not a function.")
        task_name = registry.registered_name(task)
        own = name or task_name
        known = _decorated.get((task_name, own))
        if known is not None and known.task is task:
            raise TypeError(f"{task_name} has two schedules named {own!r}; give one of them name=….")
        _decorated[task_name, own] = _Decorated(own, task, options)
        return task

    return wrap


def code_schedules(backends: Iterable[Backend]) -> dict[str, Schedule]:
    """The schedules in code of these backends, by name. Raises ``ScheduleError`` for what cannot be read, and clashes."""
    schedules: dict[str, Schedule] = {}
    places: dict[str, str] = {}
    for found in find(backends):
        if found.schedule is None:
            raise ScheduleError(found.problems)
        if found.name in schedules:
            message = f"{found.name!r} is the name of two schedules: {places[found.name]} and {found.place}."
            raise ScheduleError([FieldProblem("name", message, "Give one of them another.")])
        schedules[found.name] = found.schedule
        places[found.name] = found.place
    return schedules


def find(backends: Iterable[Backend]) -> list[Found]:
    """All schedules in code of these backends, those that cannot be read and those with one name among them.

    Imports the ``tasks`` modules of installed apps. Raises ``ScheduleError`` when that fails: nobody knows then which
    schedules there are.
    """
    _import_tasks()
    found = []
    aliases = {}
    for backend in backends:
        aliases[backend.alias] = backend
        for name, options in backend.config.schedules.items():
            place = f"TASKS[{backend.alias!r}]: OPTIONS['schedules'][{name!r}]"
            rest = {key: value for key, value in options.items() if key != "task"}
            found.append(_read(name, place, backend.alias, options.get("task", ""), rest))
    for name, task, options in _decorated.values():
        if task.backend in aliases:
            task_name = registry.registered_name(task)
            found.append(_read(name, f"@schedule of {task_name}", task.backend, task_name, options))
    return found


def _import_tasks() -> None:
    for config in apps.get_app_configs():
        if config.module is None or not module_has_submodule(config.module, "tasks"):
            continue
        try:
            import_module(f"{config.name}.tasks")
        except (Exception, SystemExit) as error:
            message = f"importing {config.name}.tasks failed with {error!r}."
            raise ScheduleError([FieldProblem("task", message, "Schedules may stand there.")]) from error


def _read(name: str, place: str, alias: str, task: Any, options: Mapping[str, Any]) -> Found:
    try:
        made = define(name, task, alias, options)
    except ScheduleError as error:
        return Found(name, place, alias, None, error.problems)
    return Found(name, place, alias, made, ())


def define(name: str, task: Any, alias: str, options: Mapping[str, Any]) -> Schedule:
    """A schedule from what code says. Raises ``ScheduleError`` for what it cannot be made of."""
    problems = [
        FieldProblem(str(key), f"there is no such key{nearest(str(key), KEYS) or '.'}", f"Keys: {', '.join(KEYS)}.")
        for key in options
        if key not in KEYS
    ]
    kinds = [key for key in _KINDS if key in options]
    if len(kinds) != 1:
        problems.append(FieldProblem("kind", f"there must be one of {', '.join(_KINDS)}, not {len(kinds)}.", ""))
    if problems:
        raise ScheduleError(problems)
    given: dict[str, Any] = {key: options[key] for key in _PLAIN if key in options}
    given |= {key: _seconds(options[key]) for key in _SECONDS if key in options}
    zone = given.get("timezone") or default_timezone()
    for key in ("start_at", "end_at"):
        if options.get(key) is not None:
            given[key] = _moment(key, options[key], zone)
    for key, choices in (("missed", Missed), ("overlap", Overlap)):
        if key in options:
            given[key] = options[key]
            if options[key] in list(choices):
                given[key] = choices(options[key])
    args = options.get("args", ())
    given["args"] = tuple(args) if isinstance(args, list | tuple) else args
    given["kwargs"] = options.get("kwargs", {})
    (key,) = kinds
    return Schedule(
        name=name,
        task=registry.registered_name(task) if isinstance(task, Task) else task,
        kind=_KINDS[key],  # type: ignore[arg-type]  # one of the four
        expression=_expression(key, options[key], zone),
        backend=alias,
        **given,
    )


def _expression(key: str, value: Any, zone: str) -> str:
    if key == "every":
        seconds = _seconds(value)
        return f"{seconds:.6f}".rstrip("0").rstrip(".") if isinstance(seconds, float) else str(value)
    if key == "at" and isinstance(value, datetime):
        return _moment("expression", value, zone).isoformat()
    return value if isinstance(value, str) else str(value)


def _seconds(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _moment(name: str, value: Any, zone: str) -> datetime:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    try:
        return moment_of(value.isoformat() if isinstance(value, datetime) else value, zone)
    except ScheduleError as error:
        raise ScheduleError(
            [one._replace(field=name) for one in error.problems if one.field != "timezone"] or error.problems
        ) from error
