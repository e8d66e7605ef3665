"""The check of schedules in code; those in the database are looked into when they are saved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004  # Django's own name

from .backend import TaskqBackend
from .exceptions import FieldProblem, ScheduleError
from .schedules.problems import check_schedule
from .schedules.registry import Found, find

#: what code calls the expression of each kind
_KEYS = {"cron": "cron", "interval": "every", "once": "at", "solar": "solar"}


def check_code_schedules(backends: Sequence[TaskqBackend]) -> Iterator[CheckMessage]:
    """What is wrong with each schedule in ``OPTIONS`` and above tasks. Imports the ``tasks`` modules of installed apps."""
    try:
        schedules = find(backends)
    except ScheduleError as error:
        # Workers say it loudly; projects without schedules are not to be kept from migrating.
        for problem in error.problems:
            yield Warning(
                f"Schedules that stand in code cannot be found: {problem.message}",
                hint="Mend the module: a keeper that does not know all schedules leaves them as they are.",
                id="django_taskq.W011",
            )
        return
    places: dict[str, str] = {}
    for found in schedules:
        for problem in found.problems if found.schedule is None else check_schedule(found.schedule):
            yield _error(f"{found.place}: {_key(found, problem)}: {problem.message}", problem.hint)
        known = places.setdefault(found.name, found.place)
        if known != found.place:
            yield _error(f"{found.place}: name: {known} has the name {found.name!r}, too.", "Give one of them another.")


def _key(found: Found, problem: FieldProblem) -> str:
    if problem.field == "expression" and found.schedule is not None:
        return _KEYS.get(found.schedule.kind, problem.field)
    return problem.field


def _error(message: str, hint: str) -> CheckMessage:
    return Error(message, hint=hint or None, id="django_taskq.E021")
