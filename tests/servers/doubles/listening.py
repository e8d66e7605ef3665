"""How every double listens."""

from __future__ import annotations

import socket
import socketserver
import sys


class Listener(socketserver.ThreadingTCPServer):
    """A thread for each connection. No name is looked up: loopback may have none."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept, without the delay that answers in two pieces would have."""
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that go in the middle of something; else as the base."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # what the base gave


class Conversation(socketserver.StreamRequestHandler):
    """One connection of a binary protocol: ``answer_one`` until the client goes."""

    wbufsize = -1

    def handle(self) -> None:
        """Answer for as long as there is somebody to answer to."""
        try:
            while True:
                self.answer_one()
                self.wfile.flush()
        except (EOFError, OSError):
            return

    def answer_one(self) -> None:
        """Read one request and write the answer. Raises ``EOFError`` when there is none."""
        raise NotImplementedError

    def read(self, size: int) -> bytes:
        """Exactly so many bytes."""
        data: bytes = self.rfile.read(size)
        if len(data) < size:
            raise EOFError
        return data

    @property
    def own_port(self) -> int:
        """The port that the client came to."""
        port: int = self.connection.getsockname()[1]
        return port


def serve(handler: type[socketserver.BaseRequestHandler]) -> None:
    """Listen on a free port of the loopback interface, print it, and serve for ever."""
    with Listener(("127.0.0.1", 0), handler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
