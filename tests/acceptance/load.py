"""A worker and a producer at work while a test breaks their broker, and what must be true afterwards."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.process import Process
from tests.acceptance.project import Project
from tests.acceptance.workers import guard_final_states, lines, start_worker, states, wait_until_done
from tests.waiting import wait_until

logger = logging.getLogger(__name__)

#: Seconds after the end of a fault in which workers must be at work again.
BACK = 10.0
#: Seconds until all that was enqueued during a fault has run: what got lost is missed 5 s after it was published.
CAUGHT_UP = 25.0


def broker(url: str, **options: Any) -> Mapping[str, Any]:
    """Return TASKS with a message broker, and queues of any name."""
    return {"default": {"BACKEND": "django_taskq.TaskqBackend", "QUEUES": [], "OPTIONS": {"broker": url, **options}}}


class Producer:
    """A process that enqueues tasks, which leave traces in ``directory``; see ``tests.acceptance.producer``."""

    def __init__(self, project: Project, directory: Path, *, pause: float = 0.01, burst: int = 1) -> None:
        directory.mkdir()
        self.directory = directory
        self.process: Process = project.start(
            sys.executable, "-m", "tests.acceptance.producer", str(directory), str(pause), str(burst)
        )

    def enqueued(self) -> dict[int, float]:
        """Return the seconds that each enqueue took, by the task's number."""
        found = [line.split() for line in lines(self.directory / "enqueued")]
        return {int(number): float(seconds) for number, seconds in found}

    def unknown(self) -> set[int]:
        """Return the numbers of the tasks that may have been enqueued, and may not."""
        return {int(line.split()[0]) for line in lines(self.directory / "unknown")}

    def runs(self) -> Counter[int]:
        """Return how often each task has run."""
        return Counter(int(line) for line in lines(self.directory / "runs"))

    def wait_for(self, tasks: int, deadline: float = 30.0) -> None:
        """Wait until so many more tasks have been enqueued."""
        before = len(self.enqueued())
        wait_until(lambda: len(self.enqueued()) >= before + tasks, deadline, what=f"{tasks} more tasks to be enqueued")

    def stop(self) -> None:
        """Let it end."""
        (self.directory / "stop").touch()
        assert self.process.wait() == 0, self.process.text()


class Load:
    """A producer, and a worker of two processes.

    ``with load.fault("…"):`` breaks something in its block, and measures afterwards how soon a task runs that was
    enqueued after it.
    """

    def __init__(self, project: Project, directory: Path, *worker_arguments: str, pause: float = 0.01) -> None:
        guard_final_states()
        self.worker = start_worker(project, *worker_arguments, processes=2)
        self.producer = Producer(project, directory / "load", pause=pause)
        self.wait_for_runs(20)

    def wait_for_runs(self, tasks: int, deadline: float = 30.0) -> None:
        """Wait until so many more tasks have run."""
        before = len(self.producer.runs())
        wait_until(lambda: len(self.producer.runs()) >= before + tasks, deadline, what=f"{tasks} more tasks to run")

    @contextmanager
    def fault(self, name: str, *, within: float = BACK) -> Iterator[None]:
        """Break something; afterwards wait until a task that is enqueued then has run, ``within`` seconds."""
        yield
        ended_at = time.monotonic()
        newest = max(self.producer.enqueued())
        wait_until(
            lambda: max(self.producer.runs()) > newest, within, what=f"workers to be at work again after: {name}"
        )
        logger.info("%s: at work again after %.1f s", name, time.monotonic() - ended_at)

    def finish(self, *, is_killed: bool = False) -> None:
        """Stop the producer, wait for the rest and check that each task ran, and ended once.

        ``is_killed``: workers died, so that tasks may have run twice.
        """
        self.producer.stop()
        began = time.monotonic()
        wait_until_done(CAUGHT_UP)
        enqueued, unknown, runs = self.producer.enqueued(), self.producer.unknown(), self.producer.runs()
        logger.info(
            "%d tasks, all ended %.1f s after the last was enqueued; enqueueing took %.0f ms at most",
            len(enqueued),
            time.monotonic() - began,
            max(enqueued.values()) * 1000,
        )
        assert runs.keys() - unknown == enqueued.keys(), "lost, or invented"
        assert states() == {"SUCCESSFUL": len(runs)}
        if not is_killed:
            assert {number for number, count in runs.items() if count > 1} == set()
        self.stop_worker()

    def stop_worker(self) -> None:
        """Stop the worker, which must end well, and must not have tried to write a second end."""
        self.worker.send(signal.SIGTERM)
        assert self.worker.wait(10.0) == 0, self.worker.text()
        assert "final is final" not in self.worker.text()
        assert "Traceback" not in self.worker.text(), "an error that nobody expected"
