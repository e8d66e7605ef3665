"""``OPTIONS["broker"]``: which transports there are, which of them are refused and why, and what each can do.

Nothing here repeats any part of a URL but its scheme: the rest may hold a password, also where a
wrong character put it in an unexpected place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.conf import settings

from .core.options import nearest
from .option_values import OptionsError, path_of

if TYPE_CHECKING:
    from .core.topology import ExchangeType

DATABASE = "database"

#: RFC 3986, section 3.1
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")

_HINT = "Write a URL such as 'database://', 'amqp://user:password@host:5672//' or 'redis://host:6379/0'."
_ENCODE = (
    "Percent-encode what has a meaning in URLs, also in user names and passwords: urllib.parse.quote(text, safe='')."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """One of kombu's transports, as far as we rely on it.

    ``modules``: what must be importable; ``install``: what brings it. ``exchange_types``: what it can route by.
    ``opaque``: the part behind ``://`` is the vendor's own and not quite a URL.
    """

    name: str
    schemes: tuple[str, ...]
    modules: tuple[str, ...] = ()
    install: str = ""
    exchange_types: tuple[ExchangeType, ...] = ("direct",)
    opaque: bool = False


#: By name. What they can route by is what kombu 5.7 says in its transports' ``implements``; for the memory transport
#: what its code does.
TRANSPORTS: dict[str, Transport] = {
    transport.name: transport
    for transport in (
        Transport(name=DATABASE, schemes=("database",), exchange_types=()),
        Transport(
            name="amqp",
            schemes=("amqp", "amqps", "pyamqp"),
            modules=("amqp",),
            install="kombu",
            exchange_types=("direct", "topic", "fanout", "headers"),
        ),
        Transport(
            name="redis",
            schemes=("redis", "rediss", "redis+socket", "sentinel"),
            modules=("redis", "packaging"),
            install="django-taskq-kombu[redis]",
            exchange_types=("direct", "topic", "fanout"),
        ),
        Transport(
            name="sqs",
            schemes=("sqs",),
            modules=("boto3", "pycurl", "urllib3"),
            install="kombu[sqs]",
        ),
        Transport(
            name="azureservicebus",
            schemes=("azureservicebus",),
            modules=("azure.servicebus", "isodate"),
            install="kombu[azureservicebus]",
            opaque=True,
        ),
        Transport(
            name="azurestoragequeues",
            schemes=("azurestoragequeues",),
            modules=("azure.storage.queue",),
            install="kombu[azurestoragequeues]",
            opaque=True,
        ),
        Transport(
            name="gcpubsub",
            schemes=("gcpubsub",),
            modules=("google.cloud.pubsub_v1", "google.cloud.monitoring_v3"),
            install="kombu[gcpubsub]",
            exchange_types=("direct", "fanout"),
        ),
        Transport(
            name="mongodb",
            schemes=("mongodb", "mongodb+srv"),
            modules=("pymongo",),
            install="kombu[mongodb]",
            exchange_types=("direct", "topic", "fanout"),
            opaque=True,
        ),
        Transport(name="memory", schemes=("memory",), exchange_types=("direct", "topic", "fanout")),
    )
}

_TRANSPORT_OF = {scheme: transport for transport in TRANSPORTS.values() for scheme in transport.schemes}
SCHEMES = tuple(_TRANSPORT_OF)

_SQL = "it loses messages: what a worker had taken and not acknowledged is gone with the worker"
#: Schemes that kombu knows and we do not take: (why, what instead).
_REFUSED = {
    "filesystem": (
        "it loses messages: readers take files that are still being written, and what a worker had taken is gone with it",
        "'database://' needs no server either.",
    ),
    **dict.fromkeys(("sqlalchemy", "sqla", "db", "django"), (_SQL, "'database://' keeps tasks in your database.")),
    "librabbitmq": ("there is none for this Python", "Write 'amqp://'."),
    "pgmq": ("rows are in PostgreSQL already", "Write 'database://'."),
}


def parse_broker(key: str, value: Any) -> str:
    """One URL, several with ``;`` between them, or a list: as one text. Raises ``OptionsError``."""
    urls = _split(key, value)
    transports = {_transport(key, url, len(urls)).name for url in urls}
    if len(transports) > 1:
        raise OptionsError(
            key,
            f"{path_of(key)} names servers of different kinds: {', '.join(sorted(transports))}.",
            "Several URLs are several servers of one broker, tried in turn.",
        )
    if transports == {DATABASE}:
        if len(urls) > 1:
            raise OptionsError(key, f"{path_of(key)} names more than one database.", "Write one 'database://alias'.")
        _check_alias(key, urls[0])
    return ";".join(urls)


def parse_database(key: str, value: Any) -> str:
    """An alias of ``DATABASES``, or "" for the router's choice."""
    if not isinstance(value, str):
        raise OptionsError(key, f"{path_of(key)} must be text, not {value!r}.", "Name an alias of DATABASES.")
    _known_alias(key, value)
    return value


