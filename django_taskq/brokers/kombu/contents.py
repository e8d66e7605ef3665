"""A delivery, read from its frames in one go (AMQP 0-9-1, sections 2.3.5.2 and 4.2.6).

py-amqp takes it through a message object, two closures and a dozen calls: 163,000 instructions, and this is 59,000.
Only what nearly all deliveries look like is read here. Everything else is py-amqp's, and so are all errors: what is
given here is what it would have given.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from amqp.serialization import loads

from .octets import BASIC, BODY, END, FRAME, HEADER

_DELIVER = bytes((0, BASIC, 0, 60))
#: the frame of a header: also the class, the size of the body and the flags
_HEADER_FRAME = Struct(">BHIHxxQH")
#: a delivery's tag, and whether it was delivered before
_TAG = Struct(">QB")
_LONG = Struct(">I")
#: in a table, the type and size of a text
_ENTRY, _TEXT = Struct(">BI"), ord("S")

#: the flags of properties, in their order
_TYPE, _ENCODING, _HEADERS, _MODE, _PRIORITY, _CORRELATION, _REPLY_TO = (1 << bit for bit in range(15, 8, -1))
#: those of properties that hardly any message has
_UNUSUAL = 0x01FF


def tag_of(method: bytes) -> int | None:
    """The tag of the delivery that begins with this method; None when it is another one."""
    if method[:4] != _DELIVER:
        return None
    (tag, _) = _TAG.unpack_from(method, 5 + method[4])
    return int(tag)


def read_delivery(
    data: bytes, start: int, end: int, channel: int
) -> tuple[bytes, int, bool, dict[str, Any], bytes | str, int] | None:
    """The delivery whose method is in ``data`` from ``start`` to ``end``, where it is whole and in no way unusual.

    Gives the consumer's tag, its own, whether it comes again, its properties, its body ("" for none, as py-amqp has it)
    and where the next frame begins. ``channel``: the one on which it came.
    """
    if data[start : start + 4] != _DELIVER:
        return None
    try:
        names = start + 5 + data[start + 4]
        consumer = data[start + 5 : names]
        tag, bits = _TAG.unpack_from(data, names)
        names += _TAG.size
        kind, number, size, class_id, body_size, flags = _HEADER_FRAME.unpack_from(data, end + 1)
        header_end = end + 1 + FRAME.size + size
        if (
            # Exchange and routing key are of no interest, but must be texts.
            end - names != 2 + data[names] + data[names + 1 + data[names]]
            or not data[names:end].isascii()
            or (kind, number, class_id, data[header_end]) != (HEADER, channel, BASIC, END)
            or flags & _UNUSUAL
        ):
            return None
        properties, properties_end = _properties(data, end + 1 + _HEADER_FRAME.size, flags)
        if properties_end != header_end:
            return None
        body: bytes | str = ""
        after = header_end + 1
        if body_size:
            kind, number, size = FRAME.unpack_from(data, after)
            begin = after + FRAME.size
            after = begin + size + 1
            if (kind, number, size, data[after - 1]) != (BODY, channel, body_size, END):
                return None
            body = data[begin : after - 1]
            if flags & _ENCODING:
                body = _decoded(body, properties["content_encoding"])
    except Exception:  # noqa: BLE001  # py-amqp says what is wrong with it, or waits for the rest
        return None
    return consumer, tag, bits & 1 == 1, properties, body, after


def _properties(data: bytes, at: int, flags: int) -> tuple[dict[str, Any], int]:
    """The properties from ``at`` on, and where they end. Raises for what cannot be read."""
    properties: dict[str, Any] = {}
    # Not in a loop over names and kinds, nor with a function for texts: that takes twice as long.
    if flags & _TYPE:
        start, at = at + 1, at + 1 + data[at]
        properties["content_type"] = data[start:at].decode()
    if flags & _ENCODING:
        start, at = at + 1, at + 1 + data[at]
        properties["content_encoding"] = data[start:at].decode()
    if flags & _HEADERS:
        properties["application_headers"], at = _table(data, at)
    if flags & _MODE:
        properties["delivery_mode"] = data[at]
        at += 1
    if flags & _PRIORITY:
        properties["priority"] = data[at]
        at += 1
    if flags & _CORRELATION:
        start, at = at + 1, at + 1 + data[at]
        properties["correlation_id"] = data[start:at].decode()
    if flags & _REPLY_TO:
        start, at = at + 1, at + 1 + data[at]
        properties["reply_to"] = data[start:at].decode()
    return properties, at


def _table(data: bytes, at: int) -> tuple[dict[str, Any], int]:
    """A field table (section 4.2.5.5), and where it ends. In nearly all of ours there is nothing but text."""
    (size,) = _LONG.unpack_from(data, at)
    begin, at = at, at + _LONG.size
    limit = at + size
    read_entry = _ENTRY.unpack_from
    table = {}
    while at < limit:
        name_end = at + 1 + data[at]
        kind, size = read_entry(data, name_end)
        if kind != _TEXT:
            (others,), at = loads("F", data, begin)
            return others, at
        end = name_end + 5 + size
        table[data[at + 1 : name_end].decode()] = data[name_end + 5 : end].decode()
        at = end
    return table, at


def _decoded(body: bytes, encoding: str) -> bytes | str:
    """As py-amqp does it, which decodes what it can."""
    try:
        return body.decode(encoding)
    except Exception:  # noqa: BLE001  # the encoding is anything that somebody put there
        return body
