"""Exchanges and queues as real brokers make them: what is published arrives where the settings say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from kombu.connection import Connection
from kombu.entity import Exchange, Queue

from django_taskq.brokers.topology import TopologyError, broadcast_queue, declare, declare_all
from django_taskq.conf import BackendOptions
from django_taskq.core.topology import Topology
from tests.waiting import wait_until

pytestmark = [pytest.mark.once, pytest.mark.databases("sqlite")]


def connect(url: str) -> Any:
    """Return a connection; kombu's own types say little, and that is not always so."""
    return Connection(url)


@pytest.fixture
def prefix() -> str:
    """Names that no other test has."""
    return f"t{uuid4().hex[:8]}"


@pytest.fixture
def rabbit(amqp_url: str) -> Iterator[Any]:
    with connect(amqp_url) as connection:
        yield connection


@pytest.fixture(params=["amqp", "redis"])
def broker(request: pytest.FixtureRequest) -> Iterator[tuple[Any, str]]:
    """Both brokers that were tested: a connection, and the URL it is to."""
    url = request.getfixturevalue(f"{request.param}_url")
    with connect(url) as connection:
        yield connection, url


def topology(url: str, **options: Any) -> Topology:
    return BackendOptions.parse({"broker": url, **options}).topology


def publish(connection: Any, exchange: str, routing_key: str, body: Any = "x", **properties: Any) -> None:
    # With headers, arguments and all: what the test is about is where it goes.
    with connection.channel() as channel:
        connection.Producer(channel).publish(body, exchange=exchange, routing_key=routing_key, **properties)


def _named(queue_name: str, exchange: str, channel: Any = None) -> Any:
    """Return a queue as kombu wants it: one that exists already."""
    fanout = Exchange(exchange, "fanout", no_declare=True)
    return Queue(queue_name, fanout, no_declare=True, channel=channel)


def received(connection: Any, queue_name: str, count: int = 1) -> list[Any]:
    """Take messages from a queue, waiting for them."""
    found: list[Any] = []
    queue = _named(queue_name, "", connection.default_channel)

    def look() -> bool:
        message = queue.get(no_ack=True)
        if message is not None:
            found.append(message.payload)
        return len(found) >= count

    wait_until(look, 10, what=f"{count} messages in {queue_name}")
    assert queue.get(no_ack=True) is None
    return found


def test_a_plain_queue_gets_what_is_published_for_it(broker: tuple[Any, str], prefix: str) -> None:
    connection, url = broker
    plain = topology(url)
    for _ in range(3):
        declare(plain, connection.default_channel, prefix)
    publish(connection, *plain.target(prefix), body="hello")
    assert received(connection, prefix) == ["hello"]


def test_exchanges_pass_on_what_their_bindings_say(broker: tuple[Any, str], prefix: str) -> None:
    connection, url = broker
    mail, audit, all_of_it = (f"{prefix}.{name}" for name in ("mail", "audit", "all"))
    given = topology(
        url,
        exchanges={f"{prefix}.topic": {"type": "topic"}, f"{prefix}.fanout": {"type": "fanout"}},
        queues={
            mail: {"exchange": f"{prefix}.topic", "routing_key": "mail.send"},
            audit: {"bindings": [{"exchange": f"{prefix}.topic", "routing_key": "mail.#"}]},
            all_of_it: {"exchange": f"{prefix}.topic", "routing_key": "sms.send"},
        },
    )
    for _ in range(2):
        declare_all(given, connection.default_channel)
    publish(connection, *given.target(mail), body=1)
    publish(connection, *given.target(audit), body=2)
    publish(connection, f"{prefix}.topic", "mail.other.kind", body=3)
    publish(connection, *given.target(all_of_it), body=4)
    assert received(connection, mail) == [1]
    assert sorted(received(connection, audit, 3)) == [1, 2, 3]
    assert received(connection, all_of_it) == [4]


def test_a_broadcast_reaches_every_process(broker: tuple[Any, str], prefix: str) -> None:
    connection, url = broker
    given = topology(url, queues={prefix: {"broadcast": True}})
    heard: dict[str, list[Any]] = {}
    with connection.clone() as first, connection.clone() as second:
        for name, one in (("first", first), ("second", second)):
            queue_name = broadcast_queue(given, one.default_channel, prefix)
            heard[name] = []

            def listen(message: Any, name: str = name) -> None:
                heard[name].append(message.payload)
                message.ack()

            consumer = one.Consumer([_named(queue_name, prefix)], on_message=listen)
            consumer.consume()

        def everybody_heard() -> bool:
            for one in (first, second):
                try:
                    one.drain_events(timeout=0.1)
                except TimeoutError:
                    continue
            return all(heard.values())

        declare(given, connection.default_channel, prefix)

        def published_and_heard() -> bool:
            # Redis subscribes when it first waits; who was not there does not hear it. So, until everybody was.
            publish(connection, *given.target(prefix), body="news")
            return everybody_heard()

        wait_until(published_and_heard, 10, what="both to hear the news")


