"""Rows for tests that need many, or in a state that takes long to reach by running tasks."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from django_taskq.core.ids import uuid7
from django_taskq.core.states import State
from django_taskq.database import as_project_time, database_now
from django_taskq.models import TaskRecord, WorkerRecord

#: A worker's id, as rows name it.
WORKER = "host-4711-abcdef"


def make_tasks(
    count: int = 1, *, state: State = State.SUCCESSFUL, ended_ago: float = 0.0, using: str = "default", **fields: Any
) -> list[TaskRecord]:
    """Write `count` rows in this state; final ones ended `ended_ago` seconds before the database's now."""
    now = database_now(using)
    ended = as_project_time(now - timedelta(seconds=ended_ago))
    common: dict[str, Any] = {
        "name": "tests.taskapp.tasks.noop",
        "queue_name": "default",
        "backend": "default",
        "state": state,
        "enqueued_at": ended,
    }
    if state.is_final or state is State.RUNNING:
        common |= {"attempt": 1, "claim": 1, "worker_id": WORKER, "worker_ids": f"{WORKER}\n", "started_at": ended}
    if state.is_final:
        common |= {"finished_at": ended, "duration": 0.01}
    if state is State.FAILED:
        common |= {"fingerprint": "0123456789abcdef"}
    records = [TaskRecord(id=uuid7(time.time()), **(common | fields)) for _ in range(count)]
    return TaskRecord.objects.using(using).bulk_create(records, batch_size=1000)


def make_worker(*, silent_for: float = 0.0, using: str = "default", **fields: Any) -> WorkerRecord:
    """Write the row of a worker whose last heartbeat is this many seconds old."""
    heartbeat = as_project_time(database_now(using) - timedelta(seconds=silent_for))
    values: dict[str, Any] = {
        "id": WORKER,
        "name": "host-4711",
        "hostname": "host",
        "pid": 4711,
        "backends": "default",
        "queues": "*",
        "slots": 1,
        "started_at": heartbeat,
        "heartbeat_at": heartbeat,
    }
    return WorkerRecord.objects.using(using).bulk_create([WorkerRecord(**(values | fields))])[0]
