"""What a worker process was sent and cannot start goes back to the broker: all of it, and each message once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from django.db import OperationalError

from django_taskq.brokers.kombu import consumer as module
from django_taskq.brokers.kombu.consumer import KombuConsumer
from django_taskq.brokers.kombu.inbox import Delivery
from django_taskq.conf import BackendOptions
from django_taskq.core.queues import QueueSelection
from django_taskq.core.wire import encode_reference

#: what ``tend`` is told when nothing starts here any more
NOTHING = -1


def nothing() -> None: ...


class Link:
    """A link without a connection: ``deliveries`` came, ``requeued`` went back, ``meanwhile`` happens while they do."""

    def __init__(self, options: BackendOptions, ring: Callable[[], None], *, arrived: Callable[[], None]) -> None:
        self.deliveries: list[Delivery] = []
        self.requeued: list[int] = []
        self.turned_at = time.monotonic()
        self.is_connected = True
        self.meanwhile: Callable[[], None] = nothing

    def start(self) -> None: ...

    def stop(self, timeout: float) -> None: ...

    def want(self, queue_names: frozenset[str], prefetch: int) -> None: ...

    def can_answer(self, delivery: Delivery) -> bool:
        return True

    def take(self, limit: int) -> list[Delivery]:
        taken, self.deliveries = self.deliveries[:limit], self.deliveries[limit:]
        return taken

    def requeue(self, deliveries: Iterable[Delivery]) -> None:
        self.requeued += [one.tag for one in deliveries]
        self.meanwhile()


class Away:
    """Rows in a database that is away."""

    def claim(self, *_: Any) -> Any:
        raise OperationalError("the database is away")


class Roomy:
    """A lane that takes everything."""

    def has_room(self) -> bool:
        return True

    def is_moving(self) -> bool:
        return False


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> KombuConsumer:
    monkeypatch.setattr(module, "Link", Link)
    rows: Any = Away()
    lane: Any = Roomy()
    consumer = KombuConsumer(
        BackendOptions(), "default", "default", QueueSelection.parse("one"), "worker", rows=rows, known=tuple, lane=lane
    )
    consumer.open()
    return consumer


@pytest.fixture
def link(consumer: KombuConsumer) -> Any:
    return consumer._link


def delivery(tag: int) -> Delivery:
    """A task with a row: only the I/O thread can say what becomes of it."""
    wire = encode_reference(f"019aa1f2-8301-7a3d-b966-{tag:012x}")
    content_type, content_encoding = wire.properties["content_type"], wire.properties["content_encoding"]
    return Delivery(1, tag, "one", wire.body, content_type, content_encoding, {}, {}, is_redelivered=False)


def test_what_waits_for_the_database_goes_back_once(consumer: KombuConsumer, link: Any) -> None:
    link.deliveries = [delivery(tag) for tag in range(1, 4)]
    with pytest.raises(OperationalError):
        consumer.receive(2)
    consumer.tend(time.monotonic(), NOTHING)
    assert link.requeued == [1, 2, 3]
    consumer.tend(time.monotonic(), NOTHING)
    assert link.requeued == [1, 2, 3]


def test_at_the_end_too(consumer: KombuConsumer, link: Any) -> None:
    link.deliveries = [delivery(1)]
    with pytest.raises(OperationalError):
        consumer.receive(1)
    consumer.close()
    assert link.requeued == [1]


def test_what_comes_meanwhile_is_not_forgotten(consumer: KombuConsumer, link: Any) -> None:
    link.deliveries = [delivery(1)]

    def bring_another() -> None:
        link.meanwhile = nothing
        link.deliveries.append(delivery(2))
        consumer.hand_over()  # in the link's thread, as it is called when something has come

    link.meanwhile = bring_another
    consumer.tend(time.monotonic(), NOTHING)
    assert link.requeued == [1]
    consumer.tend(time.monotonic(), NOTHING)
    assert link.requeued == [1, 2]
