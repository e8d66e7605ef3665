"""Periodic tasks of django-celery-beat become schedules of ours, one by one: what is done stays done.

A second time nothing changes, unless something has changed there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from django.conf import settings
from django.utils import timezone

from .aliases import taskq_backends
from .beat_schedules import NOT_NEEDED, Surroundings, translate
from .beat_tables import BeatTask, beat_tasks
from .database import database_now
from .exceptions import ScheduleError
from .models import ScheduleRecord
from .registry import lookup
from .schedule_control import all_schedules, change_schedule, create_schedule
from .schedules.definition import Schedule, check_schedule

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
    fate: Fate
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
        yield _kept(task, translation.schedule, translation.notes, existing.get(task.name), update, dry_run)


def _kept(
    task: BeatTask,
    schedule: Schedule | None,
    notes: tuple[str, ...],
    record: ScheduleRecord | None,
    update: bool,
    dry_run: bool,
) -> Imported:
    done = Imported(name=task.name, task=task.task, fate=Fate.LEFT_OUT, schedule=schedule, notes=notes)
    if schedule is None:
        return done
    if record is not None and record.source == "code":
        return replace(done, fate=Fate.DIFFERS, notes=("a schedule of the code has this name", *notes))
    if record is not None and _is_same(record.schedule, schedule, task):
        return replace(done, fate=Fate.UNCHANGED)
    problems = check_schedule(schedule)
    if problems:
        return replace(done, notes=tuple(f"{problem.field}: {problem.message}" for problem in problems))
    if record is not None and not update:
        return replace(done, fate=Fate.DIFFERS, notes=(f"it is not what is here: {_differences(record, schedule)}", *notes))
    try:
        if not dry_run:
            create_schedule(schedule) if record is None else change_schedule(task.name, schedule)
    except ScheduleError as error:
        return replace(done, notes=(str(error), *notes))
    return replace(done, fate=Fate.IMPORTED if record is None else Fate.UPDATED)


def _is_same(ours: Schedule, theirs: Schedule, task: BeatTask) -> bool:
    if theirs.kind == ours.kind == "interval" and theirs.start_at == task.last_run_at:
        # Where its ticks are counted from moves with each run there.
        theirs = replace(theirs, start_at=ours.start_at)
    return ours == theirs


def _differences(record: ScheduleRecord, schedule: Schedule) -> str:
    ours = record.schedule
    return ", ".join(
        name for name in Schedule.__dataclass_fields__ if getattr(ours, name) != getattr(schedule, name)
    )


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
