"""What can be done to many tasks, and in which states: the same at once, in the background, and on the command line.

A batch of tasks is a transaction, or a part of the caller's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .aliases import backends_on
from .compat import TASK_MAX_PRIORITY, TASK_MIN_PRIORITY
from .core.queues import MAX_QUEUE_NAME
from .core.states import FINAL, PENDING, State
from .exceptions import OptionError
from .models import TaskRecord
from .routes import is_queue_name
from .signals import task_cancelled
from .transitions import operate

#: tries at tasks that move while they are cancelled; they cannot keep moving for long
_TRIES = 10

#: backends and ids of tasks
Told = Callable[[Iterable[tuple[str, str]]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that is done to tasks.

    ``states``: in which something can be done. ``reasons``: what becomes of a task in each. ``work``: does it to those of
    these ids, in one of these states; gives reasons and how many. ``otherwise``: what is said of those to which it did
    nothing.
    """

    states: frozenset[State]
    reasons: Mapping[State, str]
    work: Callable[[Sequence[str]], Mapping[str, int]]
    otherwise: str = "changed meanwhile"

    def carry_out(self, batch: Sequence[tuple[str, State]]) -> tuple[Counter[str], int]:
        """Do it to those of a batch, ids and states; gives what became of all of them, and how many were changed."""
        counts = self._left_alone(batch)
        able = [task_id for task_id, state in batch if state in self.states]
        if not able:
            return counts, 0
        done = Counter(self.work(able))
        counts += done
        counts[self.otherwise] += max(len(able) - done.total(), 0)
        return +counts, done.total()

    def try_out(self, batch: Sequence[tuple[str, State]]) -> tuple[Counter[str], int]:
        """What it would do; nothing is done."""
        counts = self._left_alone(batch)
        would = [
            self.reasons.get(state, "given back if their workers are lost")
            for _, state in batch
            if state in self.states
        ]
        counts.update(would)
        return counts, sum(reason in self.reasons.values() for reason in would)

    def _left_alone(self, batch: Sequence[tuple[str, State]]) -> Counter[str]:
        return Counter(f"{state.value}: left alone" for _, state in batch if state not in self.states)


def to_cancel(using: str, tell: Told) -> Change:
    """At once while they wait, by request while they run. ``tell``: gets those that waited, after the commit."""

    def work(ids: Sequence[str]) -> Mapping[str, int]:
        # Rows are read for receivers only where there are any.
        on_ended = tell if task_cancelled.has_listeners() else None
        counts: Counter[str] = Counter()
        for _ in range(_TRIES):
            counts["cancelled"] += operate.cancel_waiting(using, ids, on_ended=on_ended)
            counts["asked to stop"] += operate.ask_running(using, ids)
            # One that was given back between the two statements was missed by both.
            if not TaskRecord.objects.using(using).filter(pk__in=ids, state__in=sorted(PENDING)).exists():
                break
        return counts

    return Change(
        states=PENDING | {State.RUNNING},
        reasons=dict.fromkeys(PENDING, "cancelled") | {State.RUNNING: "asked to stop"},
        work=work,
        otherwise="ended meanwhile, or asked before",
    )


def to_retry(using: str) -> Change:
    """Tasks that FAILED, were CANCELLED or EXPIRED run once more."""
    published = _published(using)
    return Change(
        states=operate.RETRIABLE,
        reasons=dict.fromkeys(operate.RETRIABLE, "ready again"),
        work=lambda ids: {"ready again": operate.retry(using, ids, published=published)},
    )


def to_requeue(using: str, *, to_queue: str | None = None, priority: int | None = None) -> Change:
    """Tasks that are due later run now, and those whose worker is no more; in another queue, with another priority.

    Of tasks that are READY already their broker is told once more, where there is one. Raises ``OptionError``.
    """
    if to_queue is not None:
        _check_queue(using, to_queue)
    if priority is not None and not TASK_MIN_PRIORITY <= priority <= TASK_MAX_PRIORITY:
        raise OptionError(f"priority={priority!r}: must be from {TASK_MIN_PRIORITY} to {TASK_MAX_PRIORITY}.")
    published = _published(using)
    moves = to_queue is not None or priority is not None
    parts = [
        *([f"moved to {to_queue}"] if to_queue is not None else []),
        *([f"given priority {priority}"] if priority is not None else []),
    ]
    due = " and ".join(parts) if moves else "ready now"

    def work(ids: Sequence[str]) -> Mapping[str, int]:
        counts: Counter[str] = Counter()
        if moves:
            counts[due] += operate.move(using, ids, to_queue, priority=priority, published=published)
        else:
            # In this order: none of them is counted twice.
            counts["published again"] += operate.publish_again(using, ids)
            counts[due] += operate.make_due(using, ids)
        counts["given back by lost workers"] += operate.take_back(using, ids)
        return counts

    return Change(
        states=frozenset({State.SCHEDULED, State.READY, State.RUNNING}),
        reasons={State.SCHEDULED: due, State.READY: due if moves else "published again"},
        work=work,
        otherwise="left to a worker or a broker",
    )


def to_purge(using: str) -> Change:
    """Tasks that wait are deleted, as if they had never been."""
    return Change(
        states=PENDING,
        reasons=dict.fromkeys(PENDING, "deleted"),
        work=lambda ids: {"deleted": operate.delete_waiting(using, ids)},
    )


def to_discard(using: str) -> Change:
    """Tasks that ended without success are deleted: somebody has seen to them."""
    return _deletion(using, operate.RETRIABLE)


def to_delete(using: str) -> Change:
    """Tasks that have ended are deleted."""
    return _deletion(using, FINAL)


def _deletion(using: str, states: frozenset[State]) -> Change:
    return Change(
        states=states,
        reasons=dict.fromkeys(states, "deleted"),
        work=lambda ids: {"deleted": operate.delete_ended(using, ids, states=states)},
        otherwise="changed or deleted meanwhile",
    )


def _published(using: str) -> list[str]:
    """The aliases whose broker has to be told of tasks that are READY."""
    return [backend.alias for backend in backends_on(using) if backend.config.is_kombu]


def _check_queue(using: str, name: str) -> None:
    """Whether tasks can be put into this queue. Raises ``OptionError``."""
    if not is_queue_name(name):
        raise OptionError(f"to_queue={name[:20]!r}: a queue's name has 1 to {MAX_QUEUE_NAME} characters.")
    for backend in backends_on(using):
        if backend.config.is_kombu and backend.config.topology.is_broadcast(name):
            raise OptionError(f"to_queue={name!r}: a broadcast, which holds no tasks that have a row.")
