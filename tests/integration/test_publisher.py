"""The publisher against real servers, in good days and in bad ones."""

from __future__ import annotations

import logging
import os
import random
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import psutil
import pytest
from kombu.connection import Connection

from django_taskq.brokers.kombu import publisher as module
from django_taskq.brokers.kombu.connection import abandon
from django_taskq.brokers.kombu.publisher import Outgoing, Publisher
from django_taskq.conf import BackendOptions
from django_taskq.core.wire import Wire, encode_reference
from tests.servers import RabbitMQServer, RedisServer, TCPProxy, shared_broker
from tests.waiting import let_pass, wait_until

pytestmark = [pytest.mark.once, pytest.mark.databases("sqlite")]

#: seconds: what a publish may take, with the time this busy machine takes on top
SLOW = 2.5
#: seconds in which publishing works again after the broker is back
BACK = 10.0


def message(rng: random.Random, queue_name: str = "mail", priority: int = 0) -> Outgoing:
    task_id = str(UUID(int=rng.getrandbits(128), version=4))
    return Outgoing(queue_name=queue_name, wire=encode_reference(task_id), priority=priority)


def raw(body: bytes, queue_name: str = "mail", *, reply: bool = False, **properties: Any) -> Outgoing:
    headers = properties.pop("headers", {})
    return Outgoing(queue_name=queue_name, wire=Wire(body=body, headers=headers, properties=properties), reply=reply)


