"""What may go wrong on the way to other hosts: passwords in the clear, messages that nobody makes sure of, SQLite."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from django.core.checks import CheckMessage, Warning  # noqa: A004  # Django's own name
from django.db import DEFAULT_DB_ALIAS, connections

from .broker_url import DATABASE, SCHEMES
from .conf import BackendOptions
from .option_values import path_of
from .result_url import RPC

_INSECURE = "django_taskq.W007"
_LOSSY = "django_taskq.W008"
_ONE_HOST = "django_taskq.W009"

#: schemes without TLS that have one with it, and that
_WITH_TLS = {"amqp": "amqps", "pyamqp": "amqps", "redis": "rediss"}
#: schemes that lead to no other process, and to no host that could be this one
_NOWHERE, _CLOUDS = (
    frozenset({DATABASE, "memory"}),
    frozenset({"sqs", "azureservicebus", "azurestoragequeues", "gcpubsub"}),
)
_LOCAL = frozenset({"", "localhost", "ip6-localhost"})


def check_deployment(alias: str, options: BackendOptions) -> Iterator[CheckMessage]:
    """For ``check --deploy``: what is fine on a developer's machine. No message repeats a URL."""
    for key, text in (("broker", options.broker), ("results", options.results)):
        scheme = next((scheme for url in text.split(";") if (scheme := _insecure(url))), "")
        if scheme and not _has_ssl(options, key):
            yield Warning(
                f"TASKS[{alias!r}]: {path_of(key)} sends a password over the network in the clear ({scheme}://).",
                hint=f"Write {_WITH_TLS[scheme]}://, or see to it that the way to the server is encrypted otherwise.",
                id=_INSECURE,
            )
    lossy = [key for key in ("confirm", "persistent") if options.transport == "amqp" and not getattr(options, key)]
    if lossy:
        yield Warning(
            f"TASKS[{alias!r}]: tasks without a row may be lost, since {' and '.join(map(path_of, lossy))} "
            f"{'is' if len(lossy) == 1 else 'are'} False.",
            hint="Leave both True, unless such tasks may be lost. Tasks with a row are published again in any case.",
            id=_LOSSY,
        )


def check_hosts(alias: str, options: BackendOptions) -> Iterator[CheckMessage]:
    """A broker on another host, and rows in a file on this one."""
    # Without the router's word: it may need the apps.
    using = options.database_alias or DEFAULT_DB_ALIAS
    if connections[using].vendor == "sqlite" and any(map(_is_remote, options.broker.split(";"))):
        yield Warning(
            f"TASKS[{alias!r}]: the broker is on another host, and the rows are in SQLite, which is a file on this one.",
            hint="Workers elsewhere would not find the tasks; use PostgreSQL, MariaDB or MySQL, or keep all on this host.",
            id=_ONE_HOST,
        )


def _insecure(url: str) -> str:
    """The scheme of a URL that sends a password over a network in the clear; "" of others."""
    url = url.removeprefix(f"{RPC}+")
    scheme = url.partition("://")[0]
    return scheme if scheme in _WITH_TLS and urlsplit(url).password and _is_remote(url) else ""


def _is_remote(url: str) -> bool:
    scheme = url.partition("://")[0]
    if scheme in _NOWHERE or scheme not in SCHEMES:
        return False
    if scheme in _CLOUDS:
        return True
    host = urlsplit(url).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host not in _LOCAL and not host.endswith(".localhost")


def _has_ssl(options: BackendOptions, key: str) -> bool:
    given = options.broker_options if key == "broker" else options.result_options
    queries = [parse_qs(urlsplit(url).query) for url in getattr(options, key).split(";")]
    return bool(given.get("ssl")) or all("ssl" in query or "ssl_cert_reqs" in query for query in queries)
