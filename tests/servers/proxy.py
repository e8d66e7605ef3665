"""A network between clients and a server on loopback, to break in each way a network breaks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

_Mode: TypeAlias = Literal["forward", "stall", "swallow"]

#: Bytes taken at once, in one direction of one connection.
_CHUNK = 65536
#: Seconds within which an order is carried out, or the proxy is broken.
_PATIENCE = 10.0


class _Connection:
    """One client's connection, until both of its ends are closed."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        #: Not connected to the server before bytes may flow.
        self.server = socket.socket()
        self.server.setblocking(False)
        #: Whether bytes of it were dropped. What would follow them makes no sense to anybody, so nothing does.
        self.is_dead = False

    def reset(self) -> None:
        """End both directions at both ends."""
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.client.close()
        self.server.close()


class TCPProxy:
    """Forwards connections from its own loopback port to `target_port`, in a thread of its own.

    Every method returns when its effect is there; what is switched holds until `resume`, for open connections and
    new ones. A connection that lost something to `swallow` stays dead afterwards, as behind a firewall that has
    forgotten it. One that was held by `stall` goes on, as when a cable is plugged in again.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self._mode: _Mode = "forward"
        self._delay = 0.0
        self._connections: dict[_Connection, asyncio.Task[None]] = {}
        self._listener: socket.socket | None = None
        self._loop = asyncio.new_event_loop()
        # Python's development mode would have it log every step that takes long, on machines that are busy.
        self._loop.set_debug(False)
        self._may_flow = asyncio.Event()
        self._may_flow.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._do(self._listen())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def swallow(self) -> None:
        """Accept and keep connections, but drop all bytes and closings in both directions: half-open."""
        self._do(self._switch("swallow"))

    def stall(self) -> None:
        """Accept and keep connections, but hold all bytes and closings back until `resume`."""
        self._do(self._switch("stall"))

    def refuse(self) -> None:
        """Refuse new connections; those that are open stay as they are."""
        self._do(self._unlisten())

    def delay(self, seconds: float) -> None:
        """Pass every chunk of up to 64 KiB on this much later, one after another."""
        self._delay = seconds

    def resume(self) -> None:
        """Accept and forward again, at once."""
        self._delay = 0.0
        self._do(self._switch("forward"))
        self._do(self._listen())

    def cut(self) -> None:
        """Close all connections at both ends; new ones are treated as before."""
        self._do(self._cut())

    def close(self) -> None:
        """Free the port, close all connections and end the thread. Does nothing the second time."""
        if self._loop.is_closed():
            return
        self._do(self._unlisten())
        self._do(self._cut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, order: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(order, self._loop).result(_PATIENCE)

    # In the proxy's own thread

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
            self._listener.setblocking(False)
            self.port = self._listener.getsockname()[1]
            self._loop.add_reader(self._listener, self._accept, self._listener)

    async def _unlisten(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def _switch(self, mode: _Mode) -> None:
        self._mode = mode
        if mode == "stall":
            self._may_flow.clear()
        else:
            self._may_flow.set()

    async def _cut(self) -> None:
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            # It has gone away already.
            return
        client.setblocking(False)
        connection = _Connection(client)
        task = self._loop.create_task(self._serve(connection))
        self._connections[connection] = task
        task.add_done_callback(lambda _: self._drop(connection))

    def _drop(self, connection: _Connection) -> None:
        connection.close()
        del self._connections[connection]

    async def _serve(self, connection: _Connection) -> None:
        """Move bytes between the client and the server until both have closed."""
        await self._may_flow.wait()
        if self._mode == "swallow":
            connection.is_dead = True
            await self._move(connection, connection.client, connection.server)
            return
        try:
            await self._loop.sock_connect(connection.server, ("127.0.0.1", self.target_port))
        except OSError:
            return
        await asyncio.gather(
            self._move(connection, connection.client, connection.server),
            self._move(connection, connection.server, connection.client),
        )

    async def _move(self, connection: _Connection, source: socket.socket, target: socket.socket) -> None:
        """Move bytes in one direction, and the end of them."""
        data = b"any"
        while data:
            try:
                data = await self._loop.sock_recv(source, _CHUNK)
            except OSError:
                if await self._passes(connection):
                    connection.reset()
                return
            if not await self._passes(connection):
                continue
            try:
                if data:
                    await self._loop.sock_sendall(target, data)
                else:
                    target.shutdown(socket.SHUT_WR)
            except OSError:
                connection.reset()
                return

    async def _passes(self, connection: _Connection) -> bool:
        """Wait as long as the network holds things back; tell whether it lets them through then."""
        if self._delay:
            await asyncio.sleep(self._delay)
        await self._may_flow.wait()
        if self._mode == "swallow":
            connection.is_dead = True
        return not connection.is_dead
