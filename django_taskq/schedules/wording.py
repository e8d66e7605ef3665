"""When a schedule is due, in words for people."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module

from .cron import NICKNAMES
from .definition import Schedule

#: seconds, and what so many are called
_UNITS = ((604_800, "week"), (86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def in_words(schedule: Schedule) -> str:
    """A line about its time; what cannot be read stands as it is."""
    match schedule.kind:
        case "cron":
            return f"{_cron(schedule.expression)} ({schedule.timezone})"
        case "interval":
            return _interval(schedule.expression)
        case "once":
            return f"once at {schedule.expression}"
        case _:
            return f"{schedule.expression.replace('_', ' ')} at {schedule.latitude}, {schedule.longitude}"


def _cron(line: str) -> str:
    try:
        # An extra: whoever has schedules of this kind has it, as a rule.
        cronsim = import_module("cronsim")
    except ImportError:
        return line
    try:
        words: str = cronsim.CronSim(NICKNAMES.get(line.lower(), line), datetime.now(UTC)).explain()
    except cronsim.CronSimError:
        return line
    return words[:1].lower() + words[1:]


def _interval(text: str) -> str:
    try:
        seconds = float(text)
    except ValueError:
        return text
    for size, unit in _UNITS:
        count, rest = divmod(seconds, size)
        if count >= 1 and not rest:
            return f"every {unit}" if count == 1 else f"every {count:.0f} {unit}s"
    return f"every {seconds:g} seconds"
