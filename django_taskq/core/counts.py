"""What is counted of tasks: how their attempts ended, and how long they waited and ran."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from . import codec
from .histogram import Histogram

#: ends of attempts
ENDS = ("succeeded", "failed", "retried", "cancelled", "expired", "lost")

#: pairs of a task and a queue that are counted apart; what comes beyond is counted under ``OTHER``
MAX_SERIES = 200
OTHER = ("other", "other")

#: (task, queue) -> what was counted of it
Series: TypeAlias = "dict[tuple[str, str], Counts]"


class Counts:
    """Some attempts. ``ends``: how many ended in each way, in the order of ``ENDS``."""

    __slots__ = ("ends", "runs", "waits")

    def __init__(self) -> None:
        self.ends = [0] * len(ENDS)
        self.waits = Histogram()
        self.runs = Histogram()

    def ended(self, end: str, *, seconds: float | None, waited: float | None) -> None:
        """Count the end of an attempt, one of ``ENDS``; ``seconds`` it took and ``waited``, None where nobody knows."""
        self.ends[ENDS.index(end)] += 1
        if seconds is not None:
            self.runs.note(seconds)
        if waited is not None:
            self.waits.note(waited)

    def add(self, other: Counts) -> None:
        """Count another's, too."""
        self.ends = [mine + more for mine, more in zip(self.ends, other.ends, strict=True)]
        self.waits.add(other.waits)
        self.runs.add(other.runs)

    def take(self, parts: Any) -> None:
        """Count what ``dump`` gave, without another ``Counts`` made of it: pages add up thousands.

        What somebody has changed is left out, from there on.
        """
        try:
            self._take(parts)
        except (ValueError, TypeError, LookupError):
            return

    def _take(self, parts: Any) -> None:
        ends, waits, runs = parts
        self.ends = [mine + int(more) for mine, more in zip(self.ends, ends, strict=True)]
        self.waits.take(waits)
        self.runs.take(runs)

    def __getitem__(self, end: str) -> int:
        """How many ended so."""
        return self.ends[ENDS.index(end)]

    def __bool__(self) -> bool:
        """Whether anything was counted."""
        return any(self.ends)

    def dump(self) -> list[list[float]]:
        """As JSON holds it."""
        return [list(self.ends), self.waits.dump(), self.runs.dump()]

    @classmethod
    def load(cls, parts: Any) -> Counts:
        """What ``dump`` gave. Raises ``ValueError``, ``TypeError`` or ``LookupError`` for anything else."""
        counts = cls()
        counts._take(parts)
        return counts


def counts_of(series: Series, name: str, queue_name: str) -> Counts:
    """Where this task in this queue is counted."""
    found = series.get((name, queue_name))
    if found is None:
        key = (name, queue_name) if len(series) < MAX_SERIES else OTHER
        found = series.setdefault(key, Counts())
    return found


def add_series(series: Series, more: Mapping[tuple[str, str], Counts]) -> None:
    """Count all of another's, too."""
    for (name, queue_name), counts in more.items():
        counts_of(series, name, queue_name).add(counts)


def sum_of(series: Series) -> Counts:
    """All of them together."""
    total = Counts()
    for counts in series.values():
        total.add(counts)
    return total


def dump_series(series: Series) -> str:
    """As a text column holds it."""
    return codec.encode([[name, queue_name, counts.dump()] for (name, queue_name), counts in series.items()])


def load_series(text: str) -> Series:
    """What ``dump_series`` gave; nothing where somebody has changed it, since a page is to be shown all the same."""
    try:
        return {(name, queue_name): Counts.load(parts) for name, queue_name, parts in read_series(text)}
    except (ValueError, TypeError, LookupError):
        return {}


def read_series(text: str) -> list[tuple[str, str, Any]]:
    """Task, queue, and what ``Counts.take`` takes, of what ``dump_series`` gave; nothing as there."""
    try:
        found: Any = codec.decode(text or "[]")
        return [(str(name), str(queue_name), parts) for name, queue_name, parts in found]
    except (ValueError, TypeError):
        return []


def read_counts(text: str) -> Any:
    """What ``Counts.take`` takes, of what ``dump_counts`` gave; None for anything that is no JSON."""
    try:
        return codec.decode(text) if text else None
    except ValueError:
        return None


def dump_counts(counts: Counts) -> str:
    """As a text column holds them."""
    return codec.encode(counts.dump())


def load_counts(text: str) -> Counts:
    """What ``dump_counts`` gave; none where somebody has changed it."""
    try:
        return Counts.load(read_counts(text))
    except (ValueError, TypeError, LookupError):
        return Counts()
