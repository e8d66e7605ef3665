"""``manage.py runworker``: run tasks until stopped."""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ...aliases import taskq_backends
from ...conf import OptionsError
from ...core.options import check_limits
from ...core.queues import QueueSelection
from ...exceptions import MAX_DELAY, OptionError
from ...monitoring.logging import JsonFormatter, TextFormatter
from ...worker.banner import banner
from ...worker.logs import configure
from ...worker.probe import default_host
from ...worker.reload import begin_anew, is_trial, wants_reload
from ...worker.settings import DEFAULT_COROUTINES, WorkerSettings
from ...worker.solo import run_solo
from ...worker.startup import CannotStart, check_database, import_tasks, wait_for_database
from ...worker.supervisor import Supervisor

#: bytes; no Python process with Django is smaller
_LEAST_MEMORY = 16 * 1024**2


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 1 up.")
    return int(text)


def _not_negative(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 0 up.")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: give seconds from 0 up.")
    return seconds


def _limit(text: str) -> float:
    seconds = _seconds(text)
    if not 0 < seconds <= MAX_DELAY:
        raise argparse.ArgumentTypeError(f"{text!r}: give seconds above 0.")
    return seconds


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT])(?:i?B)?", text.strip(), re.IGNORECASE)
    size = int(float(match[1]) * 1024 ** ("KMGT".index(match[2].upper()) + 1)) if match else 0
    if size < _LEAST_MEMORY:
        raise argparse.ArgumentTypeError(f"{text!r}: give a size with its unit, such as 300M or 1.5G, from 16M up.")
    return size


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: give a port, 0 to 65535.")
    return int(text)


