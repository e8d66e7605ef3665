"""What people do to schedules: what admin and command line share.

A schedule's row is in the database of its backend's rows, so that a tick and its task are one transaction. Every function
raises the database's errors.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction

from .aliases import backends_on, taskq_backends, taskq_databases
from .core.ids import uuid7
from .database import database_now
from .exceptions import FieldProblem, ScheduleError, TaskqError, UnknownSchedule
from .models import ScheduleRecord
from .models.schedule import BY_HAND, CODE, DATABASE
from .result import TaskResult
from .schedule_tasks import Planned, enqueue_planned, make_ready
from .schedules.definition import Schedule, rule_of
from .schedules.problems import check_schedule
from .transitions import schedules, ticks

logger = logging.getLogger("django_taskq.control")

#: tries at a schedule that others change at the same time
_TRIES = 10
#: how old a page may be that asks for a run; and by how much its clock may be ahead of the database's
_ASKED_WITHIN, _CLOCKS_DIFFER = timedelta(days=1), timedelta(hours=1)


def all_schedules() -> list[ScheduleRecord]:
    """The schedules of all databases, by name."""
    found = [record for using in taskq_databases() for record in ScheduleRecord.objects.using(using)]
    return sorted(found, key=lambda record: record.name)


def find_schedule(name: str) -> ScheduleRecord:
    """The schedule of this name. Raises ``UnknownSchedule``."""
    for using in taskq_databases():
        record = ScheduleRecord.objects.using(using).filter(name=name).first()
        if record is not None:
            return record
    raise UnknownSchedule(f"There is no schedule {name!r}.")


def create_schedule(schedule: Schedule) -> ScheduleRecord:
    """Add a schedule to the database. Raises ``ScheduleError`` with all that is wrong with it."""
    using = _checked(schedule)
    if _is_taken(schedule.name) or not schedules.insert_schedule(using, schedule, DATABASE):
        raise _taken(schedule.name)
    logger.info("Schedule %s was made.", schedule.name, extra={"action": "schedule_made"})
    return find_schedule(schedule.name)


def change_schedule(name: str, schedule: Schedule) -> ScheduleRecord:
    """Let a schedule of the database say something else; its name may change, too.

    Its next tick is counted anew only where its time was changed, or it was enabled. Raises ``ScheduleError``,
    ``UnknownSchedule``.
    """
    using = _checked(schedule)
    if schedule.name != name and _is_taken(schedule.name):
        raise _taken(schedule.name)
    for _ in range(_TRIES):
        record = _own(name)
        if database_of(record) != using:
            raise _error(
                "backend", f"{schedule.backend!r} keeps its rows elsewhere.", "Make it anew, and delete this one."
            )
        try:
            if schedules.rewrite_schedule(using, record, schedule):
                logger.info("Schedule %s was changed.", schedule.name, extra={"action": "schedule_changed"})
                return find_schedule(schedule.name)
        except IntegrityError as error:
            raise _taken(schedule.name) from error
    raise _busy(name)


def delete_schedule(name: str) -> None:
    """Delete a schedule of the database; its tasks stay. Raises ``ScheduleError``, ``UnknownSchedule``."""
    record = _own(name)
    if schedules.delete_schedule(database_of(record), record):
        logger.info("Schedule %s was deleted.", name, extra={"action": "schedule_deleted"})


def set_schedule_enabled(name: str, enabled: bool) -> bool:
    """Enable or disable a schedule; False when it is so already. Its ticks until it is enabled count as never having been.

    One of the code stays so when the code changes. Raises ``UnknownSchedule``.
    """
    for _ in range(_TRIES):
        record = find_schedule(name)
        if record.is_enabled is enabled:
            return False
        if schedules.switch_schedule(database_of(record), record, enabled=enabled):
            word = "enabled" if enabled else "disabled"
            logger.info("Schedule %s was %s.", name, word, extra={"action": f"schedule_{word}"})
            return True
    raise _busy(name)


def run_schedule_now(name: str, *, asked_at: datetime | None = None) -> TaskResult:
    """Enqueue a schedule's task, beside its ticks, which come when they would have; also of one that is disabled.

    Whatever its overlap says; the next tick goes by it. ``asked_at``: what is asked for at one moment happens once,
    however often it is asked; within the last day. Raises ``TaskqError`` the second time, ``UnknownSchedule``, and what
    enqueueing the task raises.
    """
    record = find_schedule(name)
    using = database_of(record)
    schedule = record.schedule
    ready = make_ready(schedule, rule_of(schedule), {backend.alias: backend for backend in backends_on(using)})
    task_id = str(uuid7(time.time()))
    try:
        # With a savepoint inside a transaction of the caller's: that goes on when it has been run.
        with transaction.atomic(using=using):
            now = database_now(using)
            (result,) = enqueue_planned([Planned(ready, None, task_id)], now)
            # Nobody else's tick: theirs are in whole seconds, or it is written to the microsecond.
            tick_at = now if asked_at is None else _by_hand_at(asked_at, now)
            ticks.note_ticks(using, [ticks.Tick(record.pk, tick_at, BY_HAND, task_id)], now)
            ticks.note_run(using, record.pk, task_id)
    except IntegrityError as error:
        raise TaskqError(f"Schedule {name!r} was run already, as this page asks.") from error
    logger.info("Schedule %s was run.", name, extra={"action": "schedule_run", "task_id": task_id})
    return result


def database_of(record: ScheduleRecord) -> str:
    """The ``DATABASES`` alias that a schedule was read from."""
    assert record._state.db is not None  # noqa: SLF001  # Django's documented attribute
    return record._state.db  # noqa: SLF001


def _by_hand_at(asked_at: datetime, now: datetime) -> datetime:
    """The moment of a tick that somebody asked for then."""
    if not now - _ASKED_WITHIN <= asked_at <= now + _CLOCKS_DIFFER:
        raise TaskqError("This page is too old to run a schedule from: load it again.")
    return asked_at if asked_at.microsecond else asked_at.replace(microsecond=1)


def _checked(schedule: Schedule) -> str:
    """The database of a schedule. Raises ``ScheduleError``."""
    problems = check_schedule(schedule)
    if problems:
        raise ScheduleError(problems)
    for backend in taskq_backends(skip_broken=True):
        if backend.alias == schedule.backend:
            return backend.database
    raise _error("backend", f"TASKS has no alias {schedule.backend!r} that uses django_taskq.", "")


def _own(name: str) -> ScheduleRecord:
    record = find_schedule(name)
    if record.source == CODE:
        raise _error("name", f"{name!r} belongs to the code.", "Change it there; here it can be enabled and disabled.")
    return record


def _is_taken(name: str) -> bool:
    """Whether any database has one of this name."""
    return any(ScheduleRecord.objects.using(using).filter(name=name).exists() for using in taskq_databases())


def _error(field: str, message: str, hint: str) -> ScheduleError:
    return ScheduleError([FieldProblem(field=field, message=message, hint=hint)])


def _taken(name: str) -> ScheduleError:
    return _error("name", f"There is a schedule {name!r} already.", "Choose another name, or change that one.")


def _busy(name: str) -> TaskqError:
    return TaskqError(f"Schedule {name!r} is being changed by others all the time; try again.")
