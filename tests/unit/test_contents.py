"""Deliveries and confirms read past py-amqp, against what py-amqp makes of the same bytes."""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from amqp import spec
from amqp.basic_message import Message
from amqp.exceptions import UnexpectedFrame
from amqp.method_framing import frame_handler, frame_writer
from amqp.serialization import dumps
from amqp.transport import TCPTransport
from kombu.transport.pyamqp import Connection

from django_taskq.brokers.kombu.amqp_ear import AmqpEar
from django_taskq.brokers.kombu.amqp_sender import AmqpSender
from django_taskq.brokers.kombu.contents import read_delivery
from django_taskq.brokers.kombu.inbox import Delivery, Inbox
from django_taskq.brokers.kombu.reading import FrameReader
from django_taskq.core.topology import Topology

QUEUE = "shop"
TAG = f"taskq-{os.getpid()}-{QUEUE}"
CALL = {
    "content_type": "application/json",
    "content_encoding": "utf-8",
    "application_headers": {"lang": "py", "task": "shop.tasks.send", "argsrepr": "(...)", "taskq": '{"a":"ü"}'},
    "delivery_mode": 2,
    "correlation_id": "0198a3c5-0000-7000-8000-000000000000",
    "reply_to": "taskq.reply.1",
}
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
ALIVE = (HEARTBEAT, 0, b"")

Frame = tuple[int, int, bytes]


def method(signature: tuple[int, int], kinds: str = "", *values: Any, channel: int = 1) -> Frame:
    return METHOD, channel, struct.pack(">HH", *signature) + (dumps(kinds, values) if kinds else b"")


def delivery(
    tag: int,
    properties: dict[str, Any],
    body: bytes = b"[]",
    *,
    consumer: str = TAG,
    key: str = QUEUE,
    most: int = 9_999,
) -> list[Frame]:
    """The frames of a delivery; ``most``: bytes of its body in each."""
    written: bytes = Message("", **properties)._serialize_properties()
    frames = [
        method(spec.Basic.Deliver, "sLbss", consumer, tag, tag % 3 == 0, "", key),
        (HEADER, 1, struct.pack(">HHQ", 60, 0, len(body)) + written),
    ]
    return frames + [(BODY, 1, body[start : start + most]) for start in range(0, len(body), most)]


def as_bytes(frames: Sequence[Frame]) -> bytes:
    return b"".join(
        struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce" for kind, channel, payload in frames
    )


class Broker:
    """One end of a connection, and py-amqp at the other."""

    def __init__(self) -> None:
        here, self.there = socket.socketpair()
        here.settimeout(5.0)
        transport = TCPTransport("nowhere")
        transport.sock = here
        transport._setup_transport()
        transport.connected = True
        amqp = self.amqp = Connection("nowhere")
        amqp._transport = transport
        amqp._on_inbound_frame = frame_handler(amqp, amqp.on_inbound_method)
        amqp._frame_writer = frame_writer(amqp, transport)
        self.transport = transport

    def say(self, *frames: Frame) -> None:
        self.there.sendall(as_bytes(frames))

    def heard(self) -> bytes:
        self.there.setblocking(False)
        try:
            return self.there.recv(1024 * 1024)
        except BlockingIOError:
            return b""
        finally:
            self.there.setblocking(True)

    def close(self) -> None:
        self.there.close()
        self.transport.sock.close()


class Ear:
    """An ear that consumes from one queue. ``is_plain``: py-amqp reads all there is."""

    def __init__(self, *, is_plain: bool = False) -> None:
        broker = self.broker = Broker()
        self.inbox = Inbox(lambda: None)
        self.is_lost = False
        self.by_py_amqp = 0
        broker.say(method(spec.Channel.OpenOk, "S", ""))
        held = SimpleNamespace(connection=broker.amqp, channel=broker.amqp.channel, heartbeat_check=lambda: None)
        self.ear = AmqpEar(held, self.inbox)
        if is_plain:
            self.ear._reader = FrameReader(broker.amqp, 1, lambda *_: 0, self.ear._refuse)
        broker.say(method(spec.Basic.ConsumeOk, "s", TAG))
        self.ear.begin(QUEUE, QUEUE, self._lost)
        broker.heard()
        take_message = self.ear._take_message

        def count(queue_name: str, message: Any) -> None:
            self.by_py_amqp += 1
            take_message(queue_name, message)

        self.ear._take_message = count  # type: ignore[method-assign]

    def _lost(self) -> None:
        self.is_lost = True

    def hear(self, *frames: Frame) -> list[Delivery]:
        self.broker.say(*frames)
        self.ear.turn()
        return self.inbox.take(1_000)


