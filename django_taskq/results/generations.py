"""Large values on servers that take small ones only, and can be asked for all that begins alike, or for one at a time.

A writer stores the parts of a new generation, then a head that names it. A reader that finds a head and not all of its
parts has met a writer that was faster, or one that died: it looks again, or finds nothing, but never puts together what
does not belong together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: how often others may be faster under one key before no value is found
_LOOKS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What stands under a key: the value, or where its parts are.

    ``generation``: unique to the one put that wrote the parts; "" for an ``inline`` value. ``digest``: of the whole value,
    in hexadecimal digits.
    """

    inline: bytes = b""
    generation: str = ""
    count: int = 0
    digest: str = ""

    def encode(self) -> bytes:
        """As bytes: a letter that says which of the two it is, then the rest."""
        if not self.generation:
            return b"v" + self.inline
        return b"p" + json.dumps([self.generation, self.count, self.digest]).encode()


def cut(value: bytes, size: int, generation: str) -> tuple[Head, list[bytes]]:
    """The head of a value and its parts of at most ``size`` bytes."""
    parts = [value[start : start + size] for start in range(0, len(value), size)]
    return Head(generation=generation, count=len(parts), digest=_digest(value)), parts


def find(head: Callable[[], bytes | None], parts: Callable[[Head], Sequence[bytes]]) -> bytes | None:
    """The value; None when there is none.

    ``head`` and ``parts`` ask the server: what is under the key, and, in order, those parts of a head that are there.
    """
    seen = None
    for _ in range(_LOOKS):
        found = decode_head(head())
        # The same head again, and not all of its parts: its writer died, or somebody deletes it.
        if found is None or found.generation == seen:
            return None
        if not found.generation:
            return found.inline
        value = b"".join(parts(found))
        if _digest(value) == found.digest:
            return value
        seen = found.generation
    return None


def decode_head(data: bytes | None) -> Head | None:
    """What :meth:`Head.encode` gave; None for anything else."""
    if not data or data[:1] not in b"vp":
        return None
    if data[:1] == b"v":
        return Head(inline=data[1:])
    try:
        generation, count, digest = json.loads(data[1:])
    except (TypeError, ValueError):
        return None
    if not (isinstance(generation, str) and generation and isinstance(count, int) and isinstance(digest, str)):
        return None
    return Head(generation=generation, count=count, digest=digest)


def _digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()
