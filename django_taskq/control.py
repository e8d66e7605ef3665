"""What people do to tasks, queues and workers: what admin and command line share.

Many tasks are gone through in batches, each a transaction of its own: what was done stays done, should a later one
fail. Every function raises the database's errors, and takes the ``DATABASES`` alias first.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from .aliases import backends_on
from .announcements import send_cancelled
from .backend import TaskqBackend
from .core.paused import PauseKind
from .core.queues import MAX_QUEUE_NAME
from .core.states import PENDING, State
from .exceptions import OptionError
from .models import OrderRecord, PauseRecord, TaskRecord
from .selection import Selection
from .signals import task_cancelled
from .transitions import control, operate
from .worker.remote import Verb

logger = logging.getLogger("django_taskq.control")

#: tasks per transaction
_BATCH = 500
#: tries at tasks that move while they are cancelled; they cannot keep moving for long
_TRIES = 10
#: seconds between two looks for answers: from, to
_LOOK, _LOOK_MAX = 0.02, 0.25

_CANCELLABLE = PENDING | {State.RUNNING}
_REQUEUEABLE = frozenset({State.SCHEDULED, State.READY, State.RUNNING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of the tasks that were meant.

    ``counts``: reason in words -> tasks. ``changed``: how many were changed, or would be.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    changed: int = 0


#: the ids of a batch -> reasons and their tasks
_Work = Callable[[Sequence[str]], Mapping[str, int]]


def cancel(using: str, selection: Selection, *, dry_run: bool = False) -> Report:
    """Cancel tasks: at once while they wait, by request while they run."""
    # Rows are read for receivers only where there are any.
    on_ended = _tell_cancelled if task_cancelled.has_listeners() else None

    def work(ids: Sequence[str]) -> Mapping[str, int]:
        counts: Counter[str] = Counter()
        for _ in range(_TRIES):
            counts["cancelled"] += operate.cancel_waiting(using, ids, on_ended=on_ended)
            counts["asked to stop"] += operate.ask_running(using, ids)
            # One that was given back between the two statements was missed by both.
            if not TaskRecord.objects.using(using).filter(pk__in=ids, state__in=sorted(PENDING)).exists():
                break
        return counts

    reasons = dict.fromkeys(PENDING, "cancelled") | {State.RUNNING: "asked to stop"}
    return _each(
        using,
        selection,
        _CANCELLABLE,
        reasons,
        work=None if dry_run else work,
        otherwise="ended meanwhile, or asked before",
    )


def retry(using: str, selection: Selection, *, dry_run: bool = False) -> Report:
    """Let tasks that FAILED, were CANCELLED or EXPIRED run once more."""
    published = _published(using)
    reasons = dict.fromkeys(operate.RETRIABLE, "ready again")

    def work(ids: Sequence[str]) -> Mapping[str, int]:
        return {"ready again": operate.retry(using, ids, published=published)}

    return _each(using, selection, operate.RETRIABLE, reasons, work=None if dry_run else work)


def requeue(using: str, selection: Selection, *, to_queue: str | None = None, dry_run: bool = False) -> Report:
    """Let tasks run now that are due later, or whose worker is no more; ``to_queue``: in another queue.

    Of tasks that are READY already their broker is told once more, where there is one. Raises ``OptionError``.
    """
    if to_queue is not None and not 0 < len(to_queue) <= MAX_QUEUE_NAME:
        raise OptionError(f"to_queue={to_queue[:20]!r}: a queue's name has 1 to {MAX_QUEUE_NAME} characters.")
    published = _published(using)
    due = "ready now" if to_queue is None else f"moved to {to_queue}"
    reasons = {State.SCHEDULED: due, State.READY: "published again" if to_queue is None else due}

    def work(ids: Sequence[str]) -> Mapping[str, int]:
        counts: Counter[str] = Counter()
        if to_queue is None:
            # In this order: none of them is counted twice.
            counts["published again"] += operate.publish_again(using, ids)
            counts[due] += operate.make_due(using, ids)
        else:
            counts[due] += operate.move(using, ids, to_queue, published=published)
        counts["given back by lost workers"] += operate.take_back(using, ids)
        return counts

    return _each(
        using,
        selection,
        _REQUEUEABLE,
        reasons,
        work=None if dry_run else work,
        otherwise="left to a worker or a broker",
    )


def purge(using: str, selection: Selection, *, dry_run: bool = False) -> Report:
    """Delete tasks that wait, as if they had never been."""
    reasons = dict.fromkeys(PENDING, "deleted")

    def work(ids: Sequence[str]) -> Mapping[str, int]:
        return {"deleted": operate.delete_waiting(using, ids)}

    return _each(using, selection, PENDING, reasons, work=None if dry_run else work)


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


def _published(using: str) -> list[str]:
    """The aliases whose broker has to be told of tasks that are READY."""
    return [backend.alias for backend in backends_on(using) if backend.config.is_kombu]


def _each(
    using: str,
    selection: Selection,
    states: frozenset[State],
    reasons: Mapping[State, str],
    *,
    work: _Work | None,
    otherwise: str = "changed meanwhile",
) -> Report:
    """Go through the tasks that are meant. ``states``: in which something can be done; only these, unless named.

    ``reasons``: what would become of a task in each state. ``work`` None: nothing is done. ``otherwise``: what is said
    of those to which ``work`` did nothing.
    """
    counts: Counter[str] = Counter()
    changed = 0
    for batch in _batches(using, selection, states):
        able = [task_id for task_id, state in batch if state in states]
        counts.update(f"{state.value}: left alone" for _, state in batch if state not in states)
        if work is None:
            would = [
                reasons.get(state, "given back if their workers are lost") for _, state in batch if state in states
            ]
            counts.update(would)
            changed += sum(reason in reasons.values() for reason in would)
        elif able:
            done = Counter(work(able))
            counts += done
            changed += done.total()
            counts[otherwise] += max(len(able) - done.total(), 0)
    return Report(counts={reason: count for reason, count in counts.items() if count}, changed=changed)


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