@contextmanager
def an_ear(*, is_plain: bool = False) -> Iterator[Ear]:
    ear = Ear(is_plain=is_plain)
    try:
        yield ear
    finally:
        ear.broker.close()


@pytest.fixture
def ear() -> Iterator[Ear]:
    with an_ear() as opened:
        yield opened


def what_comes_of(data: Sequence[bytes], *, is_plain: bool) -> tuple[str, str, bytes, int]:
    """Deliveries, the error, what was said to the broker, and how many deliveries py-amqp has read."""
    error = ""
    with an_ear(is_plain=is_plain) as ear:
        try:
            for part in data:
                ear.broker.there.sendall(part)
                ear.ear.turn()
        except Exception as raised:  # noqa: BLE001  # the two are compared
            error = f"{type(raised).__name__}: {raised}"
        found = [
            # Not only equal: of the same types, and in the same order.
            repr([getattr(one, name) for name in Delivery.__slots__])
            for one in ear.inbox.take(1_000)
        ]
        return "\n".join(found), error, ear.broker.heard(), ear.by_py_amqp


def compare(*data: bytes) -> int:
    """Deliveries that were read past py-amqp."""
    plain, ours = what_comes_of(data, is_plain=True), what_comes_of(data, is_plain=False)
    assert ours[:3] == plain[:3]
    return plain[3] - ours[3]


# Anything


def text(chance: random.Random) -> str:
    return "".join(chance.choices("az09-ü€\U0001f600\x00\ud800", k=chance.choice((0, 1, 5, 40))))


def value(chance: random.Random, depth: int = 2) -> Any:
    makers: list[Callable[[], Any]] = [
        lambda: text(chance),
        lambda: text(chance),
        lambda: chance.randbytes(5),
        lambda: chance.choice((0, -1, 2**31 - 1, -(2**31), 2**40, True, False, None)),
        lambda: chance.choice((0.5, float("inf"), Decimal("-1.25"))),
        lambda: datetime(2024, 2, 29, 1, 2, 3, tzinfo=UTC),
    ]
    if depth:
        makers += [
            lambda: {text(chance): value(chance, depth - 1) for _ in range(3)},
            lambda: [value(chance, depth - 1) for _ in range(3)],
        ]
    return chance.choice(makers)()


def properties(chance: random.Random) -> dict[str, Any]:
    kinds: dict[str, Callable[[], Any]] = {
        "s": lambda: text(chance),
        "o": lambda: chance.randrange(256),
        "L": lambda: chance.randrange(2**64),
        "F": lambda: chance.choice(
            (
                {},
                {text(chance): text(chance) for _ in range(chance.randrange(6))},
                {text(chance): value(chance) for _ in range(chance.randrange(6))},
            )
        ),
    }
    names = [name for name, _ in Message.PROPERTIES]
    of_calls = [name for name in names if name in CALL or name == "priority"]
    given = chance.sample(*chance.choice(((names, chance.randrange(15)), (of_calls, chance.randrange(8)))))
    made = {name: kinds[kind]() for name, kind in Message.PROPERTIES if name in given}
    if "content_encoding" in made and chance.random() < 0.7:
        made["content_encoding"] = chance.choice(("utf-8", "binary", "latin-1", "utf-16", "hex", "idna", "ascii"))
    return made


def a_delivery(chance: random.Random, tag: int) -> list[Frame]:
    body = chance.choice((b"", b"[]", "ü€".encode() * 50, chance.randbytes(30), b"\xff"))
    return delivery(
        tag,
        properties(chance) if chance.random() < 0.7 else CALL,
        body,
        consumer=TAG if chance.random() < 0.9 else text(chance),
        key=QUEUE if chance.random() < 0.8 else text(chance),
        most=9_999 if chance.random() < 0.8 else 7,
    )


