"""Redis, alone or found by sentinels: ``SET`` with an expiry, and ``PUBLISH`` for those who wait."""

from __future__ import annotations

import contextlib
import math
import selectors
import socket
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from redis import BlockingConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from ...core.options import nearest
from ..keyvalue import CONNECT_TIMEOUT, OPERATION_TIMEOUT, KeyValueStore, Listener, StoreConfigError

#: connections of one process at most; whoever needs one more waits for ``OPERATION_TIMEOUT``
MAX_CONNECTIONS: Final = 32
#: ports by scheme; a socket has none
_PORTS: Final = {"redis": 6379, "rediss": 6379, "sentinel": 26379}
_SOCKETS: Final = ("redis+socket", "socket")
_CERT_REQS: Final = {name: name for name in ("required", "optional", "none")} | {
    f"CERT_{name.upper()}": name for name in ("required", "optional", "none")
}
_BOOLEANS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class RedisStore(KeyValueStore):
    """Results in Redis.

    ``redis://[[user]:password@]host[:port][/db]``, ``rediss://`` for TLS, ``redis+socket:///path?virtual_host=db``, and
    ``sentinel://[:password@]host:port/db[;sentinel://host:port…]`` with ``master_name`` in the options. User and
    password of a sentinel URL are those of Redis; those of the sentinels go into ``sentinel_kwargs``.

    Options, most of them also as the query of the URL, which has precedence: ``max_connections`` (32),
    ``socket_connect_timeout`` (2 s), ``socket_timeout`` (5 s), ``socket_keepalive``, ``health_check_interval``,
    ``client_name``, ``username``, ``password``, ``credential_provider``; for TLS ``ssl_cert_reqs`` (required),
    ``ssl_check_hostname`` (true), ``ssl_ca_certs``, ``ssl_ca_path``, ``ssl_certfile``, ``ssl_keyfile``; for sentinels
    ``master_name``, ``min_other_sentinels``, ``sentinel_kwargs``, ``ssl`` (TLS to Redis). They are redis-py's and, with
    ``redis_`` or in its transport options, Celery's.

    Certificates are verified unless ``ssl_cert_reqs`` says otherwise. Redis expires values itself, to the millisecond. An
    account restricted to channels needs ``&taskq:*`` (https://redis.io/docs/latest/operate/oss_and_stack/management/
    security/acl/). A Redis with ``maxmemory`` and an ``allkeys-`` policy drops results it has no room for.
    """

    expires: ClassVar[bool] = True
    #: https://redis.io/docs/latest/develop/data-types/strings/#limits
    max_size: ClassVar[int | None] = 512 * 1024 * 1024

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        address = _Address(url, options)
        self._db = address.db
        self._make_pool = address.pool
        self._pool = address.pool(address.max_connections, retries=1)
        self._client = Redis(connection_pool=self._pool)

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """Store and tell, in one round trip."""
        with self._client.pipeline(transaction=False) as pipeline:
            # In this order: whoever hears of it finds it.
            pipeline.set(key, value, px=None if ttl is None else max(1, math.ceil(ttl * 1000)))
            pipeline.publish(_channel(self._db, key), b"")
            pipeline.execute()

    def get(self, key: str) -> bytes | None:
        """One GET."""
        value = self._client.get(key)
        assert value is None or isinstance(value, bytes)
        return value

    def delete(self, key: str) -> None:
        """One DEL."""
        self._client.delete(key)

    def listener(self) -> Listener:
        """A connection of its own that subscribes to a channel per key."""
        # No second attempt: what was told while the connection was away is lost, and whoever waits has to know.
        return _Subscriber(self._make_pool(1, retries=0), self._db)

    def close(self) -> None:
        """Close what is idle; what is in use goes with its call."""
        with contextlib.suppress(Exception):
            self._pool.disconnect(inuse_connections=False)


