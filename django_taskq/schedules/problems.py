"""Everything that is wrong with a schedule, field by field; the same for code, admin, command line and import."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from .. import registry
from ..compat import (
    TASK_MAX_PRIORITY,
    TASK_MIN_PRIORITY,
    InvalidTask,
    InvalidTaskBackend,
    UpstreamTask,
    task_backends,
)
from ..core import codec
from ..core.options import nearest
from ..core.schedule import Missed, Overlap
from ..exceptions import MAX_DELAY, FieldProblem, ScheduleError, UnknownTask
from .definition import Schedule, rule_of, zone_of

#: the widths of columns
_WIDTHS = {"name": 255, "task": 255, "expression": 255, "timezone": 64, "backend": 64}
#: what every database keeps, see ``producer``
_FIRST_YEAR, _LAST_YEAR = 1001, 9998


def check_schedule(schedule: Schedule) -> list[FieldProblem]:
    """What is wrong with a schedule, at most one thing per field; an empty list when it can run here.

    Imports the task's module, if it must.
    """
    found: dict[str, FieldProblem] = {}
    for problem in _problems(schedule):
        found.setdefault(problem.field, problem)
    return list(found.values())


def _problems(schedule: Schedule) -> Iterator[FieldProblem]:
    texts = list(_texts(schedule))
    yield from texts
    yield from _values(schedule)
    moments = list(_moments(schedule))
    yield from moments
    if not texts and not moments:
        yield from _timing(schedule)
    yield from _call(schedule, {problem.field for problem in texts})


def _texts(schedule: Schedule) -> Iterator[FieldProblem]:
    for name, width in _WIDTHS.items():
        value = getattr(schedule, name)
        if not isinstance(value, str) or not 0 < len(value) <= width or codec.clean(value) != value:
            yield FieldProblem(
                name, f"{_short(value)} cannot be.", f"Write text of 1 to {width} characters, without NUL."
            )
    if not isinstance(schedule.description, str) or codec.clean(schedule.description) != schedule.description:
        yield FieldProblem("description", "this cannot be stored.", "Write text without NUL.")


def _values(schedule: Schedule) -> Iterator[FieldProblem]:
    for name in ("enabled", "repeat_ambiguous"):
        if not isinstance(getattr(schedule, name), bool):
            yield FieldProblem(name, f"{_short(getattr(schedule, name))} cannot be.", "Write True or False.")
    if not isinstance(schedule.missed, Missed):
        yield _choice("missed", schedule.missed, Missed)
    if not isinstance(schedule.overlap, Overlap):
        yield _choice("overlap", schedule.overlap, Overlap)
    for name, least in (("jitter", 0.0), ("window", 0.0), ("expires", 0.001)):
        value = getattr(schedule, name)
        if name == "expires" and value is None:
            continue
        if not _is_number(value) or not least <= value <= MAX_DELAY:
            yield FieldProblem(name, f"{_short(value)} cannot be.", "Write seconds, 0 or more, up to 100 years.")
        elif name == "expires" and _is_number(schedule.jitter) and value <= schedule.jitter:
            yield FieldProblem(
                "expires",
                f"a task may come {schedule.jitter:g} seconds after its tick (jitter), and expires after {value:g}.",
                "Write more than jitter says.",
            )
    priority = schedule.priority
    if priority is not None and not (
        isinstance(priority, int)
        and not isinstance(priority, bool)
        and TASK_MIN_PRIORITY <= priority <= TASK_MAX_PRIORITY
    ):
        yield FieldProblem(
            "priority",
            f"{_short(priority)} cannot be.",
            f"Write a whole number from {TASK_MIN_PRIORITY} to {TASK_MAX_PRIORITY}.",
        )


def _moments(schedule: Schedule) -> Iterator[FieldProblem]:
    is_sound = True
    for name in ("start_at", "end_at"):
        value = getattr(schedule, name)
        if value is None:
            continue
        if not isinstance(value, datetime) or value.tzinfo is None or not _FIRST_YEAR <= value.year <= _LAST_YEAR:
            is_sound = False
            yield FieldProblem(name, f"{_short(value)} cannot be.", "Write an aware moment of this age.")
    if not is_sound or schedule.start_at is None or schedule.end_at is None:
        return
    if schedule.start_at >= schedule.end_at:
        yield FieldProblem(
            "end_at", f"it ends at {schedule.end_at}, not after its start at {schedule.start_at}.", "Write a later end."
        )


def _timing(schedule: Schedule) -> Iterator[FieldProblem]:
    try:
        # An interval and the sun need none, and yet it is shown in it.
        zone_of(schedule.timezone)
    except ScheduleError as error:
        yield from error.problems
        return
    for name in ("latitude", "longitude"):
        value = getattr(schedule, name)
        if value is not None and not _is_number(value):
            yield FieldProblem(name, f"{_short(value)} cannot be.", "Write degrees.")
            return
    try:
        rule = rule_of(schedule)
        first = rule.next_after(datetime(_FIRST_YEAR, 1, 2, tzinfo=UTC))
    except ScheduleError as error:
        yield from error.problems
        return
    except ValueError as error:
        # The library of the sun is not installed.
        yield FieldProblem("expression", str(error), "")
        return
    if first is None:
        yield FieldProblem(
            "expression", "no tick of it lies between its start and its end.", "Write another time, start or end."
        )


def _call(schedule: Schedule, broken: set[str]) -> Iterator[FieldProblem]:
    backend = None
    if "backend" not in broken:
        with suppress(InvalidTaskBackend):
            backend = task_backends[schedule.backend]
        if not hasattr(backend, "config"):
            backend = None
            yield FieldProblem(
                "backend",
                f"TASKS has no alias {schedule.backend!r} that uses TaskqBackend{nearest(schedule.backend, task_backends)}.",
                "Write one that does.",
            )
    call = list(_arguments(schedule))
    yield from call
    if backend is None or "task" in broken:
        return
    try:
        task = registry.resolve(schedule.task, backend.config.imports)  # type: ignore[attr-defined]  # ours, see above
    except UnknownTask as error:
        yield FieldProblem("task", str(error), "")
        return
    if not call:
        yield from _binding(schedule, task)
    yield from _queue(schedule, task, backend)


def _arguments(schedule: Schedule) -> Iterator[FieldProblem]:
    args, kwargs = schedule.args, schedule.kwargs
    if not isinstance(args, tuple):
        yield FieldProblem("args", f"{_short(args)} is no list of arguments.", "Write [1, 2].")
    if not isinstance(kwargs, dict) or not all(isinstance(name, str) for name in kwargs):
        yield FieldProblem("kwargs", f"{_short(kwargs)} are no named arguments.", 'Write {"name": 1}.')
    for name, value in (("args", args), ("kwargs", kwargs)):
        try:
            codec.encode(value)
        except (TypeError, ValueError) as error:
            yield FieldProblem(name, str(error), "Arguments are JSON.")


def _binding(schedule: Schedule, task: UpstreamTask) -> Iterator[FieldProblem]:
    signature = registry.signature(task.func)
    args = (None, *schedule.args) if task.takes_context else schedule.args
    place = "args"
    try:
        signature.bind_partial(*args)
        place = "kwargs"
        signature.bind(*args, **schedule.kwargs)
    except TypeError as error:
        yield FieldProblem(place, f"{schedule.task}: {error}.", f"It takes {signature}.")


def _queue(schedule: Schedule, task: UpstreamTask, backend: Any) -> Iterator[FieldProblem]:
    queue_name = task.queue_name if schedule.queue_name is None else schedule.queue_name
    try:
        backend.validate_task(_Queued(task, queue_name))
    except InvalidTask as error:
        yield FieldProblem("queue_name", str(error), "Write a queue that this alias has.")


class _Queued:
    """What a backend looks at of a task, in another queue."""

    priority = 0
    run_after = None

    def __init__(self, task: UpstreamTask, queue_name: str) -> None:
        self.func = task.func
        self.takes_context = task.takes_context
        self.queue_name = queue_name


def _choice(name: str, value: object, choices: type[Missed | Overlap]) -> FieldProblem:
    return FieldProblem(name, f"{_short(value)} cannot be.", f"There are {', '.join(choices)}.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
