"""A double of IronCache: items of up to 1 MB that end in up to 30 days.

https://dev.iron.io/cache/reference/api/
"""

from __future__ import annotations

import time

from tests.servers.doubles import PASSWORD, USER
from tests.servers.doubles.listening import serve
from tests.servers.doubles.web import Answer, Request, WebDouble

_LARGEST = 1_000_000
_DEFAULT_TTL, _LONGEST_TTL = 604_800, 2_592_000
#: An item's value and its end.
_ITEMS: dict[tuple[str, str], tuple[object, float]] = {}


class _IronCache(WebDouble):
    def answer(self, request: Request) -> Answer:
        """What the server says."""
        if request.headers.get("authorization") != f"OAuth {PASSWORD}":
            return Answer(401, {"msg": "Unauthorized"})
        match request.method, request.path:
            case method, ("1", "projects", project, "caches", cache, "items", key):
                if project != USER:
                    return Answer(403, {"msg": "Project suspended, resource limits"})
                return _item(method, (cache, key), request)
        return Answer(404, {"msg": "Not found"})


def _item(method: str, name: tuple[str, str], request: Request) -> Answer:
    if method == "PUT":
        return _put(name, request)
    value, end = _ITEMS.get(name, (None, 0.0))
    if end <= time.time():
        _ITEMS.pop(name, None)
        return Answer(404, {"msg": "Key not found."})
    if method == "DELETE":
        del _ITEMS[name]
        return Answer(200, {"msg": "Deleted."})
    return Answer(200, {"cache": name[0], "key": name[1], "value": value})


def _put(name: tuple[str, str], request: Request) -> Answer:
    if len(request.body) > _LARGEST:
        return Answer(413, {"msg": "Request entity too large"})
    item = request.json
    seconds = item.get("expires_in", _DEFAULT_TTL)
    if not (isinstance(seconds, int) and 0 < seconds <= _LONGEST_TTL and isinstance(item["value"], str)):
        return Answer(400, {"msg": "Invalid item"})
    value: object = item["value"]
    # The server takes what looks like a number for one.
    if item["value"].isdigit():
        value = int(item["value"])
    _ITEMS[name] = (value, time.time() + seconds)
    return Answer(200, {"msg": "Stored."})


if __name__ == "__main__":
    serve(_IronCache)
