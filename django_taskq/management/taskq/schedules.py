"""``taskq schedules``: what is due when; run, enable and disable it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.core.management.base import CommandError, CommandParser

from ...compat import InvalidTask
from ...core.options import nearest
from ...database import as_utc, database_now
from ...exceptions import UnknownSchedule
from ...models import ScheduleRecord, TaskRecord
from ...schedule_control import all_schedules, database_of, find_schedule, run_schedule_now, set_schedule_enabled
from ...schedules.definition import next_runs
from ...schedules.wording import in_words
from ...worker.startup import import_tasks
from .console import Console, Row, add_format, duration, show
from .subcommand import Subcommand, add_backend, chosen_backends

_COLUMNS = ("name", "source", "when", "task", "enabled", "next", "last", "last_state", "problem")
#: next runs that are shown at most
_MOST = 1000
#: ids per question; SQLite takes no more than 999 parameters where it is old
_BATCH = 500


def _add(parser: CommandParser) -> None:
    parser.add_argument(
        "verb",
        nargs="?",
        choices=("list", *_VERBS),
        default="list",
        help=f"list (default), {', '.join(_VERBS)}",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="schedules; for next and run one")
    parser.add_argument("-n", "--count", type=int, default=5, metavar="N", help="next runs to show (%(default)s)")
    add_backend(parser)
    add_format(parser)


def _run(console: Console, options: Mapping[str, Any]) -> int:
    verb, names = options["verb"], options["names"]
    backends = chosen_backends(options)
    if verb == "list":
        if names:
            raise CommandError(f"list takes no names. Did you mean: next {' '.join(names)}?")
        aliases = {backend.alias for backend in backends}
        records = [record for record in all_schedules() if not options["backend"] or record.backend in aliases]
        is_table = options["format"] == "table"
        console.rows(_rows(records, is_table), options["format"], columns=_COLUMNS)
        return 0
    if not names:
        raise CommandError(f"Say which schedule to {verb}.")
    # All of them, before something is done to the first.
    records = [_found(name) for name in dict.fromkeys(names)]
    return _VERBS[verb](console, options, records)


def _next(console: Console, options: Mapping[str, Any], records: Sequence[ScheduleRecord]) -> int:
    record = _only(records, "next")
    count = options["count"]
    if not 1 <= count <= _MOST:
        raise CommandError(f"-n {count}: give a whole number from 1 to {_MOST}.")
    schedule = record.schedule
    now = database_now(database_of(record))
    runs = next_runs(schedule, now, count)
    zone = ZoneInfo(schedule.timezone)
    is_table = options["format"] == "table"
    console.rows(
        (
            {
                "schedule": record.name,
                # For people in the schedule's own zone, where 3:00 is 3:00 all year.
                "at": at.astimezone(zone).isoformat(" ", "seconds") if is_table else at,
                "in": duration(_until(at, now)) if is_table else _until(at, now),
            }
            for at in runs
        ),
        options["format"],
    )
    if not record.is_enabled:
        console.warn(f"The schedule {record.name} is disabled: none of them will run.")
    elif not runs:
        console.warn(f"The schedule {record.name} does not run any more.")
    return 0


def _run_now(console: Console, options: Mapping[str, Any], records: Sequence[ScheduleRecord]) -> int:
    record = _only(records, "run")
    # Its task may be registered by a module that nobody has imported yet.
    import_tasks([name for backend in chosen_backends(options) for name in backend.config.imports])
    try:
        result = run_schedule_now(record.name)
    except (InvalidTask, TypeError, ValueError) as error:
        raise CommandError(f"{record.name}: {error}") from error
    console.line(result.id)
    return 0


def _switch(is_on: bool, console: Console, options: Mapping[str, Any], records: Sequence[ScheduleRecord]) -> int:
    word = "enabled" if is_on else "disabled"
    for record in records:
        is_news = set_schedule_enabled(record.name, is_on)
        console.line(f"The schedule {record.name} is {word}." if is_news else f"The schedule {record.name} was {word}.")
    return 0


_VERBS: dict[str, Callable[[Console, Mapping[str, Any], Sequence[ScheduleRecord]], int]] = {
    "next": _next,
    "run": _run_now,
    "enable": partial(_switch, True),
    "disable": partial(_switch, False),
}


def _rows(records: Sequence[ScheduleRecord], is_table: bool) -> Iterator[Row]:
    states = _last_states(records)
    clocks = {using: database_now(using) for using in {database_of(record) for record in records}}
    for record in records:
        now = clocks[database_of(record)]
        left = None if record.next_at is None else _until(as_utc(record.next_at), now)
        yield {
            "name": record.name,
            "source": record.source,
            "when": in_words(record.schedule),
            "kind": record.kind,
            "expression": record.expression,
            "timezone": record.timezone,
            "task": record.task,
            "backend": record.backend,
            "enabled": record.is_enabled,
            "next": f"{show(record.next_at)} (in {duration(left)})"
            if is_table and left is not None
            else record.next_at,
            "last": record.last_tick_at,
            "last_task": str(record.last_task_id) if record.last_task_id else None,
            "last_state": states.get(record.last_task_id) if record.last_task_id else None,
            "ticks": record.ticks,
            "problem": record.problem if not is_table or record.problem else None,
        }


def _last_states(records: Sequence[ScheduleRecord]) -> dict[UUID, str]:
    """The states of their last tasks, as far as these have not been deleted."""
    ids: dict[str, list[UUID]] = {}
    for record in records:
        if record.last_task_id:
            ids.setdefault(database_of(record), []).append(record.last_task_id)
    return {
        pk: state
        for using, wanted in ids.items()
        for some in (wanted[at : at + _BATCH] for at in range(0, len(wanted), _BATCH))
        for pk, state in TaskRecord.objects.using(using).filter(pk__in=some).values_list("pk", "state")
    }


def _until(at: datetime, now: datetime) -> float:
    return (at - now).total_seconds()


def _only(records: Sequence[ScheduleRecord], verb: str) -> ScheduleRecord:
    if len(records) != 1:
        raise CommandError(f"{verb} takes one name.")
    return records[0]


def _found(name: str) -> ScheduleRecord:
    try:
        return find_schedule(name)
    except UnknownSchedule as error:
        names = [record.name for record in all_schedules()]
        raise CommandError(f"There is no schedule {name!r}{nearest(name, names) or '.'}") from error


SCHEDULES = Subcommand(name="schedules", help="what is due when; run, enable and disable it", arguments=_add, run=_run)
