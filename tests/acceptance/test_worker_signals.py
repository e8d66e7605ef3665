"""What signals do to a worker: it stops in order, stops at once, or is replaced; and no task is lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from django_taskq.models import TaskRecord, WorkerRecord
from django_taskq.transitions import workers
from tests.acceptance.process import Process
from tests.acceptance.project import Project
from tests.acceptance.workers import Gate, ended, frozen, is_gone, lines, row, start_worker, states, wait_until_done
from tests.taskapp import tasks
from tests.waiting import allowed, wait_until

#: Of processes, which wait for MariaDB as they do for SQLite.
no_other_database = pytest.mark.databases("sqlite", "postgres")

#: Seconds after a heartbeat until a worker counts as lost; the least that OPTIONS takes is 3.
LEASE = 3.0

SHORT_LEASE = {"default": {"BACKEND": "django_taskq.TaskqBackend", "OPTIONS": {"lease": LEASE}}}


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def stop_in_order(worker: Process, number: signal.Signals = signal.SIGTERM) -> None:
    worker.send(number)
    assert worker.wait() == 0, worker.text()


def check_given_back(record: TaskRecord) -> None:
    assert (record.state, record.attempt, record.worker_id, record.worker_ids) == ("READY", 0, "", "")
    assert (record.started_at, record.last_attempted_at, record.errors) == (None, None, "")


def slot_process(worker: Process) -> psutil.Process:
    """The only process of a worker that runs tasks."""
    (child,) = worker.children()
    return child


@pytest.mark.parametrize(
    ("number", "send", "threads"),
    [
        (signal.SIGTERM, Process.send, 1),
        (signal.SIGINT, Process.send_group, 1),
        (signal.SIGTERM, Process.send_group, 2),
        (signal.SIGINT, Process.send, 2),
    ],
    ids=["SIGTERM", "Ctrl-C", "SIGTERM to the group, two threads", "SIGINT, two threads"],
)
def test_first_signal_lets_running_tasks_end_and_starts_none(
    project: Project, gate: Gate, number: signal.Signals, send: Callable[[Process, signal.Signals], None], threads: int
) -> None:
    # Short tasks first: the worker then takes many at a time, and has some in hand when the signal comes.
    tasks.noop.enqueue_many([()] * 50)
    running = tasks.hold.enqueue_many([(gate.path, f"thread-{index}") for index in range(threads)])
    running += tasks.ahold.enqueue_many([(gate.path, f"coroutine-{index}") for index in range(2)])
    waiting = tasks.mark.enqueue_many([(f"{gate.path}/marks",)] * 50)
    worker = start_worker(project, f"--threads={threads}")
    gate.wait_for(*(result.args[1] for result in running))
    send(worker, number)
    worker.wait_for("Stopping")
    # Not the READY ones: MariaDB's SKIP LOCKED may pass over a short task, which then stays behind.
    wait_until(lambda: states().get("RUNNING") == len(running), what="the waiting tasks to be given back")
    assert worker.returncode is None
    gate.open()
    assert worker.wait() == 0, worker.text()
    assert {row(result).state for result in running} == {"SUCCESSFUL"}
    assert not lines(f"{gate.path}/marks")
    for result in waiting:
        check_given_back(row(result))
    assert not WorkerRecord.objects.exists()


@no_other_database
@pytest.mark.timing
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_an_idle_worker_is_gone_within_a_second(project: Project, number: signal.Signals) -> None:
    worker = start_worker(project, processes=2)
    ended(tasks.noop.enqueue())
    since = time.monotonic()
    stop_in_order(worker, number)
    assert time.monotonic() - since < 1.0
    assert not WorkerRecord.objects.exists()


@no_other_database
@pytest.mark.timing
@pytest.mark.parametrize("threads", [1, 2])
def test_second_signal_stops_at_once_and_gives_back(project: Project, gate: Gate, threads: int) -> None:
    late = tasks.hold.enqueue(gate.path, "late")
    early = tasks.hold.using(acks_late=False).enqueue(gate.path, "early") if threads == 2 else None
    coroutine = tasks.ahold.enqueue(gate.path, "async")
    early_coroutine = tasks.ahold.using(acks_late=False).enqueue(gate.path, "async-early")
    waiting = tasks.noop.enqueue()
    worker = start_worker(project, f"--threads={threads}")
    gate.wait_for("late", "async", "async-early", *["early"] * (threads == 2))
    worker.send(signal.SIGTERM)
    worker.wait_for("Stopping")
    since = time.monotonic()
    worker.send(signal.SIGTERM)
    assert worker.wait() == 4, worker.text()
    assert time.monotonic() - since < 3.0
    assert "Gave back" in worker.text()
    for result in (late, coroutine):
        record = row(result)
        assert (record.state, record.attempt, record.losses) == ("READY", 1, 1)
        assert record.finished_at is None
    for result in filter(None, (early, early_coroutine)):
        record = row(result)
        assert (record.state, record.attempt) == ("FAILED", 1)
        assert record.attempt_errors[-1].exception_class_path == "django_taskq.exceptions.WorkerLost"
    check_given_back(row(waiting))
    assert not WorkerRecord.objects.exists()


@no_other_database
@pytest.mark.timing
def test_second_signal_ends_a_task_that_lets_nothing_else_run(project: Project, gate: Gate) -> None:
    """A regular expression that never ends holds the interpreter's lock: the process cannot even hear."""
    result = tasks.hog.enqueue(gate.path)
    worker = start_worker(project)
    gate.wait_for("hog")
    worker.send(signal.SIGINT)
    worker.wait_for("Stopping")
    since = time.monotonic()
    worker.send(signal.SIGINT)
    assert worker.wait() == 4, worker.text()
    assert time.monotonic() - since < 3.0
    assert row(result).state == "READY"
    assert not project.living()


