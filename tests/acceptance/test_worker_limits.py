"""Tasks that do not end: in every kind of slot, their end is told, the slot is back, and nobody else has noticed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from django_taskq.models import TaskRecord
from tests.acceptance.project import Project
from tests.acceptance.workers import Gate, drain, ended, lines, row, start_worker, wait_until_done
from tests.taskapp import tasks
from tests.waiting import wait_until

#: Seconds of the limits here; and until the slot of a task that does not end is free again, at most.
LIMIT, FREE = 0.5, 5.0
#: Until its end is told: after a hard limit, and after somebody cancelled it.
TOLD = {"FAILED": 2.0, "CANCELLED": 5.0}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What a task does, what ends it, and how it is to end. ``is_crash``: its process dies of it, by itself."""

    kind: str
    means: str = "limit"
    state: str = "FAILED"
    error: str = "django_taskq.exceptions.TimeLimitExceeded"
    is_crash: bool = False
    is_left: bool = True


CANCELLED = {"means": "cancel", "state": "CANCELLED", "error": "django_taskq.exceptions.TaskCancelled"}

#: A task that takes too much memory is a matter of recycling (``--max-memory-per-child``).
FAULTS = [
    Fault(kind="loop"),
    Fault(kind="sleep"),
    Fault(kind="stubborn"),
    Fault(kind="regex"),
    Fault(kind="loop", **CANCELLED),
    Fault(kind="stubborn", **CANCELLED),
    Fault(kind="segfault", means="", error="django_taskq.exceptions.WorkerLost", is_crash=True),
    Fault(kind="SystemExit", means="", error="builtins.SystemExit"),
]

#: What stands in the way of whom: a thread is filled by one task, the event loop by as many as there may be.
SLOTS = {
    "main": (["--threads=1", "--coroutines=1"], tasks.never_end, tasks.mark, [tasks.ahold]),
    "thread": (["--threads=2", "--coroutines=1"], tasks.never_end, tasks.mark, [tasks.ahold, tasks.hold]),
    "coroutine": (["--threads=1", "--coroutines=2"], tasks.anever_end, tasks.amark, [tasks.ahold, tasks.hold]),
}


@pytest.mark.timing
@pytest.mark.once
@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("slot", SLOTS)
def test_the_matrix(project: Project, tmp_path: Path, slot: str) -> None:
    arguments, task, probe, neighbours = SLOTS[slot]
    worker = start_worker(project, *arguments)
    faults = FAULTS if slot != "coroutine" else [Fault(kind="wait"), Fault(kind="wait", **CANCELLED), *FAULTS]
    for number, fault in enumerate(faults):
        gate = Gate(tmp_path / f"gate-{number}")
        beside = [neighbour.enqueue(gate.path, neighbour.name) for neighbour in neighbours]
        gate.wait_for(*(neighbour.name for neighbour in neighbours))
        limit = LIMIT if fault.means == "limit" else None
        guilty = task.using(time_limit=limit, max_deliveries=1).enqueue(gate.path, fault.kind)
        waits = probe.enqueue(str(tmp_path / "trace"), fault.kind)
        gate.wait_for(*(neighbour.name for neighbour in neighbours), fault.kind)
        due = row(guilty).last_attempted_at + timedelta(seconds=limit or 0.0)  # type: ignore[operator]  # it runs
        if fault.means == "cancel":
            assert guilty.cancel()
            due += timedelta(seconds=time.time() - due.timestamp())
        end, after = ended(guilty, 15.0), ended(waits, 15.0)
        what = f"{fault} in a {slot} slot"
        assert (end.state, end.attempt_errors[-1].exception_class_path) == (fault.state, fault.error), what
        assert (end.attempt, after.state, after.attempt) == (1, "SUCCESSFUL", 1), what
        assert end.finished_at is not None
        assert after.finished_at is not None
        assert end.finished_at - due < timedelta(seconds=TOLD[fault.state]), what
        assert after.finished_at - due < timedelta(seconds=FREE), what
        gate.open()
        for record in [ended(one) for one in beside]:
            assert record.state == "SUCCESSFUL", what
            # Nobody knows which of the tasks that ran a process has died of, if it does so by itself.
            assert record.losses == int(fault.is_crash), what
            assert record.attempt == record.losses + 1 == len(record.worker_ids.splitlines()), what
        assert lines(gate.directory / "started").count(fault.kind) <= 1
    assert worker.returncode is None
