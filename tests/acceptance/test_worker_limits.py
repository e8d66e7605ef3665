"""Tasks that do not end: in every kind of slot, their end is told, the slot is back, and nobody else has noticed."""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from django_taskq import Task, TaskFailed, TaskResult
from django_taskq.models import TaskRecord
from tests.acceptance.load import broker
from tests.acceptance.project import Project
from tests.acceptance.workers import Gate, drain, ended, lines, row, start_worker, wait_until_done
from tests.taskapp import tasks

logger = logging.getLogger(__name__)

pytestmark = pytest.mark.once

#: Of processes, which wait for MariaDB as they do for SQLite.
no_other_database = pytest.mark.databases("sqlite", "postgres")

#: Seconds of the limits here; and until the slot of a task that does not end is free again, at most.
LIMIT, FREE = 0.5, 5.0
#: Until its end is told: after a hard limit, and after somebody cancelled it.
TOLD = {"FAILED": 2.0, "CANCELLED": 5.0}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What a task does, what ends it, and how it is to end. ``is_crash``: its process dies of it, by itself."""

    kind: str
    means: str = "limit"
    state: str = "FAILED"
    error: str = "django_taskq.exceptions.TimeLimitExceeded"
    is_crash: bool = False


def cancelled(kind: str) -> Fault:
    return Fault(kind=kind, means="cancel", state="CANCELLED", error="django_taskq.exceptions.TaskCancelled")


#: A task that takes too much memory is a matter of recycling (``--max-memory-per-child``).
FAULTS = [
    Fault(kind="loop"),
    Fault(kind="sleep"),
    Fault(kind="stubborn"),
    Fault(kind="regex"),
    cancelled("loop"),
    cancelled("stubborn"),
    Fault(kind="segfault", means="", error="django_taskq.exceptions.WorkerLost", is_crash=True),
    Fault(kind="SystemExit", means="", error="builtins.SystemExit"),
]

#: What stands in the way of whom: a thread is filled by one task, the event loop by as many as there may be.
SLOTS: dict[str, tuple[list[str], Task, Task, list[Task]]] = {
    "main": (["--threads=1", "--coroutines=1"], tasks.never_end, tasks.mark, [tasks.ahold]),
    "thread": (["--threads=2", "--coroutines=1"], tasks.never_end, tasks.mark, [tasks.ahold, tasks.hold]),
    "coroutine": (["--threads=1", "--coroutines=2"], tasks.anever_end, tasks.amark, [tasks.ahold, tasks.hold]),
}


@pytest.mark.timing
@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("slot", SLOTS)
def test_the_matrix(project: Project, tmp_path: Path, slot: str) -> None:
    arguments, task, probe, neighbours = SLOTS[slot]
    worker = start_worker(project, *arguments)
    faults = FAULTS if slot != "coroutine" else [Fault(kind="wait"), cancelled("wait"), *FAULTS]
    for number, fault in enumerate(faults):
        gate = Gate(tmp_path / f"gate-{number}")
        beside = [neighbour.enqueue(gate.path, neighbour.name) for neighbour in neighbours]
        gate.wait_for(*(neighbour.name for neighbour in neighbours))
        limit = LIMIT if fault.means == "limit" else None
        guilty = task.using(time_limit=limit, max_deliveries=1).enqueue(gate.path, fault.kind)
        waits = probe.enqueue(str(tmp_path / "trace"), fault.kind)
        gate.wait_for(*(neighbour.name for neighbour in neighbours), fault.kind)
        due = row(guilty).last_attempted_at + timedelta(seconds=limit or 0.0)
        if fault.means == "cancel":
            assert guilty.cancel()
            due += timedelta(seconds=time.time() - due.timestamp())
        end, after = ended(guilty, 15.0), ended(waits, 15.0)
        what = f"{fault} in a {slot} slot"
        assert (end.state, end.attempt_errors[-1].exception_class_path) == (fault.state, fault.error), what
        assert (end.attempt, after.state, after.attempt) == (1, "SUCCESSFUL", 1), what
        assert end.finished_at is not None
        assert after.finished_at is not None
        assert end.finished_at - due < timedelta(seconds=TOLD[fault.state]), what
        assert after.finished_at - due < timedelta(seconds=FREE), what
        gate.open()
        for record in [ended(one) for one in beside]:
            assert record.state == "SUCCESSFUL", what
            # Nobody knows which of the tasks that ran a process has died of, if it does so by itself.
            assert record.losses == int(fault.is_crash), what
            assert record.attempt == record.losses + 1 == len(record.worker_ids.splitlines()), what
        assert lines(gate.directory / "started").count(fault.kind) <= 1
    assert worker.returncode is None


#: How many tasks the test of poison has: good ones, and such as kill their process. TASKQ_TEST_POISON=2000,200 for all.
GOOD, POISON = (int(number) for number in os.environ.get("TASKQ_TEST_POISON", "150,16").split(","))


@pytest.mark.timing
@pytest.mark.databases("sqlite")
def test_poison_is_set_aside_and_the_good_get_through(project: Project, tmp_path: Path, rng: random.Random) -> None:
    """One in eleven kills its process, three times; the others are all done, in twice the usual time at most."""
    seconds = {}
    for number in (0, POISON):
        calls = ["good"] * GOOD + ["exit", "segfault"] * (number // 2)
        rng.shuffle(calls)
        results: dict[str, list[TaskResult]] = {"good": [], "exit": [], "segfault": []}
        for kind in calls:
            result = tasks.sleep.enqueue(0.05) if kind == "good" else tasks.die.enqueue(str(tmp_path / "deaths"), kind)
            results[kind].append(result)
        begun = time.monotonic()
        drain(project, "--processes=2", deadline=600)
        seconds[number] = time.monotonic() - begun
        good = [row(result) for result in results["good"]]
        assert {(record.state, record.attempt, record.losses) for record in good} == {("SUCCESSFUL", 1, 0)}
        poison = [row(result) for kind in ("exit", "segfault") for result in results[kind]]
        assert {(record.state, record.losses) for record in poison} <= {("FAILED", 3)}
    assert len(lines(tmp_path / "deaths")) == POISON * 3
    logger.info(
        "%d good tasks: %.1f s; with %d that kill their process: %.1f s", GOOD, seconds[0], POISON, seconds[POISON]
    )
    assert seconds[POISON] < 2 * seconds[0], seconds


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


@no_other_database
@pytest.mark.parametrize("arguments", [["--threads=1"], ["--threads=2"]], ids=["main", "threads"])
def test_limits_and_what_follows(project: Project, tmp_path: Path, gate: Gate, arguments: list[str]) -> None:
    start_worker(project, *arguments, "--soft-time-limit=0.3", "--time-limit=0.6")
    trace = str(tmp_path / "trace")
    # Those that are to end by themselves get the time for it, however busy the machine is.
    soft = [task.using(time_limit=60).enqueue(gate.path) for task in (tasks.hear_of_limit, tasks.ahear_of_limit)]
    # Its own limit wins over the worker's.
    own = tasks.sleep.using(soft_time_limit=60, time_limit=90).enqueue(0.8)
    endless = ((tasks.never_end, "loop"), (tasks.anever_end, "wait"))
    uncaught = [task.using(time_limit=60).enqueue(gate.path, kind) for task, kind in endless]
    hard = [
        task.using(soft_time_limit=50, max_attempts=2, backoff=0).enqueue(gate.path, kind) for task, kind in endless
    ]
    given_up = tasks.never_end.using(
        soft_time_limit=50, max_attempts=5, backoff=0, give_up_on="django_taskq.exceptions.TimeLimitExceeded"
    ).enqueue(gate.path, "loop")
    for result in soft:
        assert (ended(result).state, ended(result).result) == ("SUCCESSFUL", '"tidied up"')
    assert ended(own).state == "SUCCESSFUL"
    for result in uncaught:
        assert [error.exception_class_path for error in ended(result).attempt_errors] == [
            "django_taskq.exceptions.SoftTimeLimitExceeded"
        ]
    for result in hard:
        record = ended(result)
        assert (record.state, record.attempt, record.losses) == ("FAILED", 2, 0)
        for error in record.attempt_errors:
            assert error.exception_class_path == "django_taskq.exceptions.TimeLimitExceeded"
            assert "time_limit of 0.6 s" in error.message
            assert "runner.py" not in error.traceback
    assert any("never_end" in error.traceback for result in hard for error in row(result).attempt_errors)
    assert ended(given_up).attempt == 1
    # Interrupted tasks have left no trace in their slots.
    for number in range(10):
        for task, argument in ((tasks.note, f"{number}"), (tasks.mark, trace)):
            task.using(soft_time_limit=60, time_limit=90).enqueue(argument)
    assert wait_until_done()["SUCCESSFUL"] == 23


def test_a_task_is_cancelled_though_its_worker_dies(project: Project, gate: Gate) -> None:
    """The request is in the row: whoever takes the task over does not run it again."""
    worker = start_worker(project)
    result = tasks.hold.enqueue(gate.path, "held")
    gate.wait_for("held")
    # It takes the worker up to a second to look.
    assert result.cancel()
    for child in worker.children():
        child.kill()
    record = ended(result)
    assert (record.state, record.attempt) == ("CANCELLED", 1)
    assert gate.started() == ["held"]


@no_other_database
def test_what_cannot_be_run_twice_is_not_given_back(project: Project, gate: Gate) -> None:
    """Beside a task whose process had to be replaced."""
    start_worker(project, "--threads=3")
    once = tasks.hold.using(acks_late=False).enqueue(gate.path, "once")
    again = tasks.hold.enqueue(gate.path, "again")
    gate.wait_for("once", "again")
    guilty = tasks.never_end.using(time_limit=0.3, acks_late=False).enqueue(gate.path, "regex")
    assert ended(guilty).attempt_errors[0].exception_class_path == "django_taskq.exceptions.TimeLimitExceeded"
    gate.wait_for("once", "again", "again")
    gate.open()
    assert (ended(once).state, ended(once).losses) == ("FAILED", 1)
    assert "acks_late=False" in ended(once).attempt_errors[0].message
    assert (ended(again).state, ended(again).attempt, ended(again).losses) == ("SUCCESSFUL", 1, 0)
    assert gate.started().count("once") == 1


@pytest.mark.databases("sqlite", "postgres")
def test_tasks_without_a_row(amqp_url: str, make_project: Callable[..., Project], gate: Gate) -> None:
    """Who waits hears of the limit. Where a process cannot even say that, a second one does, and a row is left."""
    project = make_project(tasks=broker(amqp_url, results="rpc://", lease=3.0))
    worker = start_worker(project, "--threads=2")
    quiet, beside = tasks.never_end.using(record=False, time_limit=0.5), tasks.ahold.using(record=False)
    neighbour = beside.enqueue(gate.path, "beside")
    gate.wait_for("beside")
    for kind, runs in (("loop", 1), ("regex", 2), ("stubborn", 3)):
        with pytest.raises(TaskFailed, match=r"TimeLimitExceeded.*0\.5 s"):
            quiet.enqueue(gate.path, kind).get(30)
        # Not before: what a process had received when it ended is delivered again, and gets a row for that.
        gate.wait_for(*["beside"] * runs)
    gate.open()
    assert neighbour.get(30) == "beside"
    # One may have been answered, and its process killed for the next one before the broker was told.
    assert gate.started().count("loop") in {1, 2}
    assert gate.started().count("regex") == 2
    assert gate.started().count("stubborn") == 1
    for failed in TaskRecord.objects.filter(state="FAILED"):
        assert (failed.attempt, failed.losses) == (1, 0)
    assert worker.returncode is None


@no_other_database
@pytest.mark.parametrize("kind", ["stubborn", "regex"])
def test_a_worker_can_stop_though_a_task_does_not(project: Project, gate: Gate, kind: str) -> None:
    worker = start_worker(project)
    beside = tasks.ahold.enqueue(gate.path, "beside")
    gate.wait_for("beside")
    guilty = tasks.never_end.using(time_limit=0.5).enqueue(gate.path, kind)
    gate.wait_for(kind)
    worker.send(signal.SIGTERM)
    # The one beside it could have gone on for ever: it is given back.
    assert worker.wait() == 4, worker.text()
    assert row(guilty).attempt_errors[0].exception_class_path == "django_taskq.exceptions.TimeLimitExceeded"
    assert (row(beside).state, row(beside).attempt) == ("READY", 0)
    gate.open()
    drain(project)
    assert (row(beside).state, row(beside).attempt, row(guilty).state) == ("SUCCESSFUL", 1, "FAILED")
