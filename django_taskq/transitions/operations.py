"""Operations on very many tasks: asked for, carried on a slice at a time, ended.

Whoever carries on one holds its row from the first statement of the transaction to its end: another keeper waits, and
so does whoever aborts it. What a slice does to tasks is in the same transaction as the cursor that moves past them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from django.db import IntegrityError, transaction

from ..core import codec
from ..database import Now, as_project_time, database_now, notify, retry_conflicts
from ..models import OperationRecord
from ..models.operation import ABORTED, ACTIVE, DONE, FAILED, RUNNING
from ..wakeup import OPERATION_CHANNEL


def insert_operation(using: str, operation: OperationRecord) -> tuple[OperationRecord, bool]:
    """Add an operation; gives it and True, or the one that this page has asked for before and False."""
    rows = OperationRecord.objects.using(using)
    operation.asked_at = as_project_time(database_now(using))

    def insert() -> None:
        with transaction.atomic(using=using):
            operation.save(using=using, force_insert=True)
            notify(using, OPERATION_CHANNEL)

    try:
        retry_conflicts(using, insert)
    except IntegrityError:
        # By the index that both have met at: the other one is committed.
        return rows.get(token=operation.token), False
    return operation, True


def hold(using: str, operation_id: int) -> OperationRecord | None:
    """The row of an operation that is not over, held until the transaction that is open ends; None where it is over."""
    rows = OperationRecord.objects.using(using).filter(pk=operation_id)
    # A write, not SELECT FOR UPDATE: SQLite has only this, and MySQL reads what is committed after it.
    if not rows.filter(state__in=ACTIVE).update(state=RUNNING):
        return None
    return rows.get()


def advance(
    using: str, held: OperationRecord, *, after: UUID, counts: Mapping[str, int], seen: int, changed: int, is_last: bool
) -> None:
    """Move the cursor past a slice, in the transaction that :func:`hold` was called in."""
    values = {
        "after": after,
        "seen": held.seen + seen,
        "changed": held.changed + changed,
        "counts": codec.encode(dict(counts)),
    }
    if is_last:
        values |= {"state": DONE, "finished_at": Now()}
    OperationRecord.objects.using(using).filter(pk=held.pk).update(**values)


def abort(using: str, operation_id: int) -> bool:
    """End an operation after the slice in flight; False when it is over."""
    return _end(using, operation_id, ABORTED)


def fail(using: str, operation_id: int, error: str) -> bool:
    """End an operation that cannot go on; False when it is over."""
    return _end(using, operation_id, FAILED, error)


def forget_operations(using: str, age: float) -> int:
    """Delete operations that were over so many seconds ago; gives how many."""
    old = OperationRecord.objects.using(using).filter(finished_at__lt=Now() - timedelta(seconds=age))
    # A look first, which takes no lock.
    if not old.exists():
        return 0
    return retry_conflicts(using, lambda: old.delete()[0])


def _end(using: str, operation_id: int, state: str, error: str = "") -> bool:
    rows = OperationRecord.objects.using(using).filter(pk=operation_id, state__in=ACTIVE)
    return bool(retry_conflicts(using, lambda: rows.update(state=state, finished_at=Now(), error=error)))
