"""How much was done and how long it took, from what workers have counted; never from the tasks themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from django.db.models import Q

from .core.counts import Counts, load_counts, load_series
from .core.histogram import Histogram
from .models import StatisticsRecord
from .transitions.statistics import DAY, HOUR, MINUTE

#: from the shortest to the longest: seconds of a bucket, and how far back the shorter ones are looked at for what is not
#: added up yet, in seconds
_UNTIL_ROLLED_UP = {MINUTE: 3 * HOUR, HOUR: 3 * DAY, DAY: 0}

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A stretch of time, all tasks of a database together. ``at``: its begin; ``waits``, ``runs``: of seconds."""

    at: datetime
    seconds: float
    succeeded: int
    failed: int
    retried: int
    cancelled: int
    expired: int
    lost: int
    waits: Histogram
    runs: Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFigures:
    """What was counted of the task of one name. ``seconds``: for which it ran, all attempts together."""

    name: str
    succeeded: int
    failed: int
    retried: int
    lost: int
    seconds: float
    waits: Histogram
    runs: Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFigures:
    """What was counted of one queue. ``ended``: tasks that left it for good; ``seconds`` they ran, with all attempts."""

    queue: str
    ended: int
    succeeded: int
    failed: int
    retried: int
    lost: int
    seconds: float
    waits: Histogram
    runs: Histogram


def history(using: str, *, seconds: float, buckets: int) -> list[Bucket]:
    """What ended within the last ``seconds``, in so many stretches of the same length, the oldest first.

    The last one ends with the minute, the hour or whatever they are long. Exact to a minute for a day, to an hour for a
    month, else to a day; what workers have counted within the last five seconds is not there yet.
    """
    width = max(int(seconds / buckets), MINUTE)
    end = -int(-time.time() // width) * width
    start = end - width * buckets
    found = [Counts() for _ in range(buckets)]
    for begins, text in _rows(using, start, _coarsest(seconds), "totals"):
        found[min((begins - start) // width, buckets - 1)].add(load_counts(text))
    return [_bucket(start + width * index, width, counts) for index, counts in enumerate(found)]


def by_task(using: str, *, seconds: float) -> list[TaskFigures]:
    """What was counted of each task within the last ``seconds``; those that ran for longest in all first."""
    figures = [
        TaskFigures(
            name=name,
            succeeded=counts["succeeded"],
            failed=counts["failed"],
            retried=counts["retried"],
            lost=counts["lost"],
            seconds=counts.runs.total,
            waits=counts.waits,
            runs=counts.runs,
        )
        for name, counts in _by(using, seconds, lambda name, queue: name).items()
    ]
    return sorted(figures, key=lambda one: (-one.seconds, one.name))


def by_queue(using: str, *, seconds: float) -> dict[str, QueueFigures]:
    """What was counted in each queue within the last ``seconds``."""
    return {
        queue: QueueFigures(
            queue=queue,
            ended=counts["succeeded"] + counts["failed"] + counts["cancelled"] + counts["expired"],
            succeeded=counts["succeeded"],
            failed=counts["failed"],
            retried=counts["retried"],
            lost=counts["lost"],
            seconds=counts.runs.total,
            waits=counts.waits,
            runs=counts.runs,
        )
        for queue, counts in _by(using, seconds, lambda name, queue: queue).items()
    }


def _by(using: str, seconds: float, key_of: Callable[[str, str], Key]) -> dict[Key, Counts]:
    """By task and queue, minutes are a lot to read: they are for an hour or two."""
    coarsest = MINUTE if seconds <= 2 * HOUR else HOUR if seconds <= 3 * DAY else DAY
    found: dict[Key, Counts] = {}
    for _begins, text in _rows(using, int(time.time() - seconds), coarsest, "series"):
        for (name, queue), counts in load_series(text).items():
            found.setdefault(key_of(name, queue), Counts()).add(counts)
    return found


def _coarsest(seconds: float) -> int:
    return MINUTE if seconds <= DAY else HOUR if seconds <= 31 * DAY else DAY


def _rows(using: str, since: int, coarsest: int, column: str) -> Iterator[tuple[int, str]]:
    """The begins and texts of the buckets that are not within another one, in one question."""
    now = int(time.time())
    wanted = Q(period=coarsest, starts__gte=since // coarsest * coarsest)
    for period, reach in _UNTIL_ROLLED_UP.items():
        if period < coarsest:
            wanted |= Q(period=period, starts__gte=max(since, now - reach))
    rows = StatisticsRecord.objects.using(using).filter(wanted).order_by("-period", "starts")
    whole: set[tuple[int, int]] = set()
    for period, starts, text in rows.values_list("period", "starts", column):
        if any((longer, starts // longer * longer) in whole for longer in (HOUR, DAY) if longer > period):
            continue
        if period > MINUTE:
            whole.add((period, starts))
        yield max(starts, since), text


def _bucket(begins: int, width: int, counts: Counts) -> Bucket:
    return Bucket(
        at=datetime.fromtimestamp(begins, UTC),
        seconds=float(width),
        succeeded=counts["succeeded"],
        failed=counts["failed"],
        retried=counts["retried"],
        cancelled=counts["cancelled"],
        expired=counts["expired"],
        lost=counts["lost"],
        waits=counts.waits,
        runs=counts.runs,
    )
