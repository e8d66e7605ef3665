"""URLs and errors for people to read, and connections that end without a word."""

from __future__ import annotations

import gc
import logging
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from kombu.connection import Connection
from kombu.exceptions import OperationalError

from django_taskq.brokers.kombu.connection import _connection as build
from django_taskq.brokers.kombu.connection import abandon, describe, dial, errors_of, safe_url
from django_taskq.conf import BackendOptions


def options(broker: str, **given: Any) -> BackendOptions:
    return BackendOptions.parse({"broker": broker, **given})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://user:secret@host:5672/vhost", "amqp://user:**@host:5672/vhost"),
        ("amqp://user:se/cr@et@host//", "amqp://user:**@host//"),
        ("amqp://user@host//", "amqp://user@host//"),
        ("amqp://host//", "amqp://host//"),
        ("redis://:secret@host:6379/0?ssl_cert_reqs=none&password=x", "redis://:**@host:6379/0?**"),
        ("amqp://a:x@one//;amqp://b:y@two//", "amqp://a:**@one//;amqp://b:**@two//"),
        ("sqs://KEY:secret@", "sqs://KEY:**@"),
        ("azurestoragequeues://secret@https://account", "azurestoragequeues://**@https://account"),
        ("memory://", "memory://"),
        ("secret", "**"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, expected: str) -> None:
    assert safe_url(url) == expected


@pytest.mark.parametrize("secret", ["se cret", "s3cr3t", "p@ss/wörd"])
def test_an_error_is_told_in_one_line_without_the_password(secret: str) -> None:
    quoted = secret.replace(" ", "%20").replace("@", "%40").replace("/", "%2F").replace("ö", "%C3%B6")
    error = OSError(f"cannot log in\nwith {secret} or {quoted}\x00" + "!" * 1_000)

    told = describe(error, f"amqp://user:{quoted}@host//")

    assert secret not in told
    assert quoted not in told
    assert told.isprintable()
    assert told.startswith("cannot log in with ** or **")
    assert told.endswith("(OSError)")
    assert len(told) < 350


def test_an_error_without_words_is_told_by_its_name() -> None:
    assert describe(TimeoutError(), "memory://") == "TimeoutError"


def test_a_connection_refused_is_told_at_once() -> None:
    with pytest.raises(errors_of(None)):
        dial(options("amqp://127.0.0.1:1//"), heartbeat=0)
    with pytest.raises(OperationalError, match="refused"):
        dial(options("redis://127.0.0.1:1/0"), heartbeat=0)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
@pytest.mark.parametrize("count", [1, 3])
def test_silent_servers_are_given_up_in_time(silent_port: int, scheme: str, count: int) -> None:
    urls = ";".join([f"{scheme}://127.0.0.1:{silent_port}/0"] * count)
    began = time.monotonic()

    with pytest.raises(errors_of(None)):
        dial(options(urls), heartbeat=0, timeout=0.6, answer_timeout=0.2)

    assert 0.15 < time.monotonic() - began < 2


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_a_dial_that_failed_leaves_no_descriptor(silent_port: int, scheme: str) -> None:
    gc.collect()
    before = psutil.Process().num_fds()
    for _ in range(5):
        with pytest.raises(errors_of(None)):
            dial(options(f"{scheme}://127.0.0.1:{silent_port}/0"), heartbeat=0, timeout=0.05, answer_timeout=0.05)
    assert psutil.Process().num_fds() == before


def test_the_users_transport_options_come_before_ours_and_stay_as_they_are() -> None:
    given = {"socket_timeout": 7, "visibility_timeout": 60}
    ours = options("redis://localhost/0", broker_options=given)

    built = build(ours, ours.broker, heartbeat=0, timeout=2.0, answer=5.0, name="a worker")

    assert built.transport_options["socket_timeout"] == 7
    assert built.transport_options["visibility_timeout"] == 60
    assert built.transport_options["socket_connect_timeout"] == 2.0
    assert built.transport_options["retry_on_timeout"] is False
    assert built.transport_options["client_name"] == "a-worker"
    built.transport_options["visibility_timeout"] = 1
    assert dict(ours.broker_options) == given


@pytest.mark.parametrize(
    ("url", "given", "expected"),
    [
        ("amqps://host//", {}, {"server_hostname": None}),
        ("amqps://host//", {"ssl": True}, {"server_hostname": None}),
        ("amqps://host//", {"ssl": {"ca_certs": "x"}}, {"ca_certs": "x", "server_hostname": None}),
        ("amqps://host//", {"ssl": {"server_hostname": "other"}}, {"server_hostname": "other"}),
        ("amqps://host//", {"ssl": {"cert_reqs": ssl.CERT_NONE}}, {"cert_reqs": ssl.CERT_NONE}),
        ("amqp://host:5671//", {"ssl": True}, {"server_hostname": None}),
        ("amqp://host//", {}, False),
        ("rediss://host/0", {}, {"ssl_cert_reqs": ssl.CERT_REQUIRED}),
        ("rediss://host/0?ssl_cert_reqs=none", {}, {"ssl_cert_reqs": ssl.CERT_NONE}),
        ("redis://host/0", {}, False),
    ],
)
def test_certificates_are_verified_unless_somebody_says_no(url: str, given: dict[str, Any], expected: object) -> None:
    ours = options(url, broker_options=given)
    assert build(ours, ours.broker, heartbeat=0, timeout=2.0, answer=5.0, name="").ssl == expected


def test_librabbitmq_is_never_used() -> None:
    ours = options("amqp://host//")
    assert build(ours, ours.broker, heartbeat=0, timeout=2.0, answer=5.0, name="").transport_cls == "pyamqp"


def test_what_was_never_connected_can_be_abandoned_and_twice() -> None:
    for url in ("amqp://127.0.0.1:1//", "redis://127.0.0.1:1/0", "memory://"):
        connection: Any = Connection
        held = connection(url)
        abandon(held)
        abandon(held)


def test_nothing_is_said_about_what_cannot_be_taken_apart(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    held: Any = dial(options("memory://"), heartbeat=0)
    held._connection.channels = 5
    abandon(held)
    assert caplog.records == []


def test_redis_errors_are_known_to_who_has_a_connection() -> None:
    connection: Any = Connection
    known = errors_of(connection("redis://localhost/0"))
    assert {"ResponseError", "ConnectionError", "OSError"} <= {error.__name__ for error in known}
