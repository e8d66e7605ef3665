"""What a store's URL says: hosts, credentials and a path, read the same way by every store."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from ..core.options import nearest
from .keyvalue import StoreConfigError

_QUOTE = "and characters as / and @ in a password as %2F and %40"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A URL in its parts, unquoted. Its ``repr`` shows no credentials.

    ``hosts``: as they stand, with the port or None; empty where the URL names none. ``path``: its parts that are not
    empty.
    """

    scheme: str
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    hosts: tuple[tuple[str, int | None], ...] = ()
    path: tuple[str, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)

    def host(self, default: str, port: int) -> tuple[str, int]:
        """The first host and its port, or what stands for one that is missing."""
        name, number = self.hosts[0] if self.hosts else ("", None)
        return name or default, port if number is None else number


def parse_address(url: str, *, form: str, queries: Collection[str] = (), parts: int = 1) -> Address:
    """Read ``scheme://user:password@host:port,host:port/path?query``.

    ``form``: what a URL of this store looks like, for ``StoreConfigError``, which never shows the URL: what is wrong
    with it may be its password. ``queries``: the names that may stand after the question mark. ``parts``: how many parts
    the path may have.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise StoreConfigError(f"The URL of the result store has no scheme; write {form}.")
    rest, _, query_text = rest.partition("?")
    authority, _, path_text = rest.partition("/")
    if "@" in path_text + query_text:
        raise StoreConfigError(f"The URL of the result store cannot be read; write {form}, {_QUOTE}.")
    credentials, _, hosts_text = authority.rpartition("@")
    username, _, password = credentials.partition(":")
    path = tuple(unquote(part) for part in path_text.split("/") if part)
    if len(path) > parts:
        raise StoreConfigError(
            f"The path of the URL of the result store has {len(path)} parts; write {form}, {_QUOTE}."
        )
    query = dict(parse_qsl(query_text, keep_blank_values=True))
    for name in query:
        if name not in queries:
            raise StoreConfigError(f"{scheme}://: unknown name {name!r} in the URL{nearest(name, queries) or '.'}")
    return Address(
        scheme=scheme,
        username=unquote(username) or None,
        password=unquote(password) or None,
        hosts=tuple(_host(text, form) for text in hosts_text.split(",") if text),
        path=path,
        query=query,
    )


def only_known(options: Mapping[str, Any], known: Collection[str], *, store: str) -> None:
    """Raise ``StoreConfigError`` for an option that the store does not know. ``store``: its name in the error."""
    for name in options:
        if name not in known:
            raise StoreConfigError(f"{store}: unknown result option {name!r}{nearest(name, known) or '.'}")


def _host(text: str, form: str) -> tuple[str, int | None]:
    name, separator, port = text.rpartition(":")
    if not separator or "]" in port:
        # No port, or the last colon is one of an address of IPv6.
        return text, None
    if not port:
        return name, None
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise StoreConfigError(
            f"The URL of the result store has a port that is no number from 1 to 65535; write {form}, {_QUOTE}."
        )
    return name, int(port)
