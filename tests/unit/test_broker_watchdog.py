"""A connection's thread that hangs in the broker is replaced, and after some of them the process."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from django_taskq.brokers.kombu import consumer as module
from django_taskq.brokers.kombu.consumer import BrokerHangs, KombuConsumer
from django_taskq.conf import BackendOptions
from django_taskq.core.queues import QueueSelection


class HangingLink:
    """A link whose thread never turns."""

    made: list[HangingLink]

    def __init__(self, options: BackendOptions, ring: Callable[[], None], *, arrived: Callable[[], None]) -> None:
        self.deliveries: deque[Any] = deque()
        self.epoch = 0
        self.is_connected = False
        self.turned_at = time.monotonic()
        self.is_started = self.is_abandoned = False
        self.made.append(self)

    def start(self) -> None:
        self.is_started = True

    def abandon(self) -> None:
        self.is_abandoned = True

    def want(self, queue_names: frozenset[str], prefetch: int) -> None: ...

    def hang(self) -> None:
        self.turned_at -= 60.0


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> list[HangingLink]:
    HangingLink.made = []
    monkeypatch.setattr(module, "Link", HangingLink)
    return HangingLink.made


@pytest.fixture
def consumer(links: list[HangingLink]) -> KombuConsumer:
    rows: Any = None  # never asked: the queues are named, and nothing is delivered
    consumer = KombuConsumer(
        BackendOptions(), "default", "default", QueueSelection.parse("one"), "worker", rows=rows, known=tuple
    )
    consumer.open()
    return consumer


def tend(consumer: KombuConsumer) -> None:
    consumer.tend(time.monotonic(), 1)


def test_a_thread_that_hangs_is_replaced(consumer: KombuConsumer, links: list[HangingLink]) -> None:
    tend(consumer)
    assert len(links) == 1
    links[0].hang()
    tend(consumer)
    assert links[0].is_abandoned
    assert [link.is_started for link in links] == [True, True]
    tend(consumer)
    assert len(links) == 2


def test_a_process_whose_connections_all_hang_ends(consumer: KombuConsumer, links: list[HangingLink]) -> None:
    for _ in range(3):
        links[-1].hang()
        tend(consumer)
    links[-1].hang()
    with pytest.raises(BrokerHangs, match="4 connections"):
        tend(consumer)


def test_one_that_connects_breaks_the_series(consumer: KombuConsumer, links: list[HangingLink]) -> None:
    for _ in range(10):
        links[-1].hang()
        tend(consumer)
        links[-1].is_connected = True
        tend(consumer)
    assert len(links) == 11