Opener = Callable[..., Publisher]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Publishers that are closed when the test is over, and leave no thread behind."""
    publishers: list[Publisher] = []

    def build(url: str, **options: Any) -> Publisher:
        publishers.append(Publisher(BackendOptions.parse({"broker": url, **options})))
        return publishers[-1]

    yield build
    for each in publishers:
        each.close()
    wait_until(lambda: not connectors(), what="the end of the threads that connect")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="django_taskq.broker")
    return caplog


def connectors() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "taskq-publisher"]


def actions(log: pytest.LogCaptureFixture) -> list[str]:
    return [str(getattr(record, "action", "")) for record in log.records if record.levelno >= logging.INFO]


def connect(url: str) -> Any:
    factory: Any = Connection
    return factory(url)


def depth(url: str, queue_name: str) -> int:
    connection = connect(url)
    with connection:
        found: int = connection.default_channel.queue_declare(queue=queue_name, passive=True).message_count
    return found


@dataclass
class Received:
    """A message out of a queue."""

    body: bytes
    headers: dict[str, Any]
    properties: dict[str, Any]


def received(url: str, queue_name: str, count: int) -> list[Received]:
    connection = connect(url)
    with connection:
        return [take(connection, queue_name) for _ in range(count)]


def take(connection: Any, queue_name: str) -> Received:
    channel = connection.default_channel
    channel.auto_decode = False
    found: Any = wait_until(lambda: channel.basic_get(queue_name, no_ack=True), what="a message")
    body = found.body if isinstance(found.body, bytes) else found.body.encode()
    return Received(body, found.headers, {"content_type": getattr(found, "content_type", None), **found.properties})


def seconds(action: Callable[[], Any]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def descriptors() -> int:
    found: int = psutil.Process().num_fds()
    return found


# In good days


def test_a_message_is_in_its_queue_when_publish_returns(opened: Opener, amqp_url: str, rng: random.Random) -> None:
    publisher = opened(amqp_url)
    sent = message(rng)

    assert publisher.publish([sent]) == [True]

    assert publisher.is_up
    assert [each.body for each in received(amqp_url, "mail", 1)] == [sent.wire.body]


def test_nothing_to_publish_is_published_without_a_connection(opened: Opener) -> None:
    assert opened("amqp://127.0.0.1:1//").publish([]) == []


def test_properties_and_headers_arrive_as_they_are(opened: Opener, amqp_url: str) -> None:
    headers = {"task": "shop.send", "id": "x", "retries": 3, "timelimit": [None, None], "expires": None}
    publisher = opened(amqp_url)
    publisher.publish(
        [
            raw(
                b"[[], {}, {}]",
                content_type="application/json",
                content_encoding="utf-8",
                correlation_id="c",
                reply_to="answers",
                expiration="60000",
                headers=headers,
            )
        ]
    )
    (found,) = received(amqp_url, "mail", 1)
    assert found.headers == headers
    assert found.properties["content_type"] == "application/json"
    assert found.properties["correlation_id"] == "c"
    assert found.properties["reply_to"] == "answers"
    assert found.properties["expiration"] == "60000"
    assert found.properties["delivery_mode"] == 2


def test_messages_that_need_not_survive_are_sent_as_such(opened: Opener, amqp_url: str, rng: random.Random) -> None:
    opened(amqp_url, persistent=False).publish([message(rng)])
    (found,) = received(amqp_url, "mail", 1)
    assert found.properties["delivery_mode"] == 1


def test_priorities_are_those_of_the_queue(opened: Opener, amqp_url: str, rng: random.Random) -> None:
    publisher = opened(amqp_url, queues={"mail": {"arguments": {"x-max-priority": 10}}})
    publisher.publish([message(rng, priority=priority) for priority in (-100, 0, 100)])
    found = received(amqp_url, "mail", 3)
    assert [each.properties["priority"] for each in found] == [10, 5, 0]


@pytest.mark.parametrize("size", [0, 1, 131_063, 131_064, 131_065, 3_000_000])
def test_bodies_of_any_size_arrive_whole(opened: Opener, amqp_url: str, rng: random.Random, size: int) -> None:
    body = rng.randbytes(size)
    publisher = opened(amqp_url)

    assert publisher.publish([raw(body), raw(b"after it")]) == [True, True]

    first, second = received(amqp_url, "mail", 2)
    assert first.body == body
    assert second.body == b"after it"


def test_a_burst_is_confirmed_as_a_whole(opened: Opener, amqp_url: str, rng: random.Random) -> None:
    publisher = opened(amqp_url)
    assert all(publisher.publish([message(rng, f"burst{number % 3}") for number in range(6_000)]))
    assert [depth(amqp_url, f"burst{number}") for number in range(3)] == [2_000] * 3


def test_unconfirmed_messages_arrive_too(opened: Opener, amqp_url: str, rng: random.Random) -> None:
    publisher = opened(amqp_url, confirm=False)
    for _ in range(100):
        assert publisher.publish([message(rng)]) == [True]
    assert all(publisher.publish([message(rng) for _ in range(400)]))
    wait_until(lambda: depth(amqp_url, "mail") == 500, what="500 messages")


def test_unconfirmed_messages_are_at_the_broker_when_the_publisher_has_been_closed(
    opened: Opener, amqp_url: str, rng: random.Random
) -> None:
    publisher = opened(amqp_url, confirm=False)
    publisher.publish([message(rng) for _ in range(2_000)])
    publisher.close(5.0)
    wait_until(lambda: depth(amqp_url, "mail") == 2_000, what="2,000 messages")


def test_many_threads_share_one_connection(
    opened: Opener, private_rabbitmq: RabbitMQServer, rng: random.Random
) -> None:
    url = private_rabbitmq.url()
    publisher = opened(url)
    results: list[bool] = []
    messages = [[message(rng) for _ in range(10)] for _ in range(200)]

    def run(mine: list[Outgoing]) -> None:
        for each in mine:
            results.extend(publisher.publish([each]))

    threads = [threading.Thread(target=run, args=(mine,)) for mine in messages]
    for thread in threads:
        thread.start()
    most = connections(private_rabbitmq)
    for thread in threads:
        thread.join(30)

    assert results == [True] * 2_000
    assert most <= 1
    assert depth(url, "mail") == 2_000


def connections(server: RabbitMQServer) -> int:
    return int(server.evaluate("length(rabbit_networking:connections())"))


def test_a_reply_to_nobody_is_gone_and_counts(opened: Opener, amqp_url: str) -> None:
    publisher = opened(amqp_url)
    assert publisher.publish([raw(b"{}", "nobody", reply=True)]) == [True]
    with pytest.raises(Exception, match="NOT_FOUND"):
        depth(amqp_url, "nobody")


def test_a_reply_reaches_its_queue(opened: Opener, amqp_url: str) -> None:
    connection = connect(amqp_url)
    with connection:
        connection.default_channel.queue_declare(queue="answers", durable=True, auto_delete=False)
        assert opened(amqp_url).publish([raw(b"{}", "answers", reply=True)]) == [True]
        assert take(connection, "answers").body == b"{}"


def test_a_broadcast_that_nobody_listens_to_counts(opened: Opener, amqp_url: str, rng: random.Random) -> None:
    publisher = opened(amqp_url, queues={"all": {"broadcast": True}})
    assert publisher.publish([message(rng, "all")]) == [True]


def test_topic_exchanges_are_made_with_their_queues(opened: Opener, amqp_url: str, rng: random.Random) -> None:
    publisher = opened(
        amqp_url,
        exchanges={"shop": {"type": "topic"}},
        queues={"mail": {"exchange": "shop", "routing_key": "mail.new"}},
    )
    assert publisher.publish([message(rng)]) == [True]
    assert depth(amqp_url, "mail") == 1


# Queues


def test_a_queue_deleted_under_us_is_made_again(
    opened: Opener, amqp_url: str, rng: random.Random, log: pytest.LogCaptureFixture
) -> None:
    publisher = opened(amqp_url)
    publisher.publish([message(rng), message(rng, "other")])
    connection = connect(amqp_url)
    with connection:
        connection.default_channel.queue_delete("mail")

    assert all(publisher.publish([message(rng, queue) for queue in ("mail", "other") * 500]))

    assert depth(amqp_url, "mail") == 500
    assert depth(amqp_url, "other") == 501
    assert actions(log) == []


def test_what_came_back_unconfirmed_is_sent_again_with_the_next_message(
    opened: Opener, amqp_url: str, rng: random.Random
) -> None:
    publisher = opened(amqp_url, confirm=False)
    publisher.publish([message(rng)])
    connection = connect(amqp_url)
    with connection:
        wait_until(lambda: connection.default_channel.basic_get("mail", no_ack=True), what="the first message")
        connection.default_channel.queue_delete("mail")
    publisher.publish([message(rng)])
    sender: Any = publisher._sender
    wait_until(lambda: sender._strays or select.select([sender._transport.sock], [], [], 0)[0], what="its return")

    publisher.publish([message(rng)])

    wait_until(lambda: depth(amqp_url, "mail") == 2, what="both messages")


def test_what_no_queue_takes_is_not_published(
    opened: Opener, amqp_url: str, rng: random.Random, log: pytest.LogCaptureFixture
) -> None:
    publisher = opened(amqp_url, queues={"theirs": {"declare": False}})

    assert publisher.publish([message(rng), message(rng, "theirs"), message(rng)]) == [True, False, True]
    assert publisher.publish([message(rng, "theirs")]) == [False]

    assert publisher.is_up
    assert actions(log) == ["message_refused"]
    assert "no queue takes it" in log.text


def test_a_queue_with_other_settings_is_published_to_all_the_same(
    opened: Opener, amqp_url: str, rng: random.Random, log: pytest.LogCaptureFixture
) -> None:
    connection = connect(amqp_url)
    with connection:
        connection.default_channel.queue_declare(queue="mail", durable=False, auto_delete=False)
    publisher = opened(amqp_url)

    assert publisher.publish([message(rng), message(rng)]) == [True, True]
    assert publisher.publish([message(rng)]) == [True]

    assert depth(amqp_url, "mail") == 3
    assert actions(log) == ["queue_refused"]


# What can never be sent


@pytest.fixture
def _has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the broker take longer than a caller has, where that is not the point: the machine may be busy."""
    monkeypatch.setattr(module, "PATIENCE", 10.0)
    monkeypatch.setattr(module, "LIMIT", 20.0)
    monkeypatch.setattr(module, "_LONG_LIMIT", 60.0)


