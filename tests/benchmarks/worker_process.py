"""The processes of a worker under measurement, whoever's it is: started, watched, ended."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from tests.acceptance.process import Process
from tests.benchmarks.plan import Plan
from tests.benchmarks.processes import family

#: Seconds between two looks at a drain: short against it, and few enough not to slow it.
_LOOK = 0.1
#: Seconds after which a drain is given up.
_DEADLINE = 600.0


class WorkerProcess:
    """Runs inside a ``with`` block, and must leave it in good order. What it logs goes to files."""

    #: Whether its first process only looks after the others, whose CPU time is all the tasks' own since they were forked.
    has_supervisor = True

    def __init__(self, plan: Plan, module: str, arguments: Sequence[str]) -> None:
        self.plan = plan
        self._command = [sys.executable, "-m", module, *arguments]
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self._process = Process(
            self._command, directory=Path(self.plan.directory), name="worker", environment=os.environ
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        process = self.process
        try:
            if kind is not None:
                # Something else failed; what the worker said may tell why.
                print(process.text()[-4000:], file=sys.stderr)
                return
            process.send(signal.SIGTERM)
            if process.wait() != 0:
                raise RuntimeError(f"The worker ended with {process.returncode}:\n{process.text()[-4000:]}")
        finally:
            process.end()

    @property
    def process(self) -> Process:
        """The one that was started; it has the others."""
        assert self._process is not None
        return self._process

    def pids(self) -> list[int]:
        """Return all its processes, the one that was started first."""
        return family(self.process.pid)

    def check(self) -> None:
        """Raise when it has ended by itself."""
        if self.process.returncode is not None:
            raise RuntimeError(f"The worker is gone:\n{self.process.text()[-4000:]}")

    def wait(self, condition: Callable[[], bool], *, what: str) -> None:
        """Wait until the condition holds, which may take as long as a drain does."""
        deadline = time.monotonic() + _DEADLINE
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"Waited {_DEADLINE} s for {what}.")
            time.sleep(_LOOK)

    def wait_until_ready(self) -> None:
        """Wait until every process can take tasks."""
        raise NotImplementedError
