"""``schedule_clock``: time for schedules that a test moves forward, and what would run meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from time import time
from typing import Any

from django.db import transaction
from django.utils import timezone as django_timezone

from ..aliases import taskq_backends, taskq_databases
from ..core.ids import uuid7
from ..core.schedule import jittered, upcoming
from ..exceptions import ScheduleError
from ..models import ScheduleRecord
from ..schedule_tasks import Planned, enqueue_planned, make_ready
from ..schedules.definition import Schedule, default_timezone, rule_of, zone_of
from ..schedules.problems import check_schedule
from ..schedules.registry import code_schedules


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One tick: ``at``, its moment; ``run_after``, that and the jitter. ``schedule`` and ``task`` are names."""

    at: datetime
    schedule: str
    task: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    run_after: datetime


class ScheduleClock:
    """A clock of its own: no other code sees its time. ``now`` is where it stands, in its time zone."""

    def __init__(self, now: datetime, schedules: Iterable[Schedule]) -> None:
        self.now = now
        self._schedules = tuple(schedules)

    def forward(self, by: timedelta | None = None, *, enqueue: bool = False, **units: float) -> list[Run]:
        """Move on by real time, ``timedelta`` or its keywords; gives the ticks since, the one at the end included.

        ``enqueue``: also enqueue their tasks, due at once, so that ``run_tasks()`` runs them.
        """
        step = (by or timedelta()) + timedelta(**units)
        if step < timedelta():
            raise ValueError("The clock goes forward only.")
        start = self.now.astimezone(UTC)
        end = start + step
        found = sorted(
            (
                (at, one)
                for one in self._schedules
                for at in takewhile(lambda tick: tick <= end, upcoming(rule_of(one), start))
            ),
            key=lambda pair: (pair[0], pair[1].name),
        )
        if enqueue:
            _enqueue([one for _, one in found])
        zone = self.now.tzinfo
        self.now = end.astimezone(zone)
        return [
            Run(
                at=at.astimezone(zone),
                schedule=one.name,
                task=one.task,
                args=one.args,
                kwargs=one.kwargs,
                run_after=jittered(one.name, at, one.jitter).astimezone(zone),
            )
            for at, one in found
        ]


def schedule_clock(
    start: datetime,
    *,
    timezone: str | None = None,
    schedules: Iterable[Schedule] | None = None,
    database: bool = False,
) -> ScheduleClock:
    """A clock at ``start``, for the schedules in code or for those given; without disabled ones.

    ``timezone``: where a ``start`` without an offset is, and what moments are shown in; else the project's.
    ``database``: also those made in the database, and what was switched there. Raises ``ScheduleError``.
    """
    zone = zone_of(timezone or default_timezone())
    now = start.replace(tzinfo=zone) if start.tzinfo is None else start.astimezone(zone)
    chosen = list(code_schedules(taskq_backends()).values() if schedules is None else schedules)
    if database:
        chosen = _with_database(chosen)
    chosen = [one for one in chosen if one.enabled]
    if problems := [problem for one in chosen for problem in check_schedule(one)]:
        raise ScheduleError(problems)
    return ScheduleClock(now, chosen)


def _with_database(schedules: list[Schedule]) -> list[Schedule]:
    found = {one.name: one for one in schedules}
    for using in taskq_databases():
        for record in ScheduleRecord.objects.using(using):
            if record.source == "database":
                found[record.name] = replace(record.schedule, enabled=record.is_enabled)
            elif record.name in found and record.switched is not None:
                found[record.name] = replace(found[record.name], enabled=record.switched)
    return list(found.values())


def _enqueue(schedules: list[Schedule]) -> None:
    backends = {one.alias: one for one in taskq_backends()}
    planned = [Planned(make_ready(one, rule_of(one), backends), None, str(uuid7(time()))) for one in schedules]
    with ExitStack() as stack:
        for using in dict.fromkeys(one.ready.backend.database for one in planned):
            stack.enter_context(transaction.atomic(using=using))
        enqueue_planned(planned, django_timezone.now())