def _queues(text: str) -> QueueSelection:
    try:
        return QueueSelection.parse(text)
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _cpus() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Command(BaseCommand):
    """Parses, checks, starts the supervisor."""

    help = "Run tasks of all aliases in TASKS that use django_taskq, until stopped by SIGTERM or SIGINT."
    # Checks run below, once the databases are up; they must not fail for one that is not.
    requires_system_checks = ()

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The command line."""
        parser.add_argument(
            "--queues",
            "--queue",
            type=_queues,
            default=QueueSelection(),
            help='queues to serve: names, patterns, "-name" for all but this one; e.g. --queues=mail,"report*",-slow',
        )
        parser.add_argument("--backend", action="append", help="alias in TASKS to serve (repeatable); default: all")
        parser.add_argument("--processes", type=_positive, help="worker processes; default: one per CPU")
        parser.add_argument("--threads", type=_positive, default=1, help="def tasks at once per process; default: 1")
        parser.add_argument(
            "--coroutines",
            type=_not_negative,
            default=DEFAULT_COROUTINES,
            help=f"async def tasks at once per process, 0: run them in threads; default: {DEFAULT_COROUTINES}",
        )
        parser.add_argument(
            "-c",
            "--concurrency",
            type=_positive,
            help="N processes that run one task at a time each; 1 keeps the exact order of priority and age",
        )
        parser.add_argument(
            "--prefetch",
            type=_positive,
            help="messages a broker sends ahead to each process, per queue; default: as many as can start soon",
        )
        parser.add_argument("--burst", action="store_true", help="exit once nothing due is left")
        parser.add_argument("--max-tasks", type=_positive, help="exit after this many tasks")
        parser.add_argument("--name", default="", help="the worker's name; default: host and process id")
        parser.add_argument(
            "--log-format",
            choices=("text", "json"),
            default="text",
            help="how log lines are printed, unless LOGGING has a say; default: text",
        )
        parser.add_argument(
            "--shutdown-timeout",
            type=_seconds,
            help="seconds running tasks get after the first signal, then they are given back; default: no limit",
        )
        parser.add_argument(
            "--max-tasks-per-child", type=_positive, help="replace a process after this many tasks (less up to a tenth)"
        )
        parser.add_argument(
            "--max-memory-per-child",
            type=_size,
            help="replace a process that uses more (less up to a tenth), e.g. 300M",
        )
        parser.add_argument("--probe-port", type=_port, help="answer /live, /ready and /metrics over HTTP on this port")
        parser.add_argument(
            "--probe-host",
            default="",
            help="the address for --probe-port; default: 127.0.0.1, inside Kubernetes every interface",
        )
        parser.add_argument(
            "--reload",
            action=argparse.BooleanOptionalAction,
            help="begin anew when code changes; default: with DEBUG on a terminal",
        )
        parser.add_argument(
            "--solo", action="store_true", help="one process, one task at a time, on its main thread: for a debugger"
        )
        parser.add_argument("--heartbeat-file", help="touch this file every second while the worker lives")
        parser.add_argument(
            "--no-scheduler",
            action="store_false",
            dest="scheduler",
            help="leave schedules, and the rest of the housekeeping, to other workers or to runscheduler",
        )
        parser.add_argument(
            "--time-limit",
            type=_limit,
            help="seconds until a task is ended by force that has no time_limit of its own; default: no limit",
        )
        parser.add_argument(
            "--soft-time-limit",
            type=_limit,
            help="seconds until SoftTimeLimitExceeded is raised in a task that has no soft_time_limit of its own; "
            "default: no limit",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit status: 0 stopped or done, 1 cannot start, 2 wrong arguments, 4 stopped by force, 5 processes cannot work."""
        configure(options["verbosity"], JsonFormatter() if options["log_format"] == "json" else TextFormatter())
        told = self._settings(options)
        try:
            status = self._run(told, options)
        except (CannotStart, OptionsError) as error:
            raise CommandError(str(error)) from error
        if status:
            sys.exit(status)

    def _settings(self, options: dict[str, Any]) -> WorkerSettings:
        given = {alias.alias: alias for alias in taskq_backends()}
        chosen = options["backend"] or list(given)
        for alias in chosen:
            if alias not in given:
                known = ", ".join(given) or "none"
                raise CommandError(f"TASKS has no alias {alias!r} that uses django_taskq. There are: {known}.")
        if not chosen:
            raise CommandError('No alias in TASKS uses django_taskq: set "BACKEND": "django_taskq.TaskqBackend".')
        concurrency = options["concurrency"]
        if concurrency and (options["processes"] or options["threads"] != 1):
            raise CommandError("--concurrency stands for --processes and --threads: give it or these, not both.")
        try:
            check_limits(options["soft_time_limit"], options["time_limit"], ("--soft-time-limit", "--time-limit"))
        except OptionError as error:
            raise CommandError(str(error)) from error
        if options["solo"]:
            self._refuse_beside_solo(options)
        reload = options["reload"]
        if reload is None:
            is_short = options["burst"] or options["max_tasks"] or options["solo"]
            reload = wants_reload(debug=settings.DEBUG) and not is_short
        return WorkerSettings(
            backends=tuple(dict.fromkeys(chosen)),
            queues=options["queues"],
            processes=1 if options["solo"] else concurrency or options["processes"] or _cpus(),
            threads=options["threads"],
            coroutines=0 if concurrency or options["solo"] else options["coroutines"],
            strict=concurrency == 1 or options["solo"],
            prefetch=options["prefetch"],
            burst=options["burst"],
            max_tasks=options["max_tasks"],
            name=options["name"] or f"{socket.gethostname()}-{os.getpid()}",
            shutdown_timeout=options["shutdown_timeout"],
            soft_time_limit=options["soft_time_limit"],
            time_limit=options["time_limit"],
            max_tasks_per_child=options["max_tasks_per_child"],
            max_memory_per_child=options["max_memory_per_child"],
            probe_host=options["probe_host"] or default_host(),
            probe_port=options["probe_port"],
            heartbeat_file=options["heartbeat_file"],
            reload=reload,
            scheduler=options["scheduler"],
        )

    def _refuse_beside_solo(self, options: dict[str, Any]) -> None:
        names = ("processes", "concurrency", "max_tasks_per_child", "max_memory_per_child", "probe_port")
        given = [name for name in (*names, "heartbeat_file", "shutdown_timeout", "reload") if options[name] is not None]
        if given or options["threads"] != 1:
            name = (given or ["threads"])[0].replace("_", "-")
            raise CommandError(f"--solo is one process that runs one task at a time; it has no --{name}.")

    def _run(self, told: WorkerSettings, options: dict[str, Any]) -> int:
        stops: list[int] = []
        with self._signals_into(stops):
            backends = [backend for backend in taskq_backends() if backend.alias in told.backends]
            import_tasks([name for backend in backends for name in backend.config.imports])
            for using in dict.fromkeys(backend.database for backend in backends):
                if not wait_for_database(using, lambda: bool(stops)):
                    return 0
                check_database(using)
            self.check(tags=None, display_num_errors=False)
            if is_trial():
                return 0
            if options["verbosity"] and options["log_format"] == "text":
                self.stderr.write(banner(told, backends), ending="\n\n")
            if options["solo"]:
                return run_solo(told, stops)
            on_terminal = sys.stdin is not None and sys.stdin.isatty()
            supervisor = Supervisor(
                told,
                hang_up_stops=on_terminal or not self._called_from_command_line,  # type: ignore[attr-defined]  # see below
                stale_after=2 * max(backend.config.lease for backend in backends),
            )
            status = supervisor.run(stops)
            if supervisor.is_reloading:
                begin_anew()
            return status

    @contextmanager
    def _signals_into(self, stops: list[int]) -> Iterator[None]:
        """Note stop signals from here on: one that comes before the supervisor listens is not lost."""
        before = {
            number: signal.signal(number, lambda number, _: stops.append(number))
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            # A program that ends anyway must not be ended by one more signal, with another exit status.
            if not self._called_from_command_line:  # type: ignore[attr-defined]  # Django's own, not in the stubs
                for number, handler in before.items():
                    signal.signal(number, handler)
