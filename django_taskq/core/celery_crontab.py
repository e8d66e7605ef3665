"""Celery's crontabs as cron lines.

They look alike and differ in two ways: Celery wants both the day of the month and the day of the week to match, where
cron takes either when neither starts with a star; and Celery's ranges may go round, as ``fri-mon`` does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

#: ``*``, ``n`` or ``a-b``, and a step
_PART: Final = re.compile(r"(?:(?P<star>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?", re.ASCII)
#: days of the month with which the first, second, … of a day of the week can be
_WEEKS: Final = tuple(frozenset(range(first, min(first + 7, 32))) for first in range(1, 30, 7))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    title: str
    low: int
    high: int
    names: Mapping[str, int] = field(default_factory=dict)

    @property
    def all(self) -> frozenset[int]:
        return frozenset(range(self.low, self.high + 1))


_MINUTE = _Field(title="minute", low=0, high=59)
_HOUR = _Field(title="hour", low=0, high=23)
_DAY = _Field(title="day of month", low=1, high=31)
_MONTH = _Field(title="month", low=1, high=12, names={name: number for number, name in enumerate(_MONTHS, start=1)})
_WEEKDAY = _Field(title="day of week", low=0, high=6, names={name: number for number, name in enumerate(_DAYS)})


def cron_line(*, minute: str, hour: str, day_of_month: str, month_of_year: str, day_of_week: str) -> str:
    """The five fields of a cron line that is due when such a crontab of Celery is.

    Raises ``ValueError`` for what Celery does not take either, and where cron has no words for it.
    """
    days, weekdays = _values(_DAY, day_of_month), _values(_WEEKDAY, day_of_week)
    day, weekday = _text(_DAY, day_of_month, days), _text(_WEEKDAY, day_of_week, weekdays)
    if not (day.startswith("*") or weekday.startswith("*")):
        day, weekday = _both(days, weekdays)
    return " ".join(
        (
            _text(_MINUTE, minute, _values(_MINUTE, minute)),
            _text(_HOUR, hour, _values(_HOUR, hour)),
            day,
            _text(_MONTH, month_of_year, _values(_MONTH, month_of_year)),
            weekday,
        )
    )


def _values(which: _Field, text: str) -> frozenset[int]:
    """The numbers that a field of Celery's means."""
    found: set[int] = set()
    for part in _parts(text):
        match = _PART.fullmatch(part)
        if match is None or (match["step"] and not match["star"] and not match["last"]):
            raise ValueError(f"{which.title} {text!r}: {part!r} is not understood.")
        step = int(match["step"] or 1)
        if step < 1:
            raise ValueError(f"{which.title} {text!r}: a step of 0.")
        if match["star"]:
            numbers: Sequence[int] = range(which.low, which.high + 1)
        else:
            first = _number(which, match["first"], text)
            last = _number(which, match["last"], text) if match["last"] else first
            if which is _WEEKDAY and last == 0 < first:
                last = 7
            numbers = (
                range(first, last + 1)
                if first <= last
                else [*range(first, which.high + 1), *range(which.low, last + 1)]
            )
        found.update(number % 7 if which is _WEEKDAY else number for number in numbers[::step])
    return frozenset(found)


def _number(which: _Field, text: str, whole: str) -> int:
    if text.isdecimal():
        number = int(text)
        if which is _WEEKDAY and number == 7:  # Sunday, as in cron; Celery itself wants 0
            return 0
    else:
        number = which.names.get(text[:3].lower(), -1)
    if not which.low <= number <= which.high:
        raise ValueError(f"{which.title} {whole!r}: {text!r} is not one of {which.low} to {which.high}.")
    return number


def _text(which: _Field, text: str, values: frozenset[int]) -> str:
    """A field of cron's that means these numbers: as it was written, where cron reads that alike."""
    if values == which.all:
        return "*"
    if all(re.fullmatch(r"\*/\d+|\d+", part, re.ASCII) for part in _parts(text)) and which is not _WEEKDAY:
        return ",".join(_parts(text))
    return _listed(values)


def _both(days: frozenset[int], weekdays: frozenset[int]) -> tuple[str, str]:
    """Day of month and of week where both have to match."""
    weeks = [week for week in _WEEKS if week & days]
    if frozenset().union(*weeks) == days:
        numbers = [_WEEKS.index(week) + 1 for week in weeks]
        return "*", ",".join(f"{weekday}#{number}" for number in numbers for weekday in sorted(weekdays))
    # A star in front, and both have to match in cron, too. A step over the whole range leaves its first number.
    if 1 in days:
        return _starred("*/31", days - {1}), _listed(weekdays)
    if 0 in weekdays:
        return _listed(days), _starred("*/7", weekdays - {0})
    raise ValueError(
        "it names days of the month and days of the week. Celery wants both to match, cron takes either: "
        "make it a schedule of the one, and look for the other in the task."
    )


def _starred(star: str, others: frozenset[int]) -> str:
    return f"{star},{_listed(others)}" if others else star


def _listed(values: frozenset[int]) -> str:
    """Numbers and ranges."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _parts(text: str) -> list[str]:
    return "".join(text.split()).split(",")
