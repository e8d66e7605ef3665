"""Memcached: items that expire, of 1 MB each, so larger values are several."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final, TypeVar

from pymemcache.client.base import PooledClient
from pymemcache.client.rendezvous import RendezvousHash
from pymemcache.exceptions import MemcacheUnexpectedCloseError

from .. import chunks
from ..address import only_known
from ..keyvalue import CONNECT_TIMEOUT, OPERATION_TIMEOUT, KeyValueStore, StoreConfigError

#: seconds: a longer expiry is read as an instant since 1970 (memcached, doc/protocol.txt, "Expiration times")
_LONGEST_RELATIVE: Final = 30 * 24 * 60 * 60
#: an instant after this one does not fit the protocol; then it stays
_LAST_INSTANT: Final = 2**31 - 1
#: seconds by which its clock, which ticks once a second, may be late
_TICK: Final = 1
#: Celery's names of one thing, with and without ``cache+``
_SCHEMES: Final = ("memcached", "memcache", "pymemcache", "pylibmc")
_OPTIONS: Final = (
    *("chunk_size", "connect_timeout", "max_pool_size", "pool_idle_timeout", "socket_keepalive"),
    *("timeout", "tls_context"),
)

T = TypeVar("T")


class MemcachedStore(KeyValueStore):
    """Results in memcached.

    ``cache+memcached://host:port[;host:port…]/`` as in Celery, or ``memcached://…``; a path, ``/run/memcached.sock``,
    names a socket. With several servers a key belongs to one of them, found by rendezvous hashing: a server that is down
    makes its keys fail rather than move, because a reader who sees it up again would look for them there.

    Options: ``connect_timeout`` (2 s), ``timeout`` (5 s), ``max_pool_size`` (32 connections to each server),
    ``pool_idle_timeout``, ``socket_keepalive``, ``tls_context``: pymemcache's. ``chunk_size``: bytes of
    a chunk, 1,000,000; lower for servers with a lower ``-I``.

    Memcached expires values itself, to the second, and evicts the least recently used ones when it is full: results
    there are as good as its memory. Chunks of what was overwritten or deleted stay until then. It has no passwords that
    the client could give.
    """

    expires: ClassVar[bool] = True
    #: half of what a server has by default for everything (``-m 64``): a larger value would evict itself
    max_size: ClassVar[int | None] = 32 * 1024 * 1024

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        only_known(options, _OPTIONS, store="Memcached")
        arguments: dict[str, Any] = {
            "connect_timeout": CONNECT_TIMEOUT,
            "timeout": OPERATION_TIMEOUT,
            "max_pool_size": 32,
            **options,
            "no_delay": True,
            # Without an answer a value that was not stored would look as if it were.
            "default_noreply": False,
        }
        self._chunk_size: int = arguments.pop("chunk_size", chunks.CHUNK_SIZE)
        self._servers = {server: _Server(server, arguments) for server in _read(url)}
        self._ring = RendezvousHash(nodes=list(self._servers))

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """Chunks first: whoever sees the head finds them."""
        head, parts = chunks.split(key, value, self._chunk_size)
        for name, part in parts.items():
            self._set(name, part, ttl)
        self._set(key, head, ttl)

    def get(self, key: str) -> bytes | None:
        """One get, or one more for all chunks on a server."""
        head: bytes | None = self._server(key).run(lambda client: client.get(key))
        return chunks.join(key, head, self._get_many)

    def delete(self, key: str) -> None:
        """Delete the head; nobody finds chunks without it."""
        self._server(key).run(lambda client: client.delete(key))

    def close(self) -> None:
        """Close idle connections; what is in use goes with its call."""
        for server in self._servers.values():
            server.clear()

    def _set(self, key: str, value: bytes, ttl: float | None) -> None:
        expire = _expire(ttl)
        # Raises for what the server refuses: "object too large for cache", "out of memory storing object".
        self._server(key).run(lambda client: client.set(key, value, expire=expire))

    def _get_many(self, names: Iterable[str]) -> Mapping[str, bytes]:
        by_server: dict[_Server, list[str]] = {}
        for name in names:
            by_server.setdefault(self._server(name), []).append(name)
        found: dict[str, bytes] = {}
        for server, here in by_server.items():
            found |= server.run(lambda client, here=here: client.get_many(here))  # type: ignore[misc]  # mypy #12557
        return found

    def _server(self, key: str) -> _Server:
        return self._servers[self._ring.get_node(key)]


class _Server:
    """Connections to one server, bounded."""

    def __init__(self, address: str, arguments: Mapping[str, Any]) -> None:
        self._client = PooledClient(address, **arguments)
        # The pool itself raises at its limit, where others would wait.
        self._slots = threading.BoundedSemaphore(arguments["max_pool_size"])

    def run(self, action: Callable[[PooledClient], T]) -> T:
        """The action, once more if a connection turns out to be broken: the server may have been restarted since."""
        with self._slot():
            try:
                return action(self._client)
            except (ConnectionError, MemcacheUnexpectedCloseError):
                self.clear()
                return action(self._client)

    def clear(self) -> None:
        """Close the connections nobody uses."""
        # Not the pool's ``clear``, which closes under the hands of those who use them, too.
        pool = self._client.client_pool
        with contextlib.suppress(IndexError):
            while True:
                pool._free_objs.popleft().close()  # noqa: SLF001

    @contextlib.contextmanager
    def _slot(self) -> Iterator[None]:
        if not self._slots.acquire(timeout=OPERATION_TIMEOUT):
            raise TimeoutError("Memcached: all connections are in use; raise max_pool_size.")
        try:
            yield
        finally:
            self._slots.release()


def _read(url: str) -> list[str]:
    scheme, _, rest = url.removeprefix("cache+").partition("://")
    if scheme not in _SCHEMES:
        raise StoreConfigError(f"Memcached: write cache+memcached://host:port/, not {scheme}://.")
    servers = [server.rstrip("/") for server in rest.split(";")]
    servers = [server for server in servers if server] or ["127.0.0.1:11211"]
    for server in servers:
        if "@" in server:
            raise StoreConfigError("Memcached: the client knows no user and password; leave them out of the URL.")
        _, _, port = server.rpartition("]")[2].partition(":")
        if not server.startswith(("/", "unix:")) and port and not port.isdecimal():
            raise StoreConfigError(f"Memcached: {server!r} is not host:port.")
    return servers


def _expire(ttl: float | None) -> int:
    """``ttl`` as the protocol has it; 0: it stays."""
    if ttl is None:
        return 0
    seconds = max(0, math.ceil(ttl)) + _TICK
    if seconds <= _LONGEST_RELATIVE:
        return seconds
    instant = math.ceil(time.time()) + seconds
    return instant if instant <= _LAST_INSTANT else 0
