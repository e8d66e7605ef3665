"""What real workers have counted adds up to what has happened."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from django_taskq import statistics
from tests.acceptance.project import Project
from tests.acceptance.workers import Gate, drain, start_worker, states, wait_until_done
from tests.taskapp import tasks
from tests.waiting import wait_until

HOUR = 3600.0


def counted() -> dict[str, int]:
    bucket = statistics.history("default", seconds=HOUR, buckets=1)[0]
    return {
        "succeeded": bucket.succeeded,
        "failed": bucket.failed,
        "retried": bucket.retried,
        "lost": bucket.lost,
        "runs": bucket.runs.count,
    }


@pytest.mark.smoke
def test_every_attempt_is_counted_once_by_a_worker_that_stops_itself(project: Project, tmp_path: Path) -> None:
    tasks.noop.enqueue_many([()] * 300)
    tasks.fail.enqueue_many([("as asked",)] * 7)
    tasks.fail_until.using(max_attempts=3, backoff=0.0).enqueue(str(tmp_path / "attempts"), 3)
    drain(project, "--processes=2", "--threads=2")
    assert states() == {"SUCCESSFUL": 301, "FAILED": 7}
    assert counted() == {"succeeded": 301, "failed": 7, "retried": 2, "lost": 0, "runs": 310}
    by_name = {one.name.rpartition(".")[2]: one for one in statistics.by_task("default", seconds=HOUR)}
    assert (by_name["noop"].succeeded, by_name["fail"].failed, by_name["fail_until"].retried) == (300, 7, 2)
    assert by_name["noop"].waits.count == 300


@pytest.mark.once
@pytest.mark.databases("postgres", "sqlite")
def test_a_worker_writes_while_it_works_and_when_it_is_told_to_stop(project: Project, tmp_path: Path) -> None:
    worker = start_worker(project, "--threads=2")
    tasks.noop.enqueue_many([()] * 50)
    wait_until(lambda: counted()["succeeded"] == 50, what="what it has counted")
    gate = Gate(tmp_path / "gate")
    tasks.hold.enqueue(gate.path, "held")
    gate.wait_for("held")
    worker.send(signal.SIGTERM)
    gate.open()
    assert worker.wait() == 0, worker.text()
    assert counted()["succeeded"] == 51


@pytest.mark.once
@pytest.mark.databases("postgres", "sqlite")
def test_of_a_process_that_is_killed_what_it_has_written_stays_and_what_it_ran_is_lost(
    project: Project, tmp_path: Path
) -> None:
    worker = start_worker(project, "--threads=1")
    tasks.noop.enqueue_many([()] * 20)
    wait_until(lambda: counted()["succeeded"] == 20, what="what it has counted")
    gate = Gate(tmp_path / "gate")
    tasks.hold.enqueue(gate.path, "held")
    gate.wait_for("held")
    (process,) = worker.children()
    process.kill()
    gate.open()
    assert wait_until_done() == {"SUCCESSFUL": 21}
    wait_until(lambda: counted()["succeeded"] == 21, what="what its successor has counted")
    assert counted()["lost"] == 1
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0, worker.text()
    assert (counted()["succeeded"], counted()["lost"]) == (21, 1)
