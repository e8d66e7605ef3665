"""``kill -9`` at any moment, and tasks that kill their own worker: nothing is lost, nothing stays RUNNING."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from django_taskq.models import TaskRecord
from tests.acceptance.process import Process
from tests.acceptance.project import Project
from tests.acceptance.workers import drain, ended, guard_final_states, lines, row, start_worker, states, wait_until_done
from tests.taskapp import tasks
from tests.waiting import wait_until

TASKS, KILLS = 2_000, 20

#: Short, since the supervisor is killed too: then only the lease tells.
TASKS_SETTING = {"default": {"BACKEND": "django_taskq.TaskqBackend", "OPTIONS": {"lease": 3.0}}}


def test_no_kill_loses_a_task(make_project: Callable[..., Project], tmp_path: Path, rng: random.Random) -> None:
    project = make_project(tasks=TASKS_SETTING)
    guard_final_states()
    late, early = str(tmp_path / "late"), str(tmp_path / "early")
    results = {}
    for path, acks_late in ((late, True), (early, False)):
        # A process may die of a kill only so often under one task, or it would count as its murderer.
        task = tasks.mark_slowly.using(acks_late=acks_late, max_deliveries=KILLS + 1)
        results[path] = task.enqueue_many([(path, f"{number}", rng.uniform(0, 0.004)) for number in range(TASKS // 2)])
    workers = [start_worker(project, processes=2) for _ in range(2)]
    for number in range(1, KILLS + 1):
        share = TASKS * number // (KILLS + 1)
        wait_until(lambda: len(lines(late)) + len(lines(early)) >= share, what=f"{share} runs")  # noqa: B023 - used now
        kill_any(project, workers, rng)
        for index, worker in enumerate(workers):
            if worker.returncode is not None:
                workers[index] = project.runworker("--processes=2")
    assert wait_until_done(90.0).keys() <= {"SUCCESSFUL", "FAILED"}
    for worker in workers:
        # One that was started a moment ago may not be as far as hearing signals.
        worker.wait_for("knows")
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0, worker.text()
        assert "final is final" not in worker.text()

    assert TaskRecord.objects.count() == TASKS
    assert not TaskRecord.objects.filter(finished_at=None).exists()
    runs = {path: Counter(lines(path)) for path in results}
    for result in results[late]:
        record = row(result)
        assert record.state == "SUCCESSFUL", record.errors
        assert runs[late][result.args[1]] >= 1
        assert record.attempt == len(record.worker_ids.splitlines()) == record.losses + 1
    for result in results[early]:
        record = row(result)
        assert runs[early][result.args[1]] <= 1, "acks_late=False: never twice"
        if record.state == "FAILED":
            assert [error.exception_class_path for error in record.attempt_errors] == [
                "django_taskq.exceptions.WorkerLost"
            ]
        else:
            assert runs[early][result.args[1]] == 1


def kill_any(project: Project, workers: list[Process], rng: random.Random) -> None:
    """Kill one process of a worker: the supervisor or one of its children."""
    worker = rng.choice(workers)
    killed = rng.choice([psutil.Process(worker.pid), *worker.children()])
    killed.kill()
    if killed.pid == worker.pid:
        worker.wait()


@pytest.mark.parametrize("kind", ["exit", "kill", "segfault"])
def test_a_task_that_kills_its_worker_is_set_aside(project: Project, tmp_path: Path, kind: str) -> None:
    trace = tmp_path / "trace"
    before, after = (tasks.add.enqueue_many([(number, 1) for number in range(20)]) for _ in range(2))
    poison = tasks.die.using(priority=5).enqueue(str(trace), kind)
    worker = drain(project, "--processes=1")
    record = row(poison)
    assert record.state == "FAILED"
    assert (record.attempt, record.losses, len(lines(trace))) == (3, 3, 3)
    assert [error.exception_class_path for error in record.attempt_errors] == ["django_taskq.exceptions.WorkerLost"] * 3
    assert "max_deliveries=3" in record.attempt_errors[-1].message
    assert record.finished_at is not None
    assert states() == {"SUCCESSFUL": 40, "FAILED": 1}
    assert {row(result).attempt for result in [*before, *after]} == {1}
    assert worker.text().count("It is replaced, and its tasks are taken over") == 3
    poison.refresh()
    assert poison.status == "FAILED"
    assert poison.attempts == 3


@pytest.mark.smoke
def test_a_task_that_may_run_once_is_set_aside_by_its_first_kill(project: Project, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    poison = tasks.die.using(acks_late=False).enqueue(str(trace), "kill")
    drain(project, "--processes=1")
    assert (row(poison).state, len(lines(trace))) == ("FAILED", 1)
    assert "acks_late=False" in row(poison).attempt_errors[0].message


def test_one_delivery_is_one(project: Project, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    poison = tasks.die.using(max_deliveries=1).enqueue(str(trace), "exit")
    other = tasks.add.enqueue(1, 2)
    drain(project, "--processes=2")
    assert (row(poison).state, len(lines(trace))) == ("FAILED", 1)
    assert ended(other).result == "3"
