"""How many tasks without rows have run, and from when to when: what each thread of a worker writes down for itself.

A page of shared memory for each thread, so that a note costs neither a lock nor a call of the kernel.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Self

from tests.benchmarks.plan import Plan

#: tasks; seconds of the monotonic clock, which all processes share: the first note, the last one
_PAGE = Struct("=Qdd")
_SUFFIX = ".tally"

_thread = threading.local()


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What was noted. ``began_at``, ``ended_at``: monotonic seconds of the first and the last note, 0 without any."""

    count: int
    began_at: float
    ended_at: float

    @classmethod
    def of(cls, pages: Iterable[tuple[int, float, float]]) -> Self:
        """Return the sum of pages."""
        counted = [page for page in pages if page[0]]
        return cls(
            count=sum(count for count, _, _ in counted),
            began_at=min((first for _, first, _ in counted), default=0.0),
            ended_at=max((last for _, _, last in counted), default=0.0),
        )


class _Page:
    """The page of one thread."""

    def __init__(self, file: Path) -> None:
        with file.open("w+b") as opened:
            opened.truncate(_PAGE.size)
            self._memory = mmap.mmap(opened.fileno(), _PAGE.size)
        self._count = 0
        self._began_at = time.monotonic()

    def note(self) -> None:
        self._count += 1
        _PAGE.pack_into(self._memory, 0, self._count, self._began_at, time.monotonic())


def note() -> None:
    """Count one more."""
    try:
        page: _Page = _thread.page
    except AttributeError:
        name = f"{os.getpid()}-{threading.get_ident()}{_SUFFIX}"
        page = _thread.page = _Page(Path(Plan.load().directory) / name)
    page.note()


def clear(directory: Path) -> None:
    """Begin anew; nothing may be running."""
    for file in directory.glob(f"*{_SUFFIX}"):
        file.unlink()


def read(directory: Path) -> Tally:
    """Return what was noted until now."""
    pages = (file.read_bytes() for file in directory.glob(f"*{_SUFFIX}"))
    # One may have been made this very moment, and be empty yet.
    return Tally.of(_PAGE.unpack(page) for page in pages if page)
