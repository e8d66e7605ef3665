"""The broker's queue between runs: emptied, counted, asked what it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from tests.benchmarks.plan import Plan

#: The queue of tasks that name none.
QUEUE = "default"
#: Seconds a broker may be behind with what it was sent.
_PATIENCE = 60.0


@contextmanager
def _connected(plan: Plan) -> Iterator[Any]:
    from kombu import Connection

    with Connection(plan.broker, connect_timeout=5) as connection:
        connection.connect()
        yield connection


def clear(plan: Plan) -> None:
    """Remove all messages; nobody may be connected."""
    if not plan.has_messages:
        return
    with _connected(plan) as connection:
        if connection.transport.driver_type == "redis":
            connection.default_channel.client.flushdb()
        else:
            # The whole queue: what it has been through is not to tell on the next run.
            connection.default_channel.queue_delete(QUEUE)


def count(plan: Plan) -> int:
    """Return how many messages wait."""
    with _connected(plan) as connection:
        try:
            return int(connection.default_channel.queue_declare(QUEUE, passive=True).message_count)
        except connection.channel_errors:
            # On Redis an empty queue is no queue.
            return 0


def wait_for(plan: Plan, expected: int) -> None:
    """Wait until exactly so many messages are there: what was not confirmed may be on its way."""
    deadline = time.monotonic() + _PATIENCE
    while (found := count(plan)) != expected:
        if found > expected or time.monotonic() > deadline:
            raise RuntimeError(f"{found} messages in the queue, instead of {expected}.")
        time.sleep(0.05)


def facts(plan: Plan) -> dict[str, str]:
    """Return what the figures depend on."""
    if not plan.has_messages:
        return {}
    with _connected(plan) as connection:
        if connection.transport.driver_type == "redis":
            client = connection.default_channel.client
            broker = f"Redis {client.info('server')['redis_version']}"
            kept = [client.config_get(name)[name] for name in ("appendonly", "appendfsync", "save")]
            broker += ", appendonly={}, appendfsync={}, save={!r}".format(*kept)
            client_name = "redis"
        else:
            broker = (
                f"RabbitMQ {connection.connection.server_properties['version']}, durable queue, persistent messages"
            )
            client_name = "amqp"
    return {"broker": broker, "broker's client": f"kombu {version('kombu')}, {client_name} {version(client_name)}"}