@no_other_database
def test_shutdown_timeout_is_a_second_signal(project: Project, gate: Gate) -> None:
    result = tasks.hold.enqueue(gate.path, "long")
    worker = start_worker(project, "--shutdown-timeout=0.5")
    gate.wait_for("long")
    since = time.monotonic()
    worker.send(signal.SIGTERM)
    assert worker.wait() == 4, worker.text()
    assert 0.5 <= time.monotonic() - since < 25.0
    assert row(result).state == "READY"


@no_other_database
def test_shutdown_timeout_is_not_waited_for(project: Project) -> None:
    worker = start_worker(project, "--shutdown-timeout=60")
    since = time.monotonic()
    stop_in_order(worker)
    assert time.monotonic() - since < 25.0


@pytest.mark.smoke
def test_a_killed_child_is_replaced_and_its_tasks_run_again_at_once(project: Project, gate: Gate) -> None:
    tasks.noop.enqueue_many([()] * 50)
    late, early = (tasks.hold.using(acks_late=late).enqueue(gate.path, f"{late}") for late in (True, False))
    coroutine = tasks.ahold.enqueue(gate.path, "async")
    waiting = tasks.mark.enqueue_many([(f"{gate.path}/marks",)] * 50)
    worker = start_worker(project, "--threads=2")
    gate.wait_for("True", "False", "async")
    killed = gate.pid("True")
    since = time.monotonic()
    os.kill(killed, signal.SIGKILL)
    gate.wait_for("True", "True", "async", "async")
    assert time.monotonic() - since < 25.0, "the lease is 30 s"
    assert gate.pid("True") != killed
    gate.open()
    wait_until_done()
    stop_in_order(worker)
    assert row(early).state == "FAILED"
    assert gate.started().count("False") == 1
    for result in (late, coroutine):
        record = row(result)
        assert (record.state, record.attempt, record.losses) == ("SUCCESSFUL", 2, 1)
        assert len(record.worker_ids.splitlines()) == 2
    # What had only been claimed was given back uncounted.
    assert {row(result).attempt for result in waiting} == {1}
    assert len(lines(f"{gate.path}/marks")) == 50
    assert "was killed by signal 9" in worker.text()
    assert "Took over from" in worker.text()


@no_other_database
@pytest.mark.timing
def test_children_do_not_outlive_their_supervisor(project: Project, gate: Gate) -> None:
    result = tasks.hold.enqueue(gate.path, "long")
    worker = start_worker(project, processes=2)
    gate.wait_for("long")
    children = worker.children()
    assert len(children) == 2
    since = time.monotonic()
    worker.send(signal.SIGKILL)
    wait_until(lambda: all(is_gone(child) for child in children), what="the children to end")
    assert time.monotonic() - since < 2.5
    assert row(result).state == "READY"
    assert not WorkerRecord.objects.exists()


