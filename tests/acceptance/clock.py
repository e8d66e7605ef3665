"""A wall clock of some processes' own."""

from __future__ import annotations

from pathlib import Path

from tests.servers.programs import libfaketime


class Clock:
    """The wall clock of processes that are started with ``environment``; a monotonic clock never jumps."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock"
        self.set("+0")
        self.environment = {
            "LD_PRELOAD": str(libfaketime()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: str) -> None:
        """Whoever reads it meanwhile reads the whole of it."""
        beside = self._file.with_suffix(".new")
        beside.write_text(f"{offset}\n")
        beside.replace(self._file)
