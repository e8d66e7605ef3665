"""The command line, see the package's docstring: ``python -m tests.benchmarks --database postgres --repeat 5``."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, get_args

import tests.benchmarks
from tests.benchmarks import machine
from tests.benchmarks.catalogue import FIGURES
from tests.benchmarks.figures import Spread, median, ratios
from tests.benchmarks.plan import Plan
from tests.benchmarks.scope import (
    BROKER_NAMES,
    NAMES,
    PEER_MEASURES,
    PEER_NAMES,
    BrokerName,
    fitting,
    has_peers,
    place_of,
)
from tests.benchmarks.session import Outcome, RunFailed, Session
from tests.benchmarks.table import comparison_table, figures_table, show
from tests.benchmarks.variant import Variant
from tests.reaper import reaper
from tests.servers import MissingProgram, ServerFailed, Vendor

#: Share of the machine's CPU used by others above which the figures say more about them.
_NOISE = 0.05


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 1 up.")
    return int(text)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=tests.benchmarks.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--database", action="append", choices=get_args(Vendor), help="repeatable; default: sqlite")
    add(
        "--broker",
        action="append",
        choices=BROKER_NAMES,
        help="repeatable, each with each database; default: database, the embedded one",
    )
    add("--results", default="database://", help="default: %(default)s")
    add("--only", action="append", choices=NAMES, help="this measurement alone; repeatable")
    add("--repeat", type=_positive, default=3, metavar="R", help="runs of each; default: %(default)s")
    add("--tasks", type=_positive, default=10_000, metavar="N", help="to enqueue and drain; default: 10,000")
    add("--processes", type=_positive, default=2, metavar="P", help="of the worker; default: %(default)s")
    add("--worker-options", type=shlex.split, default=[], metavar="OPTIONS", help="further ones for runworker")
    add("--history", type=_positive, default=0, metavar="H", help="drain again beside so many finished rows")
    add("--round-trips", type=_positive, default=500, metavar="N", help="back to back; default: %(default)s")
    add("--rested-round-trips", type=_positive, default=20, metavar="N", help="1 s apart; default: %(default)s")
    add("--in-flight-tasks", type=_positive, default=3_200, metavar="N", help="round trips in all; default: 3,200")
    add("--idle-seconds", type=_positive, default=30, metavar="S", help="default: %(default)s")
    add("--commit", metavar="COMMIT", help="measure the package of this commit instead of the tree as it is")
    add("--compare", metavar="COMMIT", help="run the package of this one in alternation")
    add("--peer", choices=PEER_NAMES, help="run this program in alternation, where it can do the same")
    add("--json", type=Path, metavar="FILE", help="write everything there, too")
    options = parser.parse_args(arguments)
    options.database = list(dict.fromkeys(options.database or ["sqlite"]))
    options.broker = list(dict.fromkeys(options.broker or ["database"]))
    options.only = [name for name in NAMES if name in (options.only or NAMES)]
    if options.history and "drain" not in options.only:
        parser.error("--history is about drain: leave --only out, or add --only drain.")
    if options.peer:
        if not any(has_peers(options.only, broker) for broker in options.broker):
            parser.error(f"--peer is about {', '.join(PEER_MEASURES)}, with --broker amqp.")
        if importlib.util.find_spec("celery") is None:
            parser.error("--peer celery needs Celery: pip install celery.")
    for broker in options.broker:
        if not fitting(options.only, broker, options.results):
            parser.error(f"Nothing is left to measure with --broker {broker} and --results {options.results}.")
    return options


def say(text: str) -> None:
    """Tell how far it is, beside the output."""
    print(text, file=sys.stderr, flush=True)


def measure(
    vendor: Vendor, broker: BrokerName, options: argparse.Namespace, variants: list[Variant], directory: Path
) -> dict[str, Any]:
    """Measure in one place, print the tables, return what goes into the file."""
    place = place_of(vendor, broker)
    if not has_peers(options.only, broker):
        variants = [variant for variant in variants if not variant.is_peer]
    make_plan = partial(
        Plan,
        confirm=True,
        results=options.results,
        tasks=options.tasks,
        processes=options.processes,
        worker_options=options.worker_options,
        round_trips=options.round_trips,
        rested_round_trips=options.rested_round_trips,
        in_flight=32,
        in_flight_tasks=options.in_flight_tasks,
        idle=options.idle_seconds,
        history=options.history,
    )
    with Session(vendor, broker, variants, directory, make_plan=make_plan, say=say) as session:
        session.repeat(fitting(options.only, broker, options.results), options.repeat)
        if options.history:
            session.repeat_with_history(options.repeat)
    ours, *others = [candidate.outcome for candidate in session.candidates]
    peer = others[-1] if variants[-1].is_peer else None
    print()
    show(
        f"{place}: {options.tasks:,} tasks, {options.processes} processes, {ours.variant}",
        figures_table(place, ours, peer),
    )
    for theirs in others:
        if theirs is not peer:
            show(f"{place}: {ours.variant} against {theirs.variant}", comparison_table(ours, theirs))
    print("; ".join(f"{name} {value}" for name, value in ours.facts.items()))
    noise = median(session.others)
    print(
        f"Other programs used {noise:.0%} of the machine's CPU (median of the runs; at most {max(session.others):.0%})"
        f"{': the figures are noisy.' if noise > _NOISE else '.'}"
    )
    return {
        "variants": [described(outcome) for outcome in (ours, *others)],
        "ratios": {theirs.variant: compared(ours, theirs) for theirs in others},
        "cpu_share_of_others": session.others,
    }


def described(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome for the file."""
    return {
        "variant": outcome.variant,
        "facts": outcome.facts,
        "figures": {
            key: {"title": FIGURES[key].title, "unit": FIGURES[key].unit, **asdict(Spread.of(samples))}
            for key, samples in outcome.ordered().items()
        },
    }


def compared(ours: Outcome, theirs: Outcome) -> dict[str, Any]:
    """Return ours / theirs for the file."""
    return {
        key: asdict(Spread.of(ratios(samples, theirs.samples[key])))
        for key, samples in ours.ordered().items()
        if key in theirs.samples
    }


def run(options: argparse.Namespace) -> None:
    """Measure in each place, and write the file."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taskq-benchmark-")))
        reaper().remove(directory)
        variants = [Variant.of(options.commit, directory) if options.commit else Variant.here(directory)]
        if options.compare:
            variants.append(Variant.of(options.compare, directory))
        if options.peer:
            variants.append(Variant.celery(directory))
        facts = machine.facts(directory)
        print("; ".join(f"{name} {value}" for name, value in facts.items()))
        if machine.is_volatile(directory):
            print(f"A commit costs nothing in {directory}: set TMPDIR to a directory on a disk for honest figures.")
        report = {
            "machine": facts,
            "options": {
                name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()
            },
            "places": {
                place_of(vendor, broker): measure(vendor, broker, options, variants, directory)
                for vendor in options.database
                for broker in options.broker
            },
        }
        if options.json:
            options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def _ask_to_end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def main() -> int:
    """Exit with 0 when everything was measured."""
    options = parse(sys.argv[1:])
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ask_to_end)
    try:
        run(options)
    except (MissingProgram, ServerFailed, RunFailed) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
