"""What time does to tasks that wait: SCHEDULED -> READY, and waiting -> EXPIRED."""

from __future__ import annotations

from uuid import UUID

from django.db import connections, transaction
from django.db.models import BooleanField
from django.db.models.expressions import RawSQL

from ..core.states import PENDING, State
from ..database import Now, notify, retry_conflicts
from ..models import TaskQuerySet, TaskRecord
from ..wakeup import DONE_CHANNEL, READY_CHANNEL

_EXPIRABLE = sorted(PENDING)
_EXPIRABLE_SQL = RawSQL(  # noqa: S611  # of constants alone
    f"state IN ({', '.join(repr(state.value) for state in _EXPIRABLE)})", (), BooleanField()
)


def promote_due(using: str, limit: int = 1_000) -> int:
    """Make up to ``limit`` tasks READY whose time has come, the longest due first; gives how many."""

    def promote() -> int:
        rows = TaskRecord.objects.using(using).filter(state=State.SCHEDULED, run_after__lte=Now())
        with transaction.atomic(using=using, savepoint=False):
            ids = _lock(using, rows.order_by("run_after"), limit)
            promoted = rows.filter(pk__in=ids).update(state=State.READY) if ids else 0
            if promoted:
                notify(using, READY_CHANNEL)
        return promoted

    return retry_conflicts(using, promote)


def expire_overdue(using: str, limit: int = 1_000) -> int:
    """End up to ``limit`` tasks that were not started before they expired; gives how many."""

    def expire() -> int:
        rows = _overdue(using)
        with transaction.atomic(using=using, savepoint=False):
            ids = _lock(using, rows.order_by("expires_at"), limit)
            ended = {"state": State.EXPIRED, "finished_at": Now(), "published_at": None}
            expired = rows.filter(pk__in=ids).update(**ended) if ids else 0
            if expired:
                notify(using, DONE_CHANNEL, "*")
        return expired

    return retry_conflicts(using, expire)


def seconds_to_next(using: str) -> float | None:
    """Seconds until the next task is due (0 and less: now); None when none is scheduled."""
    scheduled = TaskRecord.objects.using(using).filter(state=State.SCHEDULED, run_after__isnull=False)
    row = scheduled.order_by("run_after").annotate(now=Now()).values_list("run_after", "now").first()
    return None if row is None or row[0] is None else (row[0] - row[1]).total_seconds()


def any_overdue(using: str) -> bool:
    """Whether a task has expired and not been ended yet; cheaper than ending none."""
    overdue = _overdue(using)
    if connections[using].vendor == "mysql":
        # Asked for the first, MariaDB reads the whole table; asked for any, PostgreSQL may.
        return overdue.exists()
    return overdue.order_by("expires_at").values_list("pk").first() is not None


def _overdue(using: str) -> TaskQuerySet:
    rows = TaskRecord.objects.using(using).filter(expires_at__lte=Now())
    if connections[using].vendor == "sqlite":
        # It uses a partial index only where its condition stands in the query word for word.
        return rows.filter(_EXPIRABLE_SQL)
    return rows.filter(state__in=_EXPIRABLE)


def _lock(using: str, rows: TaskQuerySet, limit: int) -> list[UUID]:
    if connections[using].features.has_select_for_update_skip_locked:
        rows = rows.select_for_update(skip_locked=True)
    return list(rows.values_list("pk", flat=True)[:limit])
