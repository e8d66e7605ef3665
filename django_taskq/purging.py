"""Deleting what waits in one queue: found through the indexes over what waits, however long the history is."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connections

from .database import read_id
from .transitions.operate import delete_waiting

#: tasks per transaction
_BATCH = 500

_TABLE = "django_taskq_task"

#: in the order of an index each; no task is WAITING in this version
_WAITING = (
    "state = 'READY' AND backend = %s AND queue_name = %s ORDER BY priority DESC, id",
    "state = 'SCHEDULED' AND backend = %s AND queue_name = %s ORDER BY run_after",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """``deleted``: tasks; ``is_more``: as many as were to be were found, and others may be left."""

    deleted: int
    is_more: bool


def purge_waiting(using: str, backend: str, queue_name: str, *, limit: int) -> Purged:
    """Delete up to ``limit`` tasks of a queue that are READY or due later, as if they had never been.

    In batches, each a transaction of its own: what is deleted stays so, should a later one fail. Those that a worker has
    taken meanwhile run. Raises the database's errors.
    """
    found: list[str] = []
    with connections[using].cursor() as cursor:
        for where in _WAITING:
            left = limit - len(found)
            if left <= 0:
                break
            cursor.execute(f"SELECT id FROM {_TABLE} WHERE {where} LIMIT {left:d}", [backend, queue_name])  # noqa: S608  # of constants alone
            found += [read_id(row[0]) for row in cursor.fetchall()]
    deleted = 0
    for start in range(0, len(found), _BATCH):
        deleted += delete_waiting(using, found[start : start + _BATCH])
    return Purged(deleted=deleted, is_more=len(found) >= limit)
