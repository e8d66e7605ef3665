"""Worker processes: their rows, their leases, and what becomes of their tasks when they are lost."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from operator import attrgetter
from typing import NamedTuple

from django.db.models import Q

from ..core.outcome import AttemptError
from ..core.retry import class_path
from ..core.states import State
from ..database import Now, as_project_time, database_now
from ..exceptions import WorkerLost
from ..models import KeeperRecord, TaskRecord, WorkerRecord
from .finish import End, Held, finish, release
from .once import insert_once

_KEEPER = "keeper"


class LostTask(NamedTuple):
    """A task whose attempt died with its worker."""

    id: str
    name: str
    queue_name: str
    backend: str
    worker_id: str
    runs_again: bool


def register(using: str, worker: WorkerRecord) -> None:
    """Announce a worker process. Comes before its first claim, so that no claim is without an owner."""
    worker.started_at = worker.heartbeat_at = as_project_time(database_now(using))
    worker.save(using=using, force_insert=True)


def heartbeat(using: str, worker_id: str) -> bool:
    """Renew a worker's lease; False when it counts as lost and its tasks are no longer its own."""
    return WorkerRecord.objects.using(using).filter(pk=worker_id).update(heartbeat_at=Now()) == 1


def deregister(using: str, worker_id: str) -> None:
    """Take a worker's row away."""
    WorkerRecord.objects.using(using).filter(pk=worker_id).delete()


def remove_lost(using: str) -> list[str]:
    """Take away the rows of workers whose lease has run out; gives their ids, for ``rescue``.

    Also gives the owners of running tasks that have no row: those of a removal that was cut short
    before its rescue.
    """
    running = TaskRecord.objects.using(using).filter(state=State.RUNNING)
    # Read before the workers: whoever comes in between is not among the owners, and whoever leaves has nothing left.
    owners = set(running.order_by().values_list("worker_id", flat=True).distinct())
    workers = WorkerRecord.objects.using(using)
    known = set()
    for pk, heartbeat_at, lease, now in workers.annotate(now=Now()).values_list("pk", "heartbeat_at", "lease", "now"):
        # Guarded by the heartbeat that was read: a worker that woke up meanwhile stays.
        silent = heartbeat_at < now - timedelta(seconds=lease)
        if not (silent and workers.filter(pk=pk, heartbeat_at=heartbeat_at).delete()[0]):
            known.add(pk)
    return sorted(owners - known)


def rescue(
    using: str,
    worker_id: str,
    *,
    started: Collection[str] | None = None,
    suspects: Collection[str] | None = None,
    lost: list[LostTask] | None = None,
) -> tuple[int, int]:
    """Take a lost worker's tasks back; gives how many will run again and how many FAILED.

    ``started``: ids the worker had really begun, where somebody knows; the rest is given back
    uncounted. A task that was begun runs again with ``acks_late`` until ``max_deliveries`` workers
    died of it; without ``acks_late`` it may have had its effect and is not run twice. ``suspects``: those
    of the begun that the worker may have died of, None for all; the others run again uncounted, too. ``lost`` takes the
    tasks whose attempt is counted.
    """
    now = database_now(using)
    ends = []
    unstarted = []
    begun = []
    rows = TaskRecord.objects.using(using).filter(state=State.RUNNING, worker_id=worker_id)
    # Sorted here: asked for this order, MariaDB reads the whole table in it.
    for row in sorted(rows, key=attrgetter("pk")):
        was_begun = started is None or str(row.pk) in started
        is_suspect = suspects is None or str(row.pk) in suspects
        if not was_begun or (row.acks_late and not is_suspect):
            unstarted.append(Held(str(row.pk), row.claim, row.attempt, row.worker_ids))
            continue
        begun.append(row)
        runs_again = row.acks_late and row.losses + 1 < row.max_deliveries
        error = AttemptError(
            exception_class_path=class_path(WorkerLost), message=_reason(row, worker_id, runs_again), traceback=""
        )
        ends.append(
            End(
                id=str(row.pk),
                claim=row.claim,
                state=State.READY if runs_again else State.FAILED,
                error=error.line(attempt=row.attempt, worker=worker_id, at=now),
                loss=1,
                fingerprint=error.fingerprint(row.name),
            )
        )
    returned = release(using, unstarted) if unstarted else 0
    written = finish(using, ends) if ends else {}
    if lost is not None:
        lost += [
            LostTask(str(row.pk), row.name, row.queue_name, row.backend, worker_id, written[str(row.pk)] is State.READY)
            for row in begun
            if str(row.pk) in written
        ]
    failed = sum(state is State.FAILED for state in written.values())
    return returned + len(written) - failed, failed


def elect(using: str, worker_id: str, lease: float) -> bool:
    """Become or stay the keeper for ``lease`` seconds; False when another process is."""
    keeper = KeeperRecord.objects.using(using)
    mine_or_free = keeper.filter(pk=_KEEPER).filter(Q(holder=worker_id) | Q(expires_at__lt=Now()))
    values = {"holder": worker_id, "expires_at": Now() + timedelta(seconds=lease)}
    if mine_or_free.update(**values):
        return True
    if keeper.filter(pk=_KEEPER).exists():
        return False
    # Several may try at once: the row is made once, expired, and the guarded update decides.
    insert_once(keeper, KeeperRecord(pk=_KEEPER, expires_at=as_project_time(database_now(using))))
    return bool(mine_or_free.update(**values))


def resign(using: str, worker_id: str) -> None:
    """Let another process become the keeper at once."""
    KeeperRecord.objects.using(using).filter(pk=_KEEPER, holder=worker_id).update(holder="", expires_at=Now())


def _reason(row: TaskRecord, worker_id: str, runs_again: bool) -> str:
    if runs_again:
        return f"Worker {worker_id} was lost while it ran this task; it runs again."
    if row.acks_late:
        return f"{row.losses + 1} workers were lost while they ran this task (max_deliveries={row.max_deliveries})."
    return f"Worker {worker_id} was lost while it ran this task, which is not run twice (acks_late=False)."