def in_parts(chance: random.Random, data: bytes) -> list[bytes]:
    cuts = sorted(chance.sample(range(1, len(data)), chance.choice((0, 0, 1, 3))))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def spoilt(chance: random.Random, frames: list[Frame]) -> bytes:
    """With one thing that no broker sends."""
    frames = list(frames)
    position = chance.randrange(len(frames))
    kind, channel, payload = frames[position]
    deed = chance.randrange(8)
    if deed < 3:
        changed = bytearray(payload or b"x")
        for _ in range(chance.choice((1, 1, 3))):
            changed[chance.randrange(len(changed))] = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
        frames[position] = kind, channel, bytes(changed)
    elif deed == 3:
        frames[position] = kind, channel, payload[: chance.randrange(len(payload) + 1)]
    elif deed == 4:
        frames[position] = kind, channel, payload + chance.randbytes(chance.choice((1, 4)))
    elif deed == 5:
        frames[position] = chance.choice((0, 1, 2, 3, 4, 8)), chance.choice((0, 1, 1, 2)), payload
    elif deed == 6:
        del frames[position]
    else:
        data = bytearray(as_bytes(frames))
        data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data)
    return as_bytes(frames)


@pytest.mark.parametrize("is_spoilt", [False, True], ids=["sound", "spoilt"])
def test_whatever_comes_is_read_as_py_amqp_reads_it(is_spoilt: bool) -> None:
    seed = random.randrange(10**9)
    print(f"seed {seed}")  # noqa: T201  # of a failure
    chance = random.Random(seed)
    read = 0
    for _ in range(300):
        frames: list[Frame] = []
        for tag in range(chance.randrange(1, 5)):
            frames += a_delivery(chance, tag)
            if chance.random() < 0.2:
                frames.append(ALIVE)
        data = spoilt(chance, frames) if is_spoilt else as_bytes(frames)
        read += compare(*in_parts(chance, data or as_bytes([ALIVE])))
    # The comparison says something.
    assert read > 50


# What nearly all of them look like


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"application_headers": {}},
        {"application_headers": {**CALL["application_headers"], "retries": 2, "timelimit": [None, 3.5]}},  # type: ignore[dict-item]
        {"priority": 9},
        {"content_encoding": "binary"},
    ],
    ids=["call", "no-headers", "numbers", "priority", "binary"],
)
@pytest.mark.parametrize("body", [b"[[],{},{}]", b""], ids=["body", "empty"])
def test_a_call_is_read_past_py_amqp(changes: dict[str, Any], body: bytes) -> None:
    assert compare(as_bytes(delivery(1, {**CALL, **changes}, body) + delivery(3, CALL))) == 2


@pytest.mark.parametrize("name", ["timestamp", "expiration", "message_id", "type", "user_id", "app_id", "cluster_id"])
def test_properties_that_hardly_any_message_has_are_left_to_py_amqp(name: str) -> None:
    assert compare(as_bytes(delivery(1, {**CALL, name: 5 if name == "timestamp" else "5"}))) == 0


def test_half_a_delivery_is_no_delivery() -> None:
    data = as_bytes(delivery(1, CALL))
    (size,) = struct.unpack_from(">I", data, 3)
    assert read_delivery(data, 7, 7 + size, 1) is not None
    for length in range(7 + size + 1, len(data)):
        assert read_delivery(data[:length], 7, 7 + size, 1) is None


@pytest.mark.parametrize("frame", range(3))
def test_a_frame_without_its_end_is_an_error(frame: int) -> None:
    frames = delivery(1, CALL)
    data = bytearray(as_bytes(frames))
    data[len(as_bytes(frames[: frame + 1])) - 1] = 0
    assert compare(bytes(data)) == 0


@pytest.mark.parametrize("bits", [0, 1, 2, 3, 0xFF])
def test_one_bit_says_whether_it_was_delivered_before(bits: int) -> None:
    data = bytearray(as_bytes(delivery(1, CALL)))
    data[7 + 4 + 1 + len(TAG) + 8] = bits
    assert compare(bytes(data)) == 1


