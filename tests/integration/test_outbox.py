"""The outbox: every READY task gets to its broker, whatever is the matter with others."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

from django_taskq import State, TaskqBackend
from django_taskq.aliases import taskq_backends
from django_taskq.brokers.base import QueueFacts
from django_taskq.brokers.kombu import facts
from django_taskq.brokers.kombu.outgoing import Outgoing
from django_taskq.database import as_project_time, database_now
from django_taskq.keeper.outbox import Outbox
from django_taskq.models import TaskRecord
from django_taskq.models.task import NEVER_PUBLISHED
from tests.factories import make_tasks

pytestmark = pytest.mark.django_db

ALIASES = ("default", "other")


class Publisher:
    """A broker that takes everything, or nothing while it is not ``is_up``, and never what is for "refused"."""

    def __init__(self) -> None:
        self.is_up = True
        self.asked = 0
        self.taken: list[str] = []

    def publish(self, messages: Sequence[Outgoing]) -> list[bool]:
        self.asked += len(messages)
        results = [self.is_up and message.queue_name != "refused" for message in messages]
        self.taken += [message.queue_name for message, is_taken in zip(messages, results, strict=True) if is_taken]
        return results


@pytest.fixture
def backends() -> Iterator[dict[str, TaskqBackend]]:
    ours = {"BACKEND": "django_taskq.TaskqBackend", "QUEUES": []}
    with override_settings(TASKS={alias: {**ours, "OPTIONS": {"broker": f"memory://{alias}"}} for alias in ALIASES}):
        found = {backend.alias: backend for backend in taskq_backends()}
        for backend in found.values():
            backend.__dict__["publisher"] = Publisher()
        yield found


def publisher(backend: TaskqBackend) -> Publisher:
    found: Any = backend.publisher
    assert isinstance(found, Publisher)
    return found


def make_ready(count: int, *, queue: str = "one", alias: str = "default", published: float | None = None) -> None:
    """Make READY tasks; ``published``: so many seconds ago, else never."""
    at = NEVER_PUBLISHED if published is None else database_now("default") - timedelta(seconds=published)
    make_tasks(count, state=State.READY, queue_name=queue, backend=alias, published_at=as_project_time(at))


def test_a_broker_that_is_down_keeps_nobody_from_another(backends: dict[str, TaskqBackend]) -> None:
    make_ready(1_200)
    make_ready(5, alias="other")
    publisher(backends["default"]).is_up = False
    outbox = Outbox("default", list(backends.values()))
    assert outbox(time.monotonic()) < 1.0
    assert publisher(backends["other"]).taken == ["one"] * 5
    assert publisher(backends["default"]).asked == 1, "one is enough to hear that it is down"
    publisher(backends["default"]).is_up = True
    outbox(time.monotonic())
    assert len(publisher(backends["default"]).taken) == 1_200
    assert not TaskRecord.objects.filter(published_at=as_project_time(NEVER_PUBLISHED)).exists()


def test_what_a_broker_refuses_keeps_nothing_behind_it(backends: dict[str, TaskqBackend]) -> None:
    make_ready(1_100, queue="refused")
    make_ready(5)
    pause = Outbox("default", list(backends.values()))(time.monotonic())
    assert publisher(backends["default"]).taken == ["one"] * 5
    assert 0.0 < pause <= 1.0
    assert TaskRecord.objects.filter(published_at=as_project_time(NEVER_PUBLISHED)).count() == 1_100


@pytest.mark.parametrize(
    ("ready", "consumers", "again"),
    [(0, 0, 300), (0, 2, 300), (300, 2, 10), (100, 0, 10), (None, None, 10)],
)
def test_what_the_broker_does_not_know_is_published_again(
    backends: dict[str, TaskqBackend],
    monkeypatch: pytest.MonkeyPatch,
    ready: int | None,
    consumers: int | None,
    again: int,
) -> None:
    make_ready(300, published=60.0)
    make_ready(7, published=1.0)
    found = {"one": QueueFacts(ready=ready, unacked=None, consumers=consumers)}
    monkeypatch.setattr(facts, "ask", lambda options, names: found)
    Outbox("default", list(backends.values()))(time.monotonic())
    assert len(publisher(backends["default"]).taken) == again


def test_a_broker_that_does_not_answer_is_asked_later(
    backends: dict[str, TaskqBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_ready(3, published=60.0)
    monkeypatch.setattr(facts, "ask", lambda options, names: None)
    Outbox("default", list(backends.values()))(time.monotonic())
    assert publisher(backends["default"]).taken == []


def test_tasks_from_before_the_broker_are_told_of(backends: dict[str, TaskqBackend]) -> None:
    make_ready(3)
    TaskRecord.objects.update(published_at=None)
    Outbox("default", list(backends.values()))(time.monotonic())
    assert len(publisher(backends["default"]).taken) == 3
