"""``taskq retry``, ``cancel``, ``requeue``, ``purge``: what is done to many tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ... import control
from .console import Console
from .filters import add_change, add_selection, change
from .subcommand import Subcommand, chosen_backends


def _add(parser: CommandParser) -> None:
    add_selection(parser)
    add_change(parser)


def _retry(console: Console, options: Mapping[str, Any]) -> int:
    return change(
        console, options, "retry", lambda using, meant, is_trial: control.retry(using, meant, dry_run=is_trial)
    )


def _cancel(console: Console, options: Mapping[str, Any]) -> int:
    return change(
        console, options, "cancel", lambda using, meant, is_trial: control.cancel(using, meant, dry_run=is_trial)
    )


def _add_requeue(parser: CommandParser) -> None:
    _add(parser)
    parser.add_argument("--to-queue", metavar="QUEUE", help="move them to this queue")


def _requeue(console: Console, options: Mapping[str, Any]) -> int:
    to_queue = options["to_queue"]
    return change(
        console,
        options,
        "requeue",
        lambda using, meant, is_trial: control.requeue(using, meant, to_queue=to_queue, dry_run=is_trial),
    )


def _add_purge(parser: CommandParser) -> None:
    _add(parser)
    parser.add_argument(
        "--broker",
        action="store_true",
        help="delete the messages of --queue at the message broker, too: tasks that have no row",
    )


def _purge(console: Console, options: Mapping[str, Any]) -> int:
    queue_name = options["queue"]
    if options["broker"] and (not queue_name or set("*?[") & set(queue_name)):
        raise CommandError("--broker: name one queue, by --queue.")
    status = change(
        console, options, "purge", lambda using, meant, is_trial: control.purge(using, meant, dry_run=is_trial)
    )
    if options["broker"] and not options["dry_run"]:
        for backend in chosen_backends(options):
            if backend.config.is_kombu:
                console.line(_emptied(backend.alias, queue_name, control.purge_broker(backend, queue_name)))
    return status


def _emptied(alias: str, queue_name: str, count: int | None) -> str:
    if count is None:
        return f"{alias}: the messages of queue {queue_name} cannot be deleted: each subscriber has its own."
    return f"{alias}: {count} message{'' if count == 1 else 's'} deleted from queue {queue_name} at the broker."


RETRY = Subcommand(
    name="retry", help="let FAILED, CANCELLED and EXPIRED tasks run once more", arguments=_add, run=_retry
)
CANCEL = Subcommand(
    name="cancel", help="cancel tasks: at once what waits; what runs is asked to stop", arguments=_add, run=_cancel
)
REQUEUE = Subcommand(
    name="requeue",
    help="run SCHEDULED tasks now, bring back those of lost workers, or move tasks to another queue",
    arguments=_add_requeue,
    run=_requeue,
)
PURGE = Subcommand(name="purge", help="delete tasks that wait", arguments=_add_purge, run=_purge)
