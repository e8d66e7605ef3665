"""The clock of a worker's host jumps by an hour, to and fro; what counts is the database's."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from django_taskq.models import WorkerRecord
from tests.acceptance.clock import Clock
from tests.acceptance.project import Project
from tests.acceptance.workers import Gate, ended, row, start_worker, wait_until_done
from tests.taskapp import tasks
from tests.waiting import wait_until

#: SQLite's clock is its program's.
pytestmark = [pytest.mark.once, pytest.mark.timing, pytest.mark.databases("postgres")]

#: Seconds; the least there is.
LEASE = 3.0


def test_clock_jumps_lose_no_lease_and_make_nothing_late(make_project: Callable[..., Project], tmp_path: Path) -> None:
    clock, gate = Clock(tmp_path), Gate(tmp_path / "gate")
    options = {"lease": LEASE}
    project = make_project(
        tasks={"default": {"BACKEND": "django_taskq.TaskqBackend", "OPTIONS": options}}, environment=clock.environment
    )
    worker = start_worker(project, processes=2)
    known = set(WorkerRecord.objects.values_list("pk", flat=True))
    # Not by time.sleep(): the library refuses a monotonic one whose time it does not fake.
    held = tasks.ahold.enqueue_many([(gate.path, "one"), (gate.path, "two")])
    gate.wait_for("one", "two")
    seen = []
    for offset in ("+1h", "-1h"):
        clock.set(offset)
        seen.append(float(ended(tasks.mark.enqueue(f"{tmp_path}/times")).result or 0) - time.time())
        # Longer than a lease, in which keepers look at workers and at what is due.
        end = time.monotonic() + LEASE + 1.0
        due = tasks.noop.using(run_after=timedelta(seconds=2)).enqueue()
        expiring = tasks.noop.using(run_after=timedelta(seconds=1), expires=timedelta(minutes=30)).enqueue()
        late = ended(due)
        assert late.started_at is not None
        assert timedelta(0) <= late.started_at - late.run_after < timedelta(seconds=2)
        assert ended(expiring).state == "SUCCESSFUL"
        wait_until(lambda: time.monotonic() >= end)  # noqa: B023  # used now
        assert set(WorkerRecord.objects.values_list("pk", flat=True)) == known, "all kept their leases"
    assert [round(offset / 600) for offset in seen] == [6, -6], "the worker did see another time"
    gate.open()
    wait_until_done()
    for result in held:
        assert (row(result).state, row(result).attempt) == ("SUCCESSFUL", 1)
    assert "taken for lost" not in worker.text()
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0, worker.text()
