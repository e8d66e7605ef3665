"""Publishing without waiting, against real servers: told of once each, lost never, and not twice for nothing."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator

import pytest

from django_taskq.brokers.kombu.outgoing import Outgoing
from django_taskq.brokers.kombu.publisher import Publisher
from django_taskq.conf import BackendOptions
from tests.integration.test_publisher import connect, depth, message
from tests.servers import TCPProxy, shared_broker
from tests.waiting import wait_until

pytestmark = [pytest.mark.once, pytest.mark.databases("sqlite")]

Opener = Callable[..., Publisher]


class Told:
    """Notes what it is told of posted messages."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_number: dict[int, list[bool]] = {}

    def of(self, number: int) -> Callable[[list[bool]], None]:
        def done(taken: list[bool]) -> None:
            with self.lock:
                self.by_number.setdefault(number, []).extend(taken)

        return done

    def wait_for(self, count: int, deadline: float = 30.0) -> list[bool]:
        """Wait until so many are told of; return what was said of all, each told of once."""
        wait_until(lambda: len(self.by_number) >= count, deadline, what=f"{count} to be told of")
        assert all(len(said) == 1 for said in self.by_number.values())
        return [said[0] for said in self.by_number.values()]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Publishers that are closed when the test is over."""
    publishers: list[Publisher] = []

    def build(url: str) -> Publisher:
        publishers.append(Publisher(BackendOptions.parse({"broker": url})))
        return publishers[-1]

    yield build
    for each in publishers:
        each.close()


def post(publisher: Publisher, told: Told, messages: list[Outgoing], first: int = 0) -> None:
    for number, one in enumerate(messages, first):
        publisher.post([one], told.of(number))


def ids(url: str, queue_name: str = "mail") -> list[bytes]:
    """Take all there is in a queue; return the bodies."""
    bodies = []
    with connect(url) as connection:
        channel = connection.default_channel
        while (found := channel.basic_get(queue_name, no_ack=True)) is not None:
            bodies.append(found.body.encode() if isinstance(found.body, str) else bytes(found.body))
    return bodies


@pytest.mark.parametrize("kind", ["amqp", "redis"])
def test_what_is_posted_arrives_and_is_told_of(
    kind: str, opened: Opener, request: pytest.FixtureRequest, rng: random.Random
) -> None:
    url = request.getfixturevalue(f"{kind}_url")
    publisher, told = opened(url), Told()
    post(publisher, told, [message(rng) for _ in range(200)])
    assert all(told.wait_for(200))
    wait_until(lambda: depth(url, "mail") == 200, what="all to be in the queue")


def test_many_threads_post(opened: Opener, amqp_url: str, rng: random.Random) -> None:
    publisher, told = opened(amqp_url), Told()
    assert publisher.publish([message(rng)]) == [True]
    bursts = [[message(rng) for _ in range(100)] for _ in range(8)]
    threads = [
        threading.Thread(target=post, args=(publisher, told, burst, index * 100)) for index, burst in enumerate(bursts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(told.wait_for(800))
    assert len(ids(amqp_url)) == 801


def test_who_closes_waits_for_what_was_posted_and_posts_nothing_twice(
    opened: Opener, amqp_url: str, rng: random.Random
) -> None:
    publisher, told = opened(amqp_url), Told()
    assert publisher.publish([message(rng)]) == [True]
    messages = [message(rng) for _ in range(300)]
    post(publisher, told, messages)
    publisher.close()
    assert told.wait_for(300, 1.0) == [True] * 300
    bodies = ids(amqp_url)
    assert len(bodies) == len(set(bodies)) == 301


def test_a_cut_loses_nothing_of_what_was_posted(opened: Opener, amqp_url: str, rng: random.Random) -> None:
    server = shared_broker("amqp")
    with TCPProxy(server.port) as proxy:
        publisher, told = opened(amqp_url.replace(f":{server.port}/", f":{proxy.port}/")), Told()
        assert publisher.publish([message(rng, "warm")]) == [True]
        messages = [message(rng) for _ in range(400)]
        post(publisher, told, messages[:200])
        proxy.cut()
        post(publisher, told, messages[200:], 200)
        told.wait_for(400)
        # A connection may be cut before it is one: what is told of as not taken is its sender's again.
        taken = {one.wire.body for number, one in enumerate(messages) if told.by_number[number] == [True]}
        assert taken <= set(ids(amqp_url))
        assert len(taken) >= 200


def test_a_broker_that_is_away_is_told_of(opened: Opener, amqp_url: str, rng: random.Random) -> None:
    server = shared_broker("amqp")
    with TCPProxy(server.port) as proxy:
        publisher, told = opened(amqp_url.replace(f":{server.port}/", f":{proxy.port}/")), Told()
        assert publisher.publish([message(rng)]) == [True]
        proxy.swallow()
        post(publisher, told, [message(rng) for _ in range(20)])
        assert not any(told.wait_for(20, 10.0))
        proxy.refuse()
        proxy.cut()
        # Known to be down: who posts hears so at once, in the same thread.
        wait_until(lambda: not publisher.is_up, what="the breaker")
        late = Told()
        post(publisher, late, [message(rng)])
        assert late.by_number == {0: [False]}
        proxy.resume()
        wait_until(lambda: publisher.is_up, what="the broker to be back")
        again = Told()
        post(publisher, again, [message(rng)])
        assert all(again.wait_for(1))


def test_a_queue_deleted_meanwhile_is_made_again(opened: Opener, amqp_url: str, rng: random.Random) -> None:
    publisher, told = opened(amqp_url), Told()
    assert publisher.publish([message(rng)]) == [True]
    with connect(amqp_url) as connection:
        connection.default_channel.queue_delete("mail")
    post(publisher, told, [message(rng) for _ in range(10)])
    assert all(told.wait_for(10))
    wait_until(lambda: depth(amqp_url, "mail") == 10, what="all to be in the queue")
