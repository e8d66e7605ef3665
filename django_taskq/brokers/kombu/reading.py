"""Reading from an AMQP connection: all that has arrived with one call of the socket.

py-amqp asks the socket three times for each frame, with a timeout set and taken back around it, and a delivery has
three frames: half of what receiving one costs.
"""

from __future__ import annotations

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

    def receive(self) -> None:
        """Take what has arrived, and act on each frame that is whole. Comes after a look whether there is anything.

        Raises what py-amqp raises when it reads.
        """
        transport = self._amqp.transport
        begun: bytes = transport._read_buffer  # noqa: SLF001  # what py-amqp looks at first
        if len(begun) >= _HEAD.size and _HEAD.unpack_from(begun)[2] > _SIZE:
            # Long bodies have a thousand such frames, which would be copied, and leave the memory in pieces.
            self._receive_long(transport)
            return
        data = begun + self._read(transport.sock)
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

    def _receive_long(self, transport: Any) -> None:
        """Read what there is of one frame into a buffer of its size."""
        timeout = transport.sock.gettimeout()
        transport.sock.settimeout(_REST)
        try:
            frame = transport.read_frame()
        except TimeoutError:
            # It is kept there, for the next call.
            return
        finally:
            if transport.sock is not None:
                transport.sock.settimeout(timeout)
        self._amqp.on_inbound_frame(frame)

    @staticmethod
    def _read(sock: Any) -> bytes:
        timeout = sock.gettimeout()
        sock.settimeout(_REST)
        try:
            data: bytes = sock.recv(_SIZE)
        except TimeoutError:
            return b""
        finally:
            sock.settimeout(timeout)
        if not data:
            raise ConnectionError("the broker closed the connection")
        return data
