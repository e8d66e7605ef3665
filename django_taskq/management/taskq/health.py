"""``taskq health``: rules for monitoring; a line for each that does not hold."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.core.management.base import CommandParser
from django.db import Error as DatabaseProblem

from ...core.duration import parse_duration
from ...exceptions import OptionError
from ...overview import MOST, Overview, QueueState, overview
from .console import Console, duration
from .subcommand import Subcommand, add_backend, by_database, chosen_backends


def max_wait(text: str) -> tuple[str, float]:
    """``mail=60s`` as queue and seconds; "" for any queue."""
    queue_name, _, wait = text.rpartition("=")
    try:
        return queue_name, parse_duration(wait, "--max-wait")
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def max_depth(text: str) -> tuple[str, int]:
    """``mail=1000`` as queue and number; "" for any queue."""
    queue_name, _, count = text.rpartition("=")
    return queue_name, _count(count)


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 0 up.")
    return int(text)


def _add(parser: CommandParser) -> None:
    parser.add_argument(
        "--max-wait",
        action="append",
        type=max_wait,
        metavar="[QUEUE=]DURATION",
        help="no task of this queue (none given: of any that is not paused) may have waited longer; repeatable",
    )
    parser.add_argument(
        "--max-depth",
        action="append",
        type=max_depth,
        metavar="[QUEUE=]N",
        help="this queue (none given: any that is not paused) may have no more tasks that wait to run; repeatable",
    )
    parser.add_argument("--min-workers", type=_count, metavar="N", help="so many worker processes must be alive")
    add_backend(parser)


def _run(console: Console, options: Mapping[str, Any]) -> int:
    databases = by_database(chosen_backends(options))
    # As far as a rule has to know.
    most = max([MOST, *(allowed + 1 for _, allowed in options["max_depth"] or ())])
    try:
        found = [overview(using, backends, most=most) for using, backends in databases.items()]
    except DatabaseProblem as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        console.line(f"database: it cannot be asked: {reason}")
        return 1
    failures = list(_failures(found, options))
    for failure in failures:
        console.line(failure)
    if not failures:
        workers = sum(one.alive for one in found)
        console.line(f"ok: {workers} worker process{'' if workers == 1 else 'es'} alive")
    return 1 if failures else 0


def _failures(found: Sequence[Overview], options: Mapping[str, Any]) -> Iterator[str]:
    queues = [queue for one in found for queue in one.queues]
    for name, most in options["max_wait"] or ():
        for queue in _meant(queues, name, options["max_wait"]):
            if queue.oldest_wait is not None and queue.oldest_wait > most:
                yield f"max-wait: queue {queue.queue} has waited {duration(queue.oldest_wait)}, allowed {duration(most)}"
    for name, most in options["max_depth"] or ():
        for queue in _meant(queues, name, options["max_depth"]):
            if queue.ready > most:
                yield f"max-depth: queue {queue.queue} has {queue.ready} tasks that wait, allowed {most}"
    workers = sum(one.alive for one in found)
    if options["min_workers"] is not None and workers < options["min_workers"]:
        yield f"min-workers: {workers} alive, wanted {options['min_workers']}"


def _meant(queues: Sequence[QueueState], name: str, rules: Sequence[tuple[str, float]]) -> list[QueueState]:
    """The queues that a rule is about: by its name, or else those that have no rule of their own.

    What is paused waits because somebody wants it to.
    """
    if name:
        return [queue for queue in queues if queue.queue == name]
    own = {named for named, _ in rules}
    return [queue for queue in queues if not queue.is_paused and queue.queue not in own]


HEALTH = Subcommand(
    name="health",
    help="exit 0 when all rules hold, else 1 with a line for each that does not",
    arguments=_add,
    run=_run,
)
