"""How durations are spread: histograms with fixed bounds, which add up where percentiles do not."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

#: buckets per factor of ten: neighbours are 1.26 apart, so that a quantile is right to a quarter at worst
_PER_DECADE = 10
#: upper bounds in seconds, from a millisecond to 28 hours; what took longer is in one more bucket
BOUNDS = tuple(math.pow(10, step / _PER_DECADE - 3) for step in range(8 * _PER_DECADE + 1))
_STEP = math.pow(10, 1 / _PER_DECADE)


class Histogram:
    """Counts of durations by bucket. ``counts``: bucket -> how many; ``total``: seconds of all together."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.total = 0.0

    def note(self, seconds: float) -> None:
        """Count one more."""
        bucket = bisect_left(BOUNDS, seconds)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.total += seconds

    def add(self, other: Histogram) -> None:
        """Count all of another's, too."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.total += other.total

    def take(self, flat: Sequence[float]) -> None:
        """Count what ``dump`` gave, without another histogram made of it. Nothing of anything else.

        Raises ``ValueError`` or ``TypeError`` for that.
        """
        if len(flat) % 2 == 0 or not set(map(type, flat[1:])) <= {int}:
            raise ValueError("a histogram is a sum, then whole numbers in pairs.")
        self.total += flat[0]
        counts = self.counts
        for bucket, count in zip(flat[1::2], flat[2::2], strict=True):
            counts[bucket] = counts.get(bucket, 0) + count  # type: ignore[index, call-overload]  # as checked

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.counts.values())

    def quantile(self, share: float) -> float | None:
        """Seconds that this share of all did not exceed, 0 < ``share`` <= 1; None where there are none.

        Right to a bucket's width. Of what is longer than the last bound no more is known than that.
        """
        wanted = share * self.count
        if not wanted:
            return None
        below = 0
        for bucket, count in sorted(self.counts.items()):
            if below + count >= wanted:
                upper: float = BOUNDS[min(bucket, len(BOUNDS) - 1)]
                if not 0 < bucket < len(BOUNDS):
                    return upper
                # As if those within were spread evenly, by their logarithms as the bounds are.
                return upper / math.pow(_STEP, 1 - (wanted - below) / count)
            below += count
        return BOUNDS[-1]

    def __eq__(self, other: object) -> bool:
        """Whether the same was counted; sums of seconds differ by the order in which they were added."""
        return isinstance(other, Histogram) and self.counts == other.counts

    __hash__ = None  # type: ignore[assignment]  # it changes

    def dump(self) -> list[float]:
        """As JSON holds it: the seconds, then buckets and their counts in turn."""
        flat: list[float] = [round(self.total, 6)]
        for bucket, count in sorted(self.counts.items()):
            flat += (bucket, count)
        return flat

    @classmethod
    def load(cls, flat: Sequence[float]) -> Histogram:
        """What ``dump`` gave. Raises ``ValueError`` or ``TypeError`` for anything else."""
        one = cls()
        one.take(flat)
        return one
