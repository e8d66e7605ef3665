"""What ticks of schedules come to: tasks, or the reason why not.

Several schedules at a time, in one transaction. Should that fail, each by itself: what is wrong with one of them must
not keep the others.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import InterfaceError, OperationalError, connections, transaction

from ..backend import TaskqBackend
from ..core.codec import clean
from ..core.ids import uuid7
from ..core.schedule import Due, Missed, Overlap, Rule, ticks_due
from ..database import database_now, retry_conflicts
from ..models import ScheduleRecord
from ..schedule_tasks import Planned, ReadySchedule, enqueue_planned, make_ready
from ..schedules.definition import rule_of
from ..transitions import operate, ticks
from ..transitions.ticks import Moved, Standing
from .verdict import Verdict, condemn, judge

logger = logging.getLogger("django_taskq.keeper")

#: schedules per transaction
BATCH = 500
#: ticks of one schedule per transaction, when many were missed
_TICKS = 100
#: definitions in memory; beyond, they are read again
_KEPT = 50_000
#: what ``next_at`` itself comes after
_BEFORE = timedelta(microseconds=1)
#: characters of a problem
_REASON = 1_000


class _Definition(NamedTuple):
    """What a row said at this version. ``ready`` None: ``problem`` says why; ``rule`` None: not even its ticks are known."""

    record: ScheduleRecord
    rule: Rule | None
    ready: ReadySchedule | None
    problem: str


class Firing:
    """Fires the schedules of one database. ``backends``: those with rows in it, by alias."""

    def __init__(self, using: str, backends: Mapping[str, TaskqBackend]) -> None:
        self._using = using
        self._backends = backends
        self._definitions: dict[int, _Definition] = {}
        #: whether a tick may be waiting for the end of a task
        self.may_wait = True

    def fire_due(self) -> tuple[int, int]:
        """Fire up to ``BATCH`` schedules that are due; gives how many were found, and how many have moved on."""
        found, now = ticks.due(self._using, BATCH)
        if now is None:
            return 0, 0
        self._learn((pk, version) for pk, version, _ in found)
        moved = self._each([pk for pk, _, _ in found], lambda ids, problem: self._fire(ids, now, problem))
        return len(found), moved

    def fire_waiting(self) -> None:
        """Fire the ticks that waited for a task which has ended."""
        found = ticks.waiting(self._using)
        self.may_wait = bool(found)
        self._learn(found)
        self._each([pk for pk, _ in found], self._end_waits)

    def _learn(self, found: Iterable[tuple[int, int]]) -> None:
        """Read the definitions that are new, or have changed."""
        known = self._definitions
        if len(known) > _KEPT:
            known.clear()
        wanted = [pk for pk, version in found if pk not in known or known[pk].record.version != version]
        for record in ScheduleRecord.objects.using(self._using).filter(pk__in=wanted) if wanted else ():
            known[record.pk] = self._define(record)

    def _define(self, record: ScheduleRecord) -> _Definition:
        rule = None
        try:
            schedule = record.schedule
            rule = rule_of(schedule)
            return _Definition(record, rule, make_ready(schedule, rule, self._backends), "")
        except Exception as error:  # noqa: BLE001  # of rows, settings, time zones, libraries, the project's own modules
            return _Definition(record, rule, None, _reason(error))

    def _each(self, ids: Sequence[int], work: Callable[[Sequence[int], str], int]) -> int:
        """Do it for all at once; else for each by itself, and tell the one that cannot be of its problem."""
        if not ids:
            return 0
        problem = ""
        try:
            return retry_conflicts(self._using, lambda: work(ids, ""))
        except Moved:
            # By somebody else, or changed: there is another look.
            pass
        except Exception as error:
            if self._is_away(error):
                raise
            problem = _reason(error)
        if len(ids) > 1:
            return sum(self._each([pk], work) for pk in ids)
        return retry_conflicts(self._using, lambda: work(ids, problem)) if problem else 0

    def _is_away(self, error: Exception) -> bool:
        """Whether this database is what fails, and no schedule; a receiver of the project's may have asked another one."""
        return isinstance(error, (OperationalError, InterfaceError)) and not connections[self._using].is_usable()

    def _fire(self, ids: Sequence[int], now: datetime, problem: str) -> int:
        with transaction.atomic(using=self._using):
            due = [
                (definition, was, self._due(definition, was.next_at, now))
                for definition, was in self._locked(ids)
                if was.next_at is not None and was.next_at <= now
            ]
            if not due:
                return 0
            known = defaultdict(set)
            for pk, at in ticks.known_ticks(
                self._using, [(was.id, at) for _, was, one in due if one is not None for at in one.ticks]
            ):
                known[pk].add(at)
            last = {was.last_task_id for definition, was, _ in due if definition.record.overlap != Overlap.ALLOW}
            busy = ticks.unfinished(self._using, last)
            verdicts = []
            for definition, was, one in due:
                if definition.ready is None or one is None or problem:
                    verdict = condemn(was, one, now, problem or definition.problem, known=known[was.id])
                else:
                    verdict = judge(definition.ready, was, one, now, known=known[was.id], busy=was.last_task_id in busy)
                verdicts.append((definition, verdict))
            self._write([verdict for _, verdict in verdicts], now)
        for definition, verdict in verdicts:
            self.may_wait |= verdict.move.waiting_tick_at is not None
            _tell(definition, verdict)
        return len(verdicts)

    def _write(self, verdicts: Sequence[Verdict], now: datetime) -> None:
        ticks.note_ticks(self._using, [tick for verdict in verdicts for tick in verdict.ticks], now)
        for verdict in verdicts:
            if verdict.superseded is not None:
                operate.cancel(self._using, str(verdict.superseded))
        enqueue_planned([planned for verdict in verdicts for planned in verdict.planned], now)
        ticks.move_on(self._using, [verdict.move for verdict in verdicts])

    def _end_waits(self, ids: Sequence[int], problem: str) -> int:
        with transaction.atomic(using=self._using):
            now = database_now(self._using)
            waiting = [(one, was) for one, was in self._locked(ids) if was.waiting_tick_at is not None]
            busy = ticks.unfinished(self._using, {was.last_task_id for _, was in waiting})
            planned = []
            ended = [(one, was) for one, was in waiting if was.last_task_id not in busy]
            for definition, was in ended:
                reason = problem or definition.problem
                task_id = None
                if definition.ready is not None and not reason:
                    task_id = str(uuid7(time.time()))
                    planned.append(Planned(definition.ready, was.waiting_tick_at, task_id))
                ticks.end_wait(self._using, was, task_id, now, problem=reason)
            enqueue_planned(planned, now)
        return len(ended)

    def _locked(self, ids: Sequence[int]) -> list[tuple[_Definition, Standing]]:
        """Those of these schedules that are as they were read, under lock."""
        found = ticks.lock(self._using, ids)
        return [
            (self._definitions[pk], was)
            for pk, was in found.items()
            if pk in self._definitions and self._definitions[pk].record.version == was.version
        ]

    def _due(self, definition: _Definition, next_at: datetime, now: datetime) -> Due | None:
        if definition.rule is None:
            return None
        schedule = definition.record
        return ticks_due(
            definition.rule,
            after=next_at - _BEFORE,
            now=now,
            missed=Missed(schedule.missed),
            window=schedule.window,
            limit=_TICKS,
        )


def _tell(definition: _Definition, verdict: Verdict) -> None:
    name, move = definition.record.name, verdict.move
    extra = {"schedule": name}
    if move.problem and move.problem != move.was.problem:
        logger.error("Schedule %s cannot run: %s", name, move.problem, extra={"action": "schedule_broken", **extra})
    elif move.was.problem and not move.problem:
        logger.info("Schedule %s runs again.", name, extra={"action": "schedule_mended", **extra})
    if verdict.missed:
        logger.warning(
            "Schedule %s: %d ticks were missed and are given up.",
            name,
            verdict.missed,
            extra={"action": "ticks_missed", **extra},
        )


def _reason(error: Exception) -> str:
    return clean(f"{type(error).__name__}: {error}")[:_REASON]
