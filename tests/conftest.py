"""What all tiers share: their markers, the seed, and private servers to break."""

from __future__ import annotations

import os
import random
import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import django
import pytest

from tests.databases import chosen
from tests.servers import MariaDBServer, PostgresServer, RabbitMQServer, RedisServer, shared_broker

_TESTS = Path(__file__).parent
_TIERS = ("unit", "contract", "integration", "acceptance")
_SEED = "TASKQ_TEST_SEED"


def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed once, before xdist's workers inherit it; keep Python's development mode to this process."""
    os.environ.setdefault(_SEED, str(random.SystemRandom().randrange(2**32)))
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", default=None):
        # What tests start, they start as users do. The workers of xdist have inherited the mode by now.
        os.environ.pop("PYTHONDEVMODE", None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell has started this in the background. What tests start would inherit that, and not hear a Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header(config: pytest.Config) -> str:
    """Say what a failure has to be repeated with."""
    return f"django_taskq: TASKQ_TEST_DB={chosen()} {_SEED}={os.environ[_SEED]}, Django {django.get_version()}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test with its tier; leave tests for other databases to the runs on those."""
    elsewhere: list[pytest.Item] = []
    for item in items:
        tier = item.path.relative_to(_TESTS).parts[0]
        if tier in _TIERS:
            item.add_marker(tier)
        wanted = item.get_closest_marker("databases")
        if wanted is not None and chosen() not in wanted.args:
            elsewhere.append(item)
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in elsewhere]


@pytest.fixture(autouse=True)
def _nobody_looks_for_a_broker_that_is_gone() -> Iterator[None]:
    """A publisher tries to reach its broker for ever, in a thread of this process."""
    yield
    module = sys.modules.get("django_taskq.brokers.kombu.publisher")
    for publisher in list(module._publishers) if module is not None else ():
        if not publisher.is_up:
            publisher.close(0.0)


@pytest.fixture
def rng() -> random.Random:
    """Return random numbers that TASKQ_TEST_SEED, printed in the header, repeats."""
    return random.Random(int(os.environ[_SEED]))


@pytest.fixture
def private_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test alone, to restart and to kill."""
    with PostgresServer(durable=False) as server:
        yield server


@pytest.fixture
def private_mariadb() -> Iterator[MariaDBServer]:
    """A MariaDB of this test alone, to restart and to kill."""
    with MariaDBServer(durable=False) as server:
        yield server


@pytest.fixture
def amqp_vhost() -> Iterator[str]:
    """The name of a virtual host of this test alone, on the run's RabbitMQ: ``shared_broker("amqp")``."""
    broker, name = shared_broker("amqp"), f"test-{uuid.uuid4().hex}"
    broker.make_vhost(name)
    yield name
    broker.drop_vhost(name)


@pytest.fixture
def amqp_url(amqp_vhost: str) -> str:
    """The URL of a virtual host of this test alone."""
    return shared_broker("amqp").url(amqp_vhost)


@pytest.fixture
def redis_db() -> Iterator[int]:
    """The number of a database of this test alone, on the run's Redis: ``shared_broker("redis")``."""
    broker = shared_broker("redis")
    db = broker.next_db()
    yield db
    broker.flushdb(db)


@pytest.fixture
def redis_url(redis_db: int) -> str:
    """The URL of a database of this test alone."""
    return shared_broker("redis").url(redis_db)


@pytest.fixture(scope="session")
def _spare_rabbitmq() -> Iterator[RabbitMQServer]:
    with RabbitMQServer(durable=False) as server:
        yield server


@pytest.fixture
def private_rabbitmq(_spare_rabbitmq: RabbitMQServer) -> RabbitMQServer:
    """A RabbitMQ that only this test uses now, to freeze, to wipe and to kill; as good as new, which takes a second.

    Starting one for each test would take five, of both cores.
    """
    _spare_rabbitmq.renew()
    return _spare_rabbitmq


@pytest.fixture
def private_redis() -> Iterator[RedisServer]:
    """A Redis of this test alone, to restart and to kill."""
    with RedisServer(durable=False) as server:
        yield server
