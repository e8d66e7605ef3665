"""What people do to tasks: one, or many at once.

Those for many take the ids of one batch, which is a transaction, and give how many rows were moved. Whoever moves
a row first has it: the others' statements name the state it was in, and find it no more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Case, F, Value, When

from ..core.states import FINAL, PENDING, State
from ..database import Now, as_project_time, database_now, notify, retry_conflicts
from ..models import InstantField, TaskQuerySet, TaskRecord, WorkerRecord
from ..models.task import NEVER_PUBLISHED
from ..wakeup import DONE_CHANNEL, MAX_PAYLOAD, READY_CHANNEL
from .finish import Held, release

#: the ends from which there is a way back
RETRIABLE = frozenset({State.FAILED, State.CANCELLED, State.EXPIRED})

#: a row that moves between two looks is looked at again; it cannot keep moving for long
_TRIES = 10


def cancel(using: str, task_id: str, *, on_ended: Callable[[], None] | None = None) -> bool:
    """Cancel a task: at once while it waits, by request while it runs.

    False when there is nothing to cancel: it has ended, or there is no such task. ``on_ended`` is called after the commit
    when it waited.
    """
    row = TaskRecord.objects.using(using).filter(pk=task_id)
    pending = row.filter(state__in=sorted(PENDING))

    def cancel_waiting() -> bool:
        with transaction.atomic(using=using, savepoint=False):
            cancelled = pending.update(
                state=State.CANCELLED, finished_at=Now(), published_at=None, cancel_requested=True
            )
            if cancelled:
                notify(using, DONE_CHANNEL, task_id)
        return bool(cancelled)

    def ask_running() -> bool:
        return bool(row.filter(state=State.RUNNING).update(cancel_requested=True))

    for _ in range(_TRIES):
        if retry_conflicts(using, cancel_waiting):
            if on_ended is not None:
                transaction.on_commit(on_ended, using=using, robust=True)
            return True
        if retry_conflicts(using, ask_running):
            return True
        found = row.values_list("state", flat=True).first()
        if found is None or found in FINAL:
            return False
    return False


def cancel_waiting(
    using: str, ids: Sequence[str], *, on_ended: Callable[[list[tuple[str, str]]], None] | None = None
) -> int:
    """Cancel those of these tasks that wait. ``on_ended`` gets their backends and ids after the commit."""
    waiting = _rows(using, ids).filter(state__in=sorted(PENDING))
    moment = as_project_time(database_now(using))

    def cancel_them() -> int:
        cancelled = waiting.update(state=State.CANCELLED, finished_at=moment, published_at=None, cancel_requested=True)
        if cancelled and on_ended is not None:
            # Ours since the update, and nobody else's end at that very microsecond.
            rows = _rows(using, ids).filter(state=State.CANCELLED, finished_at=moment)
            ended = [(backend, str(pk)) for backend, pk in rows.values_list("backend", "pk")]
            transaction.on_commit(partial(on_ended, ended), using=using, robust=True)
        return cancelled

    return _move(using, cancel_them, DONE_CHANNEL, _payload(ids))


def ask_running(using: str, ids: Sequence[str]) -> int:
    """Ask those of these tasks to stop that run, and were not asked before."""
    rows = _rows(using, ids).filter(state=State.RUNNING, cancel_requested=False)
    return _move(using, lambda: rows.update(cancel_requested=True))


def retry(using: str, ids: Sequence[str], *, published: Collection[str]) -> int:
    """Let those of these tasks that ended without success run again: READY, for one more attempt.

    What was counted and what went wrong before stays, but for the workers they cost. ``published``: backends whose
    broker has to be told.
    """
    rows = _rows(using, ids).filter(state__in=sorted(RETRIABLE))
    values: dict[str, Any] = {
        "state": State.READY,
        "losses": 0,
        "cancel_requested": False,
        "finished_at": None,
        "fingerprint": None,
        "result": None,
        "progress": "",
        "worker_id": "",
        "published_at": _outbox(published),
        # It ended; that its time was over does not end it again.
        "expires_at": Case(
            When(expires_at__lte=Now(), then=None), default=F("expires_at"), output_field=InstantField()
        ),
    }
    return _move(using, lambda: rows.update(**values), READY_CHANNEL)


def make_due(using: str, ids: Sequence[str]) -> int:
    """Let those of these tasks that are due later run now."""
    rows = _rows(using, ids).filter(state=State.SCHEDULED)
    return _move(using, lambda: rows.update(state=State.READY), READY_CHANNEL)


def publish_again(using: str, ids: Sequence[str]) -> int:
    """Have the broker told once more of those of these tasks that are READY, where there is one."""
    rows = _rows(using, ids).filter(state=State.READY, published_at__isnull=False)
    return _move(using, lambda: rows.update(published_at=NEVER_PUBLISHED), READY_CHANNEL)


def move(
    using: str,
    ids: Sequence[str],
    queue_name: str | None,
    *,
    priority: int | None = None,
    published: Collection[str],
) -> int:
    """Put those of these tasks that are due, or due later, into another queue, where they are READY at once.

    ``priority``: their new one. None: what they have.
    """
    rows = _rows(using, ids).filter(state__in=[State.READY, State.SCHEDULED])
    values: dict[str, Any] = {"state": State.READY, "published_at": _outbox(published)}
    if queue_name is not None:
        values["queue_name"] = queue_name
    if priority is not None:
        values["priority"] = priority
    return _move(using, lambda: rows.update(**values), READY_CHANNEL)


def take_back(using: str, ids: Sequence[str]) -> int:
    """Give back those of these tasks that run at a worker which is no more, as if never claimed.

    Not those that may have had their effect and are not run twice (``acks_late=False``).
    """
    rows = _rows(using, ids).filter(state=State.RUNNING, acks_late=True).exclude(worker_id="")
    # In this order: whoever claims has a row before, so that an owner found without one is gone.
    found = list(rows.values_list("worker_id", "pk", "claim", "attempt", "worker_ids"))
    owners = {worker_id for worker_id, *_ in found}
    alive = set(WorkerRecord.objects.using(using).filter(pk__in=owners).values_list("pk", flat=True))
    held = [
        Held(str(pk), claim, attempt, worker_ids)
        for worker_id, pk, claim, attempt, worker_ids in found
        if worker_id not in alive
    ]
    return release(using, held) if held else 0


def delete_waiting(using: str, ids: Sequence[str]) -> int:
    """Delete those of these tasks that wait, as if they had never been."""
    rows = _rows(using, ids).filter(state__in=sorted(PENDING))
    # No signals, no cascades: nothing points at these rows.
    return _move(using, lambda: rows._raw_delete(using), DONE_CHANNEL, _payload(ids))  # noqa: SLF001


def delete_ended(using: str, ids: Sequence[str], *, states: Collection[State] = FINAL) -> int:
    """Delete those of these tasks that have ended, in one of these ``states``."""
    rows = _rows(using, ids).filter(state__in=sorted(FINAL & set(states)))
    # Nobody waits for them: who did was told when they ended.
    return _move(using, lambda: rows._raw_delete(using))  # noqa: SLF001  # as above


def _rows(using: str, ids: Sequence[str]) -> TaskQuerySet:
    return TaskRecord.objects.using(using).filter(pk__in=ids)


def _outbox(published: Collection[str]) -> Case:
    """What ``published_at`` says of a task that is READY from now on, by its backend."""
    return Case(
        When(backend__in=list(published), then=Value(NEVER_PUBLISHED, output_field=InstantField())),
        default=None,
        output_field=InstantField(),
    )


def _move(using: str, work: Callable[[], int], channel: str = "", payload: str = "") -> int:
    """One statement, and who is to hear of it."""

    def carry_out() -> int:
        with transaction.atomic(using=using, savepoint=False):
            moved = work()
            if moved and channel:
                notify(using, channel, payload)
        return moved

    return retry_conflicts(using, carry_out)


def _payload(ids: Sequence[str]) -> str:
    payload = " ".join(ids)
    return payload if len(payload) <= MAX_PAYLOAD else "*"
