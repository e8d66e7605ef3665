"""How much was done and how long it took, from what workers have counted; never from the tasks themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, reduce
from operator import or_
from typing import Any

from django.db.models import Case, F, Q, TextField, Value, When

from .core.counts import ENDS, Counts, read_counts, read_series
from .core.histogram import Histogram
from .models import StatisticsRecord
from .transitions.statistics import DAY, HOUR, MINUTE

#: from the shortest to the longest: seconds of a bucket, and how far back the shorter ones are looked at for what is not
#: added up yet, in seconds
_UNTIL_ROLLED_UP = {MINUTE: 3 * HOUR, HOUR: 3 * DAY, DAY: 0}


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
class Figures:
    """What was counted of some tasks. ``seconds``: for which they ran, all attempts together."""

    succeeded: int
    failed: int
    retried: int
    lost: int
    seconds: float
    waits: Histogram
    runs: Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFigures(Figures):
    """Of the task of one name."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFigures(Figures):
    """Of one queue. ``ended``: tasks that left it for good."""

    queue: str
    ended: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a page shows of statistics. ``queues``: lately; ``day``: the last 24 hours, whatever the rest is about."""

    history: Sequence[Bucket]
    tasks: Sequence[TaskFigures]
    queues: Mapping[str, QueueFigures]
    day: Bucket


def report(using: str, *, seconds: float, buckets: int, lately: float) -> Report:
    """``history`` and ``by_task`` of the last ``seconds``, ``by_queue`` of the last ``lately``, and a day: one question."""
    now = int(time.time())
    grid = _Grid.until(now, seconds, buckets)
    since_day = now // MINUTE * MINUTE - DAY
    day = _day_since(since_day, now)
    whole, tasks, queues = (
        _Asked.since(grid.start, _coarsest(seconds, grid.width), now),
        _of(seconds, now),
        _of(lately, now),
    )
    rows = _read(using, totals=(whole, day), series=(tasks, queues))
    of_day = Counts()
    for _begins, row in day.of(rows):
        of_day.take(row.totals)
    return Report(
        history=grid.fill(whole.of(rows)),
        tasks=_tasks(tasks.of(rows)),
        queues=_queues(queues.of(rows)),
        day=_bucket(since_day, DAY, of_day),
    )


def history(using: str, *, seconds: float, buckets: int) -> list[Bucket]:
    """What ended within the last ``seconds``, in so many stretches of the same length, the oldest first.

    The last one ends with the minute, the hour or whatever they are long. Exact to a minute for a day, to an hour for a
    month, else to a day, and to no less than the stretches are long; what workers have counted within the last five seconds is not there yet.
    """
    now = int(time.time())
    grid = _Grid.until(now, seconds, buckets)
    asked = _Asked.since(grid.start, _coarsest(seconds, grid.width), now)
    return grid.fill(asked.of(_read(using, totals=(asked,))))


def by_task(using: str, *, seconds: float) -> list[TaskFigures]:
    """What was counted of each task within the last ``seconds``; those that ran for longest in all first."""
    asked = _of(seconds, int(time.time()))
    return _tasks(asked.of(_read(using, series=(asked,))))


def by_queue(using: str, *, seconds: float) -> dict[str, QueueFigures]:
    """What was counted in each queue within the last ``seconds``."""
    asked = _of(seconds, int(time.time()))
    return _queues(asked.of(_read(using, series=(asked,))))


class _Row:
    """A bucket as it was read; its texts take time to be understood, and two may ask."""

    def __init__(self, period: int, starts: int, totals: str, series: str) -> None:
        self.period, self.starts = period, starts
        self._totals, self._series = totals, series

    @cached_property
    def totals(self) -> Any:
        return read_counts(self._totals)

    @cached_property
    def series(self) -> list[tuple[str, str, Any]]:
        return read_series(self._series)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The buckets since a moment that are not within another one. ``spans``: period, and its first and its last begin."""

    begin: int
    spans: tuple[tuple[int, int, int], ...]

    @classmethod
    def since(cls, begin: int, coarsest: int, now: int) -> _Asked:
        """Those of this length, and shorter ones of what is not added up yet."""
        shorter = (
            (period, max(begin, now - reach), now) for period, reach in _UNTIL_ROLLED_UP.items() if period < coarsest
        )
        return cls(begin, ((coarsest, begin // coarsest * coarsest, now), *shorter))

    def condition(self) -> Q:
        wanted = Q()
        for period, first, last in self.spans:
            wanted |= Q(period=period, starts__range=(first, last))
        return wanted

    def of(self, rows: Iterable[_Row]) -> Iterator[tuple[int, _Row]]:
        """Each with its begin, or that of what was asked for; ``rows``: the longer ones first."""
        whole: set[tuple[int, int]] = set()
        for row in rows:
            period, starts = row.period, row.starts
            if not any(period == one and first <= starts <= last for one, first, last in self.spans):
                continue
            if any((longer, starts // longer * longer) in whole for longer in (HOUR, DAY) if longer > period):
                continue
            if period > MINUTE:
                whole.add((period, starts))
            yield max(starts, self.begin), row


@dataclass(frozen=True, slots=True)
class _Grid:
    """So many stretches of the same width."""

    start: int
    width: int
    count: int

    @classmethod
    def until(cls, now: int, seconds: float, buckets: int) -> _Grid:
        width = max(int(seconds / buckets), MINUTE)
        return cls(-(-now // width) * width - width * buckets, width, buckets)

    def fill(self, rows: Iterable[tuple[int, _Row]]) -> list[Bucket]:
        found = [Counts() for _ in range(self.count)]
        for begins, row in rows:
            found[min((begins - self.start) // self.width, self.count - 1)].take(row.totals)
        return [_bucket(self.start + self.width * index, self.width, counts) for index, counts in enumerate(found)]


def _day_since(begin: int, now: int) -> _Asked:
    """By its hours, and by minutes up to the first of them, so that it is a day however it is looked at."""
    first = -(-begin // HOUR) * HOUR
    hours = _Asked.since(first, HOUR, now)
    return _Asked(begin, (*hours.spans, (MINUTE, begin, first - 1)))


def _of(seconds: float, now: int) -> _Asked:
    """By task and queue, minutes are a lot to read: they are for an hour or two."""
    return _Asked.since(int(now - seconds), MINUTE if seconds <= 2 * HOUR else HOUR if seconds <= 3 * DAY else DAY, now)


def _coarsest(seconds: float, width: int) -> int:
    """Stretches of whole hours are made of hours, those of whole days of days: less to read."""
    if seconds <= DAY:
        return MINUTE if width % HOUR else HOUR
    return HOUR if seconds <= 31 * DAY and width % DAY else DAY


def _read(using: str, *, totals: Iterable[_Asked] = (), series: Iterable[_Asked] = ()) -> list[_Row]:
    """What is asked for, in one question: the sums, and of those alone that are asked for that way what they are made of."""
    of_totals, of_series = (reduce(or_, (one.condition() for one in asked), Q()) for asked in (totals, series))
    rows = StatisticsRecord.objects.using(using).filter(of_totals | of_series).order_by("-period", "starts")

    def text(name: str, condition: Q) -> Any:
        return (
            Case(When(condition, then=F(name)), default=Value(""), output_field=TextField()) if condition else Value("")
        )

    values = rows.values_list("period", "starts", text("totals", of_totals), text("series", of_series))
    return [_Row(*one) for one in values]


def _tasks(rows: Iterable[tuple[int, _Row]]) -> list[TaskFigures]:
    sums = _sums(rows, lambda name, queue: name)
    figures = [TaskFigures(name=name, **_figures(counts)) for name, counts in sums.items()]
    return sorted(figures, key=lambda one: (-one.seconds, one.name))


def _queues(rows: Iterable[tuple[int, _Row]]) -> dict[str, QueueFigures]:
    sums = _sums(rows, lambda name, queue: queue)
    return {
        queue: QueueFigures(
            queue=queue,
            ended=sum(counts[end] for end in ("succeeded", "failed", "cancelled", "expired")),
            **_figures(counts),
        )
        for queue, counts in sums.items()
    }


def _figures(counts: Counts) -> dict[str, Any]:
    """The fields of ``Figures``."""
    ends = {end: counts[end] for end in ("succeeded", "failed", "retried", "lost")}
    return {**ends, "seconds": counts.runs.total, "waits": counts.waits, "runs": counts.runs}


def _sums(rows: Iterable[tuple[int, _Row]], key_of: Callable[[str, str], str]) -> dict[str, Counts]:
    found: dict[str, Counts] = {}
    for _begins, row in rows:
        for name, queue, parts in row.series:
            key = key_of(name, queue)
            if (counts := found.get(key)) is None:
                counts = found[key] = Counts()
            counts.take(parts)
    return found


def _bucket(begins: int, width: int, counts: Counts) -> Bucket:
    return Bucket(
        at=datetime.fromtimestamp(begins, UTC),
        seconds=float(width),
        **dict(zip(ENDS, counts.ends, strict=True)),
        waits=counts.waits,
        runs=counts.runs,
    )
