"""What a worker is told on its command line, and what it says."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_taskq.models import TaskRecord, WorkerRecord
from tests.acceptance.project import Project
from tests.acceptance.workers import BANNER, Gate, drain, ended, lines, row, start_worker, states, wait_for_workers
from tests.taskapp import tasks
from tests.waiting import wait_until

#: Of the command, which does not ask the database about it.
whatever_database = pytest.mark.databases("sqlite")

TASKQ = "django_taskq.TaskqBackend"
ANY_QUEUE = {"default": {"BACKEND": TASKQ, "QUEUES": []}}
TWO_ALIASES = {"default": {"BACKEND": TASKQ, "QUEUES": []}, "other": {"BACKEND": TASKQ, "QUEUES": ["default", "mail"]}}


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project(tasks=ANY_QUEUE)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


# Queues and aliases


@pytest.mark.parametrize(
    ("selection", "served"),
    [
        ("a,b", "a b"),
        ("mail*", "mail mail-1 mail-2"),
        ("-slow", "a b default mail mail-1 mail-2"),
        ("mail*,a,-mail-2", "a mail mail-1"),
        ("*", "a b default mail mail-1 mail-2 slow"),
        ("nothing", ""),
    ],
)
def test_queues_are_chosen_by_name_and_pattern(project: Project, selection: str, served: str) -> None:
    for queue in ("a", "b", "default", "mail", "mail-1", "mail-2", "slow"):
        tasks.noop.using(queue_name=queue).enqueue_many([()] * 2)
    worker = drain(project, f"--queues={selection}", "--processes=1")
    done = TaskRecord.objects.filter(state="SUCCESSFUL")
    assert sorted(set(done.values_list("queue_name", flat=True))) == served.split()
    assert done.count() == 2 * len(served.split())
    assert TaskRecord.objects.filter(state="READY").count() == 14 - done.count()
    shown = {"*": "all", "-slow": "*, -slow"}.get(selection, selection.replace(",", ", "))
    assert f"queues    {shown}\n" in worker.text()


def test_a_pattern_finds_queues_that_come_later(project: Project) -> None:
    start_worker(project, "--queues=mail*,-mail-slow")
    assert ended(tasks.add.using(queue_name="mail-new").enqueue(1, 2)).result == "3"
    left = tasks.add.using(queue_name="mail-slow").enqueue(1, 2)
    assert ended(tasks.add.using(queue_name="mail-newer").enqueue(1, 2)).result == "3"
    assert row(left).state == "READY"


@whatever_database
def test_a_bare_worker_serves_every_alias(make_project: Callable[..., Project]) -> None:
    project = make_project(tasks=TWO_ALIASES)
    results = [tasks.add.using(backend=alias).enqueue(1, 2) for alias in TWO_ALIASES]
    worker = drain(project)
    assert [row(result).state for result in results] == ["SUCCESSFUL", "SUCCESSFUL"]
    assert "serves    default (database default), other (database default)" in worker.text()


@whatever_database
def test_backend_narrows_it_to_one_alias(make_project: Callable[..., Project]) -> None:
    project = make_project(tasks=TWO_ALIASES)
    results = [tasks.add.using(backend=alias).enqueue(1, 2) for alias in TWO_ALIASES]
    worker = drain(project, "--backend=other")
    assert [row(result).state for result in results] == ["READY", "SUCCESSFUL"]
    assert "serves    other (database default)\n" in worker.text()


@whatever_database
def test_an_unknown_alias_is_refused(make_project: Callable[..., Project]) -> None:
    project = make_project(tasks=TWO_ALIASES)
    worker = project.runworker("--backend=othr")
    assert worker.wait() == 1
    assert "TASKS has no alias 'othr' that uses django_taskq. There are: default, other." in worker.text()
    assert "Traceback" not in worker.text()


@whatever_database
def test_a_worker_without_any_alias_is_refused(make_project: Callable[..., Project]) -> None:
    module = "django.tasks" if not _is_backport() else "django_tasks"
    project = make_project(tasks={"default": {"BACKEND": f"{module}.backends.dummy.DummyBackend"}})
    worker = project.runworker()
    assert worker.wait() == 1
    assert 'set "BACKEND": "django_taskq.TaskqBackend"' in worker.text()


def _is_backport() -> bool:
    from django_taskq.compat import Task

    return Task.__module__.startswith("django_tasks")


# Slots


@whatever_database
def test_processes_threads_and_coroutines_are_as_many_as_told(project: Project, gate: Gate) -> None:
    names = [f"thread-{index}" for index in range(4)]
    tasks.hold.enqueue_many([(gate.path, name) for name in [*names, "waits"]])
    coroutines = [f"coroutine-{index}" for index in range(4)]
    tasks.ahold.enqueue_many([(gate.path, name) for name in [*coroutines, "waits-too"]])
    worker = start_worker(project, "--threads=2", "--coroutines=2", processes=2)
    gate.wait_for(*names, *coroutines)
    assert {record.slots for record in WorkerRecord.objects.all()} == {4}
    assert len({gate.pid(name) for name in names}) == 2
    assert len({gate.pid(name) for name in coroutines}) == 2
    assert "2 processes, each with 2 threads and 2 coroutines" in worker.text()
    # Something that has to come after what must not start: claims go by age.
    wait_until(lambda: states().get("READY") == 2, what="the rest to be left, or given back")
    assert sorted(gate.started()) == sorted([*names, *coroutines])
    gate.open()
    gate.wait_for("waits", "waits-too")


@whatever_database
def test_without_coroutine_slots_async_tasks_run_in_threads(project: Project, gate: Gate) -> None:
    tasks.ahold.enqueue(gate.path, "first")
    second = tasks.ahold.enqueue(gate.path, "second")
    worker = start_worker(project, "--coroutines=0")
    gate.wait_for("first")
    wait_until(lambda: states() == {"RUNNING": 1, "READY": 1}, what="the second task to be given back")
    gate.open()
    assert ended(second).result == '"second"'
    assert "1 process, each with 1 thread\n" in worker.text()


def test_one_task_at_a_time_in_order_of_priority_then_age(project: Project, tmp_path: Path, gate: Gate) -> None:
    trace = str(tmp_path / "trace")
    tasks.hold.using(priority=100).enqueue(gate.path, "first")
    expected: list[tuple[int, str]] = []
    for priority in (-5, 0, 7, 0, 7, -5):
        line = f"{priority} {len(expected)}"
        tasks.mark.using(priority=priority).enqueue(trace, line)
        expected.append((priority, line))
    worker = project.runworker("-c", "1")
    gate.wait_for("first")
    # What comes while a task runs and is more urgent is next; nothing was taken ahead of it.
    tasks.mark.using(priority=50).enqueue(trace, "urgent")
    expected.append((50, "urgent"))
    assert states() == {"RUNNING": 1, "READY": len(expected)}
    gate.open()
    wait_until(lambda: len(lines(trace)) == len(expected), what="all tasks to run")
    assert lines(trace) == [line for _, line in sorted(expected, key=lambda one: -one[0])]
    assert "1 process, each with 1 thread\n" in worker.text()


def test_the_order_holds_over_several_queues_and_aliases(make_project: Callable[..., Project], tmp_path: Path) -> None:
    project = make_project(tasks=TWO_ALIASES)
    trace = str(tmp_path / "trace")
    expected = []
    for number, (alias, queue, priority) in enumerate(
        (alias, queue, priority)
        for priority in (0, 5, -3)
        for alias in TWO_ALIASES
        for queue in ("mail", "default", "mail")
    ):
        tasks.mark.using(backend=alias, queue_name=queue, priority=priority).enqueue(trace, f"{number}")
        expected.append((-priority, number))
    drain(project, "-c", "1", "--queues=mail,default")
    assert lines(trace) == [f"{number}" for _, number in sorted(expected)]


@whatever_database
def test_concurrency_is_so_many_processes_with_one_slot_each(project: Project, gate: Gate) -> None:
    tasks.hold.enqueue_many([(gate.path, f"{number}") for number in range(2)])
    tasks.ahold.enqueue(gate.path, "waits")
    worker = project.runworker("--concurrency=2")
    gate.wait_for("0", "1")
    assert [record.slots for record in wait_for_workers(2)] == [1, 1]
    assert "2 processes, each with 1 thread\n" in worker.text()
    wait_until(lambda: states() == {"RUNNING": 2, "READY": 1}, what="the third task to be left")
    gate.open()
    gate.wait_for("waits")


@whatever_database
@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "0"],
        ["-c", "-1"],
        ["--concurrency=two"],
        ["--processes=0"],
        ["--processes=-2"],
        ["--threads=0"],
        ["--threads=1.5"],
        ["--coroutines=-1"],
        ["--max-tasks=0"],
        ["--max-tasks=-1"],
        ["--shutdown-timeout=-1"],
        ["--shutdown-timeout=nan"],
        ["--shutdown-timeout=soon"],
        ["--queues="],
        ["--queues=a,,b"],
        ["--queues=-"],
        [f"--queues={'q' * 129}"],
        ["-c", "2", "--processes=2"],
        ["-c", "2", "--threads=2"],
    ],
    ids=" ".join,
)
def test_impossible_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        call_command("runworker", *arguments)


@whatever_database
def test_a_wrong_argument_ends_with_2(project: Project) -> None:
    worker = project.runworker("--processes=0")
    assert worker.wait() == 2
    assert "'0': give a whole number from 1 up" in worker.text()
    assert "Traceback" not in worker.text()


# Ends


def test_burst_ends_when_nothing_due_is_left(project: Project, tmp_path: Path) -> None:
    trace, again = str(tmp_path / "trace"), str(tmp_path / "again")
    failed = tasks.fail.enqueue()
    retried = tasks.fail_until.using(max_attempts=5, backoff=0).enqueue(again, 4)
    chain = tasks.mark_and_enqueue.enqueue(trace, 50)
    coroutines = tasks.asleep.enqueue_many([(0.1,)] * 5)
    due = tasks.mark.using(run_after=0.0).enqueue(trace, "due")
    later = tasks.noop.using(run_after=timedelta(hours=1)).enqueue()
    again_later = tasks.fail.using(max_attempts=2, backoff=3600).enqueue()
    elsewhere = tasks.noop.using(queue_name="elsewhere").enqueue()
    drain(project, "--queues=default", "--processes=2")
    assert row(failed).state == "FAILED"
    assert (row(retried).state, row(retried).attempt) == ("SUCCESSFUL", 4)
    assert {row(result).state for result in [chain, due, *coroutines]} == {"SUCCESSFUL"}
    assert sorted(lines(trace)) == sorted(["due", *(str(number) for number in range(51))])
    assert [row(result).state for result in (later, again_later, elsewhere)] == ["SCHEDULED", "SCHEDULED", "READY"]
    assert TaskRecord.objects.filter(state="SUCCESSFUL").count() == 58
    assert not WorkerRecord.objects.exists()


def test_burst_on_an_empty_queue_ends_at_once(project: Project) -> None:
    since = time.monotonic()
    drain(project)
    assert time.monotonic() - since < 25.0


def test_burst_runs_what_came_due_before_it_started(project: Project) -> None:
    """Without a keeper: a burst does not stay long enough to need one."""
    result = tasks.add.using(run_after=0.2).enqueue(1, 2)
    wait_until(lambda: not TaskRecord.objects.filter(run_after__gt=_now()).exists(), what="its time to come")
    assert row(result).state == "SCHEDULED"
    drain(project)
    assert row(result).state == "SUCCESSFUL"


def _now() -> Any:
    from django_taskq.database import database_now

    return database_now("default")


def test_max_tasks_is_exact_over_all_processes(project: Project, tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")
    tasks.mark.enqueue_many([(trace,)] * 200)
    worker = project.runworker("--max-tasks=123", "--processes=2")
    assert worker.wait() == 0, worker.text()
    assert len(lines(trace)) == 123
    assert states() == {"SUCCESSFUL": 123, "READY": 77}
    assert "until     123 tasks have run" in worker.text()


def test_max_tasks_counts_what_ran_not_what_was_taken(project: Project, tmp_path: Path, gate: Gate) -> None:
    """One process takes tasks, gets stuck in the first, and gives the rest back: they count when they run."""
    trace = str(tmp_path / "trace")
    tasks.mark.enqueue_many([(trace,)] * 30)
    stuck = tasks.hold.enqueue(gate.path, "stuck")
    tasks.mark.enqueue_many([(trace,)] * 60)
    worker = project.runworker("--max-tasks=81", "--processes=2")
    gate.wait_for("stuck")
    wait_until(lambda: not TaskRecord.objects.filter(state="RUNNING").exclude(pk=stuck.id).exists())
    gate.open()
    assert worker.wait() == 0, worker.text()
    assert len(lines(trace)) == 80
    assert states() == {"SUCCESSFUL": 81, "READY": 10}


def test_max_tasks_waits_for_tasks(project: Project) -> None:
    worker = start_worker(project, "--max-tasks=2", processes=2)
    for _ in range(2):
        assert worker.returncode is None
        ended(tasks.noop.enqueue())
    assert worker.wait() == 0
    assert not WorkerRecord.objects.exists()


def test_a_task_that_is_retried_counts_once_per_attempt(project: Project, tmp_path: Path) -> None:
    result = tasks.fail_until.using(max_attempts=5, backoff=0).enqueue(str(tmp_path / "again"), 5)
    worker = project.runworker("--max-tasks=3", "--processes=1")
    assert worker.wait() == 0, worker.text()
    assert (row(result).state, row(result).attempt) == ("READY", 3)


# What it says


@whatever_database
def test_the_name_is_found_in_rows(project: Project) -> None:
    start_worker(project, "--name=mail-worker", "--queues=mail,a*", processes=2)
    records = wait_for_workers(2)
    assert [record.name for record in records] == ["mail-worker"] * 2
    assert {record.queues for record in records} == {"mail, a*"}
    result = tasks.noop.using(queue_name="mail").enqueue()
    assert ended(result).worker_ids.strip() in {record.pk for record in records}
    assert row(result).worker_ids.startswith("mail-worker-")


@whatever_database
def test_a_long_name_is_shortened(project: Project) -> None:
    start_worker(project, f"--name={'ä' * 300}")
    assert ended(tasks.add.enqueue(1, 2)).result == "3"


@pytest.mark.smoke
def test_banner_and_log_lines(project: Project, tmp_path: Path) -> None:
    good, bad = tasks.add.enqueue(1, 2), tasks.fail.enqueue("on purpose")
    again = tasks.fail_until.using(max_attempts=2, backoff=0).enqueue(str(tmp_path / "again"), 2)
    worker = drain(project, "--processes=1", "--name=shown")
    assert worker.stdout.read_text() == ""
    text = worker.text()
    assert text.startswith("django_taskq ")
    assert "worker shown\n" in text
    assert BANNER in text
    assert "until     nothing due is left" in text
    assert re.search(r"knows     \d+ tasks, \d+ of them async\n", text)
    assert project.database.get("PASSWORD", "no password") not in text
    succeeded, failed, retried = (
        re.search(rf"(\w+) +\d+ Task \S+ id={result.id} (.*)", text) for result in (good, bad, again)
    )
    assert succeeded is not None
    assert succeeded[1] == "INFO"
    assert re.fullmatch(r"succeeded in \d+\.\d{3} s", succeeded[2])
    assert failed is not None
    assert failed[1] == "ERROR"
    assert failed[2].startswith("failed for good in attempt 1")
    assert failed[2].endswith("(ValueError)")
    assert retried is not None
    assert retried[1] == "WARNING", "a retry is not an error"
    assert retried[2] == "failed in attempt 1 (ValueError); it runs again in 0.0 s"
    # The traceback stands there once.
    assert text.count("ValueError: on purpose") == 1
    assert "Traceback (most recent call last)" in text


@whatever_database
def test_quiet_and_loud(project: Project) -> None:
    tasks.noop.enqueue()
    assert drain(project, "--verbosity=0").text() == ""
    assert "has pid" in drain(project, "--verbosity=2").text()


@whatever_database
def test_a_project_that_logs_for_itself_is_left_alone(make_project: Callable[..., Project]) -> None:
    logging = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"short": {"format": "OURS %(name)s %(action)s"}},
        "handlers": {"here": {"class": "logging.StreamHandler", "formatter": "short"}},
        "loggers": {"django_taskq": {"handlers": ["here"], "level": "INFO"}},
    }
    project = make_project(settings={"LOGGING": logging})
    tasks.noop.enqueue()
    text = drain(project, "--processes=1").text()
    assert text.count("OURS django_taskq.task task_succeeded") == 1
    assert "INFO" not in text


#: A log handler as nobody should write them: the standard library's own never raise.
RAISING = """
import logging

class Raising(logging.Handler):
    def emit(self, record):
        raise RuntimeError("no log today")
"""


@whatever_database
def test_a_log_handler_that_raises_fails_no_task(make_project: Callable[..., Project]) -> None:
    logging = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"raising": {"class": "raising.Raising"}},
        "loggers": {"django_taskq": {"handlers": ["raising"], "level": "INFO"}},
    }
    project = make_project(settings={"LOGGING": logging})
    (project.directory / "raising.py").write_text(RAISING)
    good, bad = tasks.add.enqueue(1, 2), tasks.fail.enqueue()
    drain(project, "--processes=1")
    assert [row(result).state for result in (good, bad)] == ["SUCCESSFUL", "FAILED"]
    assert row(bad).attempt_errors[-1].exception_class_path == "builtins.ValueError"
