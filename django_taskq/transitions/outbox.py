"""What a message broker has been told of the tasks that are READY.

``published_at`` is the outbox: NULL where no broker is to be told, ``NEVER_PUBLISHED`` until one was,
then the moment of it. A task that is claimed falls back to ``NEVER_PUBLISHED``, so that it is
published anew when it comes back; one that has ended falls back to NULL.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Count, Q

from ..core.paused import Paused
from ..core.states import State
from ..database import Now, retry_conflicts
from ..models import TaskQuerySet, TaskRecord
from ..models.task import NEVER_PUBLISHED

#: rows per statement that adopts the tasks of an alias whose broker was changed
_ADOPTED = 1_000


@dataclass(frozen=True, slots=True)
class Unpublished:
    """A task that a broker is to be told of."""

    id: str
    backend: str
    queue_name: str
    priority: int


def unpublished(
    using: str, backend: str, limit: int, after: str | None = None, *, paused: Collection[str] = ()
) -> list[Unpublished]:
    """Up to ``limit`` READY tasks that no broker was told of, the oldest first, or those that follow ``after``.

    ``paused``: names of tasks that stay in the outbox.
    """
    rows = _ready(using, [backend]).filter(published_at=NEVER_PUBLISHED)
    if paused:
        rows = rows.exclude(name__in=list(paused))
    if after is not None:
        rows = rows.filter(pk__gt=after)
    return _references(rows.order_by("pk"), limit)


def waiting_since(using: str, backends: Collection[str], seconds: float) -> dict[tuple[str, str], int]:
    """How many tasks were published longer than ``seconds`` ago and are still READY, by backend and queue."""
    rows = _published(using, backends, seconds).order_by().values_list("backend", "queue_name")
    return {(backend, queue_name): count for backend, queue_name, count in rows.annotate(count=Count("pk"))}


def longest_waiting(using: str, backend: str, queue_name: str, seconds: float, limit: int) -> list[Unpublished]:
    """Up to ``limit`` tasks of a queue among those that :func:`waiting_since` counts, the longest published first."""
    rows = _published(using, [backend], seconds).filter(queue_name=queue_name)
    return _references(rows.order_by("published_at"), limit)


def mark_published(using: str, ids: Sequence[str]) -> int:
    """The broker was told of these just now; gives how many of them still wait."""
    return _mark(using, ids, Now())


def mark_unpublished(using: str, ids: Sequence[str]) -> int:
    """The broker could not be told of these; gives how many of them still wait."""
    return _mark(using, ids, NEVER_PUBLISHED)


def put_off(using: str, ids: Sequence[str], paused: Paused, *, backends: Collection[str]) -> set[str]:
    """Put back in the outbox those of these tasks that are READY and paused, for the time after; gives their ids.

    They may be forgotten at the broker once this is committed.
    """
    is_paused = Q(name__in=list(paused.tasks)) | Q(queue_name__in=list(paused.queues))
    rows = _ready(using, backends).filter(is_paused, pk__in=ids)
    found = [str(pk) for pk in rows.values_list("pk", flat=True)]
    if found:
        _mark(using, found, NEVER_PUBLISHED)
    return set(found)


def adopt(using: str, backends: Collection[str]) -> int:
    """Put READY tasks in the outbox that stem from before their alias had a message broker; gives how many."""
    rows = _ready(using, backends).filter(published_at__isnull=True)
    ids = list(rows.order_by("pk").values_list("pk", flat=True)[:_ADOPTED])
    if not ids:
        return 0
    return retry_conflicts(using, lambda: rows.filter(pk__in=ids).update(published_at=NEVER_PUBLISHED))


def _mark(using: str, ids: Sequence[str], published_at: object) -> int:
    if not ids:
        return 0
    # Guarded: whoever claimed a task meanwhile has put it back in the outbox for the time it returns.
    rows = TaskRecord.objects.using(using).filter(pk__in=ids, state=State.READY, published_at__isnull=False)
    return retry_conflicts(using, lambda: rows.update(published_at=published_at))


def _ready(using: str, backends: Collection[str]) -> TaskQuerySet:
    return TaskRecord.objects.using(using).filter(state=State.READY, backend__in=backends)


def _published(using: str, backends: Collection[str], seconds: float) -> TaskQuerySet:
    before = Now() - timedelta(seconds=seconds)
    return _ready(using, backends).filter(published_at__gt=NEVER_PUBLISHED, published_at__lt=before)


def _references(rows: TaskQuerySet, limit: int) -> list[Unpublished]:
    found = rows.values_list("pk", "backend", "queue_name", "priority")[:limit]
    return [Unpublished(str(pk), backend, queue, priority) for pk, backend, queue, priority in found]
