"""Django's caches, whichever is behind an alias of CACHES."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from django.core.cache import BaseCache, InvalidCacheBackendError, caches
from django.core.cache.backends.db import DatabaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.memcached import BaseMemcachedCache, PyMemcacheCache
from django.core.cache.backends.redis import RedisCache
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from ...core.options import nearest
from .. import chunks
from ..address import only_known
from ..keyvalue import CONNECT_TIMEOUT, OPERATION_TIMEOUT, KeyValueStore, StoreConfigError

#: seconds, 30 years: databases and file systems have no instants much later; it stays instead
_LONGEST: Final = 1e9
#: seconds by which caches round down
_TICK: Final = 1
#: caches whose clients threads can share: (options unless the alias has them, options whatever it has)
_SHARED: Final[dict[type[BaseCache], tuple[dict[str, Any], dict[str, Any]]]] = {
    RedisCache: ({"socket_connect_timeout": CONNECT_TIMEOUT, "socket_timeout": OPERATION_TIMEOUT}, {}),
    PyMemcacheCache: (
        {"connect_timeout": CONNECT_TIMEOUT, "timeout": OPERATION_TIMEOUT, "no_delay": True},
        # It would take a server that is down for one that has nothing, or go to another one.
        {"use_pooling": True, "ignore_exc": False, "retry_attempts": sys.maxsize, "retry_timeout": -1},
    ),
}


class CacheStore(KeyValueStore):
    """Results in a cache of Django: ``cache://alias``; no options.

    Addresses, passwords and TLS are those of the alias. What it keeps it keeps as Django does, which for most caches
    means pickled: whoever writes to the cache can run code in whoever reads it. ``redis://``, ``cache+memcached://`` and
    ``file://`` of ours pickle nothing.

    For Django's Redis and pymemcache a client of our own is made with the alias's options, which all threads share, with
    timeouts where the alias has none, and which says so when the server is down. Others are Django's, one for each
    thread, with timeouts and failures as they have them; they are read before and after each put, because they may fail
    to store without a word.

    Values expire in the cache. Those in memory (``locmem``), files and databases also delete a third of all, results
    that nobody has read among them, at ``MAX_ENTRIES``, which is 300 unless ``OPTIONS`` says more; memcached and Redis do
    when they are full. In a database a value is visible when its transaction has ended. On memcached, values over 1 MB
    are stored as several.
    """

    expires: ClassVar[bool] = True

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        only_known(options, (), store="cache://")
        scheme, _, rest = url.partition("://")
        alias = rest.rstrip("/")
        if scheme != "cache" or not alias:
            raise StoreConfigError("cache://: write the alias of a cache, cache://default.")
        known = list(caches.settings)
        if alias not in known:
            raise StoreConfigError(f"cache://: CACHES has no alias {alias!r}{nearest(alias, known) or '.'}")
        self._alias = alias
        try:
            self._own = _own(alias)
            cache = self._cache
        except (ImproperlyConfigured, InvalidCacheBackendError) as error:
            raise StoreConfigError(f"cache://: the cache {alias!r} cannot be made: {error}") from error
        self._chunk_size = chunks.CHUNK_SIZE if isinstance(cache, BaseMemcachedCache) else None

    @property
    def is_private(self) -> bool:
        """Whether no other process sees the values, or nobody at all."""
        return isinstance(self._cache, LocMemCache | DummyCache)

    @property
    def culls_at(self) -> int | None:
        """The number of entries at which the cache deletes some that are not over; None: when it is full."""
        cache = self._cache
        counts = isinstance(cache, LocMemCache | FileBasedCache | DatabaseCache)
        return cache._max_entries if counts else None  # noqa: SLF001  # in no other place after OPTIONS and defaults

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """Set, and see that it is there; ``OSError`` if not."""
        timeout = None if ttl is None or ttl > _LONGEST else max(0, math.ceil(ttl)) + _TICK
        head, parts = chunks.split(key, value, self._chunk_size)
        for name, part in parts.items():
            self._set(name, part, timeout)
        if self._own is not None:
            # Its client raises what goes wrong. Redis's reads from replicas, which may not have it yet.
            self._set(key, head, timeout)
            return
        before = self._read(key)
        self._set(key, head, timeout)
        found = self._read(key)
        # Anything else is what somebody else has put since.
        if found is None or found == before != head:
            raise OSError(f"The cache {self._alias!r} did not keep a value.")

    def get(self, key: str) -> bytes | None:
        """What the cache has."""
        return chunks.join(key, self._read(key), self._read_many)

    def delete(self, key: str) -> None:
        """Delete; ``OSError`` if it is still there."""
        # Files that cannot be reached are, for the cache's ``delete``, not there; for its ``get`` they are an error.
        if not self._cache.delete(key) and self._cache.get(key) is not None:
            raise OSError(f"The cache {self._alias!r} did not delete a value.")

    def close(self) -> None:
        """Close connections of our own; Django closes its own at the end of a request."""
        if self._own is not None:
            with contextlib.suppress(Exception):
                self._own.close()

    @property
    def _cache(self) -> BaseCache:
        # Django's are one for each thread.
        cache: BaseCache = caches[self._alias] if self._own is None else self._own
        return cache

    def _set(self, key: str, value: bytes, timeout: int | None) -> None:
        # Not ``set``: memcached's deletes what it could not set, and says nothing.
        if self._cache.set_many({key: value}, timeout=timeout):
            raise OSError(f"The cache {self._alias!r} refused a value.")

    def _read(self, key: str) -> bytes | None:
        value = self._cache.get(key)
        if value is not None and not isinstance(value, bytes):
            raise TypeError(f"The cache {self._alias!r} has a {type(value).__name__} where a result would be.")
        return value

    def _read_many(self, names: Iterable[str]) -> Mapping[str, bytes]:
        return self._cache.get_many(list(names))


def _own(alias: str) -> BaseCache | None:
    """A cache that all threads share and no other process has a connection of; None where its client is not up to it."""
    arguments = dict(caches.settings[alias])
    try:
        backend = import_string(arguments.pop("BACKEND"))
    except ImportError:
        # Django has words for it.
        return None
    for shared, (defaults, fixed) in _SHARED.items():
        if issubclass(backend, shared):
            arguments["OPTIONS"] = {**defaults, **arguments.get("OPTIONS", {}), **fixed}
            cache: BaseCache = backend(arguments.pop("LOCATION", ""), arguments)
            return cache
    return None
