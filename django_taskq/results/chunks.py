"""A value larger than a cache takes as one item, as several; put together again it is whole or missing, never wrong."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Final

#: bytes: memcached's default limit for an item, 1 MiB (``-I``), less what it and a key need
CHUNK_SIZE: Final = 1_000_000
#: the first byte of what stands under the key itself: the value follows, or the names of its chunks
_WHOLE, _CHUNKED = b"\x00", b"\x01"


def split(key: str, value: bytes, size: int | None = CHUNK_SIZE) -> tuple[bytes, dict[str, bytes]]:
    """What to store under ``key``, and the chunks to store before it, by their keys.

    ``size``: bytes of an item at most; None: the value stays in one. Chunks have names that no other value has, so those of two values never mix, whatever was evicted or overwritten.
    """
    if size is None or len(value) < size:
        return _WHOLE + value, {}
    token = secrets.token_hex(8)
    chunks = {f"{key}.{token}.{i // size}": value[i : i + size] for i in range(0, len(value), size)}
    return _CHUNKED + f"{token} {len(chunks)}".encode(), chunks


def join(key: str, head: bytes | None, get_many: Callable[[Iterable[str]], Mapping[str, bytes]]) -> bytes | None:
    """The value that ``head`` stands for; None if a part of it is gone. ``get_many`` gives the chunks there are."""
    if head is None:
        return None
    kind, rest = head[:1], head[1:]
    if kind == _WHOLE:
        return rest
    if kind != _CHUNKED:
        raise ValueError("What the cache has under a result's key was not stored by this store.")
    token, _, count = rest.decode().partition(" ")
    names = [f"{key}.{token}.{number}" for number in range(int(count))]
    chunks = get_many(names)
    return b"".join(chunks[name] for name in names) if all(name in chunks for name in names) else None
