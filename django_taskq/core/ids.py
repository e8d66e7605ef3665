"""UUIDv7: ids that sort by the time they were made (RFC 9562, section 5.7)."""

from __future__ import annotations

import os
import threading
from hashlib import sha256
from uuid import UUID

#: ids for which the kernel is asked for chance at once. Asking lets other threads go first, which may take milliseconds.
_STOCK = 64
#: bytes of chance in an id
_CHANCE = 9
#: the bits of an id after its variant
_TAIL = (1 << 62) - 1


class UUID7Generator:
    """Makes ids that never go backwards within a process, also when the clock does.

    48 bits of milliseconds, then a 12-bit and a 30-bit counter seeded at random each
    millisecond (RFC 9562, section 6.2, method 1), then 32 random bits. Thread-safe.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew: a forked child must neither go on with its parent's counter nor wait for its parent's threads."""
        self._lock = threading.Lock()
        self._millisecond = -1
        self._counter = 0
        self._stock: list[int] = []

    def __call__(self, now: float) -> UUID:
        """A new id for the wall-clock time ``now`` (seconds since the epoch)."""
        return UUID(int=self._next(now))

    def text(self, now: float) -> str:
        """A new id as canonical text: half of what it costs would be the ``UUID`` that nobody needs."""
        digits = f"{self._next(now):032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def _next(self, now: float) -> int:
        millisecond = int(now * 1000)
        tail = self._chance()
        with self._lock:
            if millisecond > self._millisecond:
                self._millisecond = millisecond
                # The top bit stays free, so that the counter has room to grow.
                self._counter = tail >> 31 & 0x1FF_FFFF_FFFF
            else:
                self._counter += 1
                if self._counter >> 42:
                    self._millisecond += 1
                    self._counter = 0
            millisecond, counter = self._millisecond, self._counter
        value = (millisecond & 0xFFFF_FFFF_FFFF) << 80
        value |= 0x7 << 76 | (counter >> 30) << 64
        value |= 0b10 << 62 | (counter & 0x3FFF_FFFF) << 32 | tail & 0xFFFF_FFFF
        return value

    def _chance(self) -> int:
        """72 random bits that nobody else gets."""
        try:
            # No race: a list gives each of its items to one thread.
            return self._stock.pop()
        except IndexError:
            data = os.urandom(_CHANCE * _STOCK)
            stock = [int.from_bytes(data[start : start + _CHANCE], "big") for start in range(0, len(data), _CHANCE)]
            tail = stock.pop()
            self._stock.extend(stock)
            return tail


def derived(seed: UUID, source: UUID) -> UUID:
    """An id of the time that ``seed`` has, always the same for the same two."""
    tail = int.from_bytes(sha256(seed.bytes + source.bytes).digest()[:8], "big") & _TAIL
    return UUID(int=seed.int & ~_TAIL | tail)


def lower_bound(now: float) -> UUID:
    """What no id that is made at the wall-clock time ``now``, or later, is less than."""
    return UUID(int=(int(now * 1000) & 0xFFFF_FFFF_FFFF) << 80)


def upper_bound(now: float) -> UUID:
    """The greatest id that can be made at the wall-clock time ``now``."""
    return UUID(int=lower_bound(now).int | (1 << 80) - 1)


def millisecond_of(task_id: UUID) -> int:
    """When an id was made, in milliseconds since the epoch."""
    return task_id.int >> 80


#: the process-wide generator
uuid7 = UUID7Generator()
os.register_at_fork(after_in_child=uuid7.reset)
