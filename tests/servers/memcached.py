"""A private memcached."""

from __future__ import annotations

from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import ClassVar

from tests.servers.programs import memcached_server
from tests.servers.server import Mode, Server, accepts


class MemcachedServer(Server):
    """A private memcached, which forgets everything at its end and lets everybody in; `durable` changes nothing."""

    vendor = "memcached"
    accounts = ("memcache",)
    # Memcached has no signal for an immediate stop.
    endings: ClassVar[dict[Mode, Signals]] = {"fast": SIGTERM, "immediate": SIGKILL}

    def _initialise(self) -> None:
        """Memcached has no files."""

    def _command(self) -> list[str | Path]:
        # As it comes, with its 64 MB in all and 1 MB for an item, but fewer threads for two cores.
        return [memcached_server(), "--listen=127.0.0.1", f"--port={self.port}", "--threads=2"]

    def _is_ready(self) -> bool:
        return accepts(self.port, b"version\r\n", answer=b"VERSION ")
