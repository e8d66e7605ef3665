"""Periodic tasks of django-celery-beat become schedules of ours, one by one: what is done stays done.

A second time nothing changes, unless something has changed there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from enum import StrEnum

from django.conf import settings

from .aliases import taskq_backends
from .beat_schedules import NOT_NEEDED, Surroundings, translate
from .beat_tables import BeatTask, beat_tasks
from .database import database_now
from .exceptions import ScheduleError, UnknownSchedule
from .models import ScheduleRecord
from .models.schedule import CODE
from .registry import lookup
from .schedule_control import all_schedules, change_schedule, create_schedule
from .schedules.definition import Schedule
from .schedules.problems import check_schedule

#: where Celery's settings for Django say what its broker is
_BROKERS = ("CELERY_BROKER_URL", "BROKER_URL")


class Fate(StrEnum):
    """What became of a periodic task, or would become."""

    IMPORTED = "imported"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    #: there is another schedule of its name
    DIFFERS = "differs"
    NOT_NEEDED = "not needed"
    #: it cannot be a schedule
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """``schedule`` None: it could not be understood. ``notes``: why it was left out, or what was not kept."""

    name: str
    task: str
    fate: Fate = Fate.LEFT_OUT
    schedule: Schedule | None = None
    notes: tuple[str, ...] = ()


def import_beat(using: str, *, backend: str = "", update: bool = False, dry_run: bool = False) -> Iterator[Imported]:
    """Make schedules of what stands in a database.

    ``backend``: the alias of ``TASKS`` for all of them; "" for that of each task. ``update``: schedules of the database
    become what their namesakes say. ``dry_run``: nothing is written. Raises the database's errors.
    """
    existing = {record.name: record for record in all_schedules()}
    now = database_now(using)
    aliases = [one.alias for one in taskq_backends()]
    for task in beat_tasks(using):
        if task.task in NOT_NEEDED:
            yield Imported(name=task.name, task=task.task, fate=Fate.NOT_NEEDED, notes=(NOT_NEEDED[task.task],))
            continue
        translation = translate(
            task,
            Surroundings(
                backend=backend or _alias_of(task, aliases),
                timezone=settings.TIME_ZONE,
                crontab_zone=_crontab_zone(),
                is_zero_highest=_is_zero_highest(),
                now=now,
            ),
        )
        record = existing.get(task.name)
        found = Imported(name=task.name, task=task.task, schedule=translation.schedule, notes=translation.notes)
        found = _judged(found, task, record, update=update)
        yield found if dry_run else _written(found)


def _judged(found: Imported, task: BeatTask, record: ScheduleRecord | None, *, update: bool) -> Imported:
    """With what is to become of it."""
    schedule = found.schedule
    if schedule is None:
        return found
    if record is not None and record.source == CODE:
        return replace(found, fate=Fate.DIFFERS, notes=("a schedule of the code has this name", *found.notes))
    if record is not None and _is_same(record.schedule, schedule, task):
        return replace(found, fate=Fate.UNCHANGED)
    if problems := check_schedule(schedule):
        return replace(found, notes=tuple(f"{problem.field}: {problem.message}" for problem in problems))
    if record is not None and not update:
        differs = f"differs from the schedule of this name: {_differences(record.schedule, schedule)}"
        return replace(found, fate=Fate.DIFFERS, notes=(differs, *found.notes))
    return replace(found, fate=Fate.IMPORTED if record is None else Fate.UPDATED)


def _written(found: Imported) -> Imported:
    """As it is in the database then."""
    try:
        if found.schedule is not None and found.fate is Fate.IMPORTED:
            create_schedule(found.schedule)
        elif found.schedule is not None and found.fate is Fate.UPDATED:
            change_schedule(found.name, found.schedule)
    except (ScheduleError, UnknownSchedule) as error:
        # Somebody else has taken the name meanwhile, or deleted the schedule.
        return replace(found, fate=Fate.LEFT_OUT, notes=(str(error), *found.notes))
    return found


def _is_same(ours: Schedule, theirs: Schedule, task: BeatTask) -> bool:
    if theirs.kind == ours.kind == "interval" and theirs.start_at == task.last_run_at:
        # Where its ticks are counted from moves with each run there.
        theirs = replace(theirs, start_at=ours.start_at)
    return ours == theirs


def _differences(ours: Schedule, theirs: Schedule) -> str:
    return ", ".join(one.name for one in fields(Schedule) if getattr(ours, one.name) != getattr(theirs, one.name))


def _alias_of(task: BeatTask, aliases: list[str]) -> str:
    known = lookup(task.task)
    return known.backend if known is not None and known.backend in aliases else aliases[0]


def _crontab_zone() -> str:
    """Where crontabs are told to have no zones of their own: Celery's."""
    if getattr(settings, "DJANGO_CELERY_BEAT_TZ_AWARE", True):
        return ""
    return getattr(settings, "CELERY_TIMEZONE", None) or "UTC"


def _is_zero_highest() -> bool:
    url = next((url for name in _BROKERS if (url := getattr(settings, name, None))), "")
    return str(url).startswith(("redis", "sentinel"))
