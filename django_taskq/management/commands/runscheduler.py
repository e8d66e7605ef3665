"""``manage.py runscheduler``: keep house, and run no tasks."""

from __future__ import annotations

import argparse
import os
import signal
import socket
from typing import Any
from uuid import uuid4

from django.core.management.base import BaseCommand, CommandError

from ...aliases import backends_on, taskq_databases
from ...bell import Bell
from ...conf import OptionsError
from ...monitoring.logging import JsonFormatter, TextFormatter
from ...worker.logs import configure
from ...worker.scheduler import Scheduler
from ...worker.startup import CannotStart, check_database, import_tasks, wait_for_database


class Command(BaseCommand):
    """Parses, checks, starts the scheduler."""

    help = (
        "Fire schedules, and do the rest of the housekeeping that workers do besides, without running tasks; until "
        "stopped by SIGTERM or SIGINT. Any number may run: one at a time is at work."
    )
    # Checks run below, once the databases are up; they must not fail for one that is not.
    requires_system_checks = ()

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The command line."""
        parser.add_argument("--name", default="", help="the process's name; default: host and process id")
        parser.add_argument(
            "--log-format",
            choices=("text", "json"),
            default="text",
            help="how log lines are printed, unless LOGGING has a say; default: text",
        )
        parser.add_argument("--heartbeat-file", help="touch this file every second while the process lives")

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit status: 0 stopped, 1 cannot start, 2 wrong arguments."""
        configure(options["verbosity"], JsonFormatter() if options["log_format"] == "json" else TextFormatter())
        stops: list[int] = []
        bell = Bell()

        def stop(number: int, frame: object) -> None:
            stops.append(number)
            bell.ring()

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._run(options, stops, bell)
        except (CannotStart, OptionsError, OSError) as error:
            raise CommandError(str(error)) from error
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _run(self, options: dict[str, Any], stops: list[int], bell: Bell) -> None:
        databases = {using: backends_on(using) for using in taskq_databases()}
        if not databases:
            raise CommandError('No alias in TASKS uses django_taskq: set "BACKEND": "django_taskq.TaskqBackend".')
        import_tasks([name for backends in databases.values() for one in backends for name in one.config.imports])
        for using in databases:
            if not wait_for_database(using, lambda: bool(stops)):
                return
            check_database(using)
        self.check(tags=None, display_num_errors=False)
        name = options["name"] or f"{socket.gethostname()}-{os.getpid()}"
        Scheduler(
            databases,
            f"{name[:100]}-{uuid4().hex[:12]}",
            bell,
            lambda: bool(stops),
            heartbeat_file=options["heartbeat_file"],
        ).run()