def test_a_delivery_may_come_in_two_parts_cut_anywhere() -> None:
    data = as_bytes(delivery(1, CALL) + delivery(3, CALL))
    for cut in range(1, len(data), 7):
        assert compare(data[:cut], data[cut:]) >= 1


def test_deliveries_count_as_signs_of_life(ear: Ear) -> None:
    before = ear.broker.amqp.bytes_recv
    ear.hear(*delivery(1, CALL))
    assert ear.by_py_amqp == 0
    assert ear.broker.amqp.bytes_recv > before


def test_a_frame_in_the_middle_of_a_delivery_is_an_error(ear: Ear) -> None:
    ear.hear(*delivery(1, CALL)[:1])
    with pytest.raises(UnexpectedFrame):
        ear.hear(*delivery(2, CALL))


# py-amqp reads, too, when it waits for an answer


def test_what_comes_before_an_answer_is_taken(ear: Ear) -> None:
    ear.broker.say(*delivery(1, CALL), method(spec.Basic.QosOk))
    ear.ear.set_prefetch(5)
    (first,) = ear.inbox.take(9)
    (second,) = ear.hear(*delivery(1, CALL))
    assert ear.by_py_amqp == 1
    assert [getattr(first, name) for name in Delivery.__slots__] == [
        getattr(second, name) for name in Delivery.__slots__
    ]


def test_py_amqp_ends_what_was_begun_here(ear: Ear) -> None:
    frames = delivery(1, CALL)
    assert ear.hear(*frames[:2]) == []
    ear.broker.say(*frames[2:], method(spec.Basic.QosOk))
    ear.ear.set_prefetch(5)
    assert [one.tag for one in ear.inbox.take(9)] == [1]
    assert [one.tag for one in ear.hear(*delivery(2, CALL), *delivery(3, CALL))] == [2, 3]
    assert [one.tag for one in ear.hear(*delivery(4, CALL))] == [4]
    # The second, too: it could not be seen that py-amqp was through with the first.
    assert ear.by_py_amqp == 2


def test_what_py_amqp_has_begun_ends_here(ear: Ear) -> None:
    ear.broker.say(method(spec.Channel.OpenOk, "S", "", channel=2))
    other = ear.broker.amqp.channel(2)
    frames = delivery(1, CALL)
    ear.broker.say(frames[0], method(spec.Basic.QosOk, channel=2))
    other.basic_qos(0, 5, False)
    assert ear.inbox.take(9) == []
    assert [one.tag for one in ear.hear(*frames[1:], *delivery(2, CALL))] == [1, 2]
    assert ear.by_py_amqp == 1


# Queues that are not received from any more


def test_what_comes_from_a_queue_that_was_given_up_goes_back(ear: Ear) -> None:
    ear.broker.say(method(spec.Basic.CancelOk, "s", TAG))
    ear.ear.end(QUEUE)
    ear.broker.heard()
    assert ear.hear(*delivery(7, CALL)) == []
    assert ear.broker.heard() == as_bytes([method(spec.Basic.Reject, "Lb", 7, True)])


def test_a_queue_that_was_deleted_is_told_of_and_can_be_received_from_anew(ear: Ear) -> None:
    assert ear.hear(method(spec.Basic.Cancel, "sb", TAG, True)) == []
    assert ear.is_lost
    assert ear.hear(*delivery(7, CALL)) == []
    ear.broker.say(method(spec.Basic.ConsumeOk, "s", TAG))
    ear.ear.begin(QUEUE, QUEUE, lambda: None)
    assert [one.tag for one in ear.hear(*delivery(8, CALL))] == [8]


# Confirms


class Sending:
    """A sender that has sent messages 1 to 5."""

    def __init__(self) -> None:
        self.broker = Broker()
        self.broker.say(method(spec.Channel.OpenOk, "S", ""), method(spec.Confirm.SelectOk))
        self.sender = AmqpSender(SimpleNamespace(connection=self.broker.amqp), Topology(), confirm=True)
        self.letters = {tag: SimpleNamespace(is_returned=False, result=None) for tag in range(1, 6)}
        self.sender._waiting.update(self.letters)  # type: ignore[arg-type]

    def results(self, *frames: Frame) -> dict[int, bool | None]:
        self.broker.say(*frames)
        self.sender.check()
        return {tag: letter.result for tag, letter in self.letters.items() if letter.result is not None}


