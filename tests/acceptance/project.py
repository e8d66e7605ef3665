"""A Django project of a test's own: a database, settings, and processes that see nothing of the test process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from django.db import connections
from django.test import override_settings

from tests.acceptance.process import Process
from tests.servers import Databases

#: Names the file with the project's settings; every process of the project carries it, and is found by it.
VARIABLE = "TASKQ_PROJECT"

REPOSITORY = Path(__file__).parents[2]

#: Seconds a management command may take.
PATIENCE = 60.0

DEFAULT_TASKS: Mapping[str, Any] = {"default": {"BACKEND": "django_taskq.TaskqBackend"}}


class Project:
    """A project in a temporary directory, with the database `name` of `databases`.

    ``tasks`` is its TASKS, ``apps`` are installed besides those of ``tests.acceptance.settings``, ``settings`` are any
    others, as JSON has them; ``environment`` is added to that of every process. The database is not made here: see
    ``create`` and the fixture ``make_project``.
    """

    def __init__(
        self,
        databases: Databases,
        name: str,
        directory: Path,
        *,
        tasks: Mapping[str, Any] = DEFAULT_TASKS,
        apps: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.databases = databases
        self.name = name
        self.directory = directory
        self.tasks = tasks
        self.database = databases.settings(name)
        self.processes: list[Process] = []
        file = directory / "settings.json"
        given = {"DATABASES": {"default": self.database}, "TASKS": tasks, "APPS": list(apps), **(settings or {})}
        file.write_text(json.dumps(given))
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        self.environment = {
            **inherited,
            "DJANGO_SETTINGS_MODULE": "tests.acceptance.settings",
            VARIABLE: str(file),
            # The processes run elsewhere, so that nothing is found, or written, in the repository by accident.
            "PYTHONPATH": os.pathsep.join((str(directory), str(REPOSITORY))),
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }

    def create(self) -> None:
        """Make the database, with every table."""
        self.databases.create_database(self.name)
        self.django("migrate", "--verbosity=0")

    def django(
        self, *arguments: str, deadline: float = PATIENCE, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a management command to its end and return it; with `check`, it must have exited with 0."""
        done = subprocess.run(
            [sys.executable, "-m", "django", *arguments],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=deadline,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(arguments)} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def start(self, *command: str) -> Process:
        """Start any command in this project's directory and environment."""
        name = f"process-{len(self.processes) + 1}"
        process = Process(command, directory=self.directory, name=name, environment=self.environment)
        self.processes.append(process)
        return process

    def runworker(self, *arguments: str) -> Process:
        """Start ``manage.py runworker`` and return at once."""
        return self.start(*self.command("runworker", *arguments))

    def command(self, *arguments: str) -> tuple[str, ...]:
        """Return the command line of a management command."""
        return (sys.executable, "-m", "django", *arguments)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Let this process's models and tasks be the project's: its database as ``default``, its TASKS.

        Connections of other threads must be opened inside the block.
        """
        settings, connection = connections.settings["default"], connections["default"]
        connections.settings["default"] = connections.configure_settings({"default": dict(self.database)})["default"]
        connections["default"] = connections.create_connection("default")
        try:
            with override_settings(TASKS=dict(self.tasks)):
                yield
        finally:
            connections["default"].close()
            connections.settings["default"], connections["default"] = settings, connection

    def living(self) -> list[psutil.Process]:
        """Return every process of this project that runs, also one that has left its group and lost its parent."""
        mine = self.environment[VARIABLE]
        return [process for process in psutil.process_iter() if _variable(process) == mine]

    def close(self) -> None:
        """Kill every process of the project, show what they wrote, drop the database."""
        for process in self.processes:
            process.end()
            print(f"---- {process.name}: exit code {process.returncode}\n{process.text()}")  # noqa: T201 - pytest shows it
        for stray in self.living():
            stray.kill()
        psutil.wait_procs(self.living(), timeout=PATIENCE)
        self.databases.drop_database(self.name)


def _variable(process: psutil.Process) -> str | None:
    try:
        environment: dict[str, str] = process.environ()
    except psutil.Error:  # ended meanwhile, or somebody else's: not ours in either case
        return None
    return environment.get(VARIABLE)