def test_headers_decide(rabbit: Any, amqp_url: str, prefix: str) -> None:
    given = topology(
        amqp_url,
        exchanges={f"{prefix}.headers": {"type": "headers"}},
        queues={
            prefix: {
                "bindings": [
                    {"exchange": f"{prefix}.headers", "arguments": {"kind": "mail", "lang": "de", "x-match": "any"}},
                    {"exchange": f"{prefix}.headers", "arguments": {"kind": "sms", "x-match": "all"}},
                ]
            }
        },
    )
    declare(given, rabbit.default_channel, prefix)
    for body, headers in ((1, {"lang": "de"}), (2, {"kind": "sms"}), (3, {"kind": "push"}), (4, {"kind": "mail"})):
        publish(rabbit, f"{prefix}.headers", "", body=body, headers=headers)
    assert received(rabbit, prefix, 3) == [1, 2, 4]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_priority": 10},
        {"arguments": {"x-queue-type": "quorum", "x-delivery-limit": 5}},
        {"arguments": {"x-queue-mode": "lazy", "x-max-length": 1000, "x-overflow": "reject-publish"}},
        {"arguments": {"x-message-ttl": 60_000, "x-expires": 60_000}, "auto_delete": True},
        {"durable": False},
        {"arguments": {"x-single-active-consumer": True, "x-max-length-bytes": 10**6, "x-queue-version": 2}},
    ],
)
def test_rabbitmq_takes_what_the_settings_take(
    rabbit: Any, amqp_url: str, prefix: str, settings: dict[str, Any]
) -> None:
    given = topology(amqp_url, queues={prefix: settings})
    for _ in range(2):
        declare(given, rabbit.default_channel, prefix)
    publish(rabbit, *given.target(prefix), body=7)
    assert received(rabbit, prefix) == [7]


def test_dead_letters_arrive_where_the_settings_say(rabbit: Any, amqp_url: str, prefix: str) -> None:
    given = topology(
        amqp_url,
        exchanges={f"{prefix}.x": {}},
        queues={
            prefix: {"arguments": {"x-message-ttl": 1, "x-dead-letter-exchange": f"{prefix}.x"}},
            f"{prefix}.dead": {
                "exchange": f"{prefix}.x",
                "routing_key": prefix,
                "arguments": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{prefix}.dead"},
            },
        },
    )
    declare(given, rabbit.default_channel, prefix)
    publish(rabbit, "", prefix, body="late")
    assert received(rabbit, f"{prefix}.dead") == ["late"]


def test_the_highest_of_our_priorities_comes_first(rabbit: Any, amqp_url: str, prefix: str) -> None:
    given = topology(amqp_url, queues={prefix: {"max_priority": 10}})
    declare(given, rabbit.default_channel, prefix)
    _in_order(rabbit, given, "amqp", prefix)


def test_redis_serves_the_highest_of_our_priorities_first(redis_url: str, prefix: str) -> None:
    with connect(redis_url) as connection:
        _in_order(connection, topology(redis_url), "redis", prefix)


def _in_order(connection: Any, given: Topology, transport: str, queue_name: str) -> None:
    for priority in (-100, 0, 100, -50, 50):
        carried = given.priority(queue_name, priority, transport)
        publish(connection, *given.target(queue_name), body=priority, priority=carried)
    # Redis tells four levels apart unless it is told otherwise (priority_steps).
    assert received(connection, queue_name, 5)[:1] == [100]


def test_a_queue_that_exists_with_other_settings_is_named(rabbit: Any, amqp_url: str, prefix: str) -> None:
    declare(topology(amqp_url), rabbit.default_channel, prefix)
    with pytest.raises(TopologyError) as said:
        declare(topology(amqp_url, queues={prefix: {"max_priority": 5}}), rabbit.channel(), prefix)
    assert f"The queue {prefix!r} cannot be declared: PRECONDITION_FAILED" in str(said.value)
    assert "x-max-priority" in str(said.value)
    assert "delete it" in str(said.value)
    # Another channel of the same connection is none the worse for it.
    declare(topology(amqp_url), rabbit.channel(), prefix)


def test_an_exchange_that_exists_as_another_type_is_named(rabbit: Any, amqp_url: str, prefix: str) -> None:
    queues = {prefix: {"exchange": f"{prefix}.x"}}
    declare(topology(amqp_url, exchanges={f"{prefix}.x": {}}, queues=queues), rabbit.channel(), prefix)
    with pytest.raises(TopologyError, match=f"The exchange '{prefix}.x' cannot be declared"):
        declare(
            topology(amqp_url, exchanges={f"{prefix}.x": {"type": "topic"}}, queues=queues), rabbit.channel(), prefix
        )


def test_an_exchange_that_nobody_made_is_named(rabbit: Any, amqp_url: str, prefix: str) -> None:
    given = topology(amqp_url, exchanges={prefix: {"declare": False}}, queues={f"{prefix}.q": {"exchange": prefix}})
    with pytest.raises(TopologyError, match=f"to the exchange '{prefix}' cannot be declared: NOT_FOUND"):
        declare(given, rabbit.channel(), f"{prefix}.q")
