"""Reading from an AMQP connection: all that has arrived with one call of the socket.

py-amqp asks the socket three times for each frame, with a timeout set and taken back around it, and a delivery has
three frames: half of what receiving one costs. Each of these calls also lets other threads go first, and waits until
they let this one go on.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Any, TypeAlias

from amqp.exceptions import FrameSyntaxError, UnexpectedFrame

from .contents import tag_of
from .octets import BODY, END, FRAME, HEADER, HEARTBEAT, METHOD

#: bytes asked for at once
_SIZE = 64 * 1024
#: seconds for the rest of a TLS record that has begun to arrive
_REST = 0.01

#: Acts on a method, with all that belongs to it: ``(data, start, end)``, where it is in ``data``. Gives where the next
#: frame begins, or 0 to leave it to py-amqp, frame by frame.
Taker: TypeAlias = Callable[[bytes, int, int], int]

#: Told of a delivery that cannot be read: its tag, and why.
Refuser: TypeAlias = Callable[[int, Exception], None]

#: What py-amqp raises for properties and names that brokers let pass: texts that are not UTF-8, moments that no calendar
#: has, tables within tables without end.
_UNREADABLE = (ValueError, ArithmeticError, TypeError, LookupError, RecursionError, struct.error, FrameSyntaxError)
#: in a header, the size of the body after class and weight
_BODY_SIZE = struct.Struct(">4xQ")


class FrameReader:
    """Reads for the thread that owns the connection; py-amqp's own calls read on where it stops.

    ``take``: is asked first about the methods of ``channel``. ``refuse``: without it, what cannot be read ends the
    connection, and comes again with the next one. ``is_tls``: the socket may hold more than it tells of.
    """

    def __init__(self, amqp: Any, channel: int, take: Taker, refuse: Refuser | None = None) -> None:
        self._amqp = amqp
        self._transport = amqp.transport
        self.is_tls = is_tls(self._transport.sock)
        self._read_some = _read_record if self.is_tls else _read_now
        self._channel = channel
        self._take = take
        self._refuse = refuse
        #: the method of what py-amqp reads on that channel, and how much of the body of a refused delivery is to come
        self._method = b""
        self._refused = 0
        #: py-amqp waits for the rest of a delivery on that channel
        self._is_within = False

    def has_read_ahead(self) -> bool:
        """Whether TLS holds what the socket does not tell of."""
        sock = self._transport.sock
        return self.is_tls and sock is not None and sock.pending() > 0

    def receive(self) -> bool:
        """Take what has arrived, and act on each frame that is whole; gives whether there may be more.

        Over TLS it comes after a look whether there is anything. Raises what py-amqp raises when it reads.
        """
        transport = self._transport
        begun: bytes = transport._read_buffer  # noqa: SLF001  # what py-amqp looks at first
        if len(begun) >= FRAME.size and FRAME.unpack_from(begun)[2] > _SIZE:
            # Long bodies have a thousand such frames, which would be copied, and leave the memory in pieces.
            return self._receive_long(transport)
        news = self._read(transport.sock)
        data = begun + news
        position = taken = 0
        try:
            while len(data) - position > FRAME.size:
                kind, channel, size = FRAME.unpack_from(data, position)
                start = position + FRAME.size
                end = start + size
                if end >= len(data):
                    break
                if data[end] != END:
                    raise UnexpectedFrame(f"A frame ends with {data[end]:#04x}.")
                if kind == METHOD and channel == self._channel and not self._is_within:
                    after = self._take(data, start, end)
                    if after:
                        position = after
                        taken += 1
                        continue
                position = end + 1
                self._hand_on((kind, channel, data[start:end]))
        finally:
            transport._read_buffer = data[position:]  # noqa: SLF001  # as above
            # py-amqp counts frames, to see whether there were any.
            self._amqp.bytes_recv += taken
        return len(news) == _SIZE

    def _hand_on(self, frame: tuple[int, int, bytes]) -> None:
        """Leave a frame to py-amqp."""
        kind, channel, payload = frame
        if channel == self._channel:
            if kind == METHOD:
                self._method, self._refused = payload, 0
            elif kind == BODY and self._refused:
                self._refused = max(self._refused - len(payload), 0)
                return
        try:
            is_complete = self._amqp.on_inbound_frame(frame)
        except (OSError, *_UNREADABLE) as error:
            tag = tag_of(self._method) if channel == self._channel and kind != HEARTBEAT else None
            # Moments, too: so says the C library.
            is_unreadable = not isinstance(error, OSError) or error.errno == errno.EOVERFLOW
            if tag is None or self._refuse is None or not is_unreadable:
                raise
            # py-amqp is in the middle of it, and forgets that with a new handler alone.
            self._amqp.on_inbound_frame = self._amqp.frame_handler_cls(self._amqp, self._amqp.on_inbound_method)
            if kind == HEADER:
                (self._refused,) = _BODY_SIZE.unpack_from(payload)
            self._is_within = False
            self._refuse(tag, error)
            return
        if channel == self._channel and kind != HEARTBEAT:
            # What py-amqp reads by itself, while it waits for an answer, is not seen here. Where it ends what was begun
            # here, the next delivery is left to it without need; where it begins one, no method comes before the rest.
            self._is_within = not is_complete

    def _receive_long(self, transport: Any) -> bool:
        """Read what there is of one frame into a buffer of its size."""
        timeout = transport.sock.gettimeout()
        transport.sock.settimeout(_REST)
        try:
            frame = transport.read_frame()
        except TimeoutError:
            # It is kept there, for the next call.
            return False
        finally:
            if transport.sock is not None:
                transport.sock.settimeout(timeout)
        self._hand_on(frame)
        return True

    def _read(self, sock: Any) -> bytes:
        if sock is None:
            raise ConnectionError("the connection is closed")
        try:
            data = self._read_some(sock)
        except (BlockingIOError, TimeoutError):
            return b""
        if not data:
            raise ConnectionError("the broker closed the connection")
        return data


def is_tls(sock: Any) -> bool:
    """Whether what the socket holds is not all there is."""
    return hasattr(sock, "pending")


def _read_now(sock: Any) -> bytes:
    """With one call, which never waits. Raises ``BlockingIOError``."""
    if sock.gettimeout() is None:
        data: bytes = sock.recv(_SIZE, socket.MSG_DONTWAIT)
        return data
    # With a timeout ``recv`` asks first whether there is anything. Its descriptor does not wait.
    return os.read(sock.fileno(), _SIZE)


def _read_record(sock: Any) -> bytes:
    timeout = sock.gettimeout()
    sock.settimeout(_REST)
    try:
        data: bytes = sock.recv(_SIZE)
        return data
    finally:
        sock.settimeout(timeout)
