"""``taskq import-celery-beat``: periodic tasks of django-celery-beat become schedules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import connections

from ...beat_import import Fate, Imported, import_beat
from ...beat_tables import TABLE, has_tables
from ...core.options import nearest
from ...schedules.wording import in_words
from ...worker.startup import import_tasks
from .console import Console, Row, add_format
from .subcommand import Subcommand, add_backend, chosen_backends

_WOULD = {Fate.IMPORTED: "would be imported", Fate.UPDATED: "would be updated"}
_COLUMNS = ("name", "task", "when", "outcome", "notes")


def _add(parser: CommandParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="change nothing; say what would be done")
    parser.add_argument("--update", action="store_true", help="change schedules of the same name, too")
    parser.add_argument(
        "--database",
        default="default",
        metavar="ALIAS",
        help="where its tables are, an alias of DATABASES (%(default)s)",
    )
    add_backend(parser)
    add_format(parser)


def _run(console: Console, options: Mapping[str, Any]) -> int:
    using = options["database"]
    if using not in connections:
        guess = nearest(using, connections) or "."
        raise CommandError(f"--database {using!r} is no alias of DATABASES{guess}")
    import_tasks([name for backend in chosen_backends(options) for name in backend.config.imports])
    if not has_tables(using):
        raise CommandError(f"Database {using!r} has no table {TABLE}: there is nothing of django-celery-beat's in it.")
    is_trial = options["dry_run"]
    done: list[Imported] = []
    try:
        for one in import_beat(using, backend=options["backend"] or "", update=options["update"], dry_run=is_trial):
            done.append(one)  # noqa: PERF402  # what was done before an error is told, too
    finally:
        console.rows((_row(one, is_trial) for one in done), options["format"], columns=_COLUMNS)
        if options["format"] == "table":
            console.line(_summary(done, is_trial))
    return 1 if any(one.fate in {Fate.LEFT_OUT, Fate.DIFFERS} for one in done) else 0


def _row(one: Imported, is_trial: bool) -> Row:
    return {
        "name": one.name,
        "task": one.task,
        "kind": one.schedule.kind if one.schedule else None,
        "expression": one.schedule.expression if one.schedule else None,
        "when": in_words(one.schedule) if one.schedule else None,
        "outcome": _outcome(one.fate, is_trial),
        "notes": "; ".join(one.notes),
    }


def _outcome(fate: Fate, is_trial: bool) -> str:
    return _WOULD.get(fate, fate.value) if is_trial else fate.value


def _summary(done: list[Imported], is_trial: bool) -> str:
    counts = Counter(_outcome(one.fate, is_trial) for one in done)
    return (
        f"{len(done)} periodic task{'' if len(done) == 1 else 's'}: "
        + (", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "nothing to do")
        + "."
    )


IMPORT_BEAT = Subcommand(
    name="import-celery-beat",
    help="make schedules of the periodic tasks of django-celery-beat",
    arguments=_add,
    run=_run,
)
