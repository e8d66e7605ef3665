"""Connections that fail in time, and end without waiting for a broker that is no longer there."""

from __future__ import annotations

import logging
import os
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from amqp.exceptions import AMQPError
from kombu.connection import Connection
from kombu.exceptions import KombuError, OperationalError

from ...conf import BackendOptions
from ...forks import renew_properties

logger = logging.getLogger("django_taskq.broker")

#: Seconds in which a connection must stand, all servers of a list and all steps of a handshake together.
CONNECT_TIMEOUT = 2.0

#: Seconds that a method of the broker may take to answer, and that a write may take to be accepted.
ANSWER_TIMEOUT = 5.0

#: Seconds of silence after which redis-py asks the server whether it is there before it sends a command.
_HEALTH_CHECK_INTERVAL = 25

#: Schemes whose URLs name the user before the password. In those of others what stands there alone may be the secret.
_NAMES_USERS = re.compile(r"(pyamqp|amqps?|rediss?|sentinel|mongodb|mongodb\+srv)://")

#: Characters of an error in a log line.
_MAX_DESCRIPTION = 300

_HIDDEN = "**"


def dial(
    options: BackendOptions,
    *,
    heartbeat: float,
    timeout: float = CONNECT_TIMEOUT,
    answer_timeout: float = ANSWER_TIMEOUT,
    name: str = "",
) -> Connection:
    """A connection that stands, to the first server of the list that lets us in.

    ``heartbeat``: seconds; who gives any has to call ``heartbeat_check`` about once a second. ``answer_timeout``:
    no call on the connection waits longer for the broker (AMQP, Redis; there the first one within ``dial``, too), unless
    it is given a timeout of its own.
    ``name``: what RabbitMQ and Redis list it as.

    Raises what ``errors_of(None)`` names, and whatever else the client library of an unusual transport comes up with.
    """
    deadline = time.monotonic() + timeout
    urls = _servers(options.broker)
    for position, url in enumerate(urls):
        remaining = deadline - time.monotonic()
        # One server that does not answer must not use up the time of those after it.
        share = max(remaining / (len(urls) - position), 0.05)
        connection = _connection(options, url, heartbeat=heartbeat, timeout=share, answer=answer_timeout, name=name)
        trouble = errors_of(connection)
        try:
            connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
            if is_amqp(connection):
                # py-amqp leaves its socket without a timeout, and waits for answers as long as the socket does.
                connection.connection.transport.sock.settimeout(answer_timeout)
        except BaseException as error:
            abandon(connection)
            if not isinstance(error, trouble):
                raise
            if position + 1 < len(urls):
                continue
            if isinstance(error, errors_of(None)):
                raise
            # redis-py's errors are known only to who has a connection, and there is none.
            raise OperationalError(describe(error, options.broker)) from error
        connection.dialled_by = os.getpid()
        dialled: Connection = connection
        return dialled
    raise AssertionError("a broker has at least one URL")


def abandon(connection: Connection) -> None:
    """Close without a word to the broker. Never waits, never raises.

    In a forked child nothing of the parent's connection is touched: no shutdown of the socket they share, no
    goodbye in TLS. (py-amqp's and kombu's own ``collect`` do both.)
    """
    held: Any = connection
    # kombu has no public way to get at what it holds without connecting first.
    inner = held._connection  # noqa: SLF001
    held._default_channel = None  # noqa: SLF001
    # Redis has an epoll, also without a connection.
    poller = getattr(getattr(held._transport, "cycle", None), "poller", None)  # noqa: SLF001
    try:
        if poller is not None:
            poller.close()
        if hasattr(inner, "frame_max"):
            _cut(inner)
        elif inner is not None:
            # A virtual transport is its own connection.
            for channel in (*inner.channels, *inner._avail_channels):  # noqa: SLF001
                _drop_virtual(channel)
            inner.channels.clear()
            inner._avail_channels.clear()  # noqa: SLF001
            if getattr(held, "dialled_by", 0) != os.getpid():
                # The poller is an epoll, and shared with the parent.
                return
        held.collect()
    except Exception:  # half of it is gone already; nobody will use the rest
        logger.debug("Could not take a connection apart", exc_info=True, extra={"action": "broker_abandon"})


@contextmanager
def asking(options: BackendOptions) -> Iterator[Connection]:
    """A connection for one question, which waits for no answer longer than some seconds.

    Raises what ``errors_of(None)`` names.
    """
    connection = dial(options, heartbeat=0.0)
    try:
        yield connection
    except errors_of(None):
        raise
    except errors_of(connection) as error:
        # redis-py's errors are known only to who has a connection.
        raise OperationalError(describe(error, options.broker)) from error
    finally:
        abandon(connection)


def is_amqp(connection: Connection) -> bool:
    """Whether py-amqp is behind it; else it is one of kombu's virtual transports."""
    return bool(connection.transport.driver_name == "py-amqp")


def errors_of(connection: Connection | None) -> tuple[type[BaseException], ...]:
    """What a broker in trouble raises through this connection; without one, what any AMQP broker may raise."""
    known: tuple[type[BaseException], ...] = (OSError, EOFError, AMQPError, KombuError)
    if connection is None:
        return known
    # What redis-py raises for a server in trouble is no OSError.
    return tuple(dict.fromkeys((*known, *connection.connection_errors, *connection.channel_errors)))


