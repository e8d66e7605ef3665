"""What is decided about the ticks of one schedule, from all that is known about it."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from ..core.ids import uuid7
from ..core.schedule import Due, Overlap
from ..models.schedule import BROKEN, FIRED, MISSED, OVERLAPPED, WAITING
from ..schedule_tasks import Planned, ReadySchedule
from ..transitions.ticks import Move, Standing, Tick

#: seconds until the next look at a schedule of which not even the ticks are known
_POSTPONED = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to be written. ``superseded``: the task that has to make room; ``missed``: how many ticks were given up."""

    move: Move
    ticks: tuple[Tick, ...] = ()
    planned: tuple[Planned, ...] = ()
    superseded: UUID | None = None
    missed: int = 0


def judge(
    ready: ReadySchedule, was: Standing, due: Due, now: datetime, *, known: Collection[datetime], busy: bool
) -> Verdict:
    """On a schedule that can run. ``known``: ticks that have come before. ``busy``: its last task has not ended."""
    ticks: list[Tick] = []
    planned: list[Planned] = []
    overlap, waiting, superseded = ready.schedule.overlap, was.waiting_tick_at, None
    for at in due.ticks:
        expires_at = ready.expires_at(at)
        outcome, task_id = FIRED, None
        if at in known:
            continue
        if expires_at is not None and expires_at <= now:
            outcome = MISSED
        elif overlap is Overlap.QUEUE and (busy or waiting is not None):
            outcome = WAITING if waiting is None else OVERLAPPED
            waiting = waiting or at
        elif (overlap is Overlap.SKIP and busy) or (overlap is Overlap.CANCEL and at != due.ticks[-1]):
            outcome = OVERLAPPED
        else:
            superseded = was.last_task_id if overlap is Overlap.CANCEL and busy else None
            task_id = str(uuid7(time.time()))
            planned.append(Planned(ready, at, task_id))
            busy = True
        ticks.append(Tick(was.id, at, outcome, task_id))
    move = Move(
        was,
        next_at=due.next_at,
        last_tick_at=due.ticks[-1] if due.ticks else was.last_tick_at,
        last_task_id=planned[-1].task_id if planned else _text(was.last_task_id),
        waiting_tick_at=waiting,
        fired=len(planned),
        problem="",
    )
    return Verdict(move=move, ticks=tuple(ticks), planned=tuple(planned), superseded=superseded, missed=due.given_up)


def condemn(was: Standing, due: Due | None, now: datetime, problem: str, *, known: Collection[datetime]) -> Verdict:
    """On a schedule that cannot run. ``due`` None: nor can be said when it should."""
    ticks = () if due is None else tuple(Tick(was.id, at, BROKEN) for at in due.ticks if at not in known)
    move = Move(
        was,
        next_at=now + timedelta(seconds=_POSTPONED) if due is None else due.next_at,
        last_tick_at=due.ticks[-1] if due and due.ticks else was.last_tick_at,
        last_task_id=_text(was.last_task_id),
        waiting_tick_at=was.waiting_tick_at,
        fired=0,
        problem=problem,
    )
    return Verdict(move=move, ticks=ticks)


def _text(task_id: UUID | None) -> str | None:
    return None if task_id is None else str(task_id)
