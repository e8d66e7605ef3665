"""Brokers behind TLS, as clouds have them: whose certificate it must be, and that nothing of it loses or delays a task.

A TLS connection holds what its socket does not tell of, and gives what it reads in records: our own reading and
writing of frames is not what it is without TLS.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_taskq import TaskqError
from django_taskq.models import TaskRecord
from tests.acceptance.callers import Caller, all_right
from tests.acceptance.load import broker
from tests.acceptance.project import Project
from tests.acceptance.workers import drain, start_worker, wait_until_done
from tests.servers import TCPProxy
from tests.servers.rabbitmq import TLSRabbitMQServer
from tests.servers.redis_variants import TLSRedisServer
from tests.taskapp import tasks
from tests.waiting import let_pass, wait_until

pytestmark = [pytest.mark.once, pytest.mark.databases("sqlite")]

#: Bytes of a TLS record at most (RFC 8446, section 5.1).
RECORD = 16_384
#: Seconds until an error must say what is wrong.
SOON = 10.0

add, large = tasks.add.using(record=False), tasks.large.using(record=False)


@pytest.fixture(scope="module")
def _server() -> Iterator[TLSRabbitMQServer]:
    with TLSRabbitMQServer(durable=False) as server:
        yield server


@pytest.fixture
def rabbitmq(_server: TLSRabbitMQServer) -> TLSRabbitMQServer:
    """The module's, as good as new."""
    _server.renew()
    return _server


def trusting(server: TLSRabbitMQServer, **options: Any) -> dict[str, Any]:
    """Return what a project must say of a broker whose authority the system does not know."""
    return {
        "broker_options": {"ssl": {"ca_certs": str(server.authority)}},
        "results": "rpc://",
        "lease": 3.0,
        **options,
    }


@pytest.fixture
def project(rabbitmq: TLSRabbitMQServer, make_project: Callable[..., Project]) -> Project:
    return make_project(tasks=broker(rabbitmq.tls_url(), **trusting(rabbitmq)))


# What goes over it


def test_many_call_at_once(project: Project) -> None:
    start_worker(project, "--threads=4", processes=2)
    caller = Caller(project, "threads", threads=32, calls=25)
    all_right(caller.run(), 32 * 25)


def test_calls_and_replies_of_all_sizes(project: Project, rng: random.Random) -> None:
    """Those about a record long, where a frame ends with it, begins with the next or is one alone; and many in one."""
    start_worker(project, "--threads=4")
    sizes = [
        *range(RECORD - 400, RECORD + 40, 20),
        *(rng.randrange(100) for _ in range(300)),
        *(rng.randrange(2 * RECORD) for _ in range(100)),
        *(131_072, 150_000, 500_000),
    ]
    rng.shuffle(sizes)
    replies = [(size, large.enqueue(size)) for size in sizes]
    # The long ones the other way.
    texts = ["y" * size for size in sizes[::4]]
    notes = [(text, tasks.length.using(record=False).enqueue(text)) for text in texts]
    assert [size for size, reply in replies if len(reply.get(60)) != size] == []
    assert [len(text) for text, note in notes if note.get(60) != len(text)] == []


def test_a_lonely_call_does_not_wait_for_the_next_one(project: Project) -> None:
    """What TLS has read ahead, and the socket does not tell of."""
    start_worker(project)
    add.enqueue(0, 0).get(30)
    took = []
    for number in range(40):
        began = time.monotonic()
        assert add.enqueue(number, 1).get(30) == number + 1
        took.append(time.monotonic() - began)
    # Each thread involved looks up once in a second by itself.
    assert sorted(took)[20] < 0.5


def test_recorded_tasks(project: Project) -> None:
    enqueued = [*tasks.add.enqueue_many([(number, 1) for number in range(300)])]
    drain(project)
    assert wait_until_done() == {"SUCCESSFUL": 300}
    assert [result.get(1) for result in enqueued[:3]] == [1, 2, 3]


