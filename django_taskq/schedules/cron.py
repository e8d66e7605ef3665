"""Cron lines: read by cronsim, and followed through changes of the clock by rules of our own.

A line whose minute or hour begins with a star ("every …") is due whenever clocks show a time that matches: each real
minute, each real hour. Any other line names times of day, each of which comes once a day, as in Debian's cron: where clocks
skip it, it is due when they do; where they show it twice, at the first of the two, or at both if so asked. cronsim does
the same for lines of five fields, and takes six fields always as "every …".
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from importlib import import_module
from typing import Any

from ..core.wall_clock import end_of_gap, moments_of, repeated, wall_time

INSTALL = "pip install 'django-taskq-kombu[cron]'"

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

#: years after which a line without a tick is taken for one that never has any: a weekday comes on 29 February every 28,
#: or 40 around a year like 2100
_YEARS = 41
#: the last year of which every time zone's end can be a moment
_LAST_YEAR = 9998
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
#: months of which a line keeps the days
_KEPT_MONTHS = 4


class CronLine:
    """The times of day and the days that a line matches. Raises ``ValueError`` for one that cannot be."""

    __slots__ = ("_days", "_first", "_hours", "_minutes", "_months", "_seconds", "_sim", "is_fixed")

    def __init__(self, expression: str) -> None:
        sim = _parse(expression)
        self._sim = sim
        self._hours: list[int] = sorted(sim.hours)
        self._minutes: list[int] = sorted(sim.minutes)
        self._seconds: list[int] = sorted(sim.seconds)
        self._months: frozenset[int] = frozenset(sim.months)
        self._first = timedelta(hours=self._hours[0], minutes=self._minutes[0], seconds=self._seconds[0])
        self._days: dict[tuple[int, int], tuple[int, ...]] = {}
        #: whether it names times of day
        self.is_fixed = not (sim.parts[1].startswith("*") or sim.parts[2].startswith("*"))

    def next_wall(self, after: datetime) -> datetime | None:
        """The first time later than this one that matches, as if clocks were never changed; None: there is none."""
        start = after.replace(microsecond=0, fold=0) + _SECOND
        today = start.date()
        if start.month in self._months and start.day in self._days_of(start.year, start.month):
            time_of_day = self._time_from(start.hour, start.minute, start.second)
            if time_of_day is not None:
                return datetime(today.year, today.month, today.day, *time_of_day)  # noqa: DTZ001  # of a wall
        day = self._day_after(today)
        return None if day is None else datetime(day.year, day.month, day.day) + self._first  # noqa: DTZ001  # as above

    def _time_from(self, hour: int, minute: int, second: int) -> tuple[int, int, int] | None:
        """The first time of day not earlier than this one."""
        hours, minutes, seconds = self._hours, self._minutes, self._seconds
        at = bisect_left(hours, hour)
        if at < len(hours) and hours[at] == hour:
            found = bisect_left(minutes, minute)
            if found < len(minutes) and minutes[found] == minute:
                last = bisect_left(seconds, second)
                if last < len(seconds):
                    return hour, minute, seconds[last]
                found += 1
            if found < len(minutes):
                return hour, minutes[found], seconds[0]
            at += 1
        return (hours[at], minutes[0], seconds[0]) if at < len(hours) else None

    def _day_after(self, day: date) -> date | None:
        year, month, after = day.year, day.month, day.day
        last = min(year + _YEARS, _LAST_YEAR)
        while year <= last:
            if month in self._months:
                for found in self._days_of(year, month):
                    if found > after:
                        return date(year, month, found)
            after = 0
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        return None

    def _days_of(self, year: int, month: int) -> tuple[int, ...]:
        known = self._days.get((year, month))
        if known is None:
            days = []
            day = date(year, month, 1)
            while day.month == month:
                if self._sim.match_day(day):
                    days.append(day.day)
                day += _DAY
            known = tuple(days)
            if len(self._days) >= _KEPT_MONTHS:
                self._days.clear()
            self._days[year, month] = known
        return known


class Cron:
    """The rule of a cron line in a time zone."""

    __slots__ = ("_both", "_fixed", "_line", "_zone")

    kind = "cron"

    def __init__(self, expression: str, zone: tzinfo, *, repeat_ambiguous: bool = False) -> None:
        """Raises ``ValueError`` for a line that cannot be, and for one that never comes."""
        self._line = cron_line(expression)
        self._zone = zone
        self._fixed = self._line.is_fixed
        self._both = repeat_ambiguous or not self._fixed

    def next_after(self, moment: datetime) -> datetime | None:
        """See ``core.schedule.Rule``."""
        wall = wall_time(moment, self._zone)
        if wall.year >= _LAST_YEAR:
            return None
        if self._zone is UTC:
            tick = self._line.next_wall(wall)
            return None if tick is None else tick.replace(tzinfo=UTC)
        later = self._first(wall, moment)
        back = repeated(wall, self._zone) if self._both else None
        if back and not self._is_repeated_within(later, moment + back):
            # Clocks will show once more what they have shown before this moment.
            again = self._first(wall - back - _SECOND, moment)
            return again if later is None or (again is not None and again < later) else later
        return later

    def _is_repeated_within(self, tick: datetime | None, end: datetime) -> bool:
        """Whether clocks show this tick's time for the first time, too: then nothing of the second time is before it."""
        return tick is not None and tick < end and bool(repeated(wall_time(tick, self._zone), self._zone))

    def _first(self, wall: datetime, moment: datetime) -> datetime | None:
        """The first tick after a moment, of the times that match after ``wall``."""
        found = self._line.next_wall(wall)
        while found is not None:
            ticks = self._ticks(found)
            for tick in ticks:
                if tick > moment:
                    return tick
            if not ticks:
                # Not one by one: a line may match each second of the hour that clocks skip.
                found = wall_time(end_of_gap(found, self._zone), self._zone) - _SECOND
            found = self._line.next_wall(found)
        return None

    def _ticks(self, wall: datetime) -> tuple[datetime, ...]:
        moments = moments_of(wall, self._zone)
        if not moments:
            return (end_of_gap(wall, self._zone),) if self._fixed else ()
        return moments if self._both else moments[:1]


@lru_cache(maxsize=1024)
def cron_line(expression: str) -> CronLine:
    """A line, read once. Raises ``ValueError`` that says what is wrong."""
    line = CronLine(expression)
    if line.next_wall(datetime(2000, 1, 1)) is None:  # noqa: DTZ001  # any would do
        raise ValueError("no day is like that: it would never come.")
    return line


def _parse(expression: str) -> Any:
    text = expression.strip()
    if text.startswith("@"):
        known = NICKNAMES.get(text.lower())
        if known is None:
            raise ValueError(f"{text} is not known; there are {', '.join(NICKNAMES)}.")
        text = known
    try:
        cronsim = import_module("cronsim")
    except ImportError as error:
        raise ValueError(f"cron lines need cronsim, which is not installed: {INSTALL}.") from error
    try:
        return cronsim.CronSim(text, datetime(2000, 1, 1))  # noqa: DTZ001  # only what it has read of the line is used
    except cronsim.CronSimError as error:
        raise ValueError(_reason(text, str(error))) from error
    except (AssertionError, IndexError) as error:
        # A step after an L or a #.
        raise ValueError("it has a field that cannot be.") from error


def _reason(text: str, said: str) -> str:
    fields = text.split()
    if len(fields) not in {5, 6}:
        return (
            f"it has {len(fields)} fields; a cron line has five (minute, hour, day of month, month, day of week), or six "
            "with seconds first."
        )
    named = said.removeprefix("Bad ")
    return f"the field {named!r} is not possible."
