"""RabbitMQ in every kind of trouble: no task is lost, none ends twice, and workers are back soon after it is."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connection

from tests.acceptance.load import CAUGHT_UP, Load, broker
from tests.acceptance.project import Project
from tests.acceptance.workers import Gate, ended, lines, start_worker, states, wait_until_done
from tests.servers import PostgresServer, RabbitMQServer, TCPProxy
from tests.taskapp import tasks
from tests.waiting import let_pass, wait_until

pytestmark = [pytest.mark.once, pytest.mark.databases("postgres")]

QUEUE = "default"
#: Seconds that lasting faults last. Thirty and more show the same.
LONG = float(os.environ.get("TASKQ_TEST_FAULT_SECONDS", "6"))
#: RabbitMQ's `consumer_timeout` in seconds; its tasks take four times as long.
TIMEOUT = int(os.environ.get("TASKQ_TEST_CONSUMER_TIMEOUT", "2"))


@pytest.fixture
def load(make_project: Callable[..., Project], private_rabbitmq: RabbitMQServer, tmp_path: Path) -> Load:
    return Load(make_project(tasks=broker(private_rabbitmq.url())), tmp_path)


@pytest.fixture
def proxy(private_rabbitmq: RabbitMQServer) -> Iterator[TCPProxy]:
    with TCPProxy(private_rabbitmq.port) as proxy:
        yield proxy


def delete_queue(server: RabbitMQServer, name: str = QUEUE) -> None:
    server.evaluate(f'{_found(name)}, {{ok, _}} = rabbit_amqqueue:delete(Queue, false, false, <<"test">>)')


def purge_queue(server: RabbitMQServer, name: str = QUEUE) -> None:
    server.evaluate(f"{_found(name)}, {{ok, _}} = rabbit_amqqueue:purge(Queue)")


def _found(name: str) -> str:
    return f'{{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{name}">>))'


def test_broker_stopped_and_killed(load: Load, private_rabbitmq: RabbitMQServer) -> None:
    with load.fault("stopped and started"):
        private_rabbitmq.stop()
        private_rabbitmq.start()
    load.wait_for_runs(50)
    with load.fault("killed"):
        private_rabbitmq.kill()
        private_rabbitmq.start()
    load.finish()


def test_queues_deleted_and_purged_and_the_broker_wiped(load: Load, private_rabbitmq: RabbitMQServer) -> None:
    for damage in (delete_queue, purge_queue, RabbitMQServer.reset):
        with load.fault(damage.__name__):
            damage(private_rabbitmq)
        load.wait_for_runs(50)
    load.finish()


def test_what_the_broker_forgot_runs(
    make_project: Callable[..., Project], private_rabbitmq: RabbitMQServer, tmp_path: Path
) -> None:
    project = make_project(tasks=broker(private_rabbitmq.url()))
    gate = Gate(tmp_path / "gate")
    start_worker(project, "--threads=1", processes=2)
    tasks.hold.enqueue_many([(gate.path, "one"), (gate.path, "two")])
    gate.wait_for("one", "two", deadline=5.0)
    trace = str(tmp_path / "trace")
    for half, queue in enumerate(("one", "other")):
        tasks.mark.using(queue_name=queue).enqueue_many([(trace, str(half * 150 + number)) for number in range(150)])
    wait_until(lambda: waiting(private_rabbitmq, "one", "other") == 300, 5.0, what="all to be left to others")
    delete_queue(private_rabbitmq, "one")
    purge_queue(private_rabbitmq, "other")
    gate.open()
    assert wait_until_done(CAUGHT_UP) == {"SUCCESSFUL": 302}
    assert sorted(map(int, lines(trace))) == list(range(300))


def waiting(server: RabbitMQServer, *names: str) -> int:
    """Return how many messages are in these queues, and in nobody's hands."""
    found = server.queue_info()
    return sum(found[name].messages - found[name].unacked for name in names if name in found)


def test_connections_closed_again_and_again(load: Load, private_rabbitmq: RabbitMQServer) -> None:
    with load.fault("all connections closed every 2 s"):
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            private_rabbitmq.close_all_connections()
            let_pass(2.0)
    load.finish()


def test_broker_frozen(load: Load, private_rabbitmq: RabbitMQServer) -> None:
    with load.fault("frozen"):
        private_rabbitmq.freeze()
        let_pass(LONG)
        private_rabbitmq.thaw()
    load.finish()


def test_network_half_open(
    make_project: Callable[..., Project], private_rabbitmq: RabbitMQServer, proxy: TCPProxy, tmp_path: Path
) -> None:
    load = Load(make_project(tasks=broker(private_rabbitmq.url(port=proxy.port))), tmp_path)
    with load.fault("half-open"):
        proxy.swallow()
        load.worker.wait_for("The broker failed")
        let_pass(LONG - 6.0)
        proxy.cut()
        proxy.resume()
    load.finish()


