"""What a server that keeps values has to offer: the few primitives that every store module writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Protocol

#: seconds for a server to answer: connecting, and each operation
CONNECT_TIMEOUT, OPERATION_TIMEOUT = 2.0, 5.0


class StoreConfigError(ValueError):
    """A store's URL or options cannot be; says what was found and what to write, and no secret."""


class Listener(Protocol):
    """Hears of values as they are put; belongs to one thread. Methods raise the client's errors."""

    def fileno(self) -> int:
        """A descriptor that turns readable when there is something to hear."""

    def watch(self, keys: Collection[str]) -> None:
        """Hear of these keys, too. What was put before is not told."""

    def forget(self, keys: Collection[str]) -> None:
        """Hear no more of these."""

    def drain(self) -> set[str]:
        """The keys that were put since; does not wait."""

    def close(self) -> None:
        """Never raises, never waits."""


class KeyValueStore(ABC):
    """Values under keys on one server.

    Making one reads ``url`` and ``options`` and imports the client library; it connects to nothing, so that a check can
    make one. Raises ``StoreConfigError`` for a URL or option that cannot be, ``ImportError`` without the client.

    Other methods may be called from any thread, by several at once; whoever forks makes a new store in the child and
    leaves this one alone. They give up within ``CONNECT_TIMEOUT`` and ``OPERATION_TIMEOUT``, and raise whatever the
    client raises: the caller turns that into one error of ours.

    Keys are up to 100 characters of ``[A-Za-z0-9_.-]``. Values are opaque bytes. What a server needs before its first
    value (a table, an index, a bucket where Celery's store makes one) is made at first use, once, also by several
    processes at the same time.

    ``url``: as in settings, with Celery's spelling. ``options``: ``OPTIONS["result_options"]``.
    """

    #: whether the server deletes values whose time is over by itself; else ``sweep`` does
    expires: ClassVar[bool] = False
    #: bytes that the server takes as one value at most; None: more than anybody should store
    max_size: ClassVar[int | None] = None

    @abstractmethod
    def __init__(self, url: str, options: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """Store, in the place of what was there; when this returns, every reader sees it.

        ``ttl``: seconds from now until nobody needs it any more; None: it stays. A server whose own limits are coarser
        may keep it for longer, never for less.
        """

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """The value; None when there is none. One whose time is over may come, too: the caller looks."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete; also what is not there."""

    def sweep(self, now: float, longest: float) -> int:
        """Delete what is over; gives how many values, -1 where only the server knows.

        ``now``: seconds since 1970. ``longest``: the longest ``ttl`` that anybody puts values with, for servers that
        know when a value was put, and not when it is over. With ``expires`` there is nothing to do.
        """
        return 0

    def listener(self) -> Listener | None:
        """Connect to hear of values; None where the server cannot tell."""
        return None

    def close(self) -> None:  # noqa: B027  # not every client has any
        """Give connections back. Never raises; a later call of another method may connect again."""