class _Subscriber:
    """Hears of values as they are put: redis-py's ``PubSub``, and a bell for what came between."""

    def __init__(self, pool: BlockingConnectionPool, db: int) -> None:
        self._pool, self._db = pool, db
        self._keys: set[str] = set()
        self._heard: set[str] = set()
        self._pubsub = Redis(connection_pool=pool).pubsub()
        self._selector = selectors.DefaultSelector()
        self._bell, self._button = socket.socketpair()
        self._socket: object = None
        try:
            for end in (self._bell, self._button):
                end.setblocking(False)
            self._selector.register(self._bell, selectors.EVENT_READ)
            # One channel stays: without any, PubSub looks at its connection no more and would miss its end.
            self._subscribe([""])
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """The selector's own descriptor (epoll, kqueue): the connection's and the bell in one."""
        return self._selector.fileno()

    def watch(self, keys: Collection[str]) -> None:
        """Subscribe; when this returns, nothing that is put from now on is missed."""
        new = [key for key in keys if key not in self._keys]
        self._keys.update(new)
        if new:
            self._subscribe(new)

    def forget(self, keys: Collection[str]) -> None:
        """Unsubscribe, without waiting for the answer."""
        old = self._keys.intersection(keys)
        self._keys -= old
        self._heard -= old
        if old:
            self._pubsub.unsubscribe(*(_channel(self._db, key) for key in old))

    def drain(self) -> set[str]:
        """All that the connection holds, without waiting."""
        with contextlib.suppress(BlockingIOError):
            while self._bell.recv(4096):
                pass
        while (message := self._read(0.0)) is not None:
            self._take(message)
        heard, self._heard = self._heard & self._keys, set()
        return heard

    def close(self) -> None:
        """Close connection, bell and selector."""
        for step in (self._selector.close, self._pubsub.close, self._pool.disconnect):
            with contextlib.suppress(Exception):
                step()
        self._bell.close()
        self._button.close()

    def _subscribe(self, keys: Collection[str]) -> None:
        channels = {_channel(self._db, key) for key in keys}
        self._pubsub.subscribe(*channels)
        self._follow()
        deadline = time.monotonic() + OPERATION_TIMEOUT
        while channels:
            left = deadline - time.monotonic()
            message = self._read(left) if left > 0 else None
            if message is None:
                if left <= 0:
                    raise RedisTimeoutError("Redis did not confirm a subscription in time")
            elif message["type"] == "subscribe":
                channels.discard(message["channel"].decode())
            else:
                self._take(message)
        if self._heard:
            # It was read while waiting for something else, so the connection will not wake anybody for it.
            with contextlib.suppress(BlockingIOError):
                self._button.send(b"!")

    def _read(self, timeout: float) -> dict[str, Any] | None:
        message: dict[str, Any] | None = self._pubsub.get_message(timeout=timeout)
        return message

    def _take(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "message":
            self._heard.add(message["channel"].decode().removeprefix(_channel(self._db, "")))

    def _follow(self) -> None:
        """Watch the socket of the connection, which PubSub made just now."""
        connection = self._pubsub.connection
        current = connection._sock if connection is not None else None  # noqa: SLF001  # redis-py shows it nowhere else
        if current is None:
            raise RedisConnectionError("Connection closed by server.")
        if current is not self._socket:
            if self._socket is not None:
                # The kernel has dropped the closed one from its set; a new one means that messages were missed.
                raise RedisConnectionError("The connection was lost, and what was told meanwhile with it.")
            self._selector.register(current, selectors.EVENT_READ)
            self._socket = current


class _BlockingSentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Sentinels' pool, which as it is raises when all connections are in use."""


class _Address:
    """What a URL and options say, checked."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        given = dict(options)
        self.scheme, _, rest = url.partition("://")
        if self.scheme not in (*_PORTS, *_SOCKETS):
            raise StoreConfigError(
                f"Redis: the scheme {self.scheme!r} is not one of {', '.join(_PORTS)}, redis+socket."
            )
        self.hosts: list[tuple[str, int]] = []
        self.path, self.db = "", 0
        for part in rest.split(";") if self.scheme == "sentinel" else [rest]:
            self._read(part.removeprefix("sentinel://"), given)
        values = _parse(given)
        self.db = values.pop("db", self.db)
        self.max_connections: int = values.pop("max_connections", MAX_CONNECTIONS)
        self.sentinels = {
            name: values.pop(name) for name in ("min_other_sentinels", "sentinel_kwargs") if name in values
        }
        self.master_name: str = values.pop("master_name", "")
        self.tls = bool(values.pop("ssl", False)) or self.scheme == "rediss"
        self._check(values)
        self._values = values

    def pool(self, max_connections: int, *, retries: int) -> BlockingConnectionPool:
        """Connections to come, with ``retries`` of what a broken one did not do."""
        # What takes too long is not tried again: then it would take twice as long.
        retry = Retry(NoBackoff(), retries, supported_errors=(RedisConnectionError,))
        arguments: dict[str, Any] = {
            "socket_timeout": OPERATION_TIMEOUT,
            "socket_connect_timeout": CONNECT_TIMEOUT,
            # The version of the protocol that all servers speak, without a question at each connection.
            "protocol": 2,
            **self._values,
            "db": self.db,
            "retry": retry,
        }
        limits: dict[str, Any] = {"max_connections": max_connections, "timeout": OPERATION_TIMEOUT}
        if self.scheme == "sentinel":
            return self._sentinel_pool(arguments, limits)
        if self.path:
            del arguments["socket_connect_timeout"]
            return BlockingConnectionPool(
                connection_class=UnixDomainSocketConnection, path=self.path, **arguments, **limits
            )
        if self.tls:
            limits["connection_class"] = SSLConnection
        host, port = self.hosts[0]
        return BlockingConnectionPool(host=host, port=port, **arguments, **limits)

    def _sentinel_pool(self, arguments: dict[str, Any], limits: dict[str, Any]) -> BlockingConnectionPool:
        of_sentinels = {
            "socket_timeout": arguments["socket_connect_timeout"],
            "socket_connect_timeout": arguments["socket_connect_timeout"],
            # redis-py's default sleeps for seconds at a sentinel that is down, instead of asking the next.
            "retry": Retry(NoBackoff(), 0),
            **self.sentinels.get("sentinel_kwargs", {}),
        }
        manager = Sentinel(
            self.hosts,
            min_other_sentinels=self.sentinels.get("min_other_sentinels", 0),
            sentinel_kwargs=of_sentinels,
        )
        # Like redis-py's own, it has no types to say.
        pool: BlockingConnectionPool = _BlockingSentinelPool(  # type: ignore[no-untyped-call]
            self.master_name, manager, ssl=self.tls, **arguments, **limits
        )
        return pool

    def _read(self, part: str, given: dict[str, Any]) -> None:
        try:
            # As if it were HTTP, so that no scheme is parsed in a way of its own.
            parts = urlsplit(f"http://{part}")
            port = parts.port
        except ValueError:
            # Without its cause, which shows what it could not read: often a half of the password.
            raise StoreConfigError(
                f"{self.scheme}://: host and port cannot be read; quote special characters of the password as %XX."
            ) from None
        given.update(parse_qsl(parts.query))
        for name, value in (("username", parts.username), ("password", parts.password)):
            if value:
                given[name] = unquote(value)
        if self.scheme in _SOCKETS:
            if not parts.path.strip("/"):
                raise StoreConfigError("redis+socket://: write the path of the socket, redis+socket:///path/to/socket.")
            self.path = unquote(parts.path)
            return
        self.hosts.append((unquote(parts.hostname or "") or "localhost", port or _PORTS[self.scheme]))
        db = unquote(parts.path).strip("/")
        if db:
            self.db = _number("db", db)

    def _check(self, values: Mapping[str, Any]) -> None:
        if self.scheme == "sentinel" and not self.master_name:
            raise StoreConfigError("sentinel://: say in the options which Redis they watch: {'master_name': '…'}.")
        if self.scheme != "sentinel" and (self.sentinels or self.master_name):
            raise StoreConfigError(f"{self.scheme}://: master_name and options of sentinels are for sentinel:// only.")
        of_tls = sorted(name for name in values if name.startswith("ssl_"))
        if of_tls and not self.tls:
            how = "set ssl to true" if self.scheme == "sentinel" else "write rediss://"
            raise StoreConfigError(f"{self.scheme}:// is without TLS, so {of_tls[0]} means nothing; {how}.")


def _channel(db: int, key: str) -> str:
    """Channels belong to the server, not to a database."""
    return f"taskq:{db}:{key}"


def _parse(given: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in _OPTIONS:
            raise StoreConfigError(f"Redis: unknown option {name!r}{nearest(name, _OPTIONS) or '.'}")
        values["db" if name == "virtual_host" else name] = _OPTIONS[name](name, value)
    if "credential_provider" in values:
        # It knows better, as with Celery; redis-py refuses both at once.
        values.pop("username", None)
        values.pop("password", None)
    if "ssl_cert_reqs" in values and values["ssl_cert_reqs"] != "required":
        # Python refuses to check the name in a certificate that nobody checks.
        values.setdefault("ssl_check_hostname", False)
    return values


def _number(name: str, value: object) -> int:
    try:
        number = int(value)  # type: ignore[call-overload]  # whatever it is, this is the question
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        raise StoreConfigError(f"Redis: {name} must be a whole number.") from None
    return int(number)


def _seconds(name: str, value: object) -> float:
    try:
        seconds = float(value)  # type: ignore[arg-type]  # whatever it is, this is the question
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise StoreConfigError(f"Redis: {name} must be seconds, more than 0.") from None
    return seconds


def _boolean(name: str, value: object) -> bool:
    found = value if isinstance(value, bool) else _BOOLEANS.get(str(value).lower())
    if found is None:
        raise StoreConfigError(f"Redis: {name} must be true or false.")
    return found


def _cert_reqs(name: str, value: object) -> str:
    # Python's own constants print as "VerifyMode.CERT_…".
    found = _CERT_REQS.get(str(getattr(value, "name", value)))
    if found is None:
        raise StoreConfigError(f"Redis: {name} must be required, optional or none.")
    return found


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise StoreConfigError(f"Redis: {name} must be text.")
    return value


def _mapping(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise StoreConfigError(f"Redis: {name} must be a dict.")
    return dict(value)


def _as_is(name: str, value: object) -> object:
    if isinstance(value, str):
        raise StoreConfigError(f"Redis: {name} must be an object, not its name.")
    return value


_OPTIONS: Final[dict[str, Callable[[str, object], Any]]] = {
    "client_name": _text,
    "credential_provider": _as_is,
    "db": _number,
    "health_check_interval": _seconds,
    "master_name": _text,
    "max_connections": _number,
    "min_other_sentinels": _number,
    "password": _text,
    "sentinel_kwargs": _mapping,
    "socket_connect_timeout": _seconds,
    "socket_keepalive": _boolean,
    "socket_timeout": _seconds,
    "ssl": _boolean,
    "ssl_ca_certs": _text,
    "ssl_ca_path": _text,
    "ssl_cert_reqs": _cert_reqs,
    "ssl_certfile": _text,
    "ssl_check_hostname": _boolean,
    "ssl_keyfile": _text,
    "username": _text,
    "virtual_host": _number,
}
