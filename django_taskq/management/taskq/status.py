"""``taskq status`` and ``taskq top``: how things stand."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from typing import Any, NoReturn

from django.core.management.base import CommandParser

from ...overview import MOST, NEWEST, Overview, overview
from .console import Console, add_format, duration, is_terminal
from .subcommand import Subcommand, add_backend, by_database, chosen_backends


def _add(parser: CommandParser) -> None:
    add_backend(parser)
    add_format(parser)
    parser.add_argument("--no-broker", action="store_true", help="do not ask message brokers how much waits there")


def _add_top(parser: CommandParser) -> None:
    add_backend(parser)
    parser.add_argument(
        "--interval", type=float, default=2.0, metavar="SECONDS", help="between two looks (%(default)s)"
    )
    parser.add_argument("--once", action="store_true", help="look once, and end")


def _status(console: Console, options: Mapping[str, Any]) -> int:
    found = _look(options, asks_brokers=not options["no_broker"])
    if options["format"] == "json":
        console.document([_record(one) for one in found])
    elif options["format"] == "jsonl":
        console.rows([_record(one) for one in found], "jsonl")
    else:
        show(console, found)
    return 0


def _top(console: Console, options: Mapping[str, Any]) -> int:
    if options["once"]:
        show(console, _look(options))
        return 0
    try:
        if is_terminal(console.out):
            _follow(console, options)
        while True:
            show(console, _look(options))
            console.line()
            time.sleep(_interval(options))
    except KeyboardInterrupt:
        # The way to end it.
        return 0


def _interval(options: Mapping[str, Any]) -> float:
    return max(float(options["interval"]), 0.1)


def _follow(console: Console, options: Mapping[str, Any]) -> NoReturn:
    live = None
    if find_spec("rich") is not None:
        live = import_module("rich.live").Live(screen=True, auto_refresh=False)
        live.start()
    try:
        while True:
            page = StringIO()
            show(Console(page, console.err), _look(options))
            page.write("\nCtrl-C ends it.\n")
            if live is not None:
                live.update(import_module("rich.text").Text(page.getvalue()), refresh=True)
            else:
                console.out.write(f"\x1b[H\x1b[2J{page.getvalue()}")
                console.out.flush()
            time.sleep(_interval(options))
    finally:
        if live is not None:
            live.stop()


def _look(options: Mapping[str, Any], *, asks_brokers: bool = False) -> list[Overview]:
    databases = by_database(chosen_backends(options))
    return [overview(using, backends, asks_brokers=asks_brokers) for using, backends in databases.items()]


def show(console: Console, found: Sequence[Overview]) -> None:
    """Print it for people."""
    for one in found:
        total = "" if one.total is None else f", about {one.total:,} rows"
        console.line(f"Database {one.database}{total}")
        due = "" if one.next_due is None else f", the next is due in {duration(max(one.next_due, 0.0))}"
        running = sum(queue.running for queue in one.queues)
        console.line(f"  scheduled {_many(one.scheduled)}{due}")
        console.line(f"  running   {running}, on {one.alive} of {len(one.workers)} worker processes alive")
        ended = ", ".join(f"{count:,} {state}" for state, count in one.ended.items()) or "none"
        is_cut = sum(one.ended.values()) >= NEWEST
        console.line(f"  ended     within the last hour: {ended}{f' (of the newest {NEWEST:,})' if is_cut else ''}")
        if one.paused.tasks:
            console.line(f"  paused    tasks {', '.join(sorted(one.paused.tasks))}")
        console.line()
        queues = [
            {
                "queue": queue.queue,
                "backend": queue.backend,
                "ready": _many(queue.ready),
                "running": queue.running,
                "oldest wait": duration(queue.oldest_wait),
                "broker": queue.broker,
                "paused": "PAUSED" if queue.is_paused else "",
            }
            for queue in one.queues
        ]
        console.table(queues)
        if queues:
            console.line()
        console.table(
            [
                {
                    "worker": worker.id,
                    "host": worker.host,
                    "pid": worker.pid,
                    "queues": worker.queues,
                    "running": worker.running,
                    "last heard of": f"{duration(worker.silent_for)} ago",
                    "alive": worker.is_alive,
                }
                for worker in one.workers
            ]
        )


def _record(one: Overview) -> dict[str, Any]:
    return {**asdict(one), "paused": {"queues": sorted(one.paused.queues), "tasks": sorted(one.paused.tasks)}}


def _many(count: int) -> str:
    return f"{count:,}{'+' if count >= MOST else ''}"


STATUS = Subcommand(name="status", help="what waits, runs and has ended, and who works", arguments=_add, run=_status)
TOP = Subcommand(name="top", help="the same, again and again", arguments=_add_top, run=_top)
