"""What people tell workers: what to leave alone, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.db import transaction

from ..core.paused import PauseKind
from ..database import Now, as_project_time, database_now, notify, retry_conflicts
from ..models import OrderRecord, PauseRecord
from ..wakeup import READY_CHANNEL, WORD_CHANNEL

#: seconds after which an order is void, answered or not: whoever gave it does not wait that long
ORDER_LIFE = 300.0


def pause(using: str, kind: PauseKind, name: str, by: str) -> bool:
    """Have workers leave it alone; False when they do already."""
    rows = PauseRecord.objects.using(using)
    row = PauseRecord(kind=kind.value, name=name, paused_by=by, paused_at=as_project_time(database_now(using)))

    def insert() -> bool:
        with transaction.atomic(using=using, savepoint=False):
            # Of two at once both may be told that it is their doing; the row is there once.
            if rows.filter(kind=kind.value, name=name).exists():
                return False
            rows.bulk_create([row], ignore_conflicts=True)
            notify(using, WORD_CHANNEL)
        return True

    return retry_conflicts(using, insert)


def resume(using: str, kind: PauseKind, name: str) -> bool:
    """Have workers take it again; False when they do already."""
    rows = PauseRecord.objects.using(using).filter(kind=kind.value, name=name)

    def delete() -> bool:
        with transaction.atomic(using=using, savepoint=False):
            was_paused = bool(rows.delete()[0])
            if was_paused:
                notify(using, WORD_CHANNEL)
                notify(using, READY_CHANNEL)
        return was_paused

    return retry_conflicts(using, delete)


def give_orders(using: str, verb: str, worker_ids: Sequence[str]) -> list[OrderRecord]:
    """Have these worker processes do something; gives the rows in which they answer."""
    with transaction.atomic(using=using, savepoint=False):
        made_at = as_project_time(database_now(using))
        orders = [OrderRecord(worker_id=worker_id, verb=verb, made_at=made_at) for worker_id in worker_ids]
        for order in orders:
            # One by one: not every database tells the keys of many.
            order.save(using=using, force_insert=True)
        if orders:
            notify(using, WORD_CHANNEL)
    return orders


def answer_order(using: str, order_id: int, answer: str) -> bool:
    """Answer an order, which makes it this process's to carry out; False when it has been answered, or withdrawn."""
    order = OrderRecord.objects.using(using).filter(pk=order_id, answered_at__isnull=True)
    return bool(retry_conflicts(using, lambda: order.update(answered_at=Now(), answer=answer)))


def forget_orders(using: str) -> int:
    """Delete orders that are void; gives how many."""
    old = OrderRecord.objects.using(using).filter(made_at__lt=Now() - timedelta(seconds=ORDER_LIFE))
    # A look first, which takes no lock.
    if not old.exists():
        return 0
    return retry_conflicts(using, lambda: old.delete()[0])
