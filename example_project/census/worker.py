"""The worker of a census: `manage.py runworker --burst` as a process of its own."""

import os
import signal
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import Self

from django.conf import settings

from example_project.census.tasks import QUEUE

#: Seconds a worker gets to end the tasks it runs, and again after the second signal, before it is killed.
STOP_LIMIT = 10.0
#: Lines of the worker's log that are shown when it failed.
LOG_LINES = 20


class Worker:
    """A worker that serves the census; a context manager that leaves no process behind.

    With `--burst` it ends by itself when nothing is due, so also when the process that started it was killed. Its log
    goes to a temporary file: it would tear a progress bar apart, and is of interest only when the worker failed.
    """

    def __init__(self, *, processes: int) -> None:
        manage = settings.BASE_DIR / "manage.py"
        self._command = [sys.executable, str(manage), "runworker", "--burst"]
        self._command += ["--queues", QUEUE, "--processes", str(processes)]

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        # In a session of its own: Ctrl-C reaches this process alone, which then decides how the worker stops.
        self._process = subprocess.Popen(  # noqa: S603  # our own command, no shell
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            self._log.close()

    def ended(self, *, within: float) -> bool:
        """Whether the worker has ended, after waiting for that at most so many seconds."""
        try:
            self._process.wait(timeout=within)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def failed(self) -> bool:
        """Whether the worker has ended otherwise than because nothing was due, or because it was told to."""
        # SIGTERM ends a process that has not begun to work, or has just stopped to, before Python can say 0.
        return self._process.returncode not in (None, 0, -signal.SIGTERM)

    @property
    def log(self) -> str:
        """The last lines the worker wrote."""
        # Not by `seek` and `read`: the worker's own place in the file is the same as ours.
        written = os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0)
        return "\n".join(written.decode(errors="replace").splitlines()[-LOG_LINES:])

    def stop(self) -> None:
        """End the worker if it still runs: tasks that run may end, none starts."""
        try:
            for _ in range(2):
                if self.ended(within=0):
                    return
                self._process.terminate()
                if self.ended(within=STOP_LIMIT):
                    return
        finally:
            # Does nothing to a worker that has ended. One still alive ignored both signals, or Ctrl-C was pressed
            # again while we waited; its children notice that it is gone and end, too.
            self._process.kill()
            self._process.wait()
