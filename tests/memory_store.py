"""A result store in this process's memory, to count what is asked of it, to slow down and to break.

``mem://name``: every store of one name is the same server. With ``OPTIONS["result_stores"] = MEMORY``.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from django_taskq.results.keyvalue import KeyValueStore, StoreConfigError

MEMORY = {"mem": "tests.memory_store.MemoryStore"}


class MemoryServer:
    """What the stores of one name share.

    ``problem``: raised by every operation; None: it works. ``may_answer``: cleared, it lets everybody wait. ``delay``:
    seconds for an answer.
    """

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.renew()

    def renew(self) -> None:
        """Become as good as new, for stores that were made before."""
        self.values: dict[str, bytes] = {}
        self.ttls: dict[str, float | None] = {}
        #: Calls by the operation's name.
        self.calls: Counter[str] = Counter()
        #: What ``sweep`` was told.
        self.sweeps: list[tuple[float, float]] = []
        self.problem: Exception | None = None
        self.delay = 0.0
        self.may_answer.set()

    def called(self, operation: str) -> None:
        self.calls[operation] += 1
        self.may_answer.wait(60)
        if self.delay:
            time.sleep(self.delay)
        if self.problem is not None:
            raise self.problem


_servers: dict[str, MemoryServer] = {}


def memory_server(name: str) -> MemoryServer:
    """Return the server of this name."""
    return _servers.setdefault(name, MemoryServer())


class MemoryStore(KeyValueStore):
    """``mem://name``; options: ``max_size``."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        given = dict(options)
        # Of this store alone.
        self.max_size = given.pop("max_size", None)  # type: ignore[misc]
        if given:
            raise StoreConfigError(f"mem:// has no option {next(iter(given))!r}.")
        self.server = memory_server(url.partition("://")[2])

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        self.server.called("put")
        self.server.values[key] = value
        self.server.ttls[key] = ttl

    def get(self, key: str) -> bytes | None:
        self.server.called("get")
        return self.server.values.get(key)

    def delete(self, key: str) -> None:
        self.server.called("delete")
        self.server.values.pop(key, None)

    def sweep(self, now: float, longest: float) -> int:
        self.server.called("sweep")
        self.server.sweeps.append((now, longest))
        return len(self.server.sweeps)


class ForgetfulStore(MemoryStore):
    """The same with an expiry of its own."""

    expires = True
