"""What people do to tasks."""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction

from ..core.states import FINAL, PENDING, State
from ..database import Now, notify, retry_conflicts
from ..models import TaskRecord
from ..wakeup import DONE_CHANNEL

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
