"""Who leads, who waits, who tries again: the publisher over connections that do as they are told."""

from __future__ import annotations

import logging
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from amqp.basic_message import Message
from amqp.serialization import loads

from django_taskq.brokers.kombu import publisher as module
from django_taskq.brokers.kombu.amqp_sender import Blocked
from django_taskq.brokers.kombu.frames import Unsendable, frames, properties_of, publish_method
from django_taskq.brokers.kombu.publisher import Outgoing, Publisher, publisher_for
from django_taskq.brokers.kombu.sender import Deadline, Letter, Refused
from django_taskq.conf import BackendOptions
from django_taskq.core.wire import Wire, encode_reference
from tests.waiting import LATE, wait_until


def message(body: bytes = b"{}", queue_name: str = "mail") -> Outgoing:
    return Outgoing(queue_name=queue_name, wire=Wire(body=body, headers={}, properties={}))


class Obedient:
    """A connection that does as it is told. ``before``: called with each send's letters, may raise or wait."""

    def __init__(self, before: Callable[[Sequence[Letter]], None] = lambda letters: None) -> None:
        self.before = before
        self.used_at = time.monotonic()
        self.sends: list[list[bytes]] = []
        self.ended: list[str] = []
        self.last: list[Letter] = []
        self.is_closed_by_peer = False
        self.proves: Callable[[], None] = lambda: None

    def check(self) -> None:
        if self.is_closed_by_peer:
            raise OSError("closed")

    def send(self, letters: Sequence[Letter], deadline: Deadline) -> None:
        self.last = list(letters)
        self.sends.append([letter.wire.body for letter in letters])
        self.before(letters)
        for letter in letters:
            letter.result = True

    def unsettled(self) -> list[Letter]:
        return [letter for letter in self.last if letter.result is None]

    def prove(self, stop: threading.Event) -> None:
        self.proves()

    def close(self, timeout: float) -> None:
        self.ended.append("closed")

    def abandon(self) -> None:
        self.ended.append("abandoned")


class Told(Publisher):
    """A publisher that is given its connections. ``opens``: makes the next one, or raises."""

    def __init__(self, opens: Callable[[], Obedient] | None = None) -> None:
        self.opened: list[Obedient] = []
        self._make = opens or Obedient
        super().__init__(BackendOptions.parse({"broker": "memory://"}))

    def _open(self) -> Any:
        self.opened.append(self._make())
        return self.opened[-1]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "_BACKOFF", 0.01)
    monkeypatch.setattr(module, "_BACKOFF_MAX", 0.05)
    # Publishers of other tests, whose brokers are gone, go on trying to reach them.
    others = connecting()
    yield
    wait_until(lambda: not connecting() - others, what="the end of the threads that connect")


def connecting() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "taskq-publisher"}


