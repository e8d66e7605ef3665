"""Messages as the frames of AMQP, against what py-amqp writes and reads."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
from amqp.basic_message import Message
from amqp.serialization import dumps

from django_taskq.brokers.kombu import frames
from django_taskq.brokers.kombu.frames import properties_of
from django_taskq.brokers.kombu.reading import FrameReader, is_tls

PROPERTIES = {
    "content_type": "application/json",
    "content_encoding": "utf-8",
    "correlation_id": "0198a3c5-0000-7000-8000-000000000000",
    "reply_to": "taskq.reply.ü",
}
TEXTS = {"lang": "py", "task": "shop.tasks.send", "argsrepr": "(...)", "größe": "", "odd": "\ud800\U0001f600"}
OURS = b"ours"
FRAME = struct.pack(">BHI", 8, 0, 0) + b"\xce"


def as_py_amqp_writes(given: dict[str, Any]) -> bytes:
    flags, kinds, values = 0, "", []
    for position, (name, kind) in enumerate(Message.PROPERTIES):
        if given.get(name) is not None:
            flags |= 1 << (15 - position)
            kinds += kind
            values.append(given[name])
    return struct.pack(">H", flags) + bytes(dumps(kinds, values))


@pytest.mark.parametrize(
    "headers",
    [TEXTS, {**TEXTS, "retries": 2, "timelimit": [None, 3.5]}, {"headers": {"traceparent": "00"}}, {}],
    ids=["texts", "numbers", "nested", "none"],
)
@pytest.mark.parametrize(
    "properties", [PROPERTIES, {**PROPERTIES, "reply_to": "", "priority": 9}], ids=["call", "more"]
)
def test_properties_are_written_as_py_amqp_writes_them(headers: dict[str, Any], properties: dict[str, Any]) -> None:
    expected = {"delivery_mode": 2, **properties, **({"application_headers": headers} if headers else {})}
    assert properties_of(properties, headers, 2, None) == as_py_amqp_writes(expected)


@pytest.mark.parametrize("headers", [TEXTS, {}], ids=["headers", "none"])
def test_what_messages_share_is_not_taken_for_what_they_do_not(headers: dict[str, Any]) -> None:
    for correlation_id, reply_to, delivery_mode, priority in product(
        (None, "", "one", "two"), (None, "a", "b"), (1, 2), (None, 0, 9)
    ):
        given = {**PROPERTIES, "correlation_id": correlation_id, "reply_to": reply_to}
        for properties in (given, {name: value for name, value in given.items() if value is not None}):
            expected = {"delivery_mode": delivery_mode, "priority": priority, **properties}
            assert properties_of(properties, headers, delivery_mode, priority) == as_py_amqp_writes(
                {**expected, **({"application_headers": headers} if headers else {})}
            )


def test_what_messages_share_is_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_SHARED", {})
    monkeypatch.setattr(frames, "_MAX_SHARED", 3)
    for number in range(10):
        properties = {**PROPERTIES, "reply_to": str(number)}
        assert properties_of(properties, {}, 1, None) == as_py_amqp_writes({"delivery_mode": 1, **properties})
        assert len(frames._SHARED) <= 3


@pytest.mark.parametrize("name", ["reply_to", "correlation_id"])
def test_texts_that_are_too_long_are_refused(name: str) -> None:
    with pytest.raises(struct.error):
        properties_of({**PROPERTIES, name: "x" * 256}, {}, 2, None)


@pytest.mark.parametrize("headers", [{"x" * 256: "text"}, {"task": object()}], ids=["name", "value"])
def test_what_amqp_has_no_way_to_write_is_refused(headers: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"255|Table type"):
        properties_of(PROPERTIES, headers, 2, None)


class Reading:
    """A reader at one end of a connection, and the other end."""

    def __init__(self, timeout: float | None) -> None:
        self.here, self.there = socket.socketpair()
        self.here.settimeout(timeout)
        self.transport = SimpleNamespace(sock=self.here, _read_buffer=b"")
        self.frames: list[Any] = []
        self.taken: list[bytes] = []
        amqp = SimpleNamespace(transport=self.transport, on_inbound_frame=self._hear, bytes_recv=0)
        self.reader = FrameReader(amqp, 1, self._take)

    def _hear(self, frame: Any) -> bool:
        self.frames.append(frame)
        return True

    def _take(self, data: bytes, start: int, end: int) -> int:
        self.taken.append(data[start:end])
        return end + 1 if data[start:end] == OURS else 0

    def close(self) -> None:
        self.here.close()
        self.there.close()


@pytest.fixture(params=[None, 5.0], ids=["blocking", "timeout"])
def reading(request: pytest.FixtureRequest) -> Any:
    opened = Reading(request.param)
    yield opened
    opened.close()


def test_a_reader_does_not_wait(reading: Reading) -> None:
    began = time.monotonic()
    assert not reading.reader.receive()
    assert time.monotonic() - began < 1.0
    assert reading.frames == []


def test_a_reader_takes_what_is_whole_and_keeps_the_rest(reading: Reading) -> None:
    reading.there.sendall(FRAME * 3 + FRAME[:4])
    assert not reading.reader.receive()
    assert len(reading.frames) == 3
    reading.there.sendall(FRAME[4:])
    reading.reader.receive()
    assert reading.frames == [(8, 0, b"")] * 4
    assert reading.transport._read_buffer == b""


def test_a_reader_asks_first_about_the_methods_of_one_channel(reading: Reading) -> None:
    methods = [(1, 1, OURS), (1, 2, OURS), (1, 1, b"other"), (2, 1, OURS), (1, 1, OURS)]
    reading.there.sendall(
        b"".join(struct.pack(">BHI", kind, channel, len(of)) + of + b"\xce" for kind, channel, of in methods)
    )
    reading.reader.receive()
    assert reading.taken == [OURS, b"other", OURS]
    assert reading.frames == methods[1:4]


def test_a_reader_says_when_there_may_be_more(reading: Reading) -> None:
    reading.there.sendall(FRAME * (64 * 1024 // len(FRAME)))
    assert reading.reader.receive()
    assert not reading.reader.receive()
    assert len(reading.frames) == 64 * 1024 // len(FRAME)


def test_the_end_of_a_connection_is_an_error(reading: Reading) -> None:
    reading.there.close()
    with pytest.raises(ConnectionError):
        reading.reader.receive()
    reading.transport.sock = None
    with pytest.raises(ConnectionError):
        reading.reader.receive()


def test_tls_is_told_from_a_plain_socket(reading: Reading) -> None:
    assert not is_tls(reading.here)
    context = ssl.create_default_context()
    with context.wrap_socket(socket.socket(), server_hostname="localhost") as secure:
        assert is_tls(secure)
