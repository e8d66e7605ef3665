"""Redis in every kind of trouble: no recorded task is lost, none ends twice, and workers are back soon after it is."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.load import Load, broker
from tests.acceptance.project import Project
from tests.acceptance.workers import Gate, drain, lines, start_worker, states
from tests.servers import RedisServer
from tests.taskapp import tasks
from tests.waiting import let_pass, wait_until

pytestmark = [pytest.mark.once, pytest.mark.databases("postgres")]

#: Seconds that a frozen Redis stays so, and that connections are cut for.
FROZEN, CUTS = 10.0, 6


@pytest.fixture
def load(make_project: Callable[..., Project], private_redis: RedisServer, tmp_path: Path) -> Load:
    return Load(make_project(tasks=broker(private_redis.url())), tmp_path)


@pytest.fixture
def lasting_redis() -> Iterator[RedisServer]:
    """A Redis that keeps what it has over its own death."""
    with RedisServer(durable=False, appendonly=True) as server:
        yield server


def cut(server: RedisServer) -> None:
    server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def test_redis_wiped_and_restarted_and_killed(load: Load, private_redis: RedisServer) -> None:
    with load.fault("FLUSHALL"):
        private_redis.flushall()
    load.wait_for_runs(50)
    with load.fault("its scripts forgotten"):
        private_redis.command("SCRIPT", "FLUSH")
    load.wait_for_runs(50)
    with load.fault("restarted, with nothing left"):
        private_redis.stop()
        private_redis.start()
    load.wait_for_runs(50)
    with load.fault("killed and started, with nothing left"):
        private_redis.kill()
        private_redis.start()
    load.finish()


def test_redis_frozen(load: Load, private_redis: RedisServer) -> None:
    with load.fault(f"frozen for {FROZEN:.0f} s"):
        private_redis.freeze()
        let_pass(FROZEN)
        private_redis.thaw()
    load.finish()


def test_connections_cut_again_and_again(load: Load, private_redis: RedisServer) -> None:
    with load.fault("all connections cut"):
        for _ in range(CUTS):
            cut(private_redis)
            let_pass(1)
    load.finish()


def test_tasks_without_rows_outlive_a_redis_that_keeps_its_data(
    make_project: Callable[..., Project], lasting_redis: RedisServer, tmp_path: Path
) -> None:
    """Those that wait, and those that nobody has acked when the connection goes."""
    gate, marks = Gate(tmp_path / "gate"), tmp_path / "marks"
    project = make_project(tasks=broker(lasting_redis.url(), broker_options={"visibility_timeout": 2}))
    tasks.hold.using(record=False, priority=100).enqueue(gate.path, "held")
    tasks.mark.using(record=False).enqueue_many([(str(marks), str(number)) for number in range(20)])
    worker = start_worker(project, "--threads=1")
    gate.wait_for("held")
    lasting_redis.kill()
    lasting_redis.start()
    cut(lasting_redis)
    gate.open()
    wait_until(lambda: {*lines(marks)} == {*map(str, range(20))}, what="what waited")
    wait_until(lambda: worker.text().count("Connected to the broker") >= 2, what="the next connection")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0, worker.text()
    # What was unacked would come back now.
    let_pass(2.5)
    drain(project, "--processes=1")
    assert Counter(lines(marks)) == Counter(map(str, range(20)))
    assert gate.started() == ["held"]
    assert states() == {}
