"""Brokers, and consumers at them as a worker's process has them."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import kombu
import kombu.transport.memory
import pytest
from django.db import connections

from django_taskq.backend import TaskqBackend
from django_taskq.brokers.base import Consumer, Lane
from django_taskq.brokers.database import DatabaseConsumer
from django_taskq.brokers.kombu.link import Link
from django_taskq.compat import task_backends
from django_taskq.core.message import Message
from django_taskq.core.queues import QueueSelection
from django_taskq.core.wire import Wire
from django_taskq.worker.consumers import open_consumers
from django_taskq.worker.settings import WorkerSettings

#: Seconds until something that should happen has happened.
DEADLINE = 10.0
#: Seconds, and looks, without anything new after which a consumer that has waiting messages gives none of them.
_QUIET, _LOOKS = 0.6, 20
#: Seconds between two looks whether a broker is drained: what it has sent meanwhile has arrived.
_LOOK = 0.03


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of broker, and what it cannot do."""

    name: str
    #: the fixture with its URL
    fixture: str = ""
    url: str = ""
    has_priorities: bool = True
    #: whether two aliases of the project are apart here
    has_addresses: bool = True
    #: whether it tells what is received and not done, and who consumes
    counts_unacked: bool = False
    counts_consumers: bool = False
    #: whether it says of a message that somebody has had it before
    marks_redelivered: bool = True
    databases: tuple[str, ...] = ("sqlite", "postgres", "mariadb")

    @property
    def has_messages(self) -> bool:
        """Whether it is one of kombu's."""
        return self.name != "database"

    @property
    def parameter(self) -> Any:
        """As a parameter of a fixture."""
        marks = [pytest.mark.databases(*self.databases)]
        if self.has_messages:
            # What messages do does not depend on the version of Django.
            marks.append(pytest.mark.once)
        return pytest.param(self, id=self.name, marks=marks)


DATABASE = Kind(name="database", url="database://", counts_unacked=True)
# What depends on the database is the same for all that deliver messages; one of them is enough elsewhere.
MESSAGE_BROKERS = (
    Kind(name="amqp", fixture="amqp_url", counts_consumers=True),
    Kind(name="redis", fixture="redis_url", databases=("sqlite",)),
    Kind(
        name="memory",
        url="memory://",
        has_priorities=False,
        has_addresses=False,
        marks_redelivered=False,
        databases=("sqlite",),
    ),
)


@dataclass(frozen=True)
class Broker:
    """A broker of one test."""

    kind: Kind
    url: str

    def tasks(self, **options: Any) -> dict[str, Any]:
        """Return TASKS with this broker for the alias ``default``, and another one for ``other``."""
        given: dict[str, Any] = {"broker": self.url, **options}
        if self.kind.name == "amqp":
            given.setdefault("queue_defaults", {"arguments": {"x-max-priority": 10}})
        other = {"broker": "memory://"} if self.kind.has_messages else {}
        taskq = {"BACKEND": "django_taskq.TaskqBackend", "QUEUES": []}
        return {"default": {**taskq, "OPTIONS": given}, "other": {**taskq, "OPTIONS": other}}