POISON = {
    "routing key": {"queue_name": "q" * 256},
    "correlation id": {"correlation_id": "c" * 256},
    "a header too long for a frame": {"headers": {"errors": "e" * 200_000}},
    "not a number": {"headers": {"number": float("nan")}},
    "an object in a header": {"headers": {"object": object()}},
    "an expiration that is none": {"expiration": "soon"},
    "a priority out of bounds": {"priority": 1_000},
}


@pytest.mark.usefixtures("_has_time")
@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
def test_what_can_never_be_sent_harms_no_others(
    opened: Opener, amqp_url: str, rng: random.Random, log: pytest.LogCaptureFixture, poison: dict[str, Any]
) -> None:
    publisher = opened(amqp_url)
    good = [message(rng) for _ in range(300)]
    burst = [*good[:150], raw(b"{}", **poison), *good[150:]]

    results = publisher.publish(burst)

    assert [index for index, result in enumerate(results) if not result] == [150]
    assert publisher.publish([raw(b"{}", **poison)]) == [False]
    assert publisher.publish([message(rng)]) == [True]
    assert publisher.is_up
    assert actions(log) == ["message_refused"]
    assert 301 <= depth(amqp_url, "mail") <= 301 + 150, "what was under way may be there twice"


# In bad days


def test_a_publisher_without_a_broker_says_so_once_and_turns_everybody_away(
    opened: Opener, rng: random.Random, log: pytest.LogCaptureFixture
) -> None:
    publisher = opened("amqp://user:geheim@127.0.0.1:1//")

    assert publisher.publish([message(rng)]) == [False]
    assert not publisher.is_up
    quick = sorted(seconds(lambda: publisher.publish([message(rng)])) for _ in range(200))

    assert quick[100] < 0.001
    assert quick[-1] < 0.5
    assert actions(log) == ["broker_down"]
    assert "127.0.0.1:1" in log.text
    assert len(connectors()) == 1