def test_memory_alarm(load: Load, private_rabbitmq: RabbitMQServer) -> None:
    with load.fault("memory alarm"):
        private_rabbitmq.set_memory_alarm(True)
        let_pass(LONG / 2)
        private_rabbitmq.set_memory_alarm(False)
    load.finish()


def test_worker_processes_killed(load: Load, rng: random.Random) -> None:
    for _ in range(5):
        with load.fault("a worker process killed"):
            rng.choice(load.worker.children()).kill()
    load.finish(is_killed=True)


def test_database_restarted(
    private_postgres: PostgresServer,
    make_project: Callable[..., Project],
    private_rabbitmq: RabbitMQServer,
    tmp_path: Path,
) -> None:
    load = Load(make_project(databases=private_postgres, tasks=broker(private_rabbitmq.url())), tmp_path)
    for mode in ("fast", "immediate"):
        with load.fault(f"database restarted ({mode})"):
            private_postgres.restart(mode)
    connection.close()
    load.finish()


def test_tasks_longer_than_the_consumer_timeout_run_once(
    make_project: Callable[..., Project], private_rabbitmq: RabbitMQServer, tmp_path: Path
) -> None:
    private_rabbitmq.set_consumer_timeout(TIMEOUT * 1_000)
    project = make_project(tasks=broker(private_rabbitmq.url()))
    worker = start_worker(project, "--threads=2", processes=2)
    trace = str(tmp_path / "trace")
    # Without a row and acked late, a task has to be short: its delivery is all that holds it.
    variants = [tasks.mark_slowly, tasks.mark_slowly.using(record=False, acks_late=False)]
    for number, task in enumerate(variants * 2):
        task.enqueue(trace, str(number), TIMEOUT * 4.0)
    tasks.mark.enqueue_many([(trace, str(number)) for number in range(4, 20)])
    tasks.mark.using(record=False).enqueue_many([(trace, str(number)) for number in range(20, 40)])
    assert wait_until_done()["SUCCESSFUL"] >= 18
    wait_until(lambda: private_rabbitmq.queue_info()[QUEUE].messages == 0, what="everything to be acked")
    assert sorted(map(int, lines(trace))) == list(range(40)), "each once"
    assert "The broker failed" not in worker.text()


def test_tasks_that_outlast_a_stop_by_many_heartbeats_run_once(
    make_project: Callable[..., Project], private_rabbitmq: RabbitMQServer, tmp_path: Path
) -> None:
    heartbeat = max(round(LONG / 4), 2)
    project = make_project(tasks=broker(private_rabbitmq.url(), heartbeat=heartbeat))
    trace = str(tmp_path / "trace")
    # Without a row a task is held by its delivery, and so by the connection.
    for number, task in enumerate([tasks.mark_slowly, tasks.mark_slowly.using(record=False)] * 2):
        task.enqueue(trace, str(number), LONG + 2.0)
    stopping = start_worker(project, "--threads=2", processes=2)
    wait_until(lambda: len(lines(trace)) == 4, what="all to start")
    stopping.send(signal.SIGTERM)
    stopping.wait_for("Stopping")
    start_worker(project, "--threads=2", processes=2)
    assert stopping.wait(LONG + 30.0) == 0, stopping.text()
    assert "The broker failed" not in stopping.text()
    wait_until(lambda: private_rabbitmq.queue_info()[QUEUE].messages == 0, what="everything to be acked")
    assert sorted(lines(trace)) == ["0", "1", "2", "3"], "each once"
    assert states() == {"SUCCESSFUL": 2}


def test_long_tasks_leave_what_was_delivered_to_other_workers(
    make_project: Callable[..., Project], private_rabbitmq: RabbitMQServer, tmp_path: Path
) -> None:
    project = make_project(tasks=broker(private_rabbitmq.url()))
    gate = Gate(tmp_path / "gate")
    start_worker(project, "--threads=2", processes=1)
    tasks.noop.enqueue_many([()] * 500)
    wait_until_done()
    tasks.hold.enqueue_many([(gate.path, "one"), (gate.path, "two")])
    trace = str(tmp_path / "trace")
    tasks.mark.enqueue_many([(trace, str(number)) for number in range(100)])
    gate.wait_for("one", "two")
    wait_until(lambda: waiting(private_rabbitmq, QUEUE) == 100, 2.0, what="all to be left to others")
    # Its coroutine slots are free all the while.
    asleep = tasks.asleep.enqueue(0.0)
    start_worker(project, processes=1)
    wait_until(lambda: len(lines(trace)) == 100, 3.0, what="another worker to run them")
    ended(asleep, 5.0)
    gate.open()
    assert wait_until_done() == {"SUCCESSFUL": 603}
    assert len(lines(trace)) == 100
