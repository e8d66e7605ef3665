"""Reading many messages of a Redis queue at once, in a layout that any kombu understands."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import kombu
import pytest

from django_taskq.brokers.kombu.redis_bulk import RedisBulk
from tests.waiting import LATE, wait_until

# It knows nothing of databases: once is enough.
pytestmark = [pytest.mark.once, pytest.mark.databases("sqlite")]

VISIBLE = 1


@pytest.fixture(params=["", "shop:"])
def connect(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Callable[..., Any]]:
    """Return a function that connects, with a prefix for all keys or without."""
    opened: list[Any] = []

    def make(**options: Any) -> Any:
        given = {"global_keyprefix": request.param, "visibility_timeout": VISIBLE, **options}
        connection: Any = kombu.Connection(redis_url, transport_options=given)
        opened.append(connection)
        return connection

    yield make
    for connection in opened:
        connection.release()


@pytest.fixture
def channel(connect: Callable[..., Any]) -> Any:
    return connect().channel()


@pytest.fixture
def bulk(channel: Any) -> RedisBulk:
    return RedisBulk(channel)


def publish(connection: Any, queue_name: str, body: str, priority: int = 0) -> None:
    connection.Producer(auto_declare=False).publish(body, routing_key=queue_name, priority=priority, serializer="json")


def take(bulk: RedisBulk, channel: Any, *names: str, limit: int = 100, now: float | None = None) -> dict[str, str]:
    """Return bodies by their tags, in the order in which they came."""
    found = {}
    for queue_name, item in bulk.take(names, limit, time.time() if now is None else now):
        assert queue_name in names
        message = channel.Message(json.loads(item), channel=channel)
        bulk.hold(message.delivery_tag)
        found[message.delivery_tag] = message.decode()
    return found


def drain(connection: Any, queue_name: str, count: int) -> list[str]:
    """Let kombu's own consumer take messages, restore what was not acked, and ack all it gets."""
    got: list[str] = []

    def note(body: Any, message: Any) -> None:
        got.append(body)
        message.ack()

    with connection.Consumer([kombu.Queue(queue_name, no_declare=True)], callbacks=[note]):

        def enough() -> bool:
            try:
                connection.drain_events(timeout=0.05)
            except TimeoutError:
                return False
            return len(got) >= count

        wait_until(enough, 15.0, what=f"{count} messages")
    return got


def test_priorities_come_first_over_all_queues_then_the_oldest(
    connect: Callable[..., Any], channel: Any, bulk: RedisBulk
) -> None:
    connection = connect()
    for number in range(2):
        for queue_name in ("one", "other"):
            for priority in (9, 0, 3, 6):
                publish(connection, queue_name, f"{priority} {queue_name} {number}", priority)
    got = list(take(bulk, channel, "one", "other", limit=11).values())
    # kombu's Redis transport has four steps, and 0 is the first.
    assert [text[0] for text in got] == list("00003333666")
    assert [text for text in got if text[:5] == "0 one"] == ["0 one 0", "0 one 1"]
    assert len(take(bulk, channel, "one", "other", limit=100)) == 5
    assert take(bulk, channel, "one", "other", "none") == {}


def test_what_is_acked_is_gone(connect: Callable[..., Any], channel: Any, bulk: RedisBulk) -> None:
    connection = connect()
    for number in range(5):
        publish(connection, "one", str(number))
    tags = list(take(bulk, channel, "one", limit=3))
    assert bulk.ack([*tags, "another's"]) == ["another's"]
    assert channel.client.hlen("unacked") == 0
    assert drain(connect(), "one", 2) == ["3", "4"]


def test_what_is_given_back_comes_first_and_says_so(connect: Callable[..., Any], channel: Any, bulk: RedisBulk) -> None:
    connection = connect()
    for number in range(3):
        publish(connection, "one", str(number))
    tags = list(take(bulk, channel, "one", limit=2))
    assert not bulk.requeue("another's")
    for tag in reversed(tags):
        assert bulk.requeue(tag)
    ((_, item), *_) = bulk.take(["one"], 1, time.time())
    message = channel.Message(json.loads(item), channel=channel)
    assert (message.decode(), message.headers["redelivered"]) == ("0", True)
    assert list(take(bulk, channel, "one").values()) == ["1", "2"]


def test_kombu_restores_what_was_taken_and_never_acked(
    connect: Callable[..., Any], channel: Any, bulk: RedisBulk
) -> None:
    connection = connect()
    for number in range(3):
        publish(connection, "one", str(number), priority=6)
    assert len(take(bulk, channel, "one", now=time.time() - VISIBLE)) == 3
    assert sorted(drain(connect(), "one", 3)) == ["0", "1", "2"]
    assert channel.client.hlen("unacked") == 0


def test_what_kombu_never_acked_comes_to_us(connect: Callable[..., Any], channel: Any, bulk: RedisBulk) -> None:
    connection = connect()
    publish(connection, "one", "0")
    got: list[Any] = []
    theirs = connect()
    with theirs.Consumer([kombu.Queue("one", no_declare=True)], on_message=got.append):
        wait_until(lambda: theirs.drain_events(timeout=5) or got, what="the message")
        # It dies without a word.
        theirs.transport.cycle.close()
    time_of_restore = time.time() + VISIBLE
    wait_until(lambda: time.time() > time_of_restore, what="the timeout")
    channel.qos.restore_visible(interval=1)
    assert list(take(bulk, channel, "one").values()) == ["0"]


def test_scripts_may_be_forgotten(connect: Callable[..., Any], channel: Any, bulk: RedisBulk) -> None:
    connection = connect()
    for number in range(2):
        publish(connection, "one", str(number))
        channel.client.script_flush()
        assert list(take(bulk, channel, "one").values()) == [str(number)]


def test_a_wait_can_be_ended_at_once_and_loses_nothing(
    connect: Callable[..., Any], channel: Any, bulk: RedisBulk
) -> None:
    got: list[Any] = []
    channel.basic_consume("one", False, got.append, "tag")
    poller = channel.connection.cycle
    poller.on_poll_start()
    assert channel._in_poll
    began = time.monotonic()
    bulk.interrupt()
    assert time.monotonic() - began < LATE
    assert not channel._in_poll
    bulk.interrupt()
    # And with a message that was on its way already.
    poller.on_poll_start()
    publish(connect(), "one", "0")
    bulk.interrupt()
    assert len(got) == 1 or list(take(bulk, channel, "one").values()) == ["0"]
