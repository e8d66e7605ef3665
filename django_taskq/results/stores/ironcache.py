"""IronCache, by HTTP: it has no client that is kept up."""

from __future__ import annotations

import base64
import math
import secrets
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import requests

from ..address import only_known, parse_address
from ..generations import Head, cut, decode_head, find
from ..keyvalue import CONNECT_TIMEOUT, OPERATION_TIMEOUT, KeyValueStore, StoreConfigError

_FORM = "ironcache://project_id:token@host/cache"
_KNOWN = frozenset({"protocol", "api_version", "project_id", "token"})
#: Seconds. https://dev.iron.io/cache/reference/environment/ ("Item Constraints")
_LONGEST_TTL = 30 * 24 * 3600
#: Bytes: in base64, with the rest of the request around, less than the 1 MB of that page.
_PART = 700_000


class IronCacheStore(KeyValueStore):
    """``ironcache://project_id:token@host/cache``.

    The host is cache-aws-us-east-1.iron.io and the cache "taskq" where the URL does not say them (as in iron_celery's
    ``ironcache://project_id:token@``). Options, as in Iron's own configuration: ``project_id`` and ``token`` where the URL
    does not say them, ``protocol`` ("https"), ``api_version`` (1).

    The server lets a value end by itself, and keeps none for longer than 30 days, whatever is asked for. An item has at
    most 1 MB, so a larger value is several: parts, and a head that names them. HTTP API:
    https://dev.iron.io/cache/reference/api/
    """

    expires = True
    # There is no limit to the number of parts; each is a request of its own.
    max_size = 16 * 1024 * 1024

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        only_known(options, _KNOWN, store="ironcache://")
        address = parse_address(url, form=_FORM)
        project = address.username or options.get("project_id")
        token = address.password or options.get("token")
        if not project or not token:
            raise StoreConfigError(f"ironcache:// needs a project and a token; write {_FORM}.")
        protocol = options.get("protocol", "https")
        host, port = address.host("cache-aws-us-east-1.iron.io", 443 if protocol == "https" else 80)
        cache = address.path[0] if address.path else "taskq"
        self._items = (
            f"{protocol}://{host}:{port}/{options.get('api_version', 1)}"
            f"/projects/{quote(project, safe='')}/caches/{quote(cache, safe='')}/items/"
        )
        self._token = str(token)
        self._sessions = threading.local()

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """See the base."""
        seconds = _LONGEST_TTL if ttl is None else min(max(1, math.ceil(ttl)), _LONGEST_TTL)
        head = Head(inline=value)
        if len(value) > _PART:
            head, parts = cut(value, _PART, secrets.token_hex(8))
            for number, part in enumerate(parts):
                # A part that ended before its head would make nothing of it.
                self._put_item(_part_name(key, head, number), part, min(seconds + 60, _LONGEST_TTL))
        # Parts of a head that was there end by themselves.
        self._put_item(_head_name(key), head.encode(), seconds)

    def get(self, key: str) -> bytes | None:
        """See the base."""

        def parts(head: Head) -> list[bytes]:
            found = (self._item(_part_name(key, head, number)) for number in range(head.count))
            return [part for part in found if part is not None]

        return find(lambda: self._item(_head_name(key)), parts)

    def delete(self, key: str) -> None:
        """See the base."""
        head = decode_head(self._item(_head_name(key)))
        self._request("DELETE", _head_name(key))
        if head is not None:
            for number in range(head.count):
                self._request("DELETE", _part_name(key, head, number))

    def close(self) -> None:
        """See the base."""
        # A thread's own; those of others go with their threads.
        if session := getattr(self._sessions, "session", None):
            session.close()

    def _item(self, name: str) -> bytes | None:
        answer = self._request("GET", name)
        return None if answer is None else base64.b64decode(answer["value"][1:])

    def _put_item(self, name: str, value: bytes, seconds: int) -> None:
        # The letter: the server takes a value that looks like a number for one, and base64 can be all digits.
        text = "b" + base64.b64encode(value).decode("ascii")
        self._request("PUT", name, {"value": text, "expires_in": seconds})

    def _request(self, method: str, name: str, body: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """The answer; None where there is no such item."""
        session = getattr(self._sessions, "session", None)
        if session is None:
            session = self._sessions.session = requests.Session()
            # Not as a header of the session, in whose place a netrc file might put another.
            session.auth = self._authorize
        response = session.request(
            method,
            self._items + quote(name, safe=""),
            json=body,
            timeout=(CONNECT_TIMEOUT, OPERATION_TIMEOUT),
        )
        if response.status_code == requests.codes.not_found:
            return None
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"OAuth {self._token}"
        return request


def _head_name(key: str) -> str:
    return f"taskq-{key}"


def _part_name(key: str, head: Head, number: int) -> str:
    return f"taskq-{key}-{head.generation}-{number}"
