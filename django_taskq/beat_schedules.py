"""A periodic task of django-celery-beat as a schedule of ours, and what of it could not be kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from .beat_tables import BeatTask
from .core import codec
from .core.celery_crontab import cron_line
from .schedules.definition import Schedule, rule_of
from .sight import SPOILT

#: highest priority there is here; Celery's go to 255
_MAX_PRIORITY = 100
#: seconds until the next tick from which on one says that the last one has not run
_LONG = 3600.0
#: what Celery puts into the headers by itself
_OWN_HEADERS = {"periodic_task_name"}

#: their own work -> why nobody does it here
NOT_NEEDED = {"celery.backend_cleanup": "not needed: workers delete old results by themselves"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What of the project a translation depends on.

    ``backend``: the alias of ``TASKS``. ``crontab_zone``: the zone of all crontabs where each has none of its own that
    counts, "" where it has. ``is_zero_highest``: whether Celery's broker, as Redis does, runs priority 0 first.
    """

    backend: str
    timezone: str
    crontab_zone: str
    is_zero_highest: bool
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """``schedule`` None: it cannot be, and ``notes`` say why; else they say what is other than it was."""

    schedule: Schedule | None
    notes: tuple[str, ...] = ()


def translate(task: BeatTask, around: Surroundings) -> Translation:
    """The schedule; nobody has checked yet whether its task exists and takes these arguments."""
    notes: list[str] = []
    try:
        schedule = Schedule(
            name=task.name,
            task=task.task,
            args=tuple(_decoded(task.args, "args", list)),
            kwargs=_decoded(task.kwargs, "kwargs", dict),
            backend=around.backend,
            queue_name=task.queue or None,
            priority=_priority(task.priority, around, notes),
            end_at=task.expires,
            expires=None if task.expire_seconds is None else float(task.expire_seconds),
            enabled=task.enabled,
            description=task.description,
            **_timing(task, around, notes),
        )
        if task.one_off and schedule.kind != "once":
            schedule = _only_once(task, schedule, notes)
    except ValueError as error:
        return Translation(schedule=None, notes=(str(error),))
    if schedule.kind == "once" and task.total_run_count and schedule.enabled:
        schedule = replace(schedule, enabled=False)
        notes.append("it has run: disabled")
    notes += [*_lost(task), *_overdue(task, schedule, around.now)]
    return Translation(schedule=schedule, notes=tuple(notes))


def _timing(task: BeatTask, around: Surroundings, notes: list[str]) -> dict[str, Any]:
    if not task.ways:
        raise ValueError("it says neither interval nor crontab, solar or clocked")
    way, row = next(iter(task.ways.items()))
    if row is None:
        raise ValueError(f"its row of {way} is gone")
    if len(task.ways) > 1:
        notes.append(f"it names {' and '.join(task.ways)}: {way} counts")
    timing: dict[str, Any] = {"timezone": around.timezone, "start_at": task.start_time}
    match way:
        case "interval":
            timing |= {"kind": "interval", "expression": _seconds(row)}
            if task.last_run_at and (task.start_time is None or task.start_time <= task.last_run_at):
                # Its ticks go on from the last one, as they would have.
                timing["start_at"] = task.last_run_at
        case "crontab":
            fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
            timing |= {"kind": "cron", "expression": cron_line(**{name: row[name] for name in fields})}
            timing["timezone"] = around.crontab_zone or row.get("timezone") or "UTC"
        case "solar":
            timing |= {"kind": "solar", "expression": row["event"]}
            timing |= {"latitude": float(row["latitude"]), "longitude": float(row["longitude"])}
        case _:
            timing |= {"kind": "once", "expression": row["clocked_time"].isoformat(), "start_at": None}
    return timing


def _seconds(row: dict[str, Any]) -> str:
    try:
        seconds = timedelta(**{row["period"]: row["every"]}).total_seconds()
    except (TypeError, OverflowError) as error:
        raise ValueError(f"every {row['every']} {row['period']} is no time") from error
    return str(int(seconds) if seconds.is_integer() else seconds)


def _only_once(task: BeatTask, schedule: Schedule, notes: list[str]) -> Schedule:
    """Due at the first of its ticks since it was last written to."""
    since = max(filter(None, (task.date_changed, task.start_time)), default=None)
    anchored = replace(schedule, start_at=since) if schedule.kind == "interval" else schedule
    at = rule_of(anchored).next_after(since) if since else None
    if at is None:
        return replace(schedule, enabled=False)
    notes.append(f"it runs once, at {at.isoformat()}")
    return replace(
        schedule, kind="once", expression=at.isoformat(), start_at=None, end_at=None, latitude=None, longitude=None
    )


def _overdue(task: BeatTask, schedule: Schedule, now: datetime) -> list[str]:
    """What was due since its last run, and comes again in a long time, or never."""
    since = task.last_run_at or (task.date_changed if schedule.kind == "once" else None)
    if not schedule.enabled or since is None:
        return []
    try:
        rule = rule_of(schedule)
        due = rule.next_after(since)
        following = rule.next_after(now)
    except ValueError:
        # Whoever checks the schedule says so.
        return []
    if due is None or due > now or (following and (following - now).total_seconds() < _LONG):
        return []
    return [f"it was due at {due.isoformat()} and has not run: run it by hand if it has to"]


def _priority(priority: int | None, around: Surroundings, notes: list[str]) -> int | None:
    if priority is None:
        return None
    ours = min(priority, _MAX_PRIORITY)
    if ours != priority:
        notes.append(f"priority {priority}: {_MAX_PRIORITY} is the most there is")
    return -ours if around.is_zero_highest else ours


def _lost(task: BeatTask) -> list[str]:
    notes = []
    for title, value in (("exchange", task.exchange), ("routing_key", task.routing_key)):
        if value:
            notes.append(f"{title} {value!r} is left out: a queue's name is all there is here")
    try:
        headers = codec.decode(task.headers)
    except SPOILT:
        headers = task.headers
    names = sorted(set(headers) - _OWN_HEADERS) if isinstance(headers, dict) else [str(headers)] if headers else []
    if names:
        notes.append(f"headers are left out: {', '.join(names)}")
    return notes


def _decoded(text: str, title: str, kind: type) -> Any:
    value = codec.decode_as(text, kind)
    if value is not None:
        return value
    raise ValueError(f"{title} {text[:50]!r} is not a JSON {'list' if kind is list else 'object'}")
