"""Processes that have done enough are replaced, and neither a task nor its neighbours notice."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from django_taskq.models import TaskRecord, WorkerRecord
from tests.acceptance.project import Project
from tests.acceptance.workers import Gate, drain, ended, lines, row, start_worker, states, wait_until_done
from tests.taskapp import tasks
from tests.waiting import wait_until

pytestmark = [pytest.mark.once, pytest.mark.databases("sqlite")]


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def test_no_process_runs_more_tasks_than_it_may(project: Project, tmp_path: Path) -> None:
    tasks.noop.enqueue_many([()] * 200)
    asynchronous = tasks.asleep.enqueue_many([(0.0,)] * 40)
    worker = drain(project, "--processes=2", "--threads=2", "--max-tasks-per-child=20")
    assert states() == {"SUCCESSFUL": 240}
    assert {record.attempt for record in TaskRecord.objects.all()} == {1}
    by_process = Counter(TaskRecord.objects.values_list("worker_ids", flat=True))
    assert max(by_process.values()) <= 20
    assert len(by_process) >= 12
    assert "was killed" not in worker.text()
    assert not WorkerRecord.objects.exists()
    assert len(asynchronous) == 40

    # One at a time, in order, each in a process of its own.
    trace = tmp_path / "trace"
    for number in range(4):
        tasks.hoard.using(priority=-number).enqueue(str(trace), f"{number}", 1)
    drain(project, "--concurrency=1", "--max-tasks-per-child=1")
    ran = [line.split() for line in lines(trace)]
    assert [number for number, _ in ran] == ["0", "1", "2", "3"]
    assert len({pid for _, pid in ran}) == 4


def test_a_process_that_grows_is_replaced_and_its_neighbours_end(project: Project, gate: Gate, tmp_path: Path) -> None:
    worker = start_worker(project, "--threads=2", "--max-memory-per-child=300M")
    (process,) = worker.children()
    beside = tasks.hold.enqueue(gate.path, "beside")
    coroutine = tasks.ahold.enqueue(gate.path, "coroutine")
    gate.wait_for("beside", "coroutine")
    trace = str(tmp_path / "trace")
    greedy = tasks.hoard.enqueue(trace, "greedy", 400 << 20)
    assert ended(greedy).result == str(process.pid), "a limit ends no task"
    later = [tasks.hoard.enqueue(trace, "later", 1)]
    while ended(later[-1]).result == str(process.pid):
        # It looks at its memory now and then. Its successor is at work while it still ends its tasks.
        later.append(tasks.hoard.enqueue(trace, "later", 1))
    assert process.is_running()
    assert "MiB of memory; it is succeeded" in worker.text()
    gate.open()
    assert wait_until_done() == {"SUCCESSFUL": 3 + len(later)}
    assert gate.pid("beside") == gate.pid("coroutine") == process.pid
    assert {row(result).attempt for result in (beside, coroutine, greedy, *later)} == {1}
    wait_until(lambda: not process.is_running(), what="the old process to go")
    wait_until(lambda: WorkerRecord.objects.count() == 1, what="its row to go")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0, worker.text()


def test_tasks_of_a_process_that_dies_while_it_retires_are_taken_over(project: Project, gate: Gate) -> None:
    worker = start_worker(project, "--threads=2", "--max-tasks-per-child=1")
    held = tasks.hold.enqueue(gate.path, "held")
    gate.wait_for("held")
    retiring = gate.pid("held")
    wait_until(lambda: len(worker.children()) == 2, what="its successor")
    (process,) = [child for child in worker.children() if child.pid == retiring]
    process.kill()
    gate.wait_for("held", "held")
    gate.open()
    assert ended(held).attempt == 2
    # Who took over has left; it was not one process more.
    wait_until(lambda: len(worker.children()) == 1, what="one process")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0, worker.text()
