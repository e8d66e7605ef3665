"""Tasks without rows, end to end: what a message alone can promise, and the row that steps in where it cannot."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction

from django_taskq import ResultUnavailable
from django_taskq.compat import TaskResultDoesNotExist
from django_taskq.models import TaskRecord
from tests.acceptance.load import broker
from tests.acceptance.process import Process
from tests.acceptance.project import Project
from tests.acceptance.workers import Gate, drain, lines, start_worker, states
from tests.servers import TCPProxy, shared_broker
from tests.taskapp import tasks
from tests.waiting import LATE, wait_until

#: What a broker does with messages is the same for all databases; what rows do then is not for two of them.
pytestmark = [pytest.mark.once, pytest.mark.databases("sqlite", "postgres")]

#: Seconds until Redis gives what nobody acked to somebody else.
VISIBLE = 2
OPTIONS: dict[str, dict[str, Any]] = {
    "amqp": {"queue_defaults": {"arguments": {"x-max-priority": 10}}},
    "redis": {"broker_options": {"visibility_timeout": VISIBLE}},
}


@pytest.fixture(params=["amqp", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def project(kind: str, request: pytest.FixtureRequest, make_project: Callable[..., Project]) -> Project:
    """Return a project on each message broker."""
    return make_project(tasks=broker(request.getfixturevalue(f"{kind}_url"), lease=3.0, **OPTIONS[kind]))


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def found(path: Path) -> list[dict[str, Any]]:
    """Return what the attempts of ``chronicle`` found."""
    return [json.loads(line) for line in lines(path)]


def kill_child(worker: Process) -> None:
    """Kill the worker's one process; the supervisor replaces it."""
    (child,) = worker.children()
    child.kill()


def test_a_burst_runs_what_is_there_and_leaves_no_rows(project: Project, tmp_path: Path) -> None:
    """Tasks of both kinds, one by one and in a burst, in transactions and outside."""
    marks, amarks = str(tmp_path / "marks"), Gate(tmp_path / "async")
    amarks.open()
    mark, ahold = tasks.mark.using(record=False), tasks.ahold.using(record=False)
    mark.enqueue(marks, "alone")
    mark.enqueue_many([(marks, str(number)) for number in range(100)])
    ahold.enqueue_many([(amarks.path, str(number)) for number in range(100)])
    with transaction.atomic():
        mark.enqueue(marks, "committed")
    with transaction.atomic():
        mark.enqueue(marks, "rolled back")
        transaction.set_rollback(True)
    tasks.mark.using(record=False, acks_late=False).enqueue(marks, "early")
    tasks.mark.using(record=False, expires=0.001).enqueue(marks, "expired")
    tasks.mark_and_enqueue.enqueue(str(tmp_path / "chain"), 3)
    assert states() == {"READY": 1}
    drain(project, "--processes=1")
    assert Counter(lines(marks)) == Counter(["alone", "committed", "early", *map(str, range(100))])
    assert Counter(amarks.ended()) == Counter(map(str, range(100)))
    assert lines(tmp_path / "chain") == ["3", "2", "1", "0"]
    assert states() == {"SUCCESSFUL": 4}, "the recorded ones alone"


def test_attempts_go_on_over_messages_and_rows(project: Project, tmp_path: Path) -> None:
    at_once, later, large, given_up = (tmp_path / name for name in ("at once", "later", "large", "given up"))
    task = tasks.chronicle.using(record=False, max_attempts=3, metadata={"seen": [0]})
    task.using(backoff=0).enqueue(str(at_once), 3)
    task.using(backoff=0.3).enqueue(str(later), 3)
    # More than a message's header holds.
    task.using(backoff=0).enqueue(str(large), 3, 60_000)
    task.using(backoff=0).enqueue(str(given_up), 9)
    rejected = tmp_path / "rejected"
    tasks.reject.using(record=False).enqueue(str(rejected))
    assert not TaskRecord.objects.exists()
    worker = drain(project, "--processes=1")
    for path in (at_once, later, large, given_up):
        attempts = found(path)
        assert [one["attempt"] for one in attempts] == [1, 2, 3]
        assert [one["seen"] for one in attempts] == [[0], [0, 1], [0, 1, 2]]
        assert [one["errors"] for one in attempts] == [[], ["attempt 1"], ["attempt 1", "attempt 2"]]
        assert [one["workers"] for one in attempts] == [1, 2, 3]
    first, second, third = (one["at"] for one in found(later))
    assert second - first >= 0.3
    assert third - second >= 0.3
    assert len(lines(rejected)) == 1
    assert worker.text().count("failed for good in attempt 3") == 1
    assert worker.text().count("waits in a row for its next attempt") >= 1
    assert states() == {}, "rows of tasks that succeeded go, and the failed one never had any"


