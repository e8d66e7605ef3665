"""Tasks and reconnections by the thousand leave nothing behind in a worker or at RabbitMQ."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.acceptance.load import broker
from tests.acceptance.process import Process
from tests.acceptance.project import Project
from tests.acceptance.workers import start_worker, wait_until_done
from tests.servers import RabbitMQServer
from tests.taskapp import tasks
from tests.waiting import wait_until

pytestmark = [pytest.mark.once, pytest.mark.databases("postgres")]

logger = logging.getLogger(__name__)

TASKS = int(os.environ.get("TASKQ_TEST_LEAK_TASKS", "3000"))
RECONNECTIONS = int(os.environ.get("TASKQ_TEST_LEAK_RECONNECTIONS", "3"))
#: Bytes that the memory of a process may have grown by.
GROWTH = 20 * 1024 * 1024


class Holdings(NamedTuple):
    """What the worker's processes and the broker hold, once they have nothing to do."""

    connections: int
    channels: int
    consumers: int
    threads: list[int]
    descriptors: list[int]


def holdings(server: RabbitMQServer, worker: Process) -> Holdings:
    children = sorted(worker.children(), key=lambda child: child.pid)
    return Holdings(
        connections=int(server.evaluate("length(rabbit_networking:connections())")),
        channels=int(server.evaluate("length(rabbit_channel:list())")),
        consumers=server.queue_info()["default"].consumers,
        threads=[child.num_threads() for child in children],
        descriptors=[child.num_fds() for child in children],
    )


def memory(worker: Process) -> dict[int, int]:
    return {child.pid: child.memory_info().rss for child in worker.children()}


def test_nothing_grows(make_project: Callable[..., Project], private_rabbitmq: RabbitMQServer) -> None:
    project = make_project(tasks=broker(private_rabbitmq.url()))
    worker = start_worker(project, processes=2)

    def work(count: int, reconnections: int) -> None:
        for _ in range(reconnections):
            tasks.noop.enqueue_many([()] * (count // reconnections))
            private_rabbitmq.close_all_connections()
            wait_until(lambda: private_rabbitmq.queue_info()["default"].consumers == 2, what="both to be back")
        wait_until_done(120.0)

    work(1_000, 3)
    before, bytes_before = holdings(private_rabbitmq, worker), memory(worker)
    work(TASKS, RECONNECTIONS)
    wait_until(lambda: holdings(private_rabbitmq, worker) == before, 15.0, what=f"what there was: {before}")
    growth = {pid: after - bytes_before[pid] for pid, after in memory(worker).items()}
    logger.info(
        "%d tasks, %d reconnections: %s MB more memory per process, and %s",
        TASKS,
        RECONNECTIONS,
        [round(grown / 1024 / 1024, 1) for grown in growth.values()],
        before,
    )
    assert max(growth.values()) <= GROWTH
