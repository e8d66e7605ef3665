"""A worker and what it needs: it does not start without, says what is missing, and outlives a database that goes away."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.db import connection

from django_taskq.models import TaskRecord, WorkerRecord
from tests.acceptance.project import Project
from tests.acceptance.workers import (
    Gate,
    drain,
    ended,
    guard_final_states,
    lines,
    row,
    start_worker,
    states,
    wait_until_done,
)
from tests.databases import chosen
from tests.servers import SERVERS, MariaDBServer, PostgresServer
from tests.taskapp import tasks
from tests.waiting import LATE, wait_until

#: What the projects of these tests have installed, with an app of the test's own to be written beside the settings.
WITH_SHOP = {
    "INSTALLED_APPS": ["django.contrib.contenttypes", "django.contrib.auth", "django_taskq", "tests.taskapp", "shop"]
}

needs_server = pytest.mark.databases("postgres", "mariadb")


@pytest.fixture
def server() -> Iterator[PostgresServer | MariaDBServer]:
    with SERVERS[chosen()](durable=False) as server:
        yield server


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def refusal(project: Project, *arguments: str) -> str:
    """What a worker says that does not start; nobody has to read a traceback for it."""
    worker = project.runworker(*arguments)
    assert worker.wait() == 1, worker.text()
    assert "django_taskq " not in worker.text(), "no banner"
    return worker.text()


# What has to be there


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("def broken(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        (
            "from django_taskq import task\n@task(max_atempts=3)\ndef work(): ...",
            "TypeError: @task has no option 'max_atempts'; did you mean 'max_attempts'?",
        ),
    ],
    ids=["ModuleNotFoundError", "SyntaxError", "ZeroDivisionError", "SystemExit", "unknown option"],
)
def test_an_app_whose_tasks_do_not_import_is_refused(
    make_project: Callable[..., Project], source: str, reason: str
) -> None:
    project = make_project(settings=WITH_SHOP)
    result = tasks.noop.enqueue()
    write_app(project.directory / "shop", source)
    said = refusal(project)
    assert reason in said
    assert "shop.tasks does not import" in said
    assert str(project.directory / "shop" / "tasks.py") in said or "SyntaxError" in reason
    assert row(result).state == "READY"


def write_app(directory: Path, source: str) -> None:
    directory.mkdir()
    (directory / "__init__.py").touch()
    (directory / "tasks.py").write_text(source)


@pytest.mark.smoke
def test_tasks_of_every_app_and_of_imports_are_known(make_project: Callable[..., Project]) -> None:
    definition = "from django_taskq import task\n@task\ndef work(): return __name__\n"
    project = make_project(
        tasks={"default": {"BACKEND": "django_taskq.TaskqBackend", "OPTIONS": {"imports": ["jobs"]}}},
        settings=WITH_SHOP,
    )
    write_app(project.directory / "shop", definition)
    (project.directory / "jobs.py").write_text(definition)
    worker = drain(project)
    known = int(worker.text().partition("knows     ")[2].split()[0])
    (project.directory / "shop" / "tasks.py").write_text("")
    (project.directory / "jobs.py").write_text("")
    worker = drain(project)
    assert int(worker.text().partition("knows     ")[2].split()[0]) == known - 2


def test_a_module_of_imports_that_is_not_there_is_refused(make_project: Callable[..., Project]) -> None:
    options = {"imports": ["shop.jobs"]}
    project = make_project(tasks={"default": {"BACKEND": "django_taskq.TaskqBackend", "OPTIONS": options}})
    assert "No module named 'shop'" in refusal(project)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"leese": 30}, "OPTIONS has no key 'leese'; did you mean 'lease'?"),
        ({"lease": 1}, "must be at least 3 seconds"),
        ({"broker": "amqq://user:secret@localhost//"}, "did you mean 'amqp'"),
        ({"broker": "database://nowhere"}, "DATABASES has no alias 'nowhere'"),
    ],
    ids=["unknown key", "impossible value", "unknown scheme", "unknown database"],
)
def test_wrong_options_are_refused(project: Project, options: dict[str, Any], reason: str) -> None:
    wrong = Project(
        project.databases,
        project.name,
        other_directory(project),
        tasks={"default": {"BACKEND": "django_taskq.TaskqBackend", "OPTIONS": options}},
    )
    try:
        said = refusal(wrong)
    finally:
        wrong.processes[0].end()
    assert reason in said
    assert "secret" not in said


def other_directory(project: Project) -> Path:
    directory = project.directory / "other"
    directory.mkdir()
    return directory


def test_missing_migrations_are_refused(project: Project) -> None:
    project.django("migrate", "django_taskq", "zero", "--verbosity=0")
    said = refusal(project)
    assert "lacks django_taskq.0001_initial" in said
    assert "python manage.py migrate --database default" in said
    project.django("migrate", "--verbosity=0")
    assert drain(project).returncode == 0


@pytest.mark.databases("sqlite")
def test_a_database_in_memory_is_refused(make_project: Callable[..., Project]) -> None:
    memory = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    project = make_project(settings={"DATABASES": {"default": memory}})
    assert "every process would see one of its own" in refusal(project)


# A database that comes late


@needs_server
def test_a_worker_waits_for_its_database(
    server: PostgresServer | MariaDBServer, make_project: Callable[..., Project]
) -> None:
    project = make_project(databases=server)
    result = tasks.add.enqueue(1, 2)
    connection.close()
    server.stop()
    worker = project.runworker("--processes=1")
    worker.wait_for("Database 'default' is not there yet")
    impatient = project.runworker()
    impatient.wait_for("Database 'default' is not there yet")
    since = time.monotonic()
    impatient.send(signal.SIGTERM)
    assert impatient.wait() == 0, impatient.text()
    assert time.monotonic() - since < 1.0 + LATE
    assert worker.returncode is None
    server.start()
    assert ended(result).result == "3"
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert "Traceback" not in worker.text()


# A database that goes away


@needs_server
def test_a_database_that_crashes_under_load_loses_no_task(
    server: PostgresServer | MariaDBServer, make_project: Callable[..., Project], tmp_path: Path, gate: Gate
) -> None:
    project = make_project(databases=server)
    guard_final_states()
    count, restarts = 1_500, 3
    traces = {acks_late: str(tmp_path / f"{acks_late}") for acks_late in (True, False)}
    results = {
        acks_late: tasks.mark_slowly.using(acks_late=acks_late).enqueue_many(
            [(trace, f"{number}", 0.002) for number in range(count // 2)]
        )
        for acks_late, trace in traces.items()
    }
    coroutines = tasks.asleep.enqueue_many([(0.01,)] * 50)
    notes = tasks.note.using(max_attempts=20, backoff=0.2).enqueue_many([(f"{number}",) for number in range(50)])
    held = tasks.hold.using(priority=1).enqueue(gate.path, "over-all-restarts")
    worker = start_worker(project, "--threads=2", processes=2)
    children = {child.pid for child in worker.children()}
    connection.close()
    for number in range(1, restarts + 1):
        share = number * count // (restarts + 1)
        wait_until(lambda: sum(len(lines(trace)) for trace in traces.values()) >= share)  # noqa: B023  # used now
        server.restart("immediate")
    gate.open()
    assert wait_until_done().keys() == {"SUCCESSFUL"}
    assert {child.pid for child in worker.children()} == children, "no process of the worker has ended"
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0, worker.text()
    assert "The database failed" in worker.text()
    assert "final is final" not in worker.text()

    assert states() == {"SUCCESSFUL": count + len(coroutines) + len(notes) + 1}
    assert not TaskRecord.objects.filter(finished_at=None).exists()
    assert not WorkerRecord.objects.exists()
    for acks_late, trace in traces.items():
        runs = Counter(lines(trace))
        # No worker died, so none is run twice, either: ends wait in the worker until the database is back.
        assert {runs[result.args[1]] for result in results[acks_late]} == {1}
    assert row(held).attempt == 1
    assert gate.started() == ["over-all-restarts"]


@needs_server
@pytest.mark.timing
def test_a_worker_can_be_stopped_while_its_database_is_away(
    server: PostgresServer | MariaDBServer, make_project: Callable[..., Project], gate: Gate
) -> None:
    project = make_project(databases=server)
    result = tasks.hold.enqueue(gate.path, "long")
    busy, idle = start_worker(project), start_worker(project)
    gate.wait_for("long")
    connection.close()
    server.stop("immediate")
    for worker in (busy, idle):
        worker.wait_for("The database failed")
    since = time.monotonic()
    idle.send(signal.SIGTERM)
    assert idle.wait() == 0, idle.text()
    assert time.monotonic() - since < 3.0
    # A running task is waited for, and so is the database that takes its end.
    busy.send(signal.SIGTERM)
    busy.wait_for("Stopping")
    gate.open()
    wait_until(lambda: gate.ended() == ["long"])
    server.start()
    assert busy.wait() == 0, busy.text()
    assert row(result).state == "SUCCESSFUL"


@needs_server
@pytest.mark.timing
def test_a_worker_can_be_stopped_while_its_database_hangs(
    server: PostgresServer | MariaDBServer, make_project: Callable[..., Project], gate: Gate
) -> None:
    project = make_project(databases=server)
    result = tasks.hold.enqueue(gate.path, "long")
    worker = start_worker(project)
    gate.wait_for("long")
    with hanging(server):
        worker.send(signal.SIGTERM)
        worker.wait_for("Stopping")
        since = time.monotonic()
        worker.send(signal.SIGTERM)
        assert worker.wait() == 4, worker.text()
        assert time.monotonic() - since < 3.0
        assert not project.living()
    assert row(result).state == "RUNNING", "nobody could write that down; the lease tells"


@contextmanager
def hanging(server: PostgresServer | MariaDBServer) -> Iterator[None]:
    """Let no process of the server go on: it answers nothing, and closes nothing."""
    main = psutil.Process(server.pid)
    processes = [main, *main.children(recursive=True)]
    try:
        for process in processes:
            process.suspend()
        yield
    finally:
        for process in processes:
            process.resume()
