"""How tasks run beside each other: coroutines together, and no task waits behind a long one while a slot is free."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from django_taskq import TaskResult
from django_taskq.models import TaskRecord
from tests.acceptance.project import Project
from tests.acceptance.workers import Gate, ended, lines, row, start_worker, wait_until_done
from tests.taskapp import tasks
from tests.waiting import wait_until

#: Of processes, which wait for MariaDB as they do for SQLite.
no_other_database = pytest.mark.databases("sqlite", "postgres")

#: Seconds that a task may wait for a slot that is free.
DELAY = 0.2


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


@no_other_database
@pytest.mark.timing
def test_200_coroutines_of_one_second_take_less_than_three(project: Project) -> None:
    start_worker(project)
    since = time.monotonic()
    tasks.asleep.enqueue_many([(1.0,)] * 200)
    assert wait_until_done() == {"SUCCESSFUL": 200}
    assert time.monotonic() - since < 3.0


@no_other_database
@pytest.mark.timing
@pytest.mark.parametrize(("processes", "threads"), [(2, 1), (1, 2)], ids=["two processes", "two threads"])
def test_a_long_task_delays_no_other_while_a_slot_is_free(
    project: Project, tmp_path: Path, gate: Gate, processes: int, threads: int
) -> None:
    trace = str(tmp_path / "trace")
    start_worker(project, f"--threads={threads}", processes=processes)
    # The processes know by now that tasks are short, and take many at a time.
    tasks.noop.enqueue_many([()] * 200)
    wait_until_done()
    # One after the other, as they come: into whichever process, before and behind the long one.
    tasks.hold.enqueue(gate.path, "long")
    shorts = [tasks.mark.enqueue(trace) for _ in range(20)]
    gate.wait_for("long")
    for _ in range(20):
        shorts.append(tasks.mark.enqueue(trace))
        wait_until(lambda: len(lines(trace)) == len(shorts))
    gate.open()
    # One or two may have waited for the machine; none for the long one, which ends after them.
    assert sorted(map(delay, shorts))[-3] < DELAY


def delay(result: TaskResult) -> float:
    """Seconds from a task's enqueue to its start, both by this machine's clock."""
    assert result.enqueued_at is not None
    started: float = json.loads(str(ended(result).result))
    return started - result.enqueued_at.timestamp()


@pytest.mark.timing
def test_what_was_taken_behind_a_long_task_is_given_back_uncounted(
    project: Project, tmp_path: Path, gate: Gate
) -> None:
    trace = str(tmp_path / "trace")
    # All are there when the first process looks: it takes the long one and, behind it, the others.
    tasks.hold.using(priority=10).enqueue(gate.path, "long")
    shorts = tasks.mark.enqueue_many([(trace,)] * 5)
    start_worker(project)
    gate.wait_for("long")
    wait_until(lambda: TaskRecord.objects.filter(state="READY").count() == 5, 1.0, what="the others to be given back")
    for result in shorts:
        record = row(result)
        assert (record.attempt, record.worker_ids, record.worker_id, record.started_at) == (0, "", "", None)
    start_worker(project)
    wait_until(lambda: len(lines(trace)) == 5)
    gate.open()
    wait_until_done()
    for result in shorts:
        record = row(result)
        assert (record.state, record.attempt, len(record.worker_ids.splitlines())) == ("SUCCESSFUL", 1, 1)
        assert record.claim > 1, "given back, not left"


@no_other_database
@pytest.mark.timing
def test_a_coroutine_that_blocks_its_loop_does_not_hold_up_other_processes(
    project: Project, tmp_path: Path, gate: Gate
) -> None:
    start_worker(project, processes=2)
    tasks.ablock.enqueue(gate.path, "long")
    gate.wait_for("long")
    results = tasks.asleep.enqueue_many([(0.01,)] * 20)
    wait_until(lambda: not TaskRecord.objects.filter(pk__in=[result.id for result in results]).unfinished().exists(), 5)
    gate.open()


@no_other_database
@pytest.mark.timing
def test_threads_and_coroutines_do_not_wait_for_each_other(project: Project, tmp_path: Path, gate: Gate) -> None:
    trace = str(tmp_path / "trace")
    start_worker(project, "--coroutines=2")
    tasks.hold.enqueue(gate.path, "thread")
    gate.wait_for("thread")
    assert ended(tasks.asleep.enqueue(0.01), 2.0).state == "SUCCESSFUL"
    gate.open()
    ended(tasks.noop.enqueue())
    (gate.directory / "go").unlink()
    tasks.ahold.enqueue_many([(gate.path, name) for name in ("one", "two", "waits")])
    gate.wait_for("one", "two")
    shorts = tasks.mark.enqueue_many([(trace,)] * 10)
    wait_until(lambda: len(lines(trace)) == 10, 2.0)
    assert "waits" not in gate.started()
    gate.open()
    gate.wait_for("waits")
    assert {ended(result).state for result in shorts} == {"SUCCESSFUL"}


def test_urgent_tasks_overtake(project: Project, tmp_path: Path, gate: Gate) -> None:
    """Whatever was taken ahead: within one process a task that was not started yet may wait for a more urgent one."""
    trace = str(tmp_path / "trace")
    for priority in (-10, 0, 10):
        tasks.mark.using(priority=priority).enqueue_many([(trace, f"{priority}")] * 20)
    start_worker(project)
    wait_until_done()
    assert lines(trace) == ["10"] * 20 + ["0"] * 20 + ["-10"] * 20


def test_a_long_queue_of_one_kind_does_not_hide_the_other(
    make_project: Callable[..., Project], tmp_path: Path, gate: Gate
) -> None:
    """While the only thread is taken, coroutines are found behind many tasks that need a thread."""
    project = make_project()
    tasks.hold.using(priority=10).enqueue(gate.path, "long")
    start_worker(project)
    gate.wait_for("long")
    tasks.noop.enqueue_many([()] * 300)
    coroutine = tasks.asleep.enqueue(0.01)
    assert ended(coroutine, 5.0).state == "SUCCESSFUL"
    gate.open()
    wait_until_done()
