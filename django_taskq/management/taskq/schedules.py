"""``taskq schedules``: what is due when; run, enable and disable it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError, CommandParser

from ...core.options import nearest
from ...database import as_utc, database_now
from ...exceptions import UnknownSchedule
from ...models import ScheduleRecord, TaskRecord
from ...schedule_control import all_schedules, find_schedule, run_schedule_now, set_schedule_enabled
from ...schedules.definition import next_runs
from ...schedules.wording import in_words
from ...worker.startup import import_tasks
from .console import Console, Row, add_format, duration
from .subcommand import Subcommand, add_backend, chosen_backends

_COLUMNS = ("name", "source", "when", "task", "enabled", "next", "last", "last_state", "problem")
#: next runs that are shown at most
_MOST = 1000


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
        console.rows(_rows(records), options["format"], columns=_COLUMNS)
        return 0
    if not names:
        raise CommandError(f"Say which schedule to {verb}.")
    # All of them, before something is done to the first.
    records = [_found(name) for name in dict.fromkeys(names)]
    return _VERBS[verb](console, options, records)


def _next(console: Console, options: Mapping[str, Any], records: Sequence[ScheduleRecord]) -> int:
    (record,) = _one(records, "next")
    count = options["count"]
    if not 1 <= count <= _MOST:
        raise CommandError(f"-n {count}: give a whole number from 1 to {_MOST}.")
    schedule = record.schedule
    now = database_now(record._state.db or "default")  # noqa: SLF001  # where it was read
    runs = next_runs(schedule, now, count)
    console.rows(
        [{"schedule": record.name, "at": at, "in": (at - now).total_seconds()} for at in runs]
        if options["format"] != "table"
        else [{"at": at.astimezone(_zone(schedule.timezone)).isoformat(" ", "seconds"), "in": duration((at - now).total_seconds())} for at in runs],
        options["format"],
    )
    if not record.is_enabled:
        console.warn(f"The schedule {record.name} is disabled: none of them will run.")
    elif not runs:
        console.warn(f"The schedule {record.name} does not run any more.")
    return 0
