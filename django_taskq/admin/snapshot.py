"""All that the dashboard shows, read in few statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..aliases import backends_on
from ..finding.groups import FailureGroup, newest_failures
from ..overview import Overview, WorkerState
from ..standing import Due, standing
from ..statistics import Bucket, QueueFigures, TaskFigures, report

_DAY = 86400.0
#: seconds over which the rates of queues are taken
RECENT = 600.0
#: what is shown of the newest failures and the next schedules
_KINDS, _SCHEDULES = 5, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of time that ends now, in buckets."""

    name: str
    seconds: float
    buckets: int


#: each bucket a whole number of the minutes, hours and days that are kept
SPANS = {
    span.name: span
    for span in (
        Span(name="1h", seconds=3600.0, buckets=60),
        Span(name="6h", seconds=6 * 3600.0, buckets=72),
        Span(name="24h", seconds=_DAY, buckets=24),
        Span(name="7d", seconds=7 * _DAY, buckets=84),
        Span(name="30d", seconds=30 * _DAY, buckets=30),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A database at a moment.

    ``succeeded``, ``failed``: within 24 hours. ``current``: worker -> the names of what it runs, and how many of each.
    ``workers``, ``groups``, ``schedules``: None where who asks may not see them.
    """

    now: datetime
    overview: Overview
    has_tasks: bool
    history: Sequence[Bucket]
    tasks: Sequence[TaskFigures]
    rates: Mapping[str, QueueFigures]
    succeeded: int
    failed: int
    workers: Sequence[WorkerState] | None
    current: Mapping[str, Mapping[str, int]]
    groups: Sequence[FailureGroup] | None
    schedules: Sequence[Due] | None

    @property
    def has_history(self) -> bool:
        """Whether anything ended, or was tried, in this stretch of time."""
        return any(one.succeeded or one.failed or one.retried for one in self.history)


def take(using: str, span: Span, *, sees_tasks: bool, sees_schedules: bool, sees_workers: bool) -> Snapshot:
    """How a database stands. Raises its errors."""
    figures = report(using, seconds=span.seconds, buckets=span.buckets, lately=RECENT)
    stands = standing(
        using, backends_on(using), schedules=_SCHEDULES if sees_schedules else 0, kinds=_KINDS if sees_tasks else 0
    )
    return Snapshot(
        now=stands.now,
        overview=stands.overview,
        has_tasks=stands.has_tasks,
        history=figures.history,
        tasks=figures.tasks,
        rates=figures.queues,
        succeeded=figures.day.succeeded,
        failed=figures.day.failed,
        workers=stands.overview.workers if sees_workers else None,
        current=stands.current,
        groups=newest_failures(using, stands.kinds) if sees_tasks else None,
        schedules=stands.due if sees_schedules else None,
    )
