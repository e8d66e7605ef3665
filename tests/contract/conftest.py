"""Brokers of every kind, and workers at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from django_taskq.brokers.base import Lane
from django_taskq.brokers.kombu import publisher
from tests.contract.brokers import DATABASE, MESSAGE_BROKERS, Broker, Worker, forget_messages

if TYPE_CHECKING:
    from pytest_django import Settings


@pytest.fixture(autouse=True)
def _patient_publishers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about a broker in trouble; a busy machine may take its time."""
    monkeypatch.setattr(publisher, "PATIENCE", 15.0)
    monkeypatch.setattr(publisher, "LIMIT", 20.0)


@pytest.fixture(params=[kind.parameter for kind in (DATABASE, *MESSAGE_BROKERS)])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Return a broker of each kind there is, with nothing in it."""
    kind = request.param
    return Broker(kind, request.getfixturevalue(kind.fixture) if kind.fixture else kind.url)


@pytest.fixture
def make_worker(broker: Broker, settings: Settings) -> Iterator[Callable[..., Worker]]:
    """Return a function that makes a worker with open consumers."""
    settings.TASKS = broker.tasks()
    workers: list[Worker] = []

    def make(
        queues: str = "*",
        backends: tuple[str, ...] = ("default",),
        worker_id: str = "anne",
        prefetch: int | None = None,
        lane: Lane | None = None,
    ) -> Worker:
        worker = Worker(backends, queues, worker_id, prefetch=prefetch, lane=lane)
        workers.append(worker)
        worker.open()
        return worker

    yield make
    for worker in workers:
        worker.end()
    forget_messages()


@pytest.fixture
def worker(make_worker: Callable[..., Worker]) -> Worker:
    return make_worker()