@pytest.mark.parametrize("url", ["amqp://user:geheim@127.0.0.1:{port}//", "redis://:geheim@127.0.0.1:{port}/0"])
def test_no_password_is_logged(opened: Opener, rng: random.Random, log: pytest.LogCaptureFixture, url: str) -> None:
    port = shared_broker("amqp" if url.startswith("amqp") else "redis").port
    publisher = opened(url.format(port=port))

    assert publisher.publish([message(rng)]) == [False]

    assert actions(log) == ["broker_down"]
    assert "geheim" not in log.text
    assert "**" in log.text


@pytest.mark.parametrize("kind", ["fast", "immediate"])
def test_a_broker_stopped_and_started(
    opened: Opener,
    private_rabbitmq: RabbitMQServer,
    rng: random.Random,
    log: pytest.LogCaptureFixture,
    kind: Any,
) -> None:
    publisher = opened(private_rabbitmq.url())
    assert publisher.publish([message(rng)]) == [True]
    private_rabbitmq.stop(kind)

    assert publisher.publish([message(rng)]) == [False]
    assert not publisher.is_up
    private_rabbitmq.start()
    wait_until(lambda: publisher.is_up, BACK, what="the publisher's return")

    assert publisher.publish([message(rng)]) == [True]
    assert actions(log) == ["broker_down", "broker_up"]
    assert connectors() == []


def test_a_broker_restarted_while_nobody_looked_is_not_even_noticed(
    opened: Opener, private_rabbitmq: RabbitMQServer, rng: random.Random, log: pytest.LogCaptureFixture
) -> None:
    publisher = opened(private_rabbitmq.url())
    assert publisher.publish([message(rng)]) == [True]
    private_rabbitmq.restart()

    assert publisher.publish([message(rng)]) == [True]

    assert actions(log) == []


def confirmed(results: list[bool], count: int) -> bool:
    return results.count(True) > count


def test_connections_closed_again_and_again_lose_nothing(
    opened: Opener, private_rabbitmq: RabbitMQServer, rng: random.Random
) -> None:
    publisher = opened(private_rabbitmq.url())
    is_over = threading.Event()
    results: list[bool] = []

    def run() -> None:
        while not is_over.is_set():
            results.extend(publisher.publish([message(rng) for _ in range(20)]))

    thread = threading.Thread(target=run)
    thread.start()
    for number in range(10):
        wait_until(partial(confirmed, results, 200 * number), what="messages between two cuts")
        private_rabbitmq.close_all_connections()
    is_over.set()
    thread.join(10)

    # One that was cut while it connected, too, may have had to say no.
    assert depth(private_rabbitmq.url(), "mail") >= results.count(True)
    wait_until(lambda: publisher.is_up, BACK, what="the publisher's return")
    assert publisher.publish([message(rng)]) == [True]


