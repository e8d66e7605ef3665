"""Consul's key-value store, by py-consul."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Mapping
from typing import Any, cast

import consul

from ..address import only_known, parse_address
from ..generations import Head, cut, decode_head, find
from ..keyvalue import CONNECT_TIMEOUT, OPERATION_TIMEOUT, KeyValueStore

_FORM = "consul://host:port/path"
_KNOWN = frozenset({"token", "scheme", "consistency", "dc", "verify", "cert", "one_client"})
#: Bytes of a value: a sweep reads all heads, so they have to be small.
_INLINE = 1024
#: Bytes of a part; the server takes 512 KB: https://developer.hashicorp.com/consul/docs/install/performance#kv_max_value_size
_PART = 512 * 1024
#: Before the key: "." and ".." alone are no names of keys, as they stand in paths.
_PREFIX = "taskq-"
#: How often others may be faster under one key before a put gives up.
_ATTEMPTS = 100


class ConsulStore(KeyValueStore):
    """``consul://host:port/path``; keys begin with the path ("taskq" where there is none).

    Options are the arguments of ``consul.Consul``: ``token``, ``scheme`` ("http"), ``consistency`` ("consistent", as in
    Celery's store), ``dc``, ``verify``, ``cert``. ``one_client``, which Celery's store takes in the URL, is taken and says
    nothing: there is one client per store.

    A value is a head, ``path/heads/taskq-key``, with its end in ``Flags`` (seconds since 1970; 0: it stays), and parts,
    ``path/parts/taskq-key/end-generation/number``, since a server takes 512 KB at once. Nothing ends by itself: sessions, by
    which Celery's store has values deleted, last for a day at most and cost the server a timer each. ``sweep`` reads heads
    and the names of parts.
    """

    # What a sane owner of a Consul would bear; there is no limit to the number of parts.
    max_size = 16 * 1024 * 1024

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        address = parse_address(url, form=_FORM, queries=("one_client",), parts=16)
        only_known(options, _KNOWN, store="consul://")
        given = {name: value for name, value in options.items() if name != "one_client"}
        host, port = address.host("127.0.0.1", 8500)
        path = "/".join(address.path) or "taskq"
        self._heads, self._parts = f"{path}/heads/{_PREFIX}", f"{path}/parts/{_PREFIX}"
        self._client = consul.Consul(
            host=host,
            port=port,
            # requests, which it hands this to, takes a pair: to connect, and to answer.
            connections_timeout=(CONNECT_TIMEOUT, OPERATION_TIMEOUT),
            **{"consistency": "consistent", **given},
        )

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """See the base."""
        end = 0 if ttl is None else math.ceil(time.time() + ttl)
        if len(value) <= _INLINE:
            head = Head(inline=value)
        else:
            head, parts = cut(value, _PART, f"{end}-{secrets.token_hex(8)}")
            for number, part in enumerate(parts):
                self._kv.put(f"{self._of(key, head)}{number:06}", part, flags=end)
        for _ in range(_ATTEMPTS):
            old = self._entry(key)
            # So that the one who takes a head's place knows whose parts are nobody's now.
            if self._kv.put(self._heads + key, head.encode(), flags=end, cas=old["ModifyIndex"] if old else 0):
                self._drop(key, old)
                return
        self._kv.delete(self._of(key, head), recurse=True)
        raise RuntimeError(f"Consul: others kept putting values under {key!r}")

    def get(self, key: str) -> bytes | None:
        """See the base."""

        def head() -> bytes | None:
            entry = self._entry(key)
            return entry["Value"] if entry else None

        def parts(head: Head) -> list[bytes]:
            # In the order of their names.
            _, entries = self._kv.get(self._of(key, head), recurse=True)
            return [entry["Value"] for entry in entries or ()]

        return find(head, parts)

    def delete(self, key: str) -> None:
        """See the base."""
        self._kv.delete(self._heads + key)
        self._kv.delete(f"{self._parts}{key}/", recurse=True)

    def sweep(self, now: float, longest: float) -> int:
        """See the base."""
        swept = 0
        _, entries = self._kv.get(self._heads, recurse=True)
        for entry in entries or ():
            # Unless somebody has put another in the meantime.
            if 0 < entry["Flags"] < now and self._kv.delete(entry["Key"], cas=entry["ModifyIndex"]):
                swept += 1
        _, names = self._kv.get(self._parts, keys=True)
        # Of heads that went just now, and of writers that died before they wrote one.
        for generation in {name.rpartition("/")[0] for name in names or ()}:
            end = generation.rpartition("/")[2].partition("-")[0]
            if end.isdigit() and 0 < int(end) < now:
                self._kv.delete(f"{generation}/", recurse=True)
        return swept

    def close(self) -> None:
        """See the base."""
        # Idle connections; the session opens others when it is used again.
        self._client.http.session.close()

    @property
    def _kv(self) -> Any:
        return self._client.kv

    def _entry(self, key: str) -> dict[str, Any] | None:
        _, entry = self._kv.get(self._heads + key)
        return cast("dict[str, Any] | None", entry)

    def _of(self, key: str, head: Head) -> str:
        return f"{self._parts}{key}/{head.generation}/"

    def _drop(self, key: str, entry: Mapping[str, Any] | None) -> None:
        head = decode_head(entry["Value"]) if entry else None
        if head is not None and head.generation:
            self._kv.delete(self._of(key, head), recurse=True)
