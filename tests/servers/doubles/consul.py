"""A double of Consul's key-value store: values of up to 512 KB, flags, check-and-set, and all keys that begin alike.

https://developer.hashicorp.com/consul/api-docs/kv
"""

from __future__ import annotations

import base64
import itertools
from dataclasses import dataclass
from typing import Any

from tests.servers.doubles import PASSWORD
from tests.servers.doubles.listening import serve
from tests.servers.doubles.web import Answer, Request, WebDouble

_LARGEST = 512 * 1024
_INDEX = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    value: bytes
    flags: int
    created: int
    modified: int


_ENTRIES: dict[str, _Entry] = {}


class _Consul(WebDouble):
    def answer(self, request: Request) -> Answer:
        """What the server says."""
        if request.headers.get("x-consul-token") != PASSWORD:
            return Answer(403, b"Permission denied")
        if request.path[:2] != ("v1", "kv"):
            return Answer(404, b"")
        # A slash at the end is a part of a key.
        key = "/".join(request.path[2:]) + ("/" if self.path.partition("?")[0].endswith("/") else "")
        match request.method:
            case "PUT":
                return _put(key, request)
            case "DELETE":
                return _delete(key, request)
            case "GET":
                return _get(key, request)
        return Answer(405, b"method not allowed")


def _put(key: str, request: Request) -> Answer:
    if len(request.body) > _LARGEST:
        return Answer(413, b"Value exceeds the limit of 524288 bytes")
    flags = int(request.query.get("flags", "0"))
    if not 0 <= flags < 2**64:
        return Answer(400, b"invalid flags")
    if not _may(key, request, of_nothing=True):
        return Answer(200, False)
    old, index = _ENTRIES.get(key), next(_INDEX)
    created = old.created if old else index
    _ENTRIES[key] = _Entry(value=request.body, flags=flags, created=created, modified=index)
    return Answer(200, True)


def _delete(key: str, request: Request) -> Answer:
    if "recurse" in request.query:
        for name in _under(key):
            del _ENTRIES[name]
        return Answer(200, True)
    if not _may(key, request, of_nothing=False):
        return Answer(200, False)
    _ENTRIES.pop(key, None)
    return Answer(200, True)


def _get(key: str, request: Request) -> Answer:
    headers = {"X-Consul-Index": str(next(_INDEX))}
    is_listing = "keys" in request.query or "recurse" in request.query
    names = _under(key) if is_listing else [name for name in (key,) if name in _ENTRIES]
    if not names:
        return Answer(404, b"", headers)
    if "keys" in request.query:
        return Answer(200, names, headers)
    return Answer(200, [_described(name) for name in names], headers)


def _may(key: str, request: Request, *, of_nothing: bool) -> bool:
    """Whether check-and-set lets it through. ``of_nothing``: whether 0 stands for a key that is not there."""
    if "cas" not in request.query:
        return True
    wanted, there = int(request.query["cas"]), _ENTRIES.get(key)
    if wanted == 0:
        return of_nothing and there is None
    return there is not None and there.modified == wanted


def _under(prefix: str) -> list[str]:
    return sorted(name for name in _ENTRIES if name.startswith(prefix))


def _described(name: str) -> dict[str, Any]:
    entry = _ENTRIES[name]
    return {
        "Key": name,
        "Value": base64.b64encode(entry.value).decode() or None,
        "Flags": entry.flags,
        "CreateIndex": entry.created,
        "ModifyIndex": entry.modified,
        "LockIndex": 0,
    }


if __name__ == "__main__":
    serve(_Consul)
