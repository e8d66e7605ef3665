"""``taskq list`` and ``taskq show``: tasks to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError, CommandParser

from ...core import codec
from ...models import TaskRecord
from ...sight import SPOILT, sight_of
from .console import Console, Row, add_format, show
from .filters import add_selection, selection_of
from .subcommand import Subcommand, add_backend, by_database, chosen_backends

_COLUMNS = ("id", "name", "state", "queue", "priority", "attempt", "enqueued_at", "finished_at", "duration", "worker")
#: columns that may hold megabytes
_LONG = ("arguments", "options", "metadata", "result", "errors", "progress", "worker_ids", "headers", "log")


def _add_list(parser: CommandParser) -> None:
    add_selection(parser)
    add_format(parser)
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many, the newest (%(default)s)")


def _list(console: Console, options: Mapping[str, Any]) -> int:
    if options["limit"] < 1:
        raise CommandError(f"--limit {options['limit']}: give a whole number from 1 up.")
    backends = chosen_backends(options)
    selection = replace(selection_of(options), limit=None)
    found: list[TaskRecord] = []
    for using in by_database(backends):
        found += selection.rows(using).order_by("-pk").defer(*_LONG)[: options["limit"]]
    found.sort(key=lambda record: record.pk, reverse=True)
    console.rows((_short(record) for record in found[: options["limit"]]), options["format"], columns=_COLUMNS)
    return 0


def _short(record: TaskRecord) -> Row:
    return {
        "id": str(record.pk),
        "name": record.name,
        "state": record.state,
        "queue": record.queue_name,
        "priority": record.priority,
        "attempt": record.attempt,
        "enqueued_at": record.enqueued_at,
        "finished_at": record.finished_at,
        "duration": record.duration,
        "worker": record.worker_id,
    }


def _add_show(parser: CommandParser) -> None:
    parser.add_argument("id", metavar="ID", help="the task's id")
    add_backend(parser)
    add_format(parser)


def _show(console: Console, options: Mapping[str, Any]) -> int:
    record = _find(options)
    whole = _whole(record)
    if options["format"] != "table":
        console.rows([whole], "jsonl") if options["format"] == "jsonl" else console.document(whole)
        return 0
    errors, log = whole.pop("errors"), whole.pop("log")
    width = max(map(len, whole))
    for name, value in whole.items():
        if value not in (None, "", [], {}):
            text = value if isinstance(value, str) else codec_text(value)
            console.line(f"{name:<{width}}  {text}")
    if log:
        console.line("\nLog:")
    for line in log:
        console.line(f"  {show(line)}")
    for error in errors:
        console.line()
        console.line(f"Attempt {error['attempt']}, {error['at']}, worker {error['worker']}:")
        console.line(error["traceback"] or f"{error['exception_class_path']}: {error['message']}")
    return 0


def codec_text(value: Any) -> str:
    """A value of a task's page on one line."""
    return codec.encode(value) if isinstance(value, (dict, list)) else show(value)


def _find(options: Mapping[str, Any]) -> TaskRecord:
    try:
        task_id = UUID(options["id"])
    except ValueError as error:
        raise CommandError(f"{options['id']!r} is not the id of a task.") from error
    backends = chosen_backends(options)
    for using in by_database(backends):
        record = TaskRecord.objects.using(using).filter(pk=task_id).first()
        if record is not None:
            return record
    raise CommandError(f"There is no task {task_id}: it was deleted, or never had a row.")


def _whole(record: TaskRecord) -> dict[str, Any]:
    sight = sight_of(record)

    def seen(text: str | None) -> Any:
        return sight.value(_json(text and sight.text(text)))

    try:
        errors = [asdict(error) for error in record.attempt_errors]
    except SPOILT:
        errors = []
    for error in errors:
        error |= {name: sight.text(error[name]) for name in ("message", "traceback")}
    return {
        **_short(record),
        "backend": record.backend,
        "arguments": sight.arguments,
        "options": seen(record.options),
        "metadata": seen(record.metadata),
        "result": seen(record.result),
        "progress": seen(record.progress),
        "run_after": record.run_after,
        "expires_at": record.expires_at,
        "started_at": record.started_at,
        "last_attempted_at": record.last_attempted_at,
        "published_at": record.published_at,
        "workers": record.worker_ids.split("\n")[:-1],
        "losses": record.losses,
        "max_deliveries": record.max_deliveries,
        "acks_late": record.acks_late,
        "cancel_requested": record.cancel_requested,
        "headers": seen(record.headers),
        "log": sight.text(record.log).splitlines(),
        "errors": errors,
    }


def _json(text: str | None) -> Any:
    try:
        return codec.decode(text) if text else None
    except SPOILT:
        return text


LIST = Subcommand(name="list", help="tasks, the newest first", arguments=_add_list, run=_list)
SHOW = Subcommand(name="show", help="everything about one task", arguments=_add_show, run=_show)
