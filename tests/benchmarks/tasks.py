"""The tasks whose queue is measured."""

from __future__ import annotations

from django_taskq import task
from tests.benchmarks.tally import note


@task
def noop() -> None:
    """Do nothing: all that is measured is the queue."""


@task(record=False)
def tick() -> None:
    """Say that it ran, which nothing else does for a task without a row: about a microsecond."""
    note()
