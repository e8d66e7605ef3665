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

#: the channel that a sender publishes on
CHANNEL = 1

_METHOD, _HEADER, _BODY = 1, 2, 3
_BASIC, _PUBLISH = 60, 40
_FRAME = Struct(">BHI")
_OCTET, _LONG = Struct("B"), Struct(">I")
_END = b"\xce"
#: bytes of a frame around its payload
OVERHEAD = _FRAME.size + len(_END)

#: property: (bit in the flags, how it is written), in the order of the flags (section 1.8.1, and RabbitMQ's errata)
_PROPERTIES = tuple((name, 1 << (15 - position), kind) for position, (name, kind) in enumerate(Message.PROPERTIES))

#: what a message with these properties has in its header after the size of its body
_HEADERS: dict[tuple[Any, ...], bytes] = {}
_MAX_HEADERS = 1_000


class Unsendable(ValueError):
    """No broker can be given this message."""


def publish_method(exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """The frame that says where a message goes. Raises ``struct.error`` for names over 255 bytes."""
    arguments = dumps("Bssbb", (0, exchange, routing_key, mandatory, False))
    return _frame(_METHOD, pack(">HH", _BASIC, _PUBLISH) + arguments)


def properties_of(
    properties: Mapping[str, Any], headers: Mapping[str, Any], delivery_mode: int, priority: int | None
) -> bytes:
    """The flags and values of a message's properties; what ``properties`` says comes first.

    Raises ``struct.error`` and other errors of their kind for what AMQP has no way to write.
    """
    if headers or len(properties) > 2:
        return _properties({"delivery_mode": delivery_mode, "priority": priority, **properties}, headers)
    key = (delivery_mode, priority, *properties.items())
    known = _HEADERS.get(key)
    if known is None:
        known = _properties({"delivery_mode": delivery_mode, "priority": priority, **properties}, headers)
        if len(_HEADERS) >= _MAX_HEADERS:
            _HEADERS.clear()
        _HEADERS[key] = known
    return known


def frames(method: bytes, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """The whole message. Raises ``Unsendable`` when its headers fill more than one frame: only bodies may."""
    most = frame_max - OVERHEAD
    header = pack(">HHQ", _BASIC, 0, len(body)) + properties
    if len(header) > most:
        raise Unsendable(f"its headers take {len(header)} bytes; the broker takes {most}")
    parts = [method, _FRAME.pack(_HEADER, CHANNEL, len(header)), header, _END]
    if len(body) <= most:
        if body:
            parts += (_FRAME.pack(_BODY, CHANNEL, len(body)), body, _END)
    else:
        parts += (_frame(_BODY, body[start : start + most]) for start in range(0, len(body), most))
    return b"".join(parts)


def _frame(kind: int, payload: bytes) -> bytes:
    return b"".join((_FRAME.pack(kind, CHANNEL, len(payload)), payload, _END))


def _properties(properties: Mapping[str, Any], headers: Mapping[str, Any]) -> bytes:
    given = {**properties, "application_headers": headers} if headers else properties
    flags, parts = 0, [b""]
    for name, bit, kind in _PROPERTIES:
        value = given.get(name)
        if value is None:
            continue
        flags |= bit
        if kind == "s" and type(value) is str:
            text = value.encode("utf-8", "surrogatepass")
            parts += (_OCTET.pack(len(text)), text)
        else:
            parts.append(_table(value) if kind == "F" else dumps(kind, (value,)))
    parts[0] = pack(">H", flags)
    return b"".join(parts)


def _table(table: Mapping[str, Any]) -> bytes:
    """A field table (section 4.2.5.5). In nearly all of ours there is nothing but text."""
    parts: list[bytes] = []
    for name, value in table.items():
        if type(value) is not str:
            written: bytes = dumps("F", (table,))
            return written
        text = value.encode("utf-8", "surrogatepass")
        parts += (_text_named(name), _LONG.pack(len(text)), text)
    data = b"".join(parts)
    return _LONG.pack(len(data)) + data


@lru_cache(maxsize=256)
def _text_named(name: str) -> bytes:
    """What stands before a text in a table."""
    written = name.encode("utf-8", "surrogatepass")
    return _OCTET.pack(len(written)) + written + b"S"
