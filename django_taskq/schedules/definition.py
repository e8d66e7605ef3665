"""What a schedule says, and the moments this makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import islice
from typing import Any, Literal
from zoneinfo import ZoneInfo

from django.conf import settings

from ..core.schedule import Bounded, Interval, Missed, Once, Overlap, Rule, upcoming
from ..core.wall_clock import end_of_gap, moments_of
from ..exceptions import FieldProblem, ScheduleError
from .cron import Cron
from .solar import EVENTS, Solar

Kind = Literal["cron", "interval", "once", "solar"]
KINDS: tuple[Kind, ...] = ("cron", "interval", "once", "solar")

#: seconds; what comes more often is a loop in a task
MIN_INTERVAL = 1.0
#: seconds: longer ones, and moments beyond them, are mistakes (1,000 years)
MAX_INTERVAL = 31_557_600_000.0


def default_timezone() -> str:
    """The project's time zone."""
    return settings.TIME_ZONE or "UTC"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A task and when it is to run; durations in seconds, moments aware.

    ``task``: its registered name. ``kind`` and ``expression``: when: a ``cron`` line; an ``interval`` in seconds, counted
    from ``start_at``, else from 1970; ``once``, at a moment (ISO 8601; without an offset it is one in ``timezone``);
    ``solar``, an event of the sun at ``latitude`` and ``longitude``. ``timezone``: an IANA name; "" takes the project's.
    ``repeat_ambiguous``: at a time that clocks show twice it runs twice.
    ``backend``: the alias in ``TASKS``. ``queue_name``, ``priority``: None takes the task's.
    ``start_at``, ``end_at``: it has no ticks before and after. ``jitter``: up to so much later, each tick another time.
    ``expires``: how long after its tick a task may start. ``missed``: what becomes of ticks for which no keeper was there,
    up to ``window`` back. ``overlap``: what becomes of a tick while the task of the one before is not over.
    Nothing is checked here, see ``check_schedule``.
    """

    name: str
    task: str
    kind: Kind
    expression: str
    timezone: str = ""
    latitude: float | None = None
    longitude: float | None = None
    repeat_ambiguous: bool = False
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    backend: str = "default"
    queue_name: str | None = None
    priority: int | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None
    jitter: float = 0.0
    expires: float | None = None
    missed: Missed = Missed.LAST
    window: float = 86400.0
    overlap: Overlap = Overlap.ALLOW
    enabled: bool = True
    description: str = ""

    def __post_init__(self) -> None:
        if not self.timezone:
            object.__setattr__(self, "timezone", default_timezone())


def rule_of(schedule: Schedule) -> Rule:
    """When it is due, between its start and its end. Raises ``ScheduleError`` for what cannot be."""
    start_at, end_at = schedule.start_at, schedule.end_at
    if schedule.kind == "interval":
        rule = _rule(schedule.kind, schedule.expression, "UTC", None, None, False, start_at)
    else:
        rule = _rule(
            schedule.kind,
            schedule.expression,
            schedule.timezone,
            schedule.latitude,
            schedule.longitude,
            schedule.repeat_ambiguous,
            None,
        )
    if start_at is None and end_at is None:
        return rule
    return Bounded(rule=rule, start_at=start_at, end_at=end_at)


def next_runs(schedule: Schedule, after: datetime, count: int = 5) -> list[datetime]:
    """The first ticks later than a moment, in UTC, without jitter. Raises as :func:`rule_of`."""
    return list(islice(upcoming(rule_of(schedule), after), count))


def zone_of(name: str) -> tzinfo:
    """A time zone by its IANA name. Raises ``ScheduleError``."""
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError) as error:
        # zoneinfo raises each of them: for unknown names, for paths and NUL, for directories and long names.
        raise _refused(
            "timezone", f"{name!r} is no time zone known here.", 'Write an IANA name, "Europe/Berlin".'
        ) from error


@lru_cache(maxsize=1024)
def _rule(  # noqa: PLR0917  # positional, for the cache
    kind: str,
    expression: str,
    timezone: str,
    latitude: float | None,
    longitude: float | None,
    repeat_ambiguous: bool,
    start_at: datetime | None,
) -> Rule:
    if kind == "cron":
        zone = zone_of(timezone)
        try:
            return Cron(expression, zone, repeat_ambiguous=repeat_ambiguous)
        except ValueError as error:
            raise _refused("expression", f"the cron line {expression!r} cannot be: {error}", _CRON_HINT) from error
    if kind == "interval":
        every = _seconds(expression)
        return Interval(every=every) if start_at is None else Interval(every=every, anchor=start_at.astimezone(UTC))
    if kind == "once":
        return Once(at=moment_of(expression, timezone))
    if kind == "solar":
        return _solar(expression, latitude, longitude)
    raise _refused("kind", f"{kind!r} is no kind of schedule.", f"There are {', '.join(KINDS)}.")


def _seconds(expression: str) -> timedelta:
    try:
        seconds = float(expression)
    except (TypeError, ValueError):
        seconds = -1.0
    if not MIN_INTERVAL <= seconds <= MAX_INTERVAL:
        raise _refused(
            "expression",
            f"an interval of {expression!r} seconds cannot be.",
            f"Write a number of seconds, {MIN_INTERVAL:.0f} or more.",
        )
    return timedelta(seconds=seconds)


def moment_of(text: str, timezone: str) -> datetime:
    """A moment as ISO 8601 has it, in UTC; without an offset it is what clocks show in the time zone.

    A time that clocks skip is the moment when they do, one that they show twice the first. Raises ``ScheduleError``.
    """
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            zone = zone_of(timezone)
            return (moments_of(at, zone) or (end_of_gap(at, zone),))[0]
        return at.astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, ScheduleError):
            raise
        raise _refused(
            "expression",
            f"{text!r} is no moment.",
            "Write a date and a time, 2026-03-29T02:30 or with +02:00 after it.",
        ) from error


def _solar(event: str, latitude: float | None, longitude: float | None) -> Rule:
    if event not in EVENTS:
        raise _refused("expression", f"{event!r} is no event of the sun.", f"There are {', '.join(EVENTS)}.")
    place = (("latitude", latitude, 90.0), ("longitude", longitude, 180.0))
    for name, value, most in place:
        if value is None or not -most <= value <= most:
            raise _refused(name, f"{value!r} is no {name}.", f"Write degrees from {-most:.0f} to {most:.0f}.")
    assert latitude is not None
    assert longitude is not None
    return Solar(event=event, latitude=latitude, longitude=longitude)


def _refused(name: str, message: str, hint: str) -> ScheduleError:
    return ScheduleError([FieldProblem(name, message, hint)])


_CRON_HINT = (
    'Write five fields, "30 2 * * mon-fri" (minute, hour, day of month, month, day of week), six with seconds first, or '
    'a word like "@daily".'
)
