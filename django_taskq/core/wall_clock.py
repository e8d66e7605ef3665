"""From what clocks on the wall show to moments, over changes of the time zone's offset."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

_SECOND = timedelta(seconds=1)


def wall_time(moment: datetime, zone: tzinfo) -> datetime:
    """What clocks show, without a zone; ``fold`` says which time it is when they show it twice."""
    return moment.astimezone(zone).replace(tzinfo=None)


def moments_of(wall: datetime, zone: tzinfo) -> tuple[datetime, ...]:
    """When clocks show this, in UTC: once; twice, where they are put back; not at all, where they are put forward."""
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    second = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if first == second:
        return (first,)
    return (first, second) if first < second else ()


def end_of_gap(wall: datetime, zone: tzinfo) -> datetime:
    """The moment at which clocks were put forward over a time that they do not show."""
    # PEP 495: read with the offset before the change it is later than that, with the one after it earlier.
    late = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    early = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    before = early.astimezone(zone).utcoffset()
    while late - early > _SECOND:
        middle = early + timedelta(seconds=int((late - early).total_seconds()) // 2)
        if middle.astimezone(zone).utcoffset() == before:
            early = middle
        else:
            late = middle
    return late


def repeated(wall: datetime, zone: tzinfo) -> timedelta:
    """How far back clocks are put, where they show this time for the first time; else nothing."""
    if wall.fold:
        return timedelta(0)
    first = wall.replace(tzinfo=zone, fold=0).utcoffset()
    second = wall.replace(tzinfo=zone, fold=1).utcoffset()
    return max(first - second, timedelta(0)) if first is not None and second is not None else timedelta(0)