@pytest.mark.smoke
def test_another_worker_takes_over_from_one_that_is_killed(make_project: Callable[..., Project], gate: Gate) -> None:
    project = make_project(tasks=SHORT_LEASE)
    lost = start_worker(project)
    late = tasks.hold.enqueue(gate.path, "late")
    gate.wait_for("late")
    (lost_row,) = WorkerRecord.objects.all()
    other = project.runworker("--processes=1")
    wait_until(lambda: WorkerRecord.objects.count() == 2)
    beside = tasks.hold.enqueue(gate.path, "beside")
    gate.wait_for("beside")
    since = time.monotonic()
    lost.send_group(signal.SIGKILL)
    lost.wait()
    gate.open()
    wait_until_done(LEASE + 10.0)
    assert time.monotonic() - since < allowed(LEASE + 10.0)
    stop_in_order(other)
    record = row(late)
    assert (record.state, record.attempt, record.losses) == ("SUCCESSFUL", 2, 1)
    assert record.attempt_errors[0].exception_class_path == "django_taskq.exceptions.WorkerLost"
    assert row(beside).state == "SUCCESSFUL"
    assert not WorkerRecord.objects.filter(pk=lost_row.pk).exists()


def test_a_worker_started_later_takes_over_from_one_that_is_killed(
    make_project: Callable[..., Project], gate: Gate
) -> None:
    project = make_project(tasks=SHORT_LEASE)
    late, early = (tasks.hold.using(acks_late=late).enqueue(gate.path, f"{late}") for late in (True, False))
    lost = start_worker(project, "--threads=2")
    gate.wait_for("True", "False")
    since = time.monotonic()
    lost.send_group(signal.SIGKILL)
    lost.wait()
    gate.open()
    other = start_worker(project)
    wait_until_done(LEASE + 10.0)
    assert time.monotonic() - since < allowed(LEASE + 10.0)
    stop_in_order(other)
    assert row(late).state == "SUCCESSFUL"
    assert row(early).state == "FAILED"


def test_a_worker_that_slept_beyond_its_lease_loses_its_tasks_once(
    make_project: Callable[..., Project], gate: Gate
) -> None:
    project = make_project(tasks=SHORT_LEASE)
    sleeper = start_worker(project, "--name=sleeper")
    result = tasks.hold.enqueue(gate.path, "long")
    gate.wait_for("long")
    (old,) = WorkerRecord.objects.values_list("pk", flat=True)
    other = start_worker(project, "--name=other")
    with frozen(slot_process(sleeper)):
        gate.wait_for("long", "long", deadline=LEASE + 10.0)
        gate.open()
        assert ended(result).state == "SUCCESSFUL"
        written = row(result)
    wait_until(lambda: WorkerRecord.objects.filter(name="sleeper").exclude(pk=old).exists(), what="a new registration")
    sleeper.wait_for("too late and was discarded")
    assert "is taken for lost" in sleeper.text()
    again = row(result)
    assert (again.finished_at, again.worker_ids, again.claim) == (written.finished_at, written.worker_ids, 2)
    assert written.worker_ids.splitlines()[1].startswith("other")
    assert ended(tasks.add.enqueue(1, 2)).result == "3"
    for worker in (sleeper, other):
        stop_in_order(worker)
    assert gate.started() == ["long", "long"]


def test_a_worker_may_take_its_own_task_over(make_project: Callable[..., Project], gate: Gate) -> None:
    """Its other slot is free when it wakes up, and the task is READY: then it runs it twice itself."""
    project = make_project(tasks=SHORT_LEASE)
    worker = start_worker(project, "--threads=2")
    result = tasks.hold.enqueue(gate.path, "long")
    gate.wait_for("long")
    (old,) = WorkerRecord.objects.values_list("pk", flat=True)
    child = slot_process(worker)
    # What a keeper does to a worker that is silent for too long.
    workers.deregister("default", old)
    worker.wait_for("is taken for lost")
    workers.rescue("default", old)
    gate.wait_for("long", "long")
    gate.open()
    assert ended(result).state == "SUCCESSFUL"
    worker.wait_for("too late and was discarded")
    stop_in_order(worker)
    record = row(result)
    assert (record.state, record.claim, record.attempt) == ("SUCCESSFUL", 2, 2)
    assert gate.pid("long") == child.pid, "the process has not been replaced"
