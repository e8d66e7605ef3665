"""``python -m tests.benchmarks.celery_client NAME``: what ``client`` does for ours, for Celery; without Django."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from tests.benchmarks import messages
from tests.benchmarks.calls import Caller, Reply, measures_of
from tests.benchmarks.celery_tasks import app, noop, tick
from tests.benchmarks.plan import Plan
from tests.benchmarks.worker_process import WorkerProcess


class CeleryWorker(WorkerProcess):
    """``celery worker`` with processes of its default pool; the first process consumes for the others."""

    has_supervisor = False

    def __init__(self, plan: Plan) -> None:
        # What workers tell each other says nothing to one alone, and would delay its start.
        alone = ("--without-gossip", "--without-mingle")
        options = ("--loglevel", "INFO", "--concurrency", str(plan.processes))
        super().__init__(plan, "celery", ["--app", "tests.benchmarks.celery_tasks", "worker", *options, *alone])

    def wait_until_ready(self) -> None:
        """Wait until it says so."""
        self.process.wait_for(" ready.", 60.0)


class CeleryCaller(Caller):
    """Celery's calls, with replies over RabbitMQ."""

    #: A reply that another thread has read from their common connection never comes, however long one waits.
    patience = 5.0
    #: Threads that read from one connection at once also break its frames, which ends in errors of any kind.
    lost = (Exception,)

    def worker(self, plan: Plan) -> CeleryWorker:
        """Return ``celery worker``."""
        return CeleryWorker(plan)

    def noop(self) -> Reply:
        """See ``Caller``."""
        reply: Reply = noop.delay()
        return reply

    def ticks(self, count: int) -> Sequence[Reply]:
        """See ``Caller``; Celery has none that is quicker than one by one."""
        with app.producer_pool.acquire(block=True) as producer:
            return [tick.apply_async(producer=producer) for _ in range(count)]

    def leave_thread(self) -> None:
        """Do nothing: threads have their connection in common."""


def prepare(plan: Plan) -> dict[str, str]:
    """Do nothing: there are no tables."""
    return {}


def facts(plan: Plan) -> dict[str, str]:
    """Return what the figures depend on, as this process finds it."""
    return {
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Celery": f"{version('celery')}, billiard {version('billiard')}",
        **messages.facts(plan),
    }


def main() -> None:
    """Do what is asked for and print the answer as the last line."""
    actions: Mapping[str, Callable[[Plan], dict[str, Any]]] = {
        "prepare": prepare,
        "facts": facts,
        **measures_of(CeleryCaller()),
    }
    print(json.dumps(actions[sys.argv[1]](Plan.load())))


if __name__ == "__main__":
    main()
