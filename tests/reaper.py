"""Ends what a test run started, even when the run itself is killed.

``atexit`` and ``finally`` do not run in a process that gets SIGKILL. So each process that starts servers or workers
also starts one reaper, and tells it over a pipe what it owns. The kernel closes the pipe however the owner ends;
then the reaper ends what was not taken back and removes the directories.

Run as a file, not as a module: it needs nothing but the standard library and starts in some 30 ms.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

#: Seconds a process may take to end by the signal it was given, before SIGKILL.
PATIENCE = 10.0


class Reaper:
    """Owns one reaper process; every method is one line down its pipe."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", __file__],
            stdin=subprocess.PIPE,
            text=True,
            # A Ctrl-C goes to the whole group in the foreground; the reaper must outlive it.
            start_new_session=True,
        )
        atexit.register(self._finish)

    def watch(self, pid: int, *, ending: signal.Signals = signal.SIGKILL) -> None:
        """End the process `pid`, and every process of the group it leads, when the owner is gone."""
        self._tell({"do": "watch", "pid": pid, "signal": int(ending)})

    def release(self, pid: int) -> None:
        """Forget `pid`: its owner has seen it end."""
        self._tell({"do": "release", "pid": pid})

    def remove(self, directory: Path) -> None:
        """Remove `directory` when the owner is gone and all watched processes have ended."""
        self._tell({"do": "remove", "directory": str(directory)})

    def _finish(self) -> None:
        if os.getpid() == self._owner:
            pipe = self._process.stdin
            assert pipe is not None
            pipe.close()
            self._process.wait()

    def _tell(self, order: dict[str, object]) -> None:
        if os.getpid() != self._owner:
            raise RuntimeError("A forked process must not speak for its parent: use reaper() in the child.")
        pipe = self._process.stdin
        assert pipe is not None
        pipe.write(json.dumps(order) + "\n")
        pipe.flush()


@functools.lru_cache(maxsize=1)
def _reaper(owner: int) -> Reaper:
    return Reaper()


def reaper() -> Reaper:
    """Return this process's reaper, started at the first call."""
    return _reaper(os.getpid())


def started_at(pid: int) -> str | None:
    """Return when the process started, in the kernel's ticks; None for one that has ended, reaped or not.

    A pid alone is not an identity: the kernel gives it out again.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc(5): field 3 is the state, field 22 the start time; the first two went with the command's name.
    return None if fields[0] in "ZX" else fields[19]


def _send(pid: int, number: int) -> None:
    for send in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            send(pid, number)


def _wait(ended: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not ended():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _end(watched: dict[int, tuple[str | None, int]]) -> None:
    now = {pid: started_at(pid) for pid in watched}
    alive = {pid: entry for pid, entry in watched.items() if now[pid] is not None and now[pid] == entry[0]}
    for pid, (_, number) in watched.items():
        # A leader may be gone and its group alive: nobody else gets the number while it is. But where another process
        # has the number by now, the group is gone too.
        if pid in alive or now[pid] is None:
            _send(pid, number)
    if not _wait(lambda: all(started_at(pid) != started for pid, (started, _) in alive.items())):
        for pid in alive:
            _send(pid, signal.SIGKILL)


def _remove(directory: Path) -> bool:
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


def main() -> None:
    """Read orders until the owner is gone, then carry out what is left of them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched: dict[int, tuple[str | None, int]] = {}
    directories: list[Path] = []
    for line in sys.stdin:
        order = json.loads(line)
        match order["do"]:
            case "watch":
                watched[order["pid"]] = (started_at(order["pid"]), order["signal"])
            case "release":
                watched.pop(order["pid"], None)
            case "remove":
                directories.append(Path(order["directory"]))
    _end(watched)
    for directory in directories:
        # Children of a killed server write for a moment longer.
        if not _wait(functools.partial(_remove, directory)):
            sys.stderr.write(f"Could not remove {directory}\n")


if __name__ == "__main__":
    main()
