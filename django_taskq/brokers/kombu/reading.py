"""Reading from an AMQP connection: all that has arrived with one call of the socket.

py-amqp asks the socket three times for each frame, with a timeout set and taken back around it, and a delivery has
three frames: half of what receiving one costs. Each of these calls also lets other threads go first, and waits until
they let this one go on.
"""

from __future__ import annotations

import os
import socket
from struct import Struct
from typing import Any

from amqp.exceptions import UnexpectedFrame

#: bytes asked for at once
_SIZE = 64 * 1024
#: seconds for the rest of a TLS record that has begun to arrive
_REST = 0.01
#: a frame's type, channel and size (AMQP 0-9-1, section 4.2.3), and the octet after its payload
_HEAD, _END = Struct(">BHI"), 0xCE


class FrameReader:
    """Reads for the thread that owns the connection; py-amqp's own calls read on where it stops."""

    def __init__(self, amqp: Any) -> None:
        self._amqp = amqp

    def receive(self) -> bool:
        """Take what has arrived, and act on each frame that is whole; gives whether there may be more.

        Over TLS it comes after a look whether there is anything. Raises what py-amqp raises when it reads.
        """
        transport = self._amqp.transport
        begun: bytes = transport._read_buffer  # noqa: SLF001  # what py-amqp looks at first
        if len(begun) >= _HEAD.size and _HEAD.unpack_from(begun)[2] > _SIZE:
            # Long bodies have a thousand such frames, which would be copied, and leave the memory in pieces.
            return self._receive_long(transport)
        news = self._read(transport.sock)
        data = begun + news
        position = 0
        try:
            while len(data) - position > _HEAD.size:
                kind, channel, size = _HEAD.unpack_from(data, position)
                start = position + _HEAD.size
                end = start + size
                if end >= len(data):
                    break
                if data[end] != _END:
                    raise UnexpectedFrame(f"A frame ends with {data[end]:#04x}.")
                position = end + 1
                self._amqp.on_inbound_frame((kind, channel, data[start:end]))
        finally:
            transport._read_buffer = data[position:]  # noqa: SLF001  # as above
        return len(news) == _SIZE

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
        self._amqp.on_inbound_frame(frame)
        return True

    def _read(self, sock: Any) -> bytes:
        if sock is None:
            raise ConnectionError("the connection is closed")
        try:
            data = _read_record(sock) if is_tls(sock) else _read_now(sock)
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
