"""A burst ends when nothing is left, and not while something is on its way."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from django_taskq.models import TaskRecord
from tests.acceptance.load import broker
from tests.acceptance.project import Project
from tests.acceptance.workers import Gate, drain, lines, start_worker, states
from tests.servers import TCPProxy, shared_broker
from tests.taskapp import tasks
from tests.waiting import wait_until

pytestmark = pytest.mark.databases("sqlite")


@pytest.fixture(params=["amqp", "redis", "memory"])
def project(request: pytest.FixtureRequest, make_project: Callable[..., Project]) -> Project:
    """Return a project on each message broker."""
    kind = request.param
    return make_project(tasks=broker("memory://" if kind == "memory" else request.getfixturevalue(f"{kind}_url")))


def test_a_burst_without_work_ends(project: Project) -> None:
    began = time.monotonic()
    drain(project)
    assert time.monotonic() - began < 25


def test_a_burst_ends_with_the_last_of_all_that_its_tasks_bring_about(project: Project, tmp_path: Path) -> None:
    """Also of what only the broker of an earlier process knew: ``memory://`` forgets it."""
    chain, retried, later = (tmp_path / name for name in ("chain", "retried", "later"))
    tasks.mark_and_enqueue.enqueue(str(chain), 5)
    tasks.fail_until.using(max_attempts=4, backoff=0).enqueue(str(retried), 4)
    tasks.noop.enqueue_many([()] * 200)
    tasks.mark.using(run_after=3600).enqueue(str(later), "not due")
    drain(project)
    assert lines(chain) == ["5", "4", "3", "2", "1", "0"]
    assert len(lines(retried)) == 4
    assert states() == {"SUCCESSFUL": 207, "SCHEDULED": 1}


@pytest.mark.parametrize("project", ["amqp", "redis"], indirect=True)
def test_two_bursts_share_what_there_is(project: Project, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    tasks.mark_slowly.enqueue_many([(str(marks), str(number), 0.01) for number in range(50)])
    tasks.mark_slowly.using(record=False).enqueue_many([(str(marks), str(number), 0.01) for number in range(50, 100)])
    workers = [project.runworker("--burst", "--processes=1") for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    assert Counter(lines(marks)) == Counter(map(str, range(100)))
    assert states() == {"SUCCESSFUL": 50}


@pytest.mark.parametrize("project", ["amqp"], indirect=True)
def test_a_burst_leaves_to_others_what_they_hold(project: Project, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    tasks.hold.enqueue(gate.path, "theirs")
    start_worker(project, "--threads=1")
    gate.wait_for("theirs")
    drain(project, "--processes=1")
    assert states() == {"RUNNING": 1}
    gate.open()


def test_a_burst_waits_for_a_broker_that_is_down(
    make_project: Callable[..., Project], amqp_url: str, tmp_path: Path
) -> None:
    server, marks = shared_broker("amqp"), tmp_path / "marks"
    with TCPProxy(server.port) as proxy:
        project = make_project(tasks=broker(amqp_url.replace(f":{server.port}/", f":{proxy.port}/")))
        tasks.mark.using(record=False).enqueue(str(marks), "at the broker")
        proxy.refuse()
        proxy.cut()
        tasks.mark.enqueue(str(marks), "in the outbox")
        worker = project.runworker("--burst", "--processes=1")
        worker.wait_for("The broker failed")
        assert worker.returncode is None
        proxy.resume()
        assert worker.wait() == 0, worker.text()
    assert Counter(lines(marks)) == {"at the broker": 1, "in the outbox": 1}
    wait_until(lambda: not TaskRecord.objects.unfinished().exists(), what="the end")
