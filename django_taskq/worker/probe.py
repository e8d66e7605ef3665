"""A few pages over HTTP, served in between by whoever has a ``select`` loop.

Not by a thread: the supervisor forks, and a process with several threads must not. What it answers comes
from memory at hand, so that a page costs some hundred microseconds.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

logger = logging.getLogger("django_taskq.worker")

#: seconds a client may take; clients at once; bytes of a request's head
_PATIENCE, _CLIENTS, _HEAD = 5.0, 32, 8192

_PHRASES = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class Page(NamedTuple):
    """An answer."""

    status: int
    text: str
    content_type: str = "text/plain; charset=utf-8"


class _Client:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.received = b""
        self.rest = b""
        self.ends_at = time.monotonic() + _PATIENCE


class Probe:
    """Listens on ``host`` and ``port`` (0: any that is free); ``answer`` gives the page of a path.

    Raises ``OSError`` where it cannot listen.
    """

    def __init__(self, host: str, port: int, answer: Callable[[str], Page | None]) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server(
            (host, port),
            family=family,
            backlog=_CLIENTS,
            dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
        )
        self._listener.setblocking(False)
        self._answer = answer
        self._clients: dict[int, _Client] = {}
        self.host = host
        self.port: int = self._listener.getsockname()[1]

    @property
    def reads(self) -> list[int]:
        """Descriptors to watch for something to read."""
        waiting = [number for number, client in self._clients.items() if not client.rest]
        # Those that came later wait in the kernel.
        return [*waiting, *([self._listener.fileno()] if len(self._clients) < _CLIENTS else [])]

    @property
    def writes(self) -> list[int]:
        """Descriptors to watch for room to write."""
        return [number for number, client in self._clients.items() if client.rest]

    def serve(self, ready: list[int]) -> None:
        """Go on with those of the descriptors that are ready; let go of clients that take too long."""
        for number in ready:
            client = self._clients.get(number)
            if client is not None:
                self._go_on(client)
        if self._listener.fileno() in ready:
            self._accept()
        now = time.monotonic()
        for client in [client for client in self._clients.values() if client.ends_at < now]:
            self._leave(client)

    def due_in(self, now: float) -> float | None:
        """Seconds until a client takes too long."""
        return min((max(client.ends_at - now, 0.0) for client in self._clients.values()), default=None)

    def close(self) -> None:
        """Listen no more; also in a child, which has inherited the sockets."""
        self._listener.close()
        for client in list(self._clients.values()):
            self._leave(client)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            # The client is gone already, or there are no descriptors left; the next probe tries again.
            logger.debug("A probe could not be accepted: %s", error)
            return
        connection.setblocking(False)
        client = self._clients[connection.fileno()] = _Client(connection)
        # Its request is here already, as a rule.
        self._go_on(client)

    def _go_on(self, client: _Client) -> None:
        try:
            if not client.rest and not self._read(client):
                return
            client.rest = client.rest[client.connection.send(client.rest) :]
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            logger.debug("A probe went away: %s", error)
            client.rest = b""
        if not client.rest:
            self._leave(client)

    def _read(self, client: _Client) -> bool:
        """Whether there is something to send."""
        received = client.connection.recv(_HEAD)
        client.received += received
        if b"\r\n\r\n" in client.received or len(client.received) > _HEAD:
            client.rest = self._response(client.received)
            return True
        if not received:
            self._leave(client)
        return False

    def _response(self, request: bytes) -> bytes:
        words = request.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            page = Page(400, "This is not HTTP/1.1.\n")
        elif words[0] not in {"GET", "HEAD"}:
            page = Page(405, "Only GET and HEAD.\n")
        else:
            page = self._answer(words[1].split("?", 1)[0]) or Page(404, "There are /live, /ready and /metrics.\n")
        body = page.text.encode()
        head = (
            f"HTTP/1.1 {page.status} {_PHRASES[page.status]}\r\nContent-Type: {page.content_type}\r\n"
            f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (b"" if words[0] == "HEAD" else body)

    def _leave(self, client: _Client) -> None:
        self._clients.pop(client.connection.fileno(), None)
        client.connection.close()


def default_host() -> str:
    """The machine itself; inside Kubernetes, whose probes come over the network, every interface."""
    if "KUBERNETES_SERVICE_HOST" not in os.environ:
        return "127.0.0.1"
    return "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104  # a pod's own network
