"""``taskq enqueue``: call a task from a shell."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ... import registry
from ...compat import InvalidTask
from ...core import codec
from ...core.duration import parse_duration
from ...core.options import nearest
from ...exceptions import UnknownTask
from ...worker.startup import import_tasks
from .console import Console
from .subcommand import Subcommand, add_backend, chosen_backends


def _add(parser: CommandParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the task, by its registered name")
    parser.add_argument(
        "--args", dest="positional", default="[]", metavar="JSON", help="positional arguments, a JSON list"
    )
    parser.add_argument(
        "--kwargs", dest="keyword", default="{}", metavar="JSON", help="keyword arguments, a JSON object"
    )
    parser.add_argument("--queue", metavar="QUEUE", help="another queue than the task's own")
    parser.add_argument("--priority", type=int, metavar="N", help="another priority, -100 to 100")
    parser.add_argument("--delay", metavar="DURATION", help="run it after this time: 90s, 15m, 1h")
    add_backend(parser)


def _run(console: Console, options: Mapping[str, Any]) -> int:
    backends = chosen_backends(options)
    imports = [name for backend in backends for name in backend.config.imports]
    import_tasks(imports)
    try:
        task = registry.resolve(options["name"], imports)
    except UnknownTask as error:
        guess = nearest(options["name"], registry.task_names()) or "."
        raise CommandError(f"{str(error).rstrip('.')}{guess}") from error
    args, kwargs = _json(options["positional"], "--args", list), _json(options["keyword"], "--kwargs", dict)
    changes: dict[str, Any] = {}
    if options["queue"]:
        changes["queue_name"] = options["queue"]
    if options["priority"] is not None:
        changes["priority"] = options["priority"]
    if options["delay"]:
        changes["run_after"] = timedelta(seconds=parse_duration(options["delay"], "--delay"))
    if options["backend"]:
        changes["backend"] = options["backend"]
    try:
        result = (task.using(**changes) if changes else task).enqueue(*args, **kwargs)
    except (InvalidTask, TypeError, ValueError) as error:
        raise CommandError(str(error)) from error
    console.line(result.id)
    return 0


def _json(text: str, option: str, kind: type) -> Any:
    try:
        value = codec.decode(text)
    except (ValueError, TypeError) as error:
        raise CommandError(f"{option} is not JSON: {error}") from error
    if not isinstance(value, kind):
        raise CommandError(f"{option} must be a JSON {'list' if kind is list else 'object'}.")
    return value


ENQUEUE = Subcommand(name="enqueue", help="enqueue a registered task, and print its id", arguments=_add, run=_run)
