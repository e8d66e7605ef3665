"""``python -m tests.servers run -- command`` and ``python -m tests.servers missing``."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from types import FrameType
from typing import NoReturn

from tests.servers.programs import MissingProgram, missing_packages
from tests.servers.server import ServerFailed
from tests.servers.shared import BROKERS, SERVERS

_ALL = {**SERVERS, **BROKERS}


def run(command: list[str], *, vendors: list[str], durable: bool) -> int:
    """Start the servers, run the command with their addresses in its environment, return its exit code."""
    with ExitStack() as stack:
        for vendor in vendors:
            server = stack.enter_context(_ALL[vendor](durable=durable))
            os.environ.update(server.environment())
            print(f"{vendor}: port {server.port}, {server.directory}", flush=True)
        child = subprocess.Popen(command)
        try:
            return child.wait()
        except KeyboardInterrupt:
            # The terminal sent it to the child too, which now cleans up; servers end after their clients.
            return child.wait()
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()


def _ask_to_end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def main() -> int:
    """Parse the command line and do it."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    commands = parser.add_subparsers(dest="action", required=True)
    commands.add_parser("missing", help="print the Debian packages the tests need and this machine lacks")
    runner = commands.add_parser("run", help="run a command with private servers around it")
    runner.add_argument("--only", action="append", choices=sorted(_ALL), help="this server alone; may be repeated")
    runner.add_argument("--durable", action="store_true", help="leave fsync on, as a benchmark must")
    runner.add_argument("command", nargs="+", metavar="-- command")
    options = parser.parse_args()
    if options.action == "missing":
        print(*missing_packages())
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ask_to_end)
    try:
        return run(options.command, vendors=options.only or sorted(_ALL), durable=options.durable)
    except (MissingProgram, ServerFailed) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
