"""The tasks of ``tasks``, as Celery's: with Celery's own defaults but for what is said here."""

from __future__ import annotations

import logging

from celery import Celery

from tests.benchmarks import messages
from tests.benchmarks.plan import Plan
from tests.benchmarks.tally import note

_plan = Plan.load()

app = Celery("benchmarks", broker=_plan.broker, backend=_plan.results, set_as_current=False)
app.conf.update(task_default_queue=messages.QUEUE, broker_connection_retry_on_startup=True)

# A worker of ours logs a line per task, that it succeeded; Celery's one that it was received as well.
logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)


@app.task(name="noop")  # type: ignore[untyped-decorator]  # Celery has no types
def noop() -> None:
    """Do nothing."""


@app.task(name="tick")  # type: ignore[untyped-decorator]  # Celery has no types
def tick() -> None:
    """Say that it ran."""
    note()
