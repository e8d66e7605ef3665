"""The tasks whose queue is measured."""

from __future__ import annotations

from django_taskq import task
from tests.benchmarks.tally import note

#: Tasks before a measurement, for what happens once: connections, plans, imports.
WARM_UP = 100


@task
def noop() -> None:
    """Do nothing: all that is measured is the queue."""


@task(record=False)
def tick() -> None:
    """Say that it ran, which nothing else does for a task without a row: about a microsecond."""
    note()
