"""A process a test started: its output, its signals, its end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.reaper import reaper
from tests.waiting import allowed, wait_until


class Process:
    """A command in a session of its own, writing into two files; it leads its process group."""

    def __init__(self, command: Sequence[str], *, directory: Path, name: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self.stdout = directory / f"{name}.out"
        self.stderr = directory / f"{name}.err"
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=directory,
                env=environment,
                start_new_session=True,
            )
        self._ended = False
        reaper().watch(self.pid)

    @property
    def pid(self) -> int:
        """The process itself, and its group."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._popen.poll()

    def text(self) -> str:
        """Return what it wrote until now: standard output, then standard error."""
        return self.stdout.read_text(errors="replace") + self.stderr.read_text(errors="replace")

    def children(self) -> list[psutil.Process]:
        """Return all its living descendants."""
        living: list[psutil.Process] = psutil.Process(self.pid).children(recursive=True)
        return living

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self._popen.send_signal(number)

    def send_group(self, number: signal.Signals) -> None:
        """Send a signal to the whole group, as a terminal does."""
        os.killpg(self.pid, number)

    def wait(self, deadline: float = 30.0) -> int:
        """Return the exit code; raise TimeoutError, with the output, when it still runs after `deadline` seconds."""
        deadline = allowed(deadline)
        try:
            return self._popen.wait(deadline)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} still runs after {deadline} s:\n{self.text()}") from None

    def wait_for(self, text: str, deadline: float = 30.0) -> None:
        """Wait until it has written `text`; raise when it ends, or the deadline passes, without that."""

        def seen() -> bool:
            running = self.returncode is None
            if text in self.text():
                return True
            if not running:
                raise AssertionError(f"{self.name} ended with {self.returncode} before {text!r}:\n{self.text()}")
            return False

        wait_until(seen, deadline, what=f"{text!r} from {self.name}")

    def end(self) -> None:
        """Kill what is left of its group; once, since afterwards its number may be somebody else's."""
        if self._ended:
            return
        self._ended = True
        with contextlib.suppress(ProcessLookupError):
            self.send_group(signal.SIGKILL)
        self.wait()
        reaper().release(self.pid)
