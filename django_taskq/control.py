"""What people do to tasks, queues and workers: what admin and command line share.

Many tasks are gone through in batches, each a transaction of its own: what was done stays done, should a later one
fail. Every function raises the database's errors, and takes the ``DATABASES`` alias first.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from .announcements import send_cancelled
from .backend import TaskqBackend
from .changes import Change, to_cancel, to_delete, to_discard, to_purge, to_requeue, to_retry
from .core.paused import PauseKind
from .core.states import State
from .models import OrderRecord, PauseRecord
from .selection import Selection
from .transitions import control
from .worker.remote import Verb

logger = logging.getLogger("django_taskq.control")

#: tasks per transaction
_BATCH = 500
#: seconds between two looks for answers: from, to
_LOOK, _LOOK_MAX = 0.02, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of the tasks that were meant.

    ``counts``: reason in words -> tasks. ``changed``: how many were changed, or would be.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    changed: int = 0


def cancel(using: str, selection: Selection, *, dry_run: bool = False) -> Report:
    """Cancel tasks: at once while they wait, by request while they run."""
    return _each(using, selection, to_cancel(using, _tell_cancelled), dry_run=dry_run)


def retry(using: str, selection: Selection, *, dry_run: bool = False) -> Report:
    """Let tasks that FAILED, were CANCELLED or EXPIRED run once more."""
    return _each(using, selection, to_retry(using), dry_run=dry_run)


def requeue(
    using: str,
    selection: Selection,
    *,
    to_queue: str | None = None,
    priority: int | None = None,
    dry_run: bool = False,
) -> Report:
    """Let tasks run now that are due later, or whose worker is no more.

    ``to_queue``, ``priority``: in another queue, with another priority. Of tasks that are READY already their broker is
    told once more, where there is one. Raises ``OptionError``.
    """
    return _each(using, selection, to_requeue(using, to_queue=to_queue, priority=priority), dry_run=dry_run)


def purge(using: str, selection: Selection, *, dry_run: bool = False) -> Report:
    """Delete tasks that wait, as if they had never been."""
    return _each(using, selection, to_purge(using), dry_run=dry_run)


def discard(using: str, selection: Selection, *, dry_run: bool = False) -> Report:
    """Delete tasks that FAILED, were CANCELLED or EXPIRED, once somebody has seen to them."""
    return _each(using, selection, to_discard(using), dry_run=dry_run)


def delete(using: str, selection: Selection, *, dry_run: bool = False) -> Report:
    """Delete tasks that have ended."""
    return _each(using, selection, to_delete(using), dry_run=dry_run)


def purge_broker(backend: TaskqBackend, queue_name: str) -> int | None:
    """Delete what waits in a queue of the message broker; gives how many messages, None where it cannot be done.

    Tasks without rows are gone with that. Those with rows are not: the broker is told of them again, in time.
    Raises what ``brokers.kombu.connection.errors_of(None)`` names, after some seconds at most.
    """
    if not backend.config.is_kombu or backend.config.topology.is_broadcast(queue_name):
        return None
    from .brokers.kombu.purge import purge_queue  # noqa: PLC0415  # who has no message broker does not load kombu

    return purge_queue(backend.config, queue_name)


def pause(using: str, kind: Literal["queue", "task"], name: str, *, by: str = "") -> bool:
    """Have workers start nothing of this queue, or of the task of this name; False when it is paused already.

    ``by``: who says so. Tasks go on being enqueued, and wait.
    """
    is_new = control.pause(using, PauseKind(kind), name, by[:150])
    if is_new:
        logger.info("Paused %s %s.", kind, name, extra={"action": "paused"})
    return is_new


def resume(using: str, kind: Literal["queue", "task"], name: str) -> bool:
    """Have workers go on with it; False when it is not paused."""
    was_paused = control.resume(using, PauseKind(kind), name)
    if was_paused:
        logger.info("Resumed %s %s.", kind, name, extra={"action": "resumed"})
    return was_paused


def paused(using: str) -> list[PauseRecord]:
    """What is paused: queues first, by name."""
    return list(PauseRecord.objects.using(using).order_by("kind", "name"))


def order(using: str, verb: Verb, worker_ids: Sequence[str]) -> list[OrderRecord]:
    """Have worker processes do something; see :func:`answers`.

    ``ping``: say what it runs. ``stacks``: and where. ``drain``: take no more tasks, until ``resume``. ``stop``: the
    whole worker of this process stops, as on SIGTERM. An answer is a JSON object, that to ``stacks`` is text.
    """
    return control.give_orders(using, verb, worker_ids)


def answers(using: str, orders: Sequence[OrderRecord], timeout: float) -> dict[str, OrderRecord]:
    """Wait for the answers for up to ``timeout`` seconds; gives those that came, by worker id."""
    deadline = time.monotonic() + timeout
    pause = _LOOK
    rows = OrderRecord.objects.using(using).filter(pk__in=[one.pk for one in orders], answered_at__isnull=False)
    while True:
        found = {one.worker_id: one for one in rows.all()}
        left = deadline - time.monotonic()
        if len(found) >= len(orders) or left <= 0:
            return found
        time.sleep(min(pause, left))
        pause = min(pause * 2, _LOOK_MAX)


def _tell_cancelled(tasks: Iterable[tuple[str, str]]) -> None:
    for backend, task_id in tasks:
        send_cancelled(backend, task_id)


def _each(using: str, selection: Selection, change: Change, *, dry_run: bool) -> Report:
    """Go through the tasks that are meant; only those to which something can be done, unless they are named."""
    counts: Counter[str] = Counter()
    changed = 0
    for batch in _batches(using, selection, change.states):
        found, number = change.try_out(batch) if dry_run else change.carry_out(batch)
        counts += found
        changed += number
    return Report(counts=dict(counts), changed=changed)


def _batches(using: str, selection: Selection, states: frozenset[State]) -> Iterator[list[tuple[str, State]]]:
    """The ids and states of the tasks that are meant, oldest first.

    Those that come to be meant meanwhile may be among them; none is there twice.
    """
    if not selection.ids and not selection.states:
        # Not the whole history, to say of each that nothing can be done.
        selection = replace(selection, states=states)
    rows = replace(selection, limit=None).rows(using).order_by("pk")
    left = selection.limit
    after = None
    while left is None or left > 0:
        size = _BATCH if left is None else min(_BATCH, left)
        page = rows if after is None else rows.filter(pk__gt=after)
        found = list(page.values_list("pk", "state")[:size])
        if not found:
            return
        after = found[-1][0]
        left = None if left is None else left - len(found)
        yield [(str(pk), State(state)) for pk, state in found]
