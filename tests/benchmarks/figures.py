"""Statistics over repeated runs. Pure: numbers in, numbers and text out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

#: Which way a figure is to go.
Better = Literal["more", "less"]


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of the samples lie.

    Between two samples it is interpolated (Hyndman and Fan 1996, definition 7: what NumPy does by default).
    """
    if not samples:
        raise ValueError("There is no percentile of nothing.")
    if not 0 <= share <= 1:
        raise ValueError(f"share={share}: give it as a fraction, from 0 to 1.")
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def median(samples: Sequence[float]) -> float:
    """Return the middle one, or the mean of the two in the middle."""
    return percentile(samples, 0.5)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """What repeated runs gave: all of it, in the order of the runs, and its extremes and middle."""

    samples: tuple[float, ...]
    minimum: float
    median: float
    maximum: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Self:
        """Return the spread of at least one sample."""
        return cls(samples=tuple(samples), minimum=min(samples), median=median(samples), maximum=max(samples))


def rate(count: int, seconds: float) -> float:
    """Return how many a second; raises ValueError where no time has passed, which no run can have done honestly."""
    if seconds <= 0:
        raise ValueError(f"{count} in {seconds} s: the clock did not move.")
    return count / seconds


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return ours / theirs, run by run: neighbours in time, so that what slowed both cancels out."""
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} runs cannot be paired with {len(theirs)}.")
    return [_ratio(our, their) for our, their in zip(ours, theirs, strict=True)]


def _ratio(our: float, their: float) -> float:
    if their:
        return our / their
    # Nothing against nothing is the same; something against nothing has no size.
    return math.inf if our else 1.0


#: Of five pairs all agree by chance once in sixteen times; of fewer, too often to say anything.
_ENOUGH = 5


def verdict(pairs: Sequence[float], better: Better) -> str:
    """Return "better" or "worse" when every one of at least five pairs says so, else "unclear"."""
    if len(pairs) < _ENOUGH:
        return "unclear"
    if all(pair > 1 for pair in pairs):
        return "better" if better == "more" else "worse"
    if all(pair < 1 for pair in pairs):
        return "worse" if better == "more" else "better"
    return "unclear"


def meets(value: float, goal: float, better: Better) -> bool:
    """Tell whether the value is at least, or at most, the goal."""
    return value >= goal if better == "more" else value <= goal


def shown(value: float) -> str:
    """Return the value with three digits that count, or all before the point: 12,345, 123, 12.3, 1.23, 0.0123."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(2 - math.floor(math.log10(abs(value))), 0)
    return f"{value:,.{min(digits, 4)}f}"