@pytest.mark.parametrize("kind", ["amqp"])
def test_a_task_for_later_has_a_row_until_it_has_run(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "chronicle"
    worker = start_worker(project)
    due = time.time() + 1
    tasks.chronicle.using(record=False, run_after=1.0).enqueue(str(path), 1)
    assert states() == {"SCHEDULED": 1}
    wait_until(lambda: found(path), what="the task to run")
    wait_until(lambda: not TaskRecord.objects.exists(), what="the row to go")
    assert 0 <= found(path)[0]["at"] - due < 3
    assert "was dropped" not in worker.text()


@pytest.mark.parametrize("kind", ["amqp"])
def test_the_highest_priority_runs_first(project: Project, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    for priority in (0, -100, 100, 50):
        tasks.mark.using(record=False, priority=priority).enqueue_many([(str(marks), str(priority))] * 2)
    drain(project, "--processes=1", "--threads=1")
    assert lines(marks) == ["100", "100", "50", "50", "0", "0", "-100", "-100"]


def test_a_burst_fills_all_slots_and_passes_those_that_are_stuck(project: Project, gate: Gate, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    mark = tasks.mark.using(record=False)
    start_worker(project, "--threads=3")
    # The process knows by now that tasks are short, and takes many at a time.
    mark.enqueue_many([(str(marks), "short")] * 100)
    wait_until(lambda: len(lines(marks)) == 100, what="the short tasks")
    tasks.hold.using(record=False).enqueue_many([(gate.path, "long")] * 2)
    mark.enqueue_many([(str(marks), "behind")] * 50)
    gate.wait_for("long", "long")
    wait_until(lambda: len(lines(marks)) == 150, what="those behind the long ones")
    tasks.hold.using(record=False).enqueue(gate.path, "third")
    gate.wait_for("third")
    assert gate.ended() == []
    gate.open()
    wait_until(lambda: len(gate.ended()) == 3, what="the long ones")


def test_what_a_killed_worker_ran_runs_again_as_a_row(project: Project, gate: Gate) -> None:
    task = tasks.hold.using(record=False)
    task.enqueue(gate.path, "late")
    task.using(acks_late=False).enqueue(gate.path, "early")
    worker = start_worker(project, "--threads=2")
    gate.wait_for("late", "early")
    kill_child(worker)
    gate.wait_for("late", "late", "early")
    assert states() == {"RUNNING": 1}
    record = TaskRecord.objects.get()
    assert (record.name, record.attempt, record.losses) == ("tests.taskapp.tasks.hold", 1, 0)
    # And once more, under the row's lease.
    kill_child(worker)
    gate.wait_for("late", "late", "late", "early")
    gate.open()
    wait_until(lambda: not TaskRecord.objects.exists(), what="the row to go with its success")
    assert Counter(gate.started()) == {"late": 3, "early": 1}
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0, worker.text()


def test_a_task_that_kills_its_workers_is_stopped_and_seen(project: Project, tmp_path: Path) -> None:
    late, early = tmp_path / "late", tmp_path / "early"
    tasks.die.using(record=False, max_deliveries=2).enqueue(str(late), "kill")
    tasks.die.using(record=False, acks_late=False).enqueue(str(early), "kill")
    good = tmp_path / "good"
    worker = start_worker(project)
    wait_until(lambda: states() == {"FAILED": 1}, what="the task to be set aside")
    tasks.mark.using(record=False).enqueue(str(good), "good")
    wait_until(lambda: lines(good) == ["good"], what="the good task")
    record = TaskRecord.objects.get()
    assert "max_deliveries=2" in record.attempt_errors[-1].message
    # The first one died with no row to count it.
    assert len(lines(late)) == 3
    # On Redis it may have been in the hands of a worker that was killed for the other one.
    wait_until(lambda: lines(early), what="the task that may run once")
    drain(project, "--processes=1")
    assert len(lines(early)) == 1
    assert worker.returncode is None


def test_a_stopped_worker_gives_back_what_had_not_started(project: Project, gate: Gate, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    tasks.hold.using(record=False, priority=100).enqueue(gate.path, "first")
    tasks.mark.using(record=False).enqueue_many([(str(marks), str(number)) for number in range(20)])
    tasks.mark.using(record=False, acks_late=False).enqueue_many(
        [(str(marks), str(number)) for number in range(20, 30)]
    )
    worker = start_worker(project, "--threads=1")
    gate.wait_for("first")
    worker.send(signal.SIGTERM)
    worker.wait_for("Stopping: running tasks may end")
    gate.open()
    assert worker.wait() == 0, worker.text()
    assert gate.ended() == ["first"]
    drain(project, "--processes=1")
    assert Counter(lines(marks)) == Counter(map(str, range(30)))
    assert gate.started() == ["first"]
    assert not TaskRecord.objects.exists()


@pytest.mark.parametrize("kind", ["amqp"])
def test_a_second_signal_gives_back_what_runs(project: Project, gate: Gate) -> None:
    tasks.hold.using(record=False).enqueue(gate.path, "late")
    tasks.hold.using(record=False, acks_late=False).enqueue(gate.path, "early")
    worker = start_worker(project, "--threads=2")
    gate.wait_for("late", "early")
    worker.send(signal.SIGTERM)
    worker.wait_for("Stopping: running tasks may end")
    worker.send(signal.SIGTERM)
    worker.wait()
    start_worker(project, "--threads=2")
    gate.wait_for("late", "late", "early")
    gate.open()
    wait_until(lambda: not TaskRecord.objects.exists(), what="the end")
    assert Counter(gate.started()) == {"late": 2, "early": 1}


@pytest.mark.parametrize("kind", ["amqp"])
def test_nobody_waits_for_a_result_that_cannot_come(project: Project) -> None:
    result = tasks.add.using(record=False).enqueue(1, 2)
    for timeout in (5, None):
        began = time.monotonic()
        with pytest.raises(ResultUnavailable, match="record=False"):
            result.get(timeout)
        assert time.monotonic() - began < LATE
    with pytest.raises(TaskResultDoesNotExist):
        result.refresh()
    with pytest.raises(TaskResultDoesNotExist):
        tasks.add.get_result(result.id)
    assert not result.cancel()


def test_what_a_broker_that_is_down_does_not_take_runs_later(
    kind: str, make_project: Callable[..., Project], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    server = shared_broker("amqp" if kind == "amqp" else "redis")
    with TCPProxy(server.port) as proxy:
        url = request.getfixturevalue(f"{kind}_url").replace(f":{server.port}/", f":{proxy.port}/")
        project = make_project(tasks=broker(url, **OPTIONS[kind]))
        start_worker(project)
        mark = tasks.mark.using(record=False)
        mark.enqueue(str(marks), "before")
        wait_until(lambda: lines(marks) == ["before"], what="the first")
        proxy.refuse()
        proxy.cut()
        mark.enqueue(str(marks), "one")
        mark.enqueue_many([(str(marks), str(number)) for number in range(20)])
        with transaction.atomic():
            mark.enqueue(str(marks), "committed")
        assert states() == {"READY": 22}
        proxy.resume()
        wait_until(lambda: not TaskRecord.objects.exists(), what="the rows to go")
        runs = Counter(lines(marks))
        # The cut may have taken its ack along: then it runs again, as a row.
        assert runs.pop("before") in (1, 2)
        assert runs == Counter(["one", "committed", *map(str, range(20))])