# When it breaks


def test_a_broker_that_is_killed_and_comes_back(project: Project, rabbitmq: TLSRabbitMQServer) -> None:
    start_worker(project)
    assert add.enqueue(1, 1).get(30) == 2
    rabbitmq.kill()
    waiting = [*tasks.add.enqueue_many([(number, 1) for number in range(10)])]
    rabbitmq.start()
    assert [one.get(60) for one in waiting] == [number + 1 for number in range(10)]

    def answers() -> bool:
        try:
            return bool(add.enqueue(2, 2).get(5) == 4)
        except TaskqError:
            return False

    wait_until(answers, what="calls to be answered again")


def test_connections_that_are_cut_in_the_middle(
    rabbitmq: TLSRabbitMQServer, make_project: Callable[..., Project], rng: random.Random
) -> None:
    with TCPProxy(rabbitmq.tls_port) as proxy:
        project = make_project(tasks=broker(rabbitmq.tls_url(port=proxy.port), **trusting(rabbitmq)))
        start_worker(project)
        waiting = [*tasks.add.enqueue_many([(number, 1) for number in range(200)])]
        for _ in range(3):
            let_pass(rng.uniform(0.1, 0.5))
            proxy.cut()
        assert [one.get(60) for one in waiting] == [number + 1 for number in range(200)]
        # Run once each: what is claimed is claimed.
        assert set(TaskRecord.objects.values_list("attempt", flat=True)) == {1}


# Whose certificate


@pytest.mark.parametrize("fault", ["of nobody's authority", "for another name"])
def test_a_server_that_may_be_anybody_is_not_talked_to(
    fault: str, rabbitmq: TLSRabbitMQServer, make_project: Callable[..., Project]
) -> None:
    options = trusting(rabbitmq)
    if fault == "of nobody's authority":
        options["broker_options"] = {}
        url, reason = rabbitmq.tls_url(), "in certificate chain"
    else:
        url, reason = rabbitmq.tls_url(host="127.0.0.2"), "certificate is not valid for '127.0.0.2'"
    project = make_project(tasks=broker(url, **options))
    recorded = tasks.add.enqueue(1, 1)
    began = time.monotonic()
    with pytest.raises(TaskqError, match="certificate verify failed"):
        add.enqueue(1, 1).get(5)
    assert time.monotonic() - began < SOON
    worker = start_worker(project)
    worker.wait_for(reason)
    assert rabbitmq.password not in worker.text()
    assert TaskRecord.objects.get(pk=recorded.id).state == "READY", "it waits for a broker that can be trusted"


def test_a_name_that_is_not_the_urls_can_be_said(
    rabbitmq: TLSRabbitMQServer, make_project: Callable[..., Project]
) -> None:
    tls = {"ca_certs": str(rabbitmq.authority), "server_hostname": "127.0.0.1"}
    options = trusting(rabbitmq, broker_options={"ssl": tls})
    start_worker(make_project(tasks=broker(rabbitmq.tls_url(host="127.0.0.2"), **options)))
    assert add.enqueue(1, 1).get(30) == 2


# The same over Redis


def test_over_redis(make_project: Callable[..., Project]) -> None:
    with TLSRedisServer(durable=False) as redis:
        url = f"rediss://:{redis.password}@127.0.0.1:{redis.tls_port}/1"
        project = make_project(tasks=broker(f"{url}?ssl_ca_certs={redis.authority}", results="rpc://", lease=3.0))
        start_worker(project, "--threads=4")
        recorded = [*tasks.add.enqueue_many([(number, 1) for number in range(100)])]
        calls = [add.enqueue(number, 1) for number in range(100)]
        assert [one.get(60) for one in calls] == [number + 1 for number in range(100)]
        assert [one.get(60) for one in recorded] == [number + 1 for number in range(100)]
        assert len(large.enqueue(300_000).get(30)) == 300_000