class Worker:
    """Consumers in a thread of their own, as in a worker's process: on other connections than the test's."""

    def __init__(
        self,
        backends: Sequence[str],
        queues: str,
        worker_id: str,
        *,
        prefetch: int | None = None,
        lane: Lane | None = None,
    ) -> None:
        self._thread = ThreadPoolExecutor(1)
        self.worker_id = worker_id
        chosen_backends: list[TaskqBackend] = [task_backends[alias] for alias in backends]  # type: ignore[misc]  # TASKS has no others
        settings = WorkerSettings(backends=tuple(backends), queues=QueueSelection.parse(queues), prefetch=prefetch)
        self._consumers = open_consumers(chosen_backends, settings, lambda: worker_id, lane)

    def do(self, work: Callable[[Any], Any]) -> Any:
        """Have the thread do something with the first consumer."""
        return self._thread.submit(work, self._consumers[0]).result(DEADLINE)

    def each(self, work: Callable[[Consumer], Any]) -> list[Any]:
        """Have the thread do something with all consumers."""
        return self._thread.submit(lambda: [work(consumer) for consumer in self._consumers]).result(DEADLINE)

    def open(self) -> None:
        self.each(lambda consumer: consumer.open())

    def close(self) -> None:
        self.each(lambda consumer: consumer.close())

    def tend(self, ahead: int = 10) -> None:
        """Let the consumers do what is due, as the process does all the time."""
        self.each(lambda consumer: consumer.tend(time.monotonic(), ahead))

    def receive(self, limit: int = 100, **names: Any) -> list[Message]:
        """Receive up to `limit` tasks: what is there, and what the broker has under way."""
        return self._thread.submit(self._receive, limit, names).result(2 * DEADLINE)

    def _receive(self, limit: int, names: dict[str, Any]) -> list[Message]:
        found: list[Message] = []
        end = time.monotonic() + DEADLINE
        since = drained_at = 0.0
        looks = 0
        while time.monotonic() < end:
            # Before the look: what a link had taken from the broker by then has been handed over.
            has_turned = bool(drained_at) and self._has_turned_since(drained_at)
            fresh: list[Message] = []
            for consumer in self._consumers:
                consumer.tend(time.monotonic(), max(limit - len(found), 1))
                fresh += consumer.receive(limit - len(found) - len(fresh), **names)
            found += fresh
            if len(found) >= limit or all(isinstance(consumer, DatabaseConsumer) for consumer in self._consumers):
                return found
            now = time.monotonic()
            if fresh or not since:
                since = now if self._is_connected() else 0.0
                drained_at = 0.0
                looks = 0
            elif now - since > _QUIET and looks > _LOOKS:
                return found
            elif all(consumer.is_drained() for consumer in self._consumers):
                if has_turned and now - drained_at > _LOOK:
                    return found
                if not drained_at:
                    drained_at = now
                    for link in self._links():
                        link._inbox.wake()
            looks += 1
            select.select(self._filenos(), [], [], 0.01)
        return found

    def _links(self) -> list[Link]:
        return [link for consumer in self._consumers if (link := getattr(consumer, "_link", None)) is not None]

    def _is_connected(self) -> bool:
        return all(link.is_connected and link._consuming == link._wish.queue_names for link in self._links())

    def _has_turned_since(self, moment: float) -> bool:
        """Whether what had arrived by then has been read."""
        return all(link.turned_at > moment for link in self._links())

    def _filenos(self) -> list[int]:
        return [file for consumer in self._consumers for file in consumer.filenos()]

    def await_hint(self) -> bool:
        """Whether a hint came within the deadline."""

        def wait() -> bool:
            hints = any(consumer.has_hints() for consumer in self._consumers)
            return hints or bool(select.select(self._filenos(), [], [], DEADLINE)[0])

        return self._thread.submit(wait).result(DEADLINE * 2)

    def is_quiet(self) -> bool:
        """Whether no hint is there now."""
        quiet: bool = self.do(
            lambda consumer: not consumer.has_hints() and not select.select(consumer.filenos(), [], [], 0)[0]
        )
        return quiet

    def drain_hints(self) -> bool:
        """Make the descriptors quiet; whether there was a hint."""
        return any(self.each(lambda consumer: consumer.drain_hints()))

    def settle(self, *messages: Message) -> None:
        """Say that these tasks without rows have ended."""
        self.do(lambda consumer: consumer.settle(messages))

    def give_back(self, *messages: Message) -> None:
        """Give these tasks without rows back."""
        self.do(lambda consumer: consumer.give_back(messages))

    def admit(self, message: Message) -> bool:
        """Ask whether a task without a row may start."""
        may_start: bool = self.do(lambda consumer: consumer.admit(message))
        return may_start

    def end(self) -> None:
        self.close()
        self._thread.submit(connections.close_all).result(DEADLINE)
        self._thread.shutdown()


def forget_messages() -> None:
    """Empty the broker that lives in this process, and let go of the connections to all others."""
    for alias in ("default", "other"):
        backend = task_backends[alias]
        if isinstance(backend, TaskqBackend) and backend.config.is_kombu:
            backend.publisher.close()
    kombu.transport.memory.Channel.queues.clear()


def send(broker: Broker, body: bytes, queue_name: str = "default", **options: Any) -> None:
    """Put any message into a queue that is there; `options` are those of kombu's ``Producer.publish``."""
    # A virtual transport hands it over while it publishes; AMQP has to be asked.
    with kombu.Connection(broker.url, transport_options={"confirm_publish": True}) as connection:
        connection.Producer(auto_declare=False).publish(body, routing_key=queue_name, **options)


def send_wire(broker: Broker, wire: Wire, queue_name: str = "default") -> None:
    """Put a message of ours into a queue that is there."""
    send(broker, wire.body, queue_name, headers=wire.headers, **wire.properties)
