"""Doubles of servers that cannot be had here: they speak the protocol, and keep what they are given.

A double shows that our calls are well formed: a client of the real server sends what it would send, and the answers are as
the server's documentation has them. It shows nothing about the server: not that it keeps what it took, nor how it behaves
under load, in a cluster or with another version. What we do not send, a double refuses, so that no test passes by chance.

Each is a module that ``python -m`` runs, and a process of its own, so that it can be taken away. Standard library only,
apart from pymongo's BSON. They are never imported by the tests.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.reaper import reaper

#: Whom doubles let in that ask for a name: a password with all that has to be quoted in a URL.
USER, PASSWORD = "taskq", "s3cret/@:?#%"


class Double:
    """A double on a free port of the loopback interface, for the length of a ``with`` block."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        root = Path(__file__).parents[3]
        command = [sys.executable, "-m", f"{__name__}.{self.name}"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=root, text=True)
        self._process = process
        reaper().watch(process.pid)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            self.stop()
            raise RuntimeError(f"The double of {self.name} did not start")
        self.port = int(line)
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, with all of its connections. Also twice."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        reaper().release(process.pid)
        assert process.stdout is not None
        process.stdout.close()
