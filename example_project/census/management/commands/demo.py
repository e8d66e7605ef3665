"""`manage.py demo`: a census of the standard library, from an empty database to its summary."""

import signal
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from django_taskq import TaskqError
from example_project.census.demo import CensusStoppedError, demo
from example_project.census.display import Display
from example_project.census.plain import PlainDisplay
from example_project.census.run import CensusError
from example_project.census.terminal import TerminalDisplay

#: The exit code of a process that Ctrl-C ended, by the convention of shells: 128 and the signal's number.
STOPPED = 130


def positive(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


class Command(BaseCommand):
    """Translates the command line into a demo, and its errors into messages and exit codes."""

    help = (
        "Counts the Python source of the standard library: one task per file, run by real workers. "
        "Ends by itself; may be run any number of times."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--directory", type=Path, help="count the .py files in here instead")
        parser.add_argument("--limit", type=positive, help="count only so many files")
        parser.add_argument("--processes", type=positive, default=2, help="worker processes (default: 2)")

    def handle(self, *, directory: Path | None, limit: int | None, processes: int, **options: Any) -> None:
        display = self._display(colour=not options["no_color"])
        # What a service manager or a build's time limit sends ends the demo as cleanly as Ctrl-C does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            demo(display, directory=directory, limit=limit, processes=processes)
        except CensusStoppedError as error:
            raise CommandError(str(error), returncode=STOPPED) from error
        except KeyboardInterrupt as error:
            raise CommandError("Stopped.", returncode=STOPPED) from error
        except (CensusError, TaskqError) as error:
            raise CommandError(str(error)) from error
        except DatabaseError as error:
            raise CommandError(f"The database failed: {error}") from error

    def _display(self, *, colour: bool) -> Display:
        # On a terminal without UTF-8 the drawn display could not even print its tick.
        drawn = self.stdout.isatty() and self.stdout.encoding.lower().startswith("utf")
        return TerminalDisplay(colour=colour) if drawn else PlainDisplay(self.stdout)
