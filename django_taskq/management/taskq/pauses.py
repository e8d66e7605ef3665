"""``taskq queues`` and ``taskq tasks``: what is there, and pausing it."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, TypeAlias

from django.core.management.base import CommandError, CommandParser

from ... import control, registry
from ...core.queues import MAX_QUEUE_NAME
from ...models import PauseRecord
from ...overview import overview
from ...publication import known_queues
from ...worker.startup import import_tasks
from .console import Console, add_format
from .subcommand import Subcommand, add_backend, by_database, chosen_backends

_Kind: TypeAlias = Literal["queue", "task"]
_Rows: TypeAlias = Callable[[Mapping[str, Any]], list[dict[str, Any]]]

_VERBS = ("list", "pause", "resume")
_LONGEST = {"queue": MAX_QUEUE_NAME, "task": 255}


def _add(kind: _Kind, parser: CommandParser) -> None:
    parser.add_argument("verb", nargs="?", choices=_VERBS, default="list", help="list (default), pause or resume")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{kind}s to pause or resume")
    add_backend(parser)
    add_format(parser)


def _run(kind: _Kind, rows: _Rows, console: Console, options: Mapping[str, Any]) -> int:
    verb, names = options["verb"], options["names"]
    if verb == "list":
        if names:
            raise CommandError(f"list takes no names. Did you mean: pause {' '.join(names)}?")
        console.rows(rows(options), options["format"])
        return 0
    if not names:
        raise CommandError(f"Say which {kind}s to {verb}.")
    for name in names:
        if not 0 < len(name) <= _LONGEST[kind]:
            raise CommandError(f"{name[:20]!r}: the name of a {kind} has 1 to {_LONGEST[kind]} characters.")
    databases = list(by_database(chosen_backends(options)))
    for name in names:
        if verb == "pause":
            is_news = sum(control.pause(using, kind, name, by=_whoami()) for using in databases)
            console.line(f"Paused {kind} {name}." if is_news else f"The {kind} {name} was paused before.")
        else:
            is_news = sum(control.resume(using, kind, name) for using in databases)
            console.line(f"Resumed {kind} {name}." if is_news else f"The {kind} {name} was not paused.")
    return 0


def _queues(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for using, backends in by_database(chosen_backends(options)).items():
        pauses = _pauses(using, "queue")
        found = {(one.backend, one.queue): one for one in overview(using, backends, asks_brokers=True).queues}
        for backend in backends:
            names = known_queues([backend]) | {queue for alias, queue in found if alias == backend.alias} | set(pauses)
            for name in sorted(names):
                one, pause = found.get((backend.alias, name)), pauses.get(name)
                rows.append(
                    {
                        "queue": name,
                        "backend": backend.alias,
                        "ready": one.ready if one else 0,
                        "running": one.running if one else 0,
                        "oldest_wait": one.oldest_wait if one else None,
                        "broker": one.broker if one else None,
                        "paused_at": pause.paused_at if pause else None,
                        "paused_by": pause.paused_by if pause else "",
                    }
                )
    return rows


def _tasks(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    backends = chosen_backends(options)
    import_tasks([name for backend in backends for name in backend.config.imports])
    pauses: dict[str, PauseRecord] = {}
    for using in by_database(backends):
        pauses |= _pauses(using, "task")
    tasks = {registry.registered_name(task): task for task in registry.tasks()}
    rows = []
    for name in sorted({*tasks, *pauses}):
        task, pause = tasks.get(name), pauses.get(name)
        rows.append(
            {
                "task": name,
                "queue": task.queue_name if task else None,
                "backend": task.backend if task else None,
                "paused_at": pause.paused_at if pause else None,
                "paused_by": pause.paused_by if pause else "",
            }
        )
    return rows


def _pauses(using: str, kind: _Kind) -> dict[str, PauseRecord]:
    return {pause.name: pause for pause in control.paused(using) if pause.kind == kind}


def _whoami() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        # A container's user may have no name.
        return socket.gethostname()


QUEUES = Subcommand(
    name="queues",
    help="the queues; pause and resume them",
    arguments=partial(_add, "queue"),
    run=partial(_run, "queue", _queues),
)
TASKS = Subcommand(
    name="tasks",
    help="the tasks by name; pause and resume them",
    arguments=partial(_add, "task"),
    run=partial(_run, "task", _tasks),
)
