"""Tasks that are enqueued once more as new ones, by the way that any other call takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import IntegrityError, transaction

from .aliases import backends_on
from .backend import TaskqBackend
from .compat import InvalidTask, UpstreamTask
from .core import codec
from .definition import Task
from .exceptions import OptionError, TaskqError
from .models import TaskRecord
from .producer import encode_call, enqueue_many

#: what :func:`copy_of` raises for a task that cannot be enqueued here
CANNOT_COPY = (TaskqError, InvalidTask, TypeError, ValueError, RecursionError)

#: tries: of two requests for the same copies one fails at the other's rows, and finds them the next time
_TRIES = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Copy:
    """A task that is to be enqueued, and has been found to be fit for it."""

    backend: TaskqBackend
    task: UpstreamTask
    args: Sequence[Any]
    kwargs: Mapping[str, Any]


def copy_of(
    using: str,
    record: TaskRecord,
    *,
    call: tuple[Sequence[Any], Mapping[str, Any]] | None = None,
    queue_name: str | None = None,
    priority: int | None = None,
) -> Copy:
    """The same task with the options its call had, to run now. ``call``: other arguments.

    Raises ``CANNOT_COPY``, of which ``UnknownTask`` is one.
    """
    backend = next((one for one in backends_on(using) if one.alias == record.backend), None)
    if backend is None:
        raise OptionError(f"TASKS has no alias {record.backend!r} whose rows are in this database.")
    task = backend.task_of(record)
    changes: dict[str, Any] = {"run_after": None}
    if queue_name:
        changes["queue_name"] = queue_name
    if priority is not None:
        changes["priority"] = priority
    if isinstance(task, Task):
        # There is a row to copy, so that people expect one of the copy.
        changes["record"] = True
        if record.metadata:
            changes["metadata"] = codec.decode(record.metadata)
    task = replace(task, **changes)
    args, kwargs = record.call_arguments if call is None else call
    backend.validate_task(task)
    encode_call(task, args, kwargs)
    return Copy(backend=backend, task=task, args=args, kwargs=kwargs)


def enqueue_copies(using: str, copies: Mapping[str, Copy]) -> int:
    """Enqueue tasks under these ids, all or none; gives how many.

    One whose id is there already is left as it is: somebody has asked twice. Raises what ``producer.enqueue_many`` does.
    """
    for _ in range(_TRIES - 1):
        try:
            return _enqueue(using, copies)
        except IntegrityError:
            continue
    return _enqueue(using, copies)


def _enqueue(using: str, copies: Mapping[str, Copy]) -> int:
    with transaction.atomic(using=using):
        rows = TaskRecord.objects.using(using).filter(pk__in=list(copies))
        there = {str(pk) for pk in rows.values_list("pk", flat=True)}
        new = {task_id: copy for task_id, copy in copies.items() if task_id not in there}
        for task_id, copy in new.items():
            enqueue_many(copy.backend, copy.task, [(copy.args, copy.kwargs)], ids=[task_id], awaited=False)
    return len(new)
