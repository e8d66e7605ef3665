"""When something is due again and again: rules, the ticks they make, and which of these still count.

A tick is a moment in UTC, and the identity of one run: whoever computes it gets the same one. What is random or late is
added to it afterwards, see :func:`jittered`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Protocol

#: seconds by which a tick may be late and is not missed: as long as another keeper takes to step in, and some more
GRACE = 60.0
#: how far missed ticks are counted; beyond, the number is "so many, and more"
MAX_COUNTED = 1000
#: what intervals without a start are counted from
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: the shortest distance of moments
_STEP = timedelta(microseconds=1)
#: what a search for the latest tick stops at: rules know whole seconds, intervals at least one
_CLOSE = timedelta(milliseconds=500)


class Missed(StrEnum):
    """What becomes of ticks that came while nobody was there to fire them."""

    SKIP = "skip"
    LAST = "last"
    ALL = "all"


class Overlap(StrEnum):
    """What becomes of a tick while the task of the one before is not over. ``cancel``: that one makes room."""

    ALLOW = "allow"
    SKIP = "skip"
    QUEUE = "queue"
    CANCEL = "cancel"


class Rule(Protocol):
    """When ticks come. Two calls with the same moment give the same tick, in any process."""

    @property
    def kind(self) -> str:
        """``cron``, ``interval``, ``once`` or ``solar``."""

    def next_after(self, moment: datetime) -> datetime | None:
        """The first tick later than an aware moment, in UTC; None: none comes any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Every so many seconds since ``anchor``, which is a tick itself: neither a restart nor a time zone moves them."""

    every: timedelta
    anchor: datetime = EPOCH
    kind: str = "interval"

    def next_after(self, moment: datetime) -> datetime | None:
        """See :class:`Rule`."""
        if moment < self.anchor:
            # Not before it has begun.
            return self.anchor
        count = (moment - self.anchor) // self.every + 1
        try:
            return self.anchor + count * self.every
        except OverflowError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """At one moment, in UTC."""

    at: datetime
    kind: str = "once"

    def next_after(self, moment: datetime) -> datetime | None:
        """See :class:`Rule`."""
        return self.at if self.at > moment else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """The ticks of another rule from ``start_at`` to ``end_at``, both included."""

    rule: Rule
    start_at: datetime | None = None
    end_at: datetime | None = None

    @property
    def kind(self) -> str:
        """See :class:`Rule`."""
        return self.rule.kind

    def next_after(self, moment: datetime) -> datetime | None:
        """See :class:`Rule`."""
        if self.start_at is not None and moment < self.start_at:
            moment = self.start_at - _STEP
        tick = self.rule.next_after(moment)
        return None if tick is None or (self.end_at is not None and tick > self.end_at) else tick


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What has come since a look at a schedule.

    ``ticks``: those to fire, oldest first. ``given_up``: how many are never fired, counted up to ``MAX_COUNTED``.
    ``next_at``: the tick after these, which may have come already when there were too many; None: there is none.
    """

    ticks: tuple[datetime, ...] = ()
    given_up: int = 0
    next_at: datetime | None = None


def upcoming(rule: Rule, after: datetime) -> Iterator[datetime]:
    """The ticks later than a moment, one after the other; of most rules without an end."""
    tick = rule.next_after(after)
    while tick is not None:
        yield tick
        tick = rule.next_after(tick)


def ticks_due(
    rule: Rule, *, after: datetime, now: datetime, missed: Missed, window: float, limit: int = MAX_COUNTED
) -> Due:
    """Which ticks later than ``after`` and not later than ``now`` are to be fired.

    ``missed``: SKIP fires the latest one unless it is older than ``GRACE``; LAST the latest one, ALL each of them, of
    those in the ``window``, seconds back from ``now``. ``limit``: how many at a time; the others stay due.
    """
    first = rule.next_after(after)
    if first is None or first > now:
        return Due(next_at=first)
    oldest = now - timedelta(seconds=GRACE if missed is Missed.SKIP else max(window, GRACE))
    if missed is Missed.ALL:
        return _all_due(rule, first, oldest, now, limit)
    second = rule.next_after(first)
    if second is None or second > now:
        # As it is nearly always.
        return Due(ticks=(first,), next_at=second) if first >= oldest else Due(given_up=1, next_at=second)
    latest = _latest(rule, second, now)
    fired = (latest,) if latest >= oldest else ()
    return Due(
        ticks=fired,
        given_up=_count(rule, first, latest) + (not fired),
        next_at=rule.next_after(now),
    )


def jittered(name: str, tick: datetime, jitter: float) -> datetime:
    """When the task of a tick runs: up to ``jitter`` seconds later, for every keeper the same."""
    if not jitter:
        return tick
    digest = sha256(f"{name}\n{tick.astimezone(UTC).isoformat()}".encode(errors="replace")).digest()
    return tick + timedelta(seconds=jitter * int.from_bytes(digest[:6], "big") / 2**48)


def _all_due(rule: Rule, first: datetime, oldest: datetime, now: datetime, limit: int) -> Due:
    given_up = 0
    tick: datetime | None = first
    if first < oldest:
        tick = rule.next_after(oldest - _STEP)
        given_up = _count(rule, first, oldest)
    ticks: list[datetime] = []
    while tick is not None and tick <= now and len(ticks) < limit:
        ticks.append(tick)
        tick = rule.next_after(tick)
    return Due(ticks=tuple(ticks), given_up=given_up, next_at=tick)


def _latest(rule: Rule, known: datetime, now: datetime) -> datetime:
    """The last tick not later than ``now``, of which ``known`` is one; by halves, for there may be 86,400 a day."""
    end = now
    while end - known > _CLOSE:
        middle = known + (end - known) / 2
        tick = rule.next_after(middle)
        if tick is not None and tick <= now:
            known = tick
            end = max(end, known)
        else:
            end = middle
    return known


def _count(rule: Rule, first: datetime, end: datetime) -> int:
    """How many ticks there are from ``first`` on and before ``end``, up to ``MAX_COUNTED``."""
    count = 0
    tick: datetime | None = first
    while tick is not None and tick < end and count < MAX_COUNTED:
        count += 1
        tick = rule.next_after(tick)
    return count