@pytest.fixture
def sending() -> Iterator[Sending]:
    opened = Sending()
    yield opened
    opened.broker.close()


def forbid(frame: Frame) -> bool:
    raise AssertionError(f"{frame} came to py-amqp")


def test_confirms_are_read_past_py_amqp(sending: Sending) -> None:
    sending.broker.amqp._on_inbound_frame = forbid
    assert sending.results(method(spec.Basic.Ack, "Lb", 2, False)) == {2: True}
    assert sending.results(method(spec.Basic.Nack, "Lbb", 3, False, False)) == {2: True, 3: False}
    assert sending.results(method(spec.Basic.Ack, "Lb", 4, True)) == {1: True, 2: True, 3: False, 4: True}
    assert sending.results(method(spec.Basic.Nack, "Lbb", 9, True, False))[5] is False


def test_confirms_that_py_amqp_reads_are_the_same(sending: Sending) -> None:
    sending.sender._reader = FrameReader(sending.broker.amqp, 1, lambda *_: 0)
    assert sending.results(method(spec.Basic.Ack, "Lb", 2, False)) == {2: True}
    assert sending.results(method(spec.Basic.Nack, "Lbb", 4, True, False)) == {1: False, 2: True, 3: False, 4: False}


def test_other_methods_on_a_sender_s_channel_are_py_amqp_s(sending: Sending) -> None:
    seen: list[Frame] = []

    def hear(frame: Frame) -> bool:
        seen.append(frame)
        return True

    sending.broker.amqp._on_inbound_frame = hear
    others = [
        method(spec.Basic.Ack, "Lb", 1, False, channel=2),
        (METHOD, 1, method(spec.Basic.Ack, "Lb", 1, False)[2] + b"x"),
        method((61, 80), "Lb", 1, False),
        method(spec.Basic.Deliver, "Lb", 1, False),
    ]
    assert sending.results(*others) == {}
    assert seen == others


# What cannot be read


def unreadable(name: str) -> list[Frame]:
    """A delivery with the tag 7."""
    frames = delivery(7, CALL, b"0123456789", most=4)
    if name == "a routing key that is not UTF-8":
        frames[0] = METHOD, 1, frames[0][2][: -len(QUEUE)] + b"\xff" * len(QUEUE)
        return frames
    flags, written = {
        "a property that is not UTF-8": (1 << 10, b"\x01\xff"),
        "another one that hardly anybody sets": (1 << 7, b"\x02\xc3("),
        "a moment that no calendar has": (1 << 13, b"\x00\x00\x00\x0b\x01aT" + b"\x7f" * 8),
        "a moment after all years": (1 << 13, b"\x00\x00\x00\x0b\x01aT" + struct.pack(">Q", 10**15)),
        "a table without end": (1 << 13, b"\xff\xff\xff\xff\x01a"),
    }[name]
    frames[1] = HEADER, 1, struct.pack(">HHQH", 60, 0, 10, flags) + written
    return frames


@pytest.mark.parametrize("step", [1, 50, 10_000], ids="{} bytes at once".format)
@pytest.mark.parametrize(
    "name",
    [
        "a property that is not UTF-8",
        "another one that hardly anybody sets",
        "a moment that no calendar has",
        "a moment after all years",
        "a table without end",
        "a routing key that is not UTF-8",
    ],
)
def test_what_cannot_be_read_is_set_aside_and_the_next_is_read(
    name: str, step: int, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    data = as_bytes([*delivery(6, CALL), *unreadable(name), *delivery(8, CALL), *delivery(9, CALL, b"x" * 9, most=4)])
    for start in range(0, len(data), step):
        ear.broker.there.sendall(data[start : start + step])
        ear.ear.turn()
    assert [(one.tag, one.body) for one in ear.inbox.take(9)] == [(6, "[]"), (8, "[]"), (9, "x" * 9)]
    assert ear.broker.heard() == as_bytes([method(spec.Basic.Reject, "Lb", 7, False)])
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("A message was set aside: its properties cannot be read (")
    # It is not answered again.
    ear.ear.answer([], "ack")
    assert list(ear.ear._unanswered) == [6, 8, 9]
