"""Arguments that say which tasks are meant, and how a change to many of them is carried out and told of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias
from uuid import UUID

from django.core.management.base import CommandError, CommandParser
from django.db import Error as DatabaseProblem

from ...control import Report
from ...core.duration import parse_duration
from ...core.options import nearest
from ...core.states import State
from ...selection import Selection
from .console import Console
from .subcommand import add_backend, by_database, chosen_backends

#: what is done to the tasks that are meant, in one database; the last argument: only say what would be done
Action: TypeAlias = Callable[[str, Selection, bool], Report]

#: what shells report of a program that Ctrl-C ended: 128 + SIGINT
_INTERRUPTED = 130


def add_selection(parser: CommandParser) -> None:
    """Which tasks."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="ids of tasks")
    parser.add_argument("--state", action="append", metavar="STATE", help="only this state; repeatable")
    parser.add_argument("--task", default="", metavar="NAME", help='only tasks of this name, or pattern: "shop.*"')
    parser.add_argument("--queue", default="", metavar="QUEUE", help='only this queue, or pattern: "report*"')
    parser.add_argument(
        "--older-than", metavar="DURATION", help="enqueued, or ended, longer ago than this: 90s, 15m, 1h, 7d, 2w"
    )
    parser.add_argument("--newer-than", metavar="DURATION", help="enqueued, or ended, within this time")
    parser.add_argument(
        "--error", default="", metavar="TEXT", help="with this in an error's class, message or traceback"
    )
    parser.add_argument("--group", default="", metavar="ID", help="failed in the same way: the group's id in the admin")
    parser.add_argument("--worker", default="", metavar="ID", help="claimed by the worker process of this id")
    add_backend(parser)


def add_change(parser: CommandParser) -> None:
    """How it is done."""
    parser.add_argument("--all", action="store_true", help="every task, where no filter is given")
    parser.add_argument("--limit", type=int, metavar="N", help="at most so many, the oldest first")
    parser.add_argument("--dry-run", action="store_true", help="change nothing; say what would be done")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def selection_of(options: Mapping[str, Any]) -> Selection:
    """What these arguments mean. Raises ``CommandError`` and ``OptionError``."""
    limit = options["limit"]
    if limit is not None and limit < 1:
        raise CommandError(f"--limit {limit}: give a whole number from 1 up.")
    return Selection(
        ids=tuple(dict.fromkeys(task_id(text) for text in options["ids"])),
        states=frozenset(_state(text) for text in _many(options["state"])),
        task=options["task"],
        queue=options["queue"],
        backend=options["backend"] or "",
        older_than=_seconds(options["older_than"], "--older-than"),
        newer_than=_seconds(options["newer_than"], "--newer-than"),
        error=options["error"],
        worker=options["worker"],
        group=options["group"],
        limit=limit,
    )


def change(console: Console, options: Mapping[str, Any], verb: str, act: Action) -> int:
    """Do something to all tasks that are meant, once somebody has confirmed it."""
    databases = list(by_database(chosen_backends(options)))
    selection = selection_of(options)
    if selection.is_everything and not options["all"]:
        raise CommandError(
            f"Say which tasks to {verb}: ids, or a filter such as --state, --task or --queue; --all for every one."
        )
    if options["dry_run"] or not options["yes"]:
        changed, counts = _carry_out(databases, selection, act, is_trial=True)
        if options["dry_run"]:
            console.line(f"Would {verb} {tasks(changed)} ({told(counts)}).")
            return 0
        if not changed:
            console.line(f"Nothing to {verb}: {told(counts)}.")
            return 0
        console.confirm(f"{verb.capitalize()} {tasks(changed)} ({told(counts)})?")
    _, counts = _carry_out(databases, selection, act, is_trial=False)
    text = told(counts)
    console.line(f"{text[0].upper()}{text[1:]}.")
    return 0


def _carry_out(
    databases: Sequence[str], selection: Selection, act: Action, *, is_trial: bool
) -> tuple[int, Counter[str]]:
    counts: Counter[str] = Counter()
    changed = 0
    try:
        for using in databases:
            left = None if selection.limit is None else selection.limit - counts.total()
            if left is None or left > 0:
                report = act(using, replace(selection, limit=left), is_trial)
                counts.update(report.counts)
                changed += report.changed
    except DatabaseProblem as error:
        raise CommandError(f"{error}\nBefore that: {told(counts)}. Say it again for the rest.") from error
    except KeyboardInterrupt as error:
        raise CommandError(
            "Interrupted. What was done stays done; say it again for the rest.", returncode=_INTERRUPTED
        ) from error
    if selection.ids and selection == Selection(ids=selection.ids, backend=selection.backend):
        counts["not found"] += max(len(selection.ids) - counts.total(), 0)
    return changed, counts


def told(counts: Mapping[str, int]) -> str:
    """Counts by reason, as a sentence."""
    return ", ".join(f"{count} {reason}" for reason, count in counts.items() if count) or "no task is meant"


def tasks(count: int) -> str:
    """So many of them."""
    return f"{count} task{'' if count == 1 else 's'}"


def task_id(text: str) -> str:
    """The id of a task as somebody has written it. Raises ``CommandError``."""
    try:
        return str(UUID(text))
    except ValueError as error:
        raise CommandError(
            f"{text!r} is not the id of a task: ids look like 0199c0de-0000-7000-8000-000000000000."
        ) from error


def _state(text: str) -> State:
    wanted = text.strip().upper()
    if wanted not in State.__members__:
        guess = nearest(wanted, [state.value for state in State]) or "."
        raise CommandError(f"--state {text!r} is not a state{guess} Known: {', '.join(State)}.")
    return State(wanted)


def _many(values: Sequence[str] | str | None) -> Sequence[str]:
    """``call_command("taskq", "list", state="FAILED")`` means the same as a list of one."""
    return [values] if isinstance(values, str) else values or ()


def _seconds(text: str | None, option: str) -> float | None:
    return None if text is None else parse_duration(text, option)
