"""A worker under measurement: ``manage.py runworker`` as users start it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from django_taskq.models import WorkerRecord
from tests.acceptance.process import Process
from tests.benchmarks.plan import Plan
from tests.benchmarks.processes import family
from tests.waiting import wait_until

#: Seconds between two looks at a drain: short against it, and few enough not to slow it.
_LOOK = 0.1
#: Seconds after which a drain is given up.
_DEADLINE = 600.0


class Worker:
    """Runs inside a ``with`` block, and must leave it in good order."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._process: Process | None = None

    def __enter__(self) -> Self:
        # What a killed run has left: nobody would ever beat for it again.
        WorkerRecord.objects.all()._raw_delete("default")
        options = [f"--processes={self._plan.processes}", *self._plan.worker_options]
        self._process = Process(
            [sys.executable, "-m", "django", "runworker", *options],
            directory=Path(self._plan.directory),
            name="worker",
            environment=os.environ,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        process = self._running
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
    def _running(self) -> Process:
        assert self._process is not None
        return self._process

    def pids(self) -> list[int]:
        """Return all its processes, the supervisor first."""
        return family(self._running.pid)

    def check(self) -> None:
        """Raise when it has ended by itself."""
        if self._running.returncode is not None:
            raise RuntimeError(f"The worker is gone:\n{self._running.text()[-4000:]}")

    def wait(self, condition: Callable[[], bool], *, what: str) -> None:
        """Wait until the condition holds, which may take as long as a drain does."""
        deadline = time.monotonic() + _DEADLINE
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"Waited {_DEADLINE} s for {what}.")
            time.sleep(_LOOK)

    def wait_until_ready(self) -> None:
        """Wait until every process has registered."""

        def ready() -> bool:
            self.check()
            return WorkerRecord.objects.count() == self._plan.processes

        wait_until(ready, 60.0, what="the worker's processes")
