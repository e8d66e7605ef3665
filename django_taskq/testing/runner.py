"""``run_tasks``: a worker without processes, in the calling thread and inside its transaction."""

from __future__ import annotations

import os
import socket
from contextvars import Context
from uuid import uuid4

from django.db import DatabaseError, connections

from ..aliases import taskq_backends
from ..backend import TaskqBackend
from ..brokers.database import open_lanes
from ..core.message import Message
from ..core.outcome import Outcome
from ..core.queues import QueueSelection
from ..models import PauseRecord, TaskRecord, WorkerRecord
from ..transitions import workers
from ..transitions.claim import Lanes, claim
from ..transitions.due import expire_overdue, promote_due
from ..transitions.finish import finish, save_progress
from ..worker.cleanup import clean_connections
from ..worker.runner import Attempt
from ..worker.writer import end_of


def run_tasks(*, backend: str | None = None, queues: tuple[str, ...] | None = None, limit: int = 10_000) -> int:
    """Run everything that is due, and what that enqueues, until nothing due is left; gives how many ran.

    Claims, runs and finishes as a worker does, with the same signals and log lines, but in this thread
    and on its connection: tasks that were enqueued inside an open transaction (``TestCase``) run, too.
    A task that breaks the transaction costs its own changes only. What is due later, or paused, does not run.

    ``backend``: only this alias. ``queues``: only these. ``limit``: raises ``RuntimeError`` beyond, since
    tasks that enqueue each other would never end.
    """
    ran = 0
    chosen = [one for one in taskq_backends(skip_broken=True) if backend in (None, one.alias)]
    worker_id = f"run_tasks-{uuid4().hex[:12]}"
    for using in dict.fromkeys(one.database for one in chosen):
        workers.register(using, _worker(worker_id))
    try:
        while batch := sum(_run_one(one, queues, worker_id) for one in chosen):
            ran += batch
            if ran > limit:
                raise RuntimeError(f"run_tasks() has run {limit} tasks and there are more: do they enqueue each other?")
    finally:
        for using in dict.fromkeys(one.database for one in chosen):
            workers.deregister(using, worker_id)
    return ran


def _run_one(backend: TaskqBackend, queues: tuple[str, ...] | None, worker_id: str) -> int:
    using = backend.database
    expire_overdue(using)
    promote_due(using)
    selection = QueueSelection(include=queues or ())
    paused = PauseRecord.objects.using(using).paused()
    lanes = open_lanes(using, (backend.alias,), selection, paused) if paused else Lanes((backend.alias,), queues)
    messages = claim(using, lanes, 1, worker_id)
    for message in messages:
        finish(using, [end_of(message, _run(_attempt(backend, message), using), worker_id)])
    return len(messages)


def _attempt(backend: TaskqBackend, message: Message) -> Attempt:
    using = backend.database
    return Attempt(
        backend,
        message,
        report=lambda progress: save_progress(using, [(message.id, message.claim, progress)]),
        is_cancelled=TaskRecord.objects.using(using).filter(pk=message.id, cancel_requested=True).exists,
    )


def _run(attempt: Attempt, using: str) -> Outcome:
    """Run one task and leave the connection usable, whatever the task did to it."""
    connection = connections[using]
    if not connection.in_atomic_block:
        outcome = Context().run(attempt.run)
        if not any(one.in_atomic_block for one in connections.all(initialized_only=True) if one is not connection):
            clean_connections()
        return outcome
    depth = len(connection.savepoint_ids)
    savepoint = connection.savepoint()
    assert savepoint is not None  # in a transaction, and none of the databases is without savepoints
    connection.errors_occurred = False
    outcome = Context().run(attempt.run)
    # Blocks the task entered and did not leave.
    del connection.savepoint_ids[depth:]
    if connection.needs_rollback or (connection.errors_occurred and _is_broken(using)):
        connection.needs_rollback = False
        connection.savepoint_rollback(savepoint)
    else:
        connection.savepoint_commit(savepoint)
    return outcome


def _is_broken(using: str) -> bool:
    """Whether the transaction refuses statements since one failed (PostgreSQL)."""
    try:
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return True
    return False


def _worker(worker_id: str) -> WorkerRecord:
    return WorkerRecord(
        id=worker_id,
        name="run_tasks",
        hostname=socket.gethostname()[:255],
        pid=os.getpid(),
        backends="",
        queues="*",
        slots=1,
    )