@pytest.mark.timing
def test_a_frozen_broker_costs_a_second_once(
    opened: Opener, private_rabbitmq: RabbitMQServer, rng: random.Random, log: pytest.LogCaptureFixture
) -> None:
    publisher = opened(private_rabbitmq.url())
    publisher.publish([message(rng)])
    private_rabbitmq.freeze()

    assert seconds(lambda: publisher.publish([message(rng)])) < SLOW
    assert not publisher.is_up
    assert seconds(lambda: publisher.publish([message(rng)])) < 0.1
    # Of those that come while the first one waits, none waits much longer.
    private_rabbitmq.thaw()
    wait_until(lambda: publisher.is_up, BACK, what="the publisher's return")

    assert publisher.publish([message(rng)]) == [True]
    assert actions(log) == ["broker_down", "broker_up"]


def test_nobody_waits_long_for_a_frozen_broker(
    opened: Opener, private_rabbitmq: RabbitMQServer, rng: random.Random
) -> None:
    publisher = opened(private_rabbitmq.url())
    publisher.publish([message(rng)])
    private_rabbitmq.freeze()
    took: list[float] = []
    threads = [
        threading.Thread(target=lambda: took.append(seconds(lambda: publisher.publish([message(rng)]))))
        for _ in range(30)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    private_rabbitmq.thaw()

    assert len(took) == 30
    assert max(took) < SLOW


def test_a_first_connection_to_a_frozen_broker_is_given_up_in_time(
    opened: Opener, private_rabbitmq: RabbitMQServer, rng: random.Random
) -> None:
    publisher = opened(private_rabbitmq.url())
    private_rabbitmq.freeze()
    try:
        assert seconds(lambda: publisher.publish([message(rng)])) < SLOW
        assert not publisher.is_up
    finally:
        private_rabbitmq.thaw()


def test_a_broker_short_of_memory_is_not_taken_for_a_good_one(
    opened: Opener, private_rabbitmq: RabbitMQServer, rng: random.Random, log: pytest.LogCaptureFixture
) -> None:
    publisher = opened(private_rabbitmq.url())
    publisher.publish([message(rng)])
    private_rabbitmq.set_memory_alarm(True)
    try:
        assert seconds(lambda: publisher.publish([message(rng)])) < SLOW
        assert not publisher.is_up
        # Long enough for several tries that would each take a connection, which none gets back before the alarm ends.
        let_pass(3)
        assert not publisher.is_up
        assert connections(private_rabbitmq) <= 2
    finally:
        private_rabbitmq.set_memory_alarm(False)
    wait_until(lambda: publisher.is_up, BACK, what="the publisher's return")

    assert publisher.publish([message(rng)]) == [True]
    assert actions(log) == ["broker_down", "broker_up"]
    assert connections(private_rabbitmq) == 1


def test_a_new_process_meets_a_broker_short_of_memory(
    opened: Opener, private_rabbitmq: RabbitMQServer, rng: random.Random
) -> None:
    private_rabbitmq.set_memory_alarm(True)
    publisher = opened(private_rabbitmq.url())
    try:
        assert seconds(lambda: publisher.publish([message(rng)])) < SLOW
    finally:
        private_rabbitmq.set_memory_alarm(False)
    wait_until(lambda: publisher.is_up and publisher.publish([message(rng)]) == [True], BACK, what="its return")


@pytest.mark.timing
def test_a_network_that_swallows_everything(
    opened: Opener, amqp_vhost: str, rng: random.Random, log: pytest.LogCaptureFixture
) -> None:
    broker = shared_broker("amqp")
    with TCPProxy(broker.port) as proxy:
        publisher = opened(broker.url(amqp_vhost, port=proxy.port))
        publisher.publish([message(rng)])
        proxy.swallow()

        assert seconds(lambda: publisher.publish([message(rng)])) < SLOW
        assert not publisher.is_up
        assert seconds(lambda: publisher.publish([message(rng)])) < 0.1
        proxy.resume()
        wait_until(lambda: publisher.is_up, BACK, what="the publisher's return")

        assert publisher.publish([message(rng)]) == [True]


def test_a_connection_that_died_without_a_sign_is_replaced_in_time(
    opened: Opener, amqp_vhost: str, rng: random.Random, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_IDLE", -1.0)
    broker = shared_broker("amqp")
    with TCPProxy(broker.port) as proxy:
        publisher = opened(broker.url(amqp_vhost, port=proxy.port))
        publisher.publish([message(rng)])
        proxy.swallow()
        results: list[bool] = []
        thread = threading.Thread(target=lambda: results.extend(publisher.publish([message(rng)])))
        thread.start()
        wait_until(lambda: swallowed(publisher), what="a message in the hole")
        # The old connection stays dead.
        proxy.resume()
        thread.join(10)

        assert results == [True]
        assert actions(log) == []


def swallowed(publisher: Publisher) -> bool:
    sender: Any = publisher._sender
    return sender is not None and bool(sender._waiting)


def test_a_connection_cut_while_it_is_idle_is_replaced_unnoticed(
    opened: Opener, amqp_vhost: str, rng: random.Random, log: pytest.LogCaptureFixture
) -> None:
    broker = shared_broker("amqp")
    with TCPProxy(broker.port) as proxy:
        publisher = opened(broker.url(amqp_vhost, port=proxy.port))
        for _ in range(5):
            assert publisher.publish([message(rng)]) == [True]
            proxy.cut()
        assert actions(log) == []


def test_a_connection_cut_in_a_burst_is_replaced_and_nothing_is_lost(
    opened: Opener, amqp_vhost: str, rng: random.Random, log: pytest.LogCaptureFixture
) -> None:
    broker = shared_broker("amqp")
    with TCPProxy(broker.port) as proxy:
        url = broker.url(amqp_vhost, port=proxy.port)
        publisher = opened(url)
        publisher.publish([message(rng)])
        burst = [message(rng) for _ in range(20_000)]
        results: list[bool] = []
        thread = threading.Thread(target=lambda: results.extend(publisher.publish(burst)))
        thread.start()
        wait_until(lambda: depth(broker.url(amqp_vhost), "mail") > 1, what="the first messages of the burst")
        proxy.cut()
        thread.join(30)

        assert all(results)
        assert depth(url, "mail") >= 20_001
        assert actions(log) == []


def test_fifty_reconnects_leave_nothing_behind(
    opened: Opener, private_rabbitmq: RabbitMQServer, rng: random.Random
) -> None:
    publisher = opened(private_rabbitmq.url())
    assert publisher.publish([message(rng)]) == [True]
    before = descriptors(), threading.active_count()
    for _ in range(50):
        private_rabbitmq.close_all_connections()
        assert publisher.publish([message(rng)]) == [True]
    assert (descriptors(), threading.active_count()) == before
    assert connections(private_rabbitmq) == 1


def test_a_list_of_servers_is_tried_in_turn(opened: Opener, amqp_url: str, rng: random.Random) -> None:
    publisher = opened(f"amqp://127.0.0.1:1//;{amqp_url}")
    assert publisher.publish([message(rng)]) == [True]


# Processes


def in_child(work: Callable[[], bool]) -> int:
    """Run in a forked child, which ends without cleaning up, and give its pid."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return pid


def code_of(pid: int) -> int:
    def ended() -> tuple[int, int] | None:
        found, status = os.waitpid(pid, os.WNOHANG)
        return (found, status) if found else None

    try:
        return os.waitstatus_to_exitcode(wait_until(ended, 20, what="the end of the child")[1])
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


@pytest.mark.parametrize("broker", ["amqp", "redis"])
def test_parent_and_child_both_go_on_after_a_fork(
    opened: Opener, broker: str, request: pytest.FixtureRequest, rng: random.Random, log: pytest.LogCaptureFixture
) -> None:
    url: str = request.getfixturevalue(f"{broker}_url")
    publisher = opened(url)
    assert publisher.publish([message(rng)]) == [True]
    connection = getattr(publisher._sender, "_connection", None)

    pid = in_child(lambda: all(publisher.publish([message(rng) for _ in range(100)])))
    results = [publisher.publish([message(rng)]) for _ in range(100)]

    assert code_of(pid) == 0
    assert results == [[True]] * 100
    assert publisher.publish([message(rng)]) == [True]
    assert getattr(publisher._sender, "_connection", None) is connection, "the parent kept its connection"
    assert actions(log) == []
    assert depth(url, "mail") == 202


def test_a_fork_while_others_publish(opened: Opener, amqp_url: str, rng: random.Random) -> None:
    publisher = opened(amqp_url)
    is_over = threading.Event()
    results: list[bool] = []

    def run() -> None:
        while not is_over.is_set():
            results.extend(publisher.publish([message(rng)]))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(results) > 50, what="messages before the forks")
    mine = message(rng)
    codes = [code_of(in_child(lambda: publisher.publish([mine]) == [True])) for _ in range(10)]
    is_over.set()
    for thread in threads:
        thread.join(10)

    assert codes == [0] * 10
    assert all(results)


def program(url: str, body: str) -> list[str]:
    return [
        sys.executable,
        "-W",
        "error",
        "-c",
        textwrap.dedent(
            f"""
            import sys
            from django.conf import settings
            settings.configure()
            from django_taskq.brokers.kombu.publisher import Outgoing, publisher_for
            from django_taskq.conf import BackendOptions
            from django_taskq.core.wire import encode_reference
            one = Outgoing(queue_name="mail", wire=encode_reference("00000000-0000-4000-8000-000000000000"))
            publisher = publisher_for(BackendOptions.parse({{"broker": {url!r}}}))
            """
        )
        + textwrap.dedent(body),
    ]


def test_a_process_says_goodbye_at_its_end(private_rabbitmq: RabbitMQServer) -> None:
    done = subprocess.run(
        program(private_rabbitmq.url(), "assert publisher.publish([one]) == [True]"),
        stderr=subprocess.PIPE,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "closed unexpectedly" not in private_rabbitmq.log.read_text().rpartition("started")[2]
    wait_until(lambda: connections(private_rabbitmq) == 0, what="the end of the connection")


def test_the_end_of_a_process_does_not_wait_for_a_frozen_broker(private_rabbitmq: RabbitMQServer) -> None:
    child = subprocess.Popen(
        program(
            private_rabbitmq.url(),
            """
            assert publisher.publish([one]) == [True]
            print("published", flush=True)
            sys.stdin.readline()
            """,
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        assert child.stdout.readline() == b"published\n"
        private_rabbitmq.freeze()
        try:
            child.stdin.write(b"\n")
            child.stdin.close()
            assert seconds(lambda: child.wait(10)) < SLOW
        finally:
            private_rabbitmq.thaw()
    assert child.returncode == 0


def test_a_process_publishes_while_it_ends(amqp_url: str) -> None:
    body = """
    import atexit
    atexit.register(lambda: print(publisher.publish([one])))
    """
    done = subprocess.run(program(amqp_url, body), stdout=subprocess.PIPE, timeout=20, check=True)
    assert done.stdout == b"[True]\n"


def test_nothing_else_keeps_a_process_alive_while_the_broker_is_down() -> None:
    done = subprocess.run(
        program("amqp://127.0.0.1:1//", "assert publisher.publish([one]) == [False]"),
        stderr=subprocess.PIPE,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0


# Redis


def test_redis_takes_single_messages_and_bursts(opened: Opener, redis_url: str, rng: random.Random) -> None:
    publisher = opened(redis_url)
    sent = message(rng)

    assert publisher.publish([sent]) == [True]
    (found,) = received(redis_url, "mail", 1)
    assert found.body == sent.wire.body
    assert found.properties["content_type"] == "application/json"
    assert all(publisher.publish([message(rng) for _ in range(3_000)]))
    assert depth(redis_url, "mail") == 3_000


def test_redis_keeps_the_order_of_priorities(opened: Opener, redis_url: str, rng: random.Random) -> None:
    publisher = opened(redis_url)
    low, middle, high = (message(rng, priority=priority) for priority in (-100, 0, 100))
    publisher.publish([low, middle, high])
    assert [each.body for each in received(redis_url, "mail", 3)] == [
        high.wire.body,
        middle.wire.body,
        low.wire.body,
    ]


def test_redis_wiped_routes_through_exchanges_again(opened: Opener, redis_db: int, rng: random.Random) -> None:
    broker = shared_broker("redis")
    publisher = opened(
        broker.url(redis_db),
        exchanges={"shop": {"type": "topic"}},
        queues={"mail": {"exchange": "shop", "routing_key": "mail.new"}},
    )
    assert publisher.publish([message(rng)]) == [True]
    broker.flushdb(redis_db)

    assert publisher.publish([message(rng)]) == [True]
    assert depth(broker.url(redis_db), "mail") == 1


def test_redis_restarted_while_nobody_looked(
    opened: Opener, private_redis: RedisServer, rng: random.Random, log: pytest.LogCaptureFixture
) -> None:
    publisher = opened(private_redis.url())
    publisher.publish([message(rng)])
    private_redis.restart()
    assert publisher.publish([message(rng)]) == [True]
    assert actions(log) == []


def test_redis_stopped_and_started(
    opened: Opener, private_redis: RedisServer, rng: random.Random, log: pytest.LogCaptureFixture
) -> None:
    publisher = opened(private_redis.url())
    publisher.publish([message(rng)])
    private_redis.kill()

    assert seconds(lambda: publisher.publish([message(rng)])) < SLOW
    assert not publisher.is_up
    private_redis.start()
    wait_until(lambda: publisher.is_up, BACK, what="the publisher's return")

    assert publisher.publish([message(rng)]) == [True]
    assert actions(log) == ["broker_down", "broker_up"]


@pytest.mark.timing
def test_redis_frozen_costs_a_second_once(opened: Opener, private_redis: RedisServer, rng: random.Random) -> None:
    publisher = opened(private_redis.url())
    publisher.publish([message(rng)])
    private_redis.freeze()
    try:
        assert seconds(lambda: publisher.publish([message(rng)])) < SLOW
        assert seconds(lambda: publisher.publish([message(rng)])) < 0.1
    finally:
        private_redis.thaw()
    wait_until(lambda: publisher.is_up, BACK, what="the publisher's return")
    assert publisher.publish([message(rng)]) == [True]


def test_redis_short_of_memory_is_not_taken_for_a_good_one(
    opened: Opener, private_redis: RedisServer, rng: random.Random, log: pytest.LogCaptureFixture
) -> None:
    publisher = opened(private_redis.url())
    publisher.publish([message(rng)])
    private_redis.command("CONFIG", "SET", "maxmemory", "1")

    assert publisher.publish([message(rng)]) == [False]
    let_pass(2)
    assert actions(log) == ["broker_down"]
    private_redis.command("CONFIG", "SET", "maxmemory", "0")
    wait_until(lambda: publisher.is_up, BACK, what="the publisher's return")
    assert publisher.publish([message(rng)]) == [True]


def test_a_key_of_another_type_harms_no_other_queue(
    opened: Opener, redis_db: int, rng: random.Random, log: pytest.LogCaptureFixture
) -> None:
    broker = shared_broker("redis")
    broker.command("SET", "taken", "by somebody", db=redis_db)
    publisher = opened(broker.url(redis_db))

    assert publisher.publish([message(rng), message(rng, "taken"), message(rng)]) == [True, False, True]
    assert publisher.publish([message(rng, "taken")]) == [False]

    assert publisher.is_up
    assert actions(log) == ["message_refused"]


def test_fifty_reconnects_to_redis_leave_nothing_behind(
    opened: Opener, private_redis: RedisServer, rng: random.Random
) -> None:
    publisher = opened(private_redis.url())
    assert publisher.publish([message(rng)]) == [True]
    before = descriptors(), threading.active_count()
    for _ in range(50):
        private_redis.command("CLIENT", "KILL", "TYPE", "normal")
        assert publisher.publish([message(rng)]) == [True]
    for _ in range(50):
        sender: Any = publisher._sender
        abandon(sender._connection)
        publisher._sender = None
        assert publisher.publish([message(rng)]) == [True]
    assert (descriptors(), threading.active_count()) == before