def transport_of(broker: str) -> Transport:
    """The transport of a URL that was parsed."""
    return _TRANSPORT_OF[broker.partition("://")[0]]


def database_of(broker: str) -> str:
    """The ``DATABASES`` alias in a ``database://`` URL; "" of any other."""
    return urlsplit(broker).netloc if broker.startswith(f"{DATABASE}://") else ""


def missing_modules(transport: Transport) -> list[str]:
    """What a transport needs and this environment does not have; imports nothing but parent packages."""
    return [name for name in transport.modules if not is_installed(name)]


def _split(key: str, value: Any) -> list[str]:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, Sequence) or not given or not all(isinstance(url, str) for url in given):
        # The value stays unsaid: it may hold a password.
        raise OptionsError(key, f"{path_of(key)} is not a URL.", _HINT)
    return [url.strip() for several in given for url in several.split(";")]


def _transport(key: str, url: str, count: int) -> Transport:
    scheme, separator, rest = url.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        if count > 1:
            raise OptionsError(
                key,
                f"{path_of(key)}: one of {count} URLs is not a URL.",
                f"A semicolon stands between two URLs; within one, write %3B. {_HINT}",
            )
        raise OptionsError(key, f"{path_of(key)} is not a URL.", _HINT)
    transport = _TRANSPORT_OF.get(scheme)
    if transport is None:
        raise _unsupported(key, scheme)
    if not transport.opaque:
        _check_syntax(key, url, rest)
    return transport


def _unsupported(key: str, scheme: str) -> OptionsError:
    why, instead = _REFUSED.get(scheme, _REFUSED.get(scheme.partition("+")[0], ("", "")))
    known = f"Known schemes: {', '.join(SCHEMES)}."
    if why:
        return OptionsError(
            key, f"{path_of(key)}: the scheme {scheme!r} is not supported: {why}.", f"{instead} {known}"
        )
    return OptionsError(
        key, f"{path_of(key)}: the scheme {scheme!r} is not supported{nearest(scheme, SCHEMES) or '.'}", known
    )


def _check_syntax(key: str, url: str, rest: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # Without the cause: it quotes what it took for the port, which may be the rest of a password.
        raise OptionsError(key, f"{path_of(key)} has a host or port that cannot be.", _ENCODE) from None
    if port == 0:
        raise OptionsError(key, f"{path_of(key)} has the port 0.", "Leave the port out for the default.")
    if parts.fragment or "#" in rest or "@" in parts.path or "@" in parts.query:
        raise OptionsError(key, f"{path_of(key)} has a '#', '/' or '?' in a place where it means something.", _ENCODE)
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise OptionsError(key, f"{path_of(key)} has a space or a control character in it.", _ENCODE)


def _check_alias(key: str, url: str) -> None:
    alias = urlsplit(url).netloc
    if "@" in alias:
        raise OptionsError(
            key, f"{path_of(key)} names an alias of DATABASES, not a server.", "Write 'database://alias'."
        )
    _known_alias(key, alias)


def _known_alias(key: str, alias: str) -> None:
    if alias and alias not in settings.DATABASES:
        raise OptionsError(
            key,
            f"{path_of(key)}: DATABASES has no alias {alias!r}{nearest(alias, settings.DATABASES) or '.'}",
            "Name an alias of DATABASES, or write 'database://'.",
        )


def is_installed(name: str) -> bool:
    """Whether a module could be imported; imports nothing but its parent packages."""
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        # The parent package is missing; or a test has put a module without a spec in its place.
        return False