def safe_url(url: str) -> str:
    """The URL, or several with ``;`` between them, for people to read: no password, no query."""
    return ";".join(_safe(part) for part in url.split(";"))


def describe(error: BaseException, url: str) -> str:
    """What went wrong, in one line without the passwords in ``url``; the URL is not repeated."""
    text = str(error)
    for secret in _secrets(url):
        text = text.replace(secret, _HIDDEN)
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    name = type(error).__name__
    if not text:
        return name
    if len(text) > _MAX_DESCRIPTION:
        text = f"{text[:_MAX_DESCRIPTION]}…"
    return f"{text} ({name})"


def _servers(broker: str) -> list[str]:
    """The URLs to try in turn. A list of sentinels is one URL to kombu: its transport asks them all."""
    return [broker] if broker.startswith("sentinel:") else broker.split(";")


def _connection(
    options: BackendOptions, url: str, *, heartbeat: float, timeout: float, answer: float, name: str
) -> Any:
    scheme = url.partition("://")[0]
    # kombu writes into the dict it gets; every connection has its own.
    given = dict(options.broker_options)
    ours: dict[str, Any] = {}
    arguments: dict[str, Any] = {}
    tls: object = given.pop("ssl", None)
    if scheme in {"amqp", "amqps", "pyamqp"}:
        # Not "amqp": kombu would take librabbitmq where it is installed, which has neither confirms nor timeouts.
        arguments["transport"] = "amqps" if scheme == "amqps" else "pyamqp"
        if name:
            ours["client_properties"] = {"connection_name": name}
        if tls is True or (scheme == "amqps" and tls is None):
            tls = {}
        if isinstance(tls, dict) and tls.get("cert_reqs") != ssl.CERT_NONE:
            # kombu puts the host's name here; without it the certificate is verified, but not whose it is.
            tls = {"server_hostname": None, **tls}
    elif scheme in {"redis", "rediss", "redis+socket", "sentinel"}:
        ours |= {
            "socket_timeout": answer,
            "socket_connect_timeout": timeout,
            "socket_keepalive": True,
            "health_check_interval": _HEALTH_CHECK_INTERVAL,
            # A write that was answered too late may have happened: whoever sends it again has to know.
            "retry_on_timeout": False,
        }
        if name:
            ours["client_name"] = re.sub(r"[^!-~]", "-", name)
        if scheme == "rediss" and tls is None:
            # kombu's own default is to trust any server. What the URL says (ssl_cert_reqs=...) comes first.
            tls = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    if tls is not None:
        arguments["ssl"] = dict(tls) if isinstance(tls, dict) else tls
    arguments["transport_options"] = {**ours, **given}
    untyped: Any = Connection
    return untyped(url, heartbeat=heartbeat, connect_timeout=timeout, **arguments)


def _cut(connection: Any) -> None:
    """Close an AMQP connection's descriptor, and nothing else."""
    transport = connection._transport  # noqa: SLF001  # the public name connects when there is none
    if transport is None:
        return
    held, transport.sock = transport.sock, None
    transport.connected = False
    if held is None:
        return
    try:
        os.close(held.detach())
    except OSError:
        # It was closed under our hands.
        return


def _drop_virtual(channel: Any) -> None:
    """Make a channel of a virtual transport forget its connections, whatever they wait for."""
    channel.closed = True
    held = getattr(channel, "_qos", None)
    if held is not None and held._on_collect is not None:  # noqa: SLF001
        # It would put back at exit, over a new connection, what others have been given long since.
        held._on_collect.cancel()  # noqa: SLF001
    for name in ("_pool", "_async_pool"):
        pool = getattr(channel, name, None)
        if pool is not None:
            setattr(channel, name, None)
            if pool.pid == os.getpid():
                pool.disconnect()
            # In a forked child its lock may be held by a thread that is not here. Without references its connections
            # close their descriptors, and no more than that.


def _safe(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _HIDDEN
    rest, question, _ = rest.partition("?")
    # The last "@": a password with a "/" or "@" that nobody percent-encoded must not be taken for a path.
    given, at, address = rest.rpartition("@")
    user, colon, _ = given.partition(":")
    if at and not colon:
        user = user if _NAMES_USERS.match(url) else _HIDDEN
    hidden = f":{_HIDDEN}" if colon else ""
    return f"{scheme}://{user}{hidden}{at}{address}{'?' + _HIDDEN if question else ''}"


def _secrets(url: str) -> list[str]:
    """What ``safe_url`` leaves out, as written and as meant; longest first."""
    found: set[str] = set()
    for part in url.split(";"):
        rest, _, query = part.partition("://")[2].partition("?")
        given, at, _ = rest.rpartition("@")
        user, colon, password = given.partition(":")
        if at and not colon and not _NAMES_USERS.match(part):
            password = user
        found |= {password, unquote(password)}
        found |= {piece.partition("=")[2] for piece in query.split("&") if "pass" in piece or "secret" in piece}
    return sorted((secret for secret in found if secret), key=len, reverse=True)


renew_properties("kombu.connection", "Connection")
renew_properties("kombu.transport.base", "Transport")
renew_properties("kombu.transport.virtual.base", "Channel", "QoS")
