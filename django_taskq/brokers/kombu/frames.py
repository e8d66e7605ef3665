"""A message as the frames of AMQP 0-9-1 (section 4.2): made once, in the thread that publishes it.

py-amqp packs the frames of each message anew into one buffer and hands that to the socket. Made here, many messages
go out in one write, what cannot be sent is known before a byte of it is on its way, and the half that is the same in
all messages of a kind is made once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from struct import Struct, pack
from typing import Any

from amqp.basic_message import Message
from amqp.serialization import dumps

from .octets import BASIC, BODY, END, FRAME, HEADER, METHOD

#: the channel that a sender publishes on
CHANNEL = 1

_PUBLISH = 40
#: the frame of a header: class, weight and size of the body before the properties
_HEADER_FRAME = Struct(">BHIHHQ")
_CONTENT_SIZE = _HEADER_FRAME.size - FRAME.size
_OCTET, _LONG = Struct("B"), Struct(">I")
_END = bytes((END,))
#: bytes of a frame around its payload
OVERHEAD = FRAME.size + len(_END)

#: property: (bit in the flags, how it is written), in the order of the flags (section 1.8.1, and RabbitMQ's errata)
_PROPERTIES = tuple((name, 1 << (15 - position), kind) for position, (name, kind) in enumerate(Message.PROPERTIES))

#: what is nearly always another one in each message
_OWN = ("application_headers", "correlation_id")
#: what messages with the same other properties share: what stands before the headers, before the correlation id, and
#: after it
_SHARED: dict[tuple[Any, ...], tuple[bytes, bytes, bytes]] = {}
_MAX_SHARED = 1_000


class Unsendable(ValueError):
    """No broker can be given this message."""


def publish_method(exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """The frame that says where a message goes. Raises ``struct.error`` for names over 255 bytes."""
    arguments = dumps("Bssbb", (0, exchange, routing_key, mandatory, False))
    return _frame(METHOD, pack(">HH", BASIC, _PUBLISH) + arguments)


def properties_of(
    properties: Mapping[str, Any], headers: Mapping[str, Any], delivery_mode: int, priority: int | None
) -> bytes:
    """The flags and values of a message's properties; what ``properties`` says comes first.

    Raises ``struct.error`` and other errors of their kind for what AMQP has no way to write.
    """
    others = dict(properties)
    correlation_id = others.pop("correlation_id", None)
    # Not to write anew what hardly ever changes saves half of the instructions for a call, and two thirds for a reply.
    key = (delivery_mode, priority, not headers, correlation_id is None, *others.items())
    shared = _SHARED.get(key)
    if shared is None:
        given = {"delivery_mode": delivery_mode, "priority": priority, **properties}
        shared = _shared({**given, "application_headers": headers or None})
        if len(_SHARED) >= _MAX_SHARED:
            # Names of reply queues never end.
            _SHARED.clear()
        _SHARED[key] = shared
    before, between, after = shared
    table = _table(headers) if headers else b""
    if correlation_id is None:
        return b"".join((before, table, between, after))
    return b"".join((before, table, between, _short(correlation_id), after))


def frames(method: bytes, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """The whole message. Raises ``Unsendable`` when its headers fill more than one frame: only bodies may."""
    most = frame_max - OVERHEAD
    size = _CONTENT_SIZE + len(properties)
    if size > most:
        raise Unsendable(f"its headers take {size} bytes; the broker takes {most}")
    header = _HEADER_FRAME.pack(HEADER, CHANNEL, size, BASIC, 0, len(body))
    if not body:
        return b"".join((method, header, properties, _END))
    if len(body) <= most:
        return b"".join((method, header, properties, _END, FRAME.pack(BODY, CHANNEL, len(body)), body, _END))
    bodies = (_frame(BODY, body[start : start + most]) for start in range(0, len(body), most))
    return b"".join((method, header, properties, _END, *bodies))


def _frame(kind: int, payload: bytes) -> bytes:
    return b"".join((FRAME.pack(kind, CHANNEL, len(payload)), payload, _END))


def _shared(properties: Mapping[str, Any]) -> tuple[bytes, bytes, bytes]:
    """See ``_SHARED``; the flags are at the beginning."""
    flags, parts = 0, [b""]
    for name, bit, kind in _PROPERTIES:
        value = properties.get(name)
        flags |= 0 if value is None else bit
        if name in _OWN:
            parts.append(b"")
        elif value is not None:
            parts[-1] += dumps(kind, (value,))
    before, between, after = parts
    return pack(">H", flags) + before, between, after


def _short(text: str) -> bytes:
    written = text.encode("utf-8", "surrogatepass")
    return _OCTET.pack(len(written)) + written


def _table(table: Mapping[str, Any]) -> bytes:
    """A field table (section 4.2.5.5). In nearly all of ours there is nothing but text."""
    parts: list[bytes] = []
    add = parts.append
    for name, value in table.items():
        if type(value) is not str:
            written: bytes = dumps("F", (table,))
            return written
        text = value.encode("utf-8", "surrogatepass")
        add(_before_text(name, len(text)))
        add(text)
    data = b"".join(parts)
    return _LONG.pack(len(data)) + data


@lru_cache(maxsize=1_024)
def _before_text(name: str, size: int) -> bytes:
    """What stands before a text in a table."""
    return _short(name) + b"S" + _LONG.pack(size)