def in_threads(count: int, work: Callable[[], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def actions(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [getattr(record, "action", "") for record in caplog.records]


# Rounds


def test_what_comes_while_one_waits_goes_out_together() -> None:
    go_on = threading.Event()
    publisher = Told(lambda: Obedient(lambda letters: None if letters[0].wire.body != b"first" else wait(go_on)))
    results: list[bool] = []
    first = in_threads(1, lambda: results.extend(publisher.publish([message(b"first")])))
    wait_until(lambda: publisher.opened and publisher.opened[0].sends, what="the first round")

    others = in_threads(20, lambda: results.extend(publisher.publish([message()])))
    wait_until(lambda: len(publisher._waiting) == 20, what="the others")
    go_on.set()
    for thread in (*first, *others):
        thread.join(10)

    assert results == [True] * 21
    assert [len(send) for send in publisher.opened[0].sends] == [1, 20]
    assert not publisher.is_in_use
    publisher.close()


def wait(event: threading.Event) -> None:
    assert event.wait(10)


def test_a_leader_that_fails_sends_everybody_home() -> None:
    go_on = threading.Event()

    def fail(letters: Sequence[Letter]) -> None:
        wait(go_on)
        raise OSError("gone")

    def refuse() -> Obedient:
        if publisher.opened:
            raise OSError("no connection")
        return Obedient(fail)

    publisher = Told()
    publisher._make = refuse
    results: list[bool] = []
    threads = in_threads(10, lambda: results.extend(publisher.publish([message()])))
    wait_until(lambda: len(publisher._waiting) == 9, what="the followers")
    go_on.set()
    for thread in threads:
        thread.join(10)

    assert results == [False] * 10
    assert publisher.opened[0].ended == ["abandoned"]
    publisher.close()


class EvenOnly(Obedient):
    """Takes messages with even numbers."""

    def send(self, letters: Sequence[Letter], deadline: Deadline) -> None:
        for letter in letters:
            letter.result = int(letter.wire.body) % 2 == 0


def test_many_threads_get_their_own_results() -> None:
    publisher = Told(EvenOnly)
    numbers = iter(range(4_000))
    right: list[bool] = []

    def work() -> None:
        right.extend(publisher.publish([message(b"%d" % number)]) == [number % 2 == 0] for number in numbers)

    for thread in in_threads(1, work) + in_threads(7, lambda: publisher.publish([message(b"2")] * 50)):
        thread.join(20)
    assert right == [True] * 4_000
    publisher.close()


def test_a_thread_stopped_by_force_hands_over() -> None:
    class Stopped(BaseException):
        pass

    go_on = threading.Event()

    def stop(letters: Sequence[Letter]) -> None:
        if letters[0].wire.body == b"first":
            wait(go_on)
            raise Stopped

    publisher = Told(lambda: Obedient(stop))
    stopped: list[bool] = []
    results: list[bool] = []

    def lead() -> None:
        try:
            publisher.publish([message(b"first")])
        except Stopped:
            stopped.append(True)

    first = in_threads(1, lead)
    wait_until(lambda: publisher.opened and publisher.opened[0].sends, what="the first round")
    others = in_threads(5, lambda: results.extend(publisher.publish([message()])))
    wait_until(lambda: len(publisher._waiting) == 5, what="the others")
    go_on.set()
    for thread in (*first, *others):
        thread.join(10)

    assert stopped == [True]
    assert results == [True] * 5
    assert publisher.opened[0].ended == ["abandoned"], "half a message may be on its way"
    assert len(publisher.opened) == 2
    publisher.close()


def test_a_signal_that_publishes_in_the_middle_of_a_round_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    # What it would wait for itself.
    monkeypatch.setattr(module, "_PICKUP", 20.0)
    inner: list[list[bool]] = []
    publisher = Told(lambda: Obedient(lambda letters: inner.append(publisher.publish([message()]))))

    began = time.monotonic()
    assert publisher.publish([message()]) == [True]

    assert inner == [[False]]
    assert time.monotonic() - began < LATE
    publisher.close()


def test_nobody_waits_for_ever_behind_a_round_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PICKUP", 0.05)
    go_on = threading.Event()
    publisher = Told(lambda: Obedient(lambda letters: wait(go_on)))
    threads = in_threads(1, lambda: publisher.publish([message()]))
    wait_until(lambda: publisher.opened and publisher.opened[0].sends, what="the first round")

    assert publisher.publish([message()]) == [False]

    assert not publisher._waiting
    go_on.set()
    threads[0].join(10)
    publisher.close()


def test_the_lead_of_a_thread_that_is_no_more_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PICKUP", 0.05)
    monkeypatch.setattr(module, "_STALE", 0.0)
    publisher = Told()
    assert publisher.publish([message()]) == [True]
    publisher._leader = module._Ticket([])

    assert publisher.publish([message()]) == [True]

    assert publisher.opened[0].ended == ["abandoned"]
    assert publisher._leader is None
    publisher.close()


def test_a_long_burst_goes_out_in_rounds() -> None:
    publisher = Told()
    assert all(publisher.publish([message()] * 5_000))
    assert [len(send) for send in publisher.opened[0].sends] == [2_000, 2_000, 1_000]
    publisher.close()


# Trouble


def test_a_connection_closed_meanwhile_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    publisher = Told()
    publisher.publish([message()])
    publisher.opened[0].is_closed_by_peer = True

    assert publisher.publish([message()]) == [True]

    assert publisher.opened[0].ended == ["abandoned"]
    assert len(publisher.opened[1].sends) == 1
    assert actions(caplog) == []
    publisher.close()


def test_a_round_that_fails_is_repeated_on_another_connection(caplog: pytest.LogCaptureFixture) -> None:
    def fail_once(letters: Sequence[Letter]) -> None:
        if len(publisher.opened) == 1:
            raise OSError("gone")

    publisher = Told(lambda: Obedient(fail_once))

    assert publisher.publish([message(), message()]) == [True, True]

    assert actions(caplog) == []
    publisher.close()


def test_down_and_up_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    is_there = threading.Event()

    def opens() -> Obedient:
        if not is_there.is_set():
            raise OSError("refused")
        return Obedient()

    publisher = Told()
    publisher._make = opens
    assert publisher.publish([message()]) == [False]
    assert not publisher.is_up
    assert publisher.publish([message()]) == [False]
    is_there.set()
    wait_until(lambda: publisher.is_up, what="its return")

    assert publisher.publish([message()]) == [True]
    assert actions(caplog) == ["broker_down", "broker_up"]
    publisher.close()


def test_a_broker_that_accepts_connections_but_no_messages_stays_down() -> None:
    proofs: list[int] = []
    is_well = threading.Event()

    def prove() -> None:
        proofs.append(1)
        if not is_well.is_set():
            raise TimeoutError("no confirm")

    def fail(letters: Sequence[Letter]) -> None:
        if not is_well.is_set():
            raise OSError("gone")

    def opens() -> Obedient:
        made = Obedient(fail)
        made.proves = prove
        return made

    publisher = Told(opens)
    assert publisher.publish([message()]) == [False]
    wait_until(lambda: len(proofs) > 3, what="proofs that fail")
    assert not publisher.is_up
    is_well.set()
    wait_until(lambda: publisher.is_up, what="its return")
    assert publisher.publish([message()]) == [True]
    assert {each.ended == ["abandoned"] for each in publisher.opened[:-1]} == {True}
    publisher.close()


def test_a_blocked_connection_is_kept_until_it_is_free() -> None:
    is_free = threading.Event()

    def block(letters: Sequence[Letter]) -> None:
        if not is_free.is_set():
            raise Blocked("short of memory")

    def opens() -> Obedient:
        made = Obedient(block)
        made.proves = lambda: wait(is_free)
        return made

    publisher = Told(opens)
    assert publisher.publish([message()]) == [False]
    is_free.set()
    wait_until(lambda: publisher.is_up, what="its return")
    assert publisher.publish([message()]) == [True]
    assert len(publisher.opened) == 1
    publisher.close()


def test_whatever_a_client_library_raises_is_trouble(caplog: pytest.LogCaptureFixture) -> None:
    def opens() -> Obedient:
        raise ZeroDivisionError("a bug in a client library")

    publisher = Told(opens)
    assert publisher.publish([message()]) == [False]
    assert actions(caplog) == ["broker_down"]
    publisher.close()


def test_where_no_thread_can_be_started_it_connects_in_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    publisher = Told()
    assert publisher.publish([message()]) == [True]

    def opens() -> Obedient:
        raise OSError("refused")

    other = Told(opens)
    assert other.publish([message()]) == [False]
    assert other.publish([message()]) == [False]
    publisher.close()
    other.close()


def test_what_the_broker_refuses_is_found_and_the_rest_goes_out(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(letters: Sequence[Letter]) -> None:
        for letter in letters:
            if letter.wire.body == b"bad":
                raise Refused("541 INTERNAL_ERROR")
            letter.result = True

    publisher = Told(lambda: Obedient(refuse))
    bodies = [b"bad" if number in {3, 7} else b"good" for number in range(10)]

    results = publisher.publish([message(body) for body in bodies])
    again = publisher.publish([message(b"bad")])

    assert results == [body == b"good" for body in bodies]
    assert again == [False]
    assert publisher.is_up
    assert actions(caplog) == ["message_refused"], "one line in a while"
    assert "541" in caplog.text
    publisher.close()


def test_many_refused_messages_end_in_time() -> None:
    def refuse(letters: Sequence[Letter]) -> None:
        raise Refused("no")

    publisher = Told(lambda: Obedient(refuse))
    assert publisher.publish([message()] * 1_000) == [False] * 1_000
    assert len(publisher.opened) < 20
    publisher.close()


# Processes


def test_a_child_forgets_the_connection_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = Told()
    publisher.publish([message()])
    publisher._leader = module._Ticket([])
    publisher._mutex.acquire()
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)

    assert publisher.publish([message()]) == [True]

    assert publisher.opened[0].ended == ["abandoned"]
    assert len(publisher.opened) == 2
    publisher.close()


def test_a_closed_publisher_opens_again() -> None:
    publisher = Told()
    publisher.publish([message()])
    publisher.close()
    publisher.close()
    assert publisher.opened[0].ended == ["closed"]
    assert publisher.publish([message()]) == [True]
    publisher.close()


def test_closing_ends_the_tries_to_connect() -> None:
    def opens() -> Obedient:
        raise OSError("refused")

    publisher = Told(opens)
    publisher.publish([message()])
    publisher.close()
    assert publisher.is_up


def options(broker: str = "memory://", **given: Any) -> BackendOptions:
    return BackendOptions.parse({"broker": broker, **given})


@pytest.fixture
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_by_options", {})


@pytest.mark.usefixtures("_registry")
def test_aliases_with_the_same_broker_share_a_publisher() -> None:
    first = publisher_for(options())
    assert publisher_for(options()) is first
    assert publisher_for(options(lease=60)) is first
    assert publisher_for(options(confirm=False)) is not first
    assert publisher_for(options(persistent=False)) is not first
    assert publisher_for(options(queues={"mail": {}})) is not first
    assert publisher_for(options(broker_options={"x": 1})) is not first
    assert publisher_for(options("redis://localhost/0")) is not first


@pytest.mark.usefixtures("_registry")
def test_publishers_are_bounded_and_none_in_use_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_PUBLISHERS", 3)
    busy = publisher_for(options("redis://localhost/0"))
    busy._leader = module._Ticket([])
    for number in range(1, 10):
        publisher_for(options(f"redis://localhost/{number}"))
    assert len(module._by_options) == 3
    assert publisher_for(options("redis://localhost/0")) is busy


def test_memory_works_in_one_process() -> None:
    publisher = publisher_for(options())
    assert publisher.publish([Outgoing(queue_name="unit", wire=encode_reference("x"))] * 3) == [True] * 3
    publisher.close()


# Deadlines


def test_a_deadline_moves_on_with_progress_and_ends_at_its_limit() -> None:
    deadline = Deadline(0.2, 0.3)
    assert 0.1 < deadline.remaining() <= 0.2
    wait_until(lambda: deadline.remaining() < 0.05)
    deadline.progress()
    assert 0.05 < deadline.remaining() <= 0.16
    wait_until(lambda: deadline.remaining() < 0)
    deadline.progress()
    assert deadline.remaining() < 0
    assert deadline.within(1.0).remaining() <= 0


def test_a_part_of_a_deadline_is_no_longer_than_the_whole() -> None:
    deadline = Deadline(0.5, 1.0)
    assert deadline.within(0.1).remaining() <= 0.1
    assert deadline.within(10.0).remaining() <= 0.5


# Frames


def read(data: bytes) -> tuple[list[int], list[Any], Any]:
    """The kinds of the frames, the arguments of the method, and the message, as py-amqp reads them."""
    factory: Any = Message
    position, kinds, arguments, parsed = 0, [], [], factory()
    while position < len(data):
        kind, channel, size = struct.unpack_from(">BHI", data, position)
        payload = data[position + 7 : position + 7 + size]
        assert (channel, data[position + 7 + size]) == (1, 0xCE)
        position += size + 8
        kinds.append(kind)
        if kind == 1:
            assert struct.unpack_from(">HH", payload) == (60, 40)
            arguments, _ = loads("Bssbb", payload, 4)
        elif kind == 2:
            parsed.inbound_header(payload)
        else:
            parsed.inbound_body(payload)
    assert parsed.ready
    return kinds, arguments, parsed


def whole(body: bytes, frame_max: int, headers: dict[str, Any] | None = None, **properties: Any) -> bytes:
    method = publish_method("shop", "mail", True)
    return frames(method, properties_of(properties, headers or {}, 2, 5), body, frame_max)


@pytest.mark.parametrize("size", [0, 1, 4_087, 4_088, 4_089, 8_176, 10_000])
def test_frames_are_read_by_py_amqp_as_they_were_meant(size: int) -> None:
    body = os.urandom(size)

    kinds, arguments, parsed = read(
        whole(body, 4_096, {"id": "x", "n": [1, None]}, content_type="application/json", correlation_id="c")
    )

    assert kinds[:2] == [1, 2]
    assert len(kinds) == 2 + -(-size // 4_088)
    assert arguments == [0, "shop", "mail", True, False]
    assert parsed.body == body if size else parsed.body_size == 0
    assert parsed.properties == {
        "content_type": "application/json",
        "application_headers": {"id": "x", "n": [1, None]},
        "delivery_mode": 2,
        "priority": 5,
        "correlation_id": "c",
    }


def test_what_many_messages_have_in_common_is_made_once_and_right() -> None:
    for kind in ("application/json", "text/plain", "application/json"):
        *_, parsed = read(whole(b"{}", 4_096, content_type=kind, content_encoding="utf-8"))
        assert parsed.properties == {
            "content_type": kind,
            "content_encoding": "utf-8",
            "delivery_mode": 2,
            "priority": 5,
        }


def test_properties_of_the_message_come_before_those_of_its_queue() -> None:
    *_, parsed = read(whole(b"{}", 4_096, delivery_mode=1))
    assert parsed.properties["delivery_mode"] == 1


def test_headers_over_a_frame_cannot_be_sent() -> None:
    with pytest.raises(Unsendable, match="headers take"):
        whole(b"", 4_096, {"errors": "e" * 4_096})
