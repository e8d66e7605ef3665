"""A duty: what processes have counted is added up, by minutes, hours and days."""

from __future__ import annotations

from ..transitions import statistics
from ..transitions.statistics import DAY, HOUR, MINUTE, MOST_MERGED
from .duties import Duty

#: seconds between two looks for minutes that are over
_MERGE = 60.0
#: seconds between two looks for hours and days that are over
_ROLL_UP = 600.0


def add_up(using: str) -> Duty:
    """Merge minutes, write hours and days, delete what is too old to be shown."""
    next_roll_up = 0.0

    def duty(now: float) -> float:
        nonlocal next_roll_up
        if statistics.merge(using) == MOST_MERGED:
            return 1.0
        if now >= next_roll_up:
            statistics.roll_up(using, MINUTE, HOUR)
            statistics.roll_up(using, HOUR, DAY)
            # Last: what is deleted has been added up.
            statistics.prune(using)
            next_roll_up = now + _ROLL_UP
        return _MERGE

    return duty
