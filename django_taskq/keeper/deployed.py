"""Schedules of the code, as rows: written when a process begins to keep house.

Of two versions of the code at work in one database the one that was started last has its say, alias by alias: what keepers
of an older one find written by a newer one they leave alone, so that a deployment does not go to and fro.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from hashlib import sha256

from ..backend import TaskqBackend
from ..database import database_now
from ..exceptions import ScheduleError, TaskqError
from ..models import ScheduleRecord
from ..models.schedule import CODE, DATABASE
from ..schedules.definition import Schedule
from ..schedules.problems import check_schedule
from ..schedules.registry import code_schedules
from ..transitions import schedules

logger = logging.getLogger("django_taskq.keeper")

#: when this process, or the one it was forked from, loaded its code (monotonic)
_LOADED = time.monotonic()


def deploy_schedules(using: str, backends: Sequence[TaskqBackend]) -> bool:
    """Make the rows say what the code says; False when a newer version of it has had its say."""
    try:
        wanted = code_schedules(backends)
    except (ValueError, TaskqError) as error:
        # The checks have said so before. What the rows say goes on.
        logger.error(  # noqa: TRY400  # the error says it all
            "Schedules of the code cannot be read: %s", error, extra={"action": "schedule_refused"}
        )
        return False
    known = {record.name: record for record in ScheduleRecord.objects.using(using).filter(source=CODE)}
    if not wanted and not known:
        return True
    started_at = database_now(using) - timedelta(seconds=time.monotonic() - _LOADED)
    led = {
        one.alias for one in backends if schedules.take_lead(using, one.alias, _digest(one.alias, wanted), started_at)
    }
    for name, record in known.items():
        if record.backend in led and name not in wanted and schedules.delete_schedule(using, record):
            logger.info("Schedule %s is gone from the code.", name, extra={"action": "schedule_removed"})
    for name, schedule in wanted.items():
        if schedule.backend in led:
            _deploy(using, schedule, known.get(name))
    return len(led) == len(backends)


def _deploy(using: str, schedule: Schedule, record: ScheduleRecord | None) -> None:
    """Make one row say it. Should another keeper change it at the same time, that one's code has its say."""
    problems = check_schedule(schedule)
    if problems:
        # The checks have said so before. What the row says, if there is one, goes on.
        logger.error(
            "Schedule %s of the code cannot be: %s",
            schedule.name,
            ScheduleError(problems),
            extra={"action": "schedule_refused"},
        )
        return
    if record is not None and schedules.columns_of(record.schedule) == schedules.columns_of(schedule):
        return
    if record is None:
        is_done = schedules.insert_schedule(using, schedule, CODE)
    else:
        is_done = schedules.rewrite_schedule(using, record, schedule)
    if is_done:
        logger.info("Schedule %s is as the code has it.", schedule.name, extra={"action": "schedule_deployed"})
    elif ScheduleRecord.objects.using(using).filter(name=schedule.name, source=DATABASE).exists():
        logger.error(
            "Schedule %s of the code is left out: one in the database has its name.",
            schedule.name,
            extra={"action": "schedule_refused"},
        )


def _digest(alias: str, wanted: Mapping[str, Schedule]) -> str:
    """Of what the code says for this alias."""
    said = [repr(one) for _, one in sorted(wanted.items()) if one.backend == alias]
    return sha256("\n".join(said).encode(errors="replace")).hexdigest()
