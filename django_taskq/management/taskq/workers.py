"""``taskq workers``: who works, and orders to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ... import control
from ...core import codec
from ...overview import WorkerState, worker_states
from ...worker.remote import VERBS, Verb
from .console import Console, add_format
from .subcommand import Subcommand, add_backend, by_database, chosen_backends


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a worker process says; None: nothing in time."""

    worker: WorkerState
    text: str | None

    @property
    def facts(self) -> dict[str, Any]:
        found = codec.decode(self.text) if self.text else None
        return found if isinstance(found, dict) else {}


def _add(parser: CommandParser) -> None:
    parser.add_argument(
        "verb", nargs="?", choices=("list", *VERBS), default="list", help=f"list (default), {', '.join(VERBS)}"
    )
    parser.add_argument("workers", nargs="*", metavar="WORKER", help="names of workers, or ids of their processes")
    parser.add_argument("--all", action="store_true", help="all workers, for drain and stop")
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="SECONDS", help="to wait for answers (%(default)s)"
    )
    add_backend(parser)
    add_format(parser)


def _run(console: Console, options: Mapping[str, Any]) -> int:
    databases = by_database(chosen_backends(options))
    named = options["workers"]
    verb = options["verb"]
    if verb in {"drain", "stop"} and not (named or options["all"]):
        raise CommandError(f"Say which workers to {verb}, or --all.")
    found = {using: [one for one in worker_states(using) if _is_meant(one, named)] for using in databases}
    if verb == "list":
        console.rows([asdict(one) for states in found.values() for one in states], options["format"])
        return 0
    answered = [
        one for using, states in found.items() for one in _order(using, verb, _told(verb, states), options["timeout"])
    ]
    if not answered:
        raise CommandError("No such worker is alive." if named else "No worker is alive.")
    _print(console, answered, verb, options["format"])
    return 0 if all(one.text is not None for one in answered) else 1


def _is_meant(worker: WorkerState, named: Sequence[str]) -> bool:
    return not named or worker.id in named or worker.name in named


def _told(verb: Verb, states: Sequence[WorkerState]) -> list[WorkerState]:
    alive = [one for one in states if one.is_alive]
    if verb != "stop":
        return alive
    # One process stops all of its worker; the others may be gone before they can answer.
    return list({one.name: one for one in reversed(alive)}.values())


def _order(using: str, verb: Verb, workers: Sequence[WorkerState], timeout: float) -> list[_Answer]:
    if not workers:
        return []
    orders = control.order(using, verb, [one.id for one in workers])
    answers = control.answers(using, orders, timeout)
    return [_Answer(one, answers[one.id].answer if one.id in answers else None) for one in workers]


def _print(console: Console, answered: Sequence[_Answer], verb: Verb, form: str) -> None:
    if form != "table":
        rows = (
            {"worker": one.worker.id, "answer": one.text if verb == "stacks" else one.facts or None} for one in answered
        )
        console.rows(rows, form)
    elif verb == "stacks":
        for one in answered:
            console.line(f"---- {one.worker.id}, pid {one.worker.pid} on {one.worker.host}")
            console.line(one.text if one.text is not None else "no answer")
    else:
        console.table([_row(one) for one in answered])


def _row(one: _Answer) -> dict[str, Any]:
    facts = one.facts
    doing = "stops" if facts.get("stopping") else "drains" if facts.get("quiet") else "works"
    return {
        "worker": one.worker.id,
        "host": one.worker.host,
        "pid": one.worker.pid,
        "answer": "no answer" if one.text is None else doing,
        "running": len(facts.get("running", ())) if facts else None,
        "since": facts.get("since"),
    }


WORKERS = Subcommand(
    name="workers",
    help="the workers; ping, drain, resume or stop them, or ask where their threads are",
    arguments=_add,
    run=_run,
)
