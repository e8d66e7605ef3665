"""``manage.py cleartasks``: delete the rows of tasks that have ended, and their results where nobody else does."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from ...aliases import taskq_backends
from ...backend import TaskqBackend
from ...conf import OptionsError
from ...core.duration import parse_duration
from ...core.options import nearest
from ...core.queues import QueueSelection
from ...core.states import FINAL, State
from ...exceptions import OptionError, ResultStoreError
from ...keeper.stores import StoreSweep, store_sweeps
from ...retention import Sweep, Wish, carry_out, plan
from ...transitions.prune import count_finished
from ...worker.startup import CannotStart, import_tasks
from ..interrupt import noted_interrupt
from ..progress import progress

#: rows per transaction: 15 to 100 ms of the database's time, so that nobody waits for it
_BATCH_SIZE = 5_000
#: the ids of a batch stand in one statement (MySQL's max_allowed_packet is 16 MB)
_MAX_BATCH_SIZE = 100_000
#: what shells report of a program that Ctrl-C ended: 128 + SIGINT
_INTERRUPTED = 130

_FINAL_NAMES = ", ".join(sorted(FINAL))


class Command(BaseCommand):
    """Translates the command line into a plan, carries it out, and says how many rows went, and results in stores."""

    help = (
        "Deletes the rows of tasks that have ended. Without arguments: what is older than result_ttl and "
        "failure_ttl in OPTIONS or of the task, as the workers do by themselves. Where results are in a store that does "
        "not delete by itself what is over (file://, s3://, gs:// and others), that goes, too, by the same times, "
        "unless --state or --queues ask for certain rows."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Each narrows down or changes what goes; none is needed."""
        # nargs="?" only for the sake of the message: "-1h" looks like an option to argparse.
        duration: dict[str, Any] = {"metavar": "DURATION", "nargs": "?", "const": "", "type": _duration_text}
        parser.add_argument(
            "--older-than",
            help="delete what ended longer ago than this (90s, 15m, 1h, 7d, 2w; 0s: all), whatever OPTIONS say",
            **duration,
        )
        parser.add_argument(
            "--failed-older-than", help="the same for FAILED tasks, where it wins over --older-than", **duration
        )
        parser.add_argument(
            "--state", action="append", metavar="STATE", help=f"only this state, one of {_FINAL_NAMES}; repeatable"
        )
        parser.add_argument(
            "--queues",
            "--queue",
            action="append",
            metavar="QUEUES",
            help='only these queues, by name or pattern: --queues=mail,"report*",-slow; repeatable',
        )
        parser.add_argument(
            "--backend", action="append", metavar="ALIAS", help="only tasks of this alias of TASKS; repeatable"
        )
        parser.add_argument("--dry-run", action="store_true", help="delete nothing, say how many rows would go")
        parser.add_argument(
            "--batch-size", type=int, default=_BATCH_SIZE, metavar="ROWS", help="rows per transaction (%(default)s)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print one line that says how many rows went, or would go. Raises ``CommandError``."""
        try:
            batch_size = _batch_size(options["batch_size"])
            backends, wish = _backends(options["backend"]), _wish(options)
            # They say how long their results are kept.
            import_tasks([name for backend in backends for name in backend.config.imports])
            sweeps = plan(backends, wish)
            if options["dry_run"]:
                text = f"Would delete {_tasks(_count(sweeps))}."
            else:
                text = f"Deleted {_tasks(self._delete(sweeps, batch_size, quiet=options['verbosity'] < 1))}."
        except (OptionError, OptionsError, DatabaseError, CannotStart) as error:
            raise CommandError(str(error)) from error
        if options["verbosity"] >= 1:
            self.stdout.write(text)
        if not options["state"] and not options["queues"]:
            self._clear_stores(backends, dry_run=options["dry_run"], quiet=options["verbosity"] < 1)

    def _clear_stores(self, backends: Sequence[TaskqBackend], *, dry_run: bool, quiet: bool) -> None:
        """All of them, also after one has failed. Raises ``CommandError`` for those that have."""
        stores, troubles = store_sweeps(backends)
        problems = [f"{alias}: {trouble}" for alias, trouble in troubles]
        for store in stores:
            try:
                text = f"Would delete what is over in {store.name}." if dry_run else _cleared(store)
            except ResultStoreError as error:
                problems.append(str(error))
            except KeyboardInterrupt as error:
                raise CommandError(f"Interrupted. {store.name} is not done.", returncode=_INTERRUPTED) from error
            else:
                if not quiet:
                    self.stdout.write(text)
        if problems:
            raise CommandError("\n".join(["Not all results that are over could be deleted.", *problems]))

    def _delete(self, sweeps: Sequence[Sweep], batch_size: int, *, quiet: bool) -> int:
        deleted = 0
        interruption = ""
        watched = not quiet and self.stderr.isatty()
        # Counting takes a moment, and serves the display alone.
        total = _count(sweeps) if watched else 0
        try:
            with progress(sys.stderr, total, "Deleting", shown=watched) as show, noted_interrupt() as interrupted:
                for count in carry_out(sweeps, batch_size):
                    deleted += count
                    show(deleted)
                    if interrupted():
                        interruption = "Interrupted. Deleted"
                        break
        except KeyboardInterrupt:
            # The second one: nobody knows whether the batch at hand was committed.
            interruption = "Interrupted. Deleted at least"
        except DatabaseError as error:
            raise CommandError(f"{error}\nDeleted {_tasks(deleted)} before that.") from error
        if interruption:
            raise CommandError(f"{interruption} {_tasks(deleted)} before that.", returncode=_INTERRUPTED)
        return deleted


def _cleared(store: StoreSweep) -> str:
    deleted = store.carry_out()
    if deleted < 0:
        return f"Deleted what was over in {store.name}; it does not say how much."
    return f"Deleted {deleted} result{'' if deleted == 1 else 's'} from {store.name}."


def _count(sweeps: Iterable[Sweep]) -> int:
    return sum(count_finished(sweep.using, sweep.which) for sweep in sweeps)


def _tasks(count: int) -> str:
    return f"{count} finished task{'' if count == 1 else 's'}"


def _duration_text(text: str) -> str:
    if not text:
        raise ArgumentTypeError("give a duration such as 90s, 1h or 7d; it cannot be negative")
    return text


def _wish(options: Mapping[str, Any]) -> Wish:
    states = _states(options["state"])
    if options["failed_older_than"] is not None and State.FAILED not in states:
        raise CommandError("--failed-older-than is about FAILED tasks, which --state leaves out.")
    return Wish(
        older_than=_seconds(options, "older_than", "--older-than"),
        failed_older_than=_seconds(options, "failed_older_than", "--failed-older-than"),
        states=states,
        queues=QueueSelection.parse(",".join(_many(options["queues"]))) if options["queues"] else QueueSelection(),
        any_backend=not options["backend"],
    )


def _seconds(options: Mapping[str, Any], name: str, flag: str) -> float | None:
    text = options[name]
    return None if text is None else parse_duration(str(text), flag)


def _states(names: Sequence[str] | str | None) -> frozenset[State]:
    if not names:
        return FINAL
    states = set()
    for name in _many(names):
        wanted = name.strip().upper()
        if wanted not in State.__members__:
            guess = nearest(wanted, [state.value for state in FINAL]) or "."
            raise CommandError(f"--state {name!r} is not a state{guess} Known: {_FINAL_NAMES}.")
        state = State(wanted)
        if not state.is_final:
            raise CommandError(
                f"--state {state}: such tasks have not ended, and only tasks that have ended can be deleted: {_FINAL_NAMES}."
            )
        states.add(state)
    return frozenset(states)


def _backends(aliases: Sequence[str] | str | None) -> list[TaskqBackend]:
    ours = {backend.alias: backend for backend in taskq_backends()}
    if not ours:
        raise CommandError("No alias of TASKS uses django_taskq.TaskqBackend.")
    chosen = list(dict.fromkeys(_many(aliases))) if aliases else list(ours)
    for alias in chosen:
        if alias not in ours:
            raise CommandError(
                f"--backend {alias!r}: no such alias of TASKS uses TaskqBackend{nearest(alias, ours) or '.'} "
                f"Known: {', '.join(ours)}."
            )
    return [ours[alias] for alias in chosen]


def _batch_size(rows: int) -> int:
    if not 1 <= rows <= _MAX_BATCH_SIZE:
        raise CommandError(f"--batch-size {rows}: must be from 1 to {_MAX_BATCH_SIZE}.")
    return rows


def _many(values: Sequence[str] | str) -> Sequence[str]:
    """``call_command("cleartasks", state="FAILED")`` means the same as a list of one."""
    return [values] if isinstance(values, str) else values
