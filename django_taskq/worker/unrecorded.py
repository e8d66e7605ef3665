"""The ends of tasks without rows: acked, published anew, or given a row to wait in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError

from ..backend import TaskqBackend
from ..brokers.base import Consumer
from ..brokers.kombu.outgoing import Outgoing
from ..core.message import Message
from ..core.outcome import Outcome
from ..core.states import State
from ..core.wire import Call, encode_call
from ..database import CONNECTION_ERRORS
from ..transitions.enqueue import insert_call
from .replies import Replies
from .rows import row_id, task_of
from .slots import Work

if TYPE_CHECKING:
    from ..brokers.kombu.consumer import Unrecorded

#: how often a database may refuse a row before its task is given up: with an error that is the row's own, and with
#: its connection, right after that was made anew (a packet too large is answered so)
_MAX_REFUSALS, _MAX_FAULTS = 3, 30

logger = logging.getLogger("django_taskq.worker")


@dataclass(slots=True, eq=False)
class _Pending:
    """An outcome on its way; what was done about it is not done twice, however often something after that fails."""

    work: Work
    outcome: Outcome
    worker_id: str
    #: another attempt has been published
    is_published: bool = False
    refusals: int = 0

    @property
    def held(self) -> Unrecorded:
        """How the task is held."""
        held: Unrecorded = self.work.message.delivery
        return held

    @property
    def needs_row(self) -> bool:
        """Whether the database has to keep it for another attempt."""
        return self.outcome.is_retry and not self.outcome.is_unstarted and not self.is_published


class Settler:
    """Settles tasks without rows; used by the I/O thread alone.

    A delivery is acked last. What a crash or an error comes between is delivered again.
    """

    def __init__(self, backend_of: Callable[[str], TaskqBackend], replies: Replies) -> None:
        self._backend_of = backend_of
        self._replies = replies
        #: by the identity of their work
        self._awaited: dict[int, _Pending] = {}
        self._pending: list[_Pending] = []

    def add(self, work: Work, outcome: Outcome, *, worker_id: str) -> None:
        """Take over an outcome."""
        self._pending.append(_Pending(work, outcome, worker_id))

    def is_empty(self) -> bool:
        """Whether everything is settled."""
        return not (self._pending or self._awaited)

    def settle(self) -> Iterator[Work]:
        """Settle all; gives the tasks as they are settled. Raises the database's errors; the rest stays here.

        A task that somebody waits for is this process's no longer as soon as the answer is on its way.
        """
        told = [pending for work in self._replies.told() if (pending := self._awaited.pop(id(work), None)) is not None]
        self._answer(told)
        if not self._pending:
            return
        self._publish()
        # Those that do not need the database: it may be away.
        ready = [pending for pending in self._pending if not pending.needs_row]
        self._pending = [pending for pending in self._pending if pending.needs_row]
        self._answer([pending for pending in ready if not self._awaits(pending)])
        for pending in ready:
            yield pending.work
        while self._pending:
            pending = self._pending[0]
            self._insert(pending)
            self._answer([pending])
            del self._pending[0]
            yield pending.work

    def _awaits(self, pending: _Pending) -> bool:
        """Whether the answer is on its way: the delivery is acked when the broker has it."""
        work = pending.work
        if not work.is_answered or work.is_told:
            return False
        self._awaited[id(work)] = pending
        return True

    def _answer(self, settled: Sequence[_Pending]) -> None:
        """Tell the brokers, in one go: a link acks many with one frame."""
        done: dict[Consumer, list[Message]] = {}
        for pending in settled:
            if pending.outcome.is_unstarted:
                pending.held.consumer.give_back([pending.work.message])
            elif pending.outcome.is_rejected:
                pending.held.consumer.reject([pending.work.message])
            else:
                done.setdefault(pending.held.consumer, []).append(pending.work.message)
        for consumer, messages in done.items():
            consumer.settle(messages)

    def _publish(self) -> None:
        """Attempts that are due at once, in one burst per broker. What a broker does not take needs a row."""
        bursts: dict[str, list[tuple[_Pending, Outgoing]]] = {}
        for pending in self._pending:
            message = pending.work.message
            if not pending.needs_row or pending.outcome.state is not State.READY:
                continue
            if self._backend_of(message.backend).config.topology.is_broadcast(message.queue_name):
                # Every worker would run it again, and not just this one.
                continue
            call = _next_call(pending)
            try:
                wire = encode_call(call)
            except ValueError as error:
                # It came by a message, but has grown since: metadata, for instance.
                logger.info(
                    "Task %s id=%s waits in a row for its next attempt: %s",
                    call.name,
                    call.id,
                    error,
                    extra={"action": "retry_recorded", "task_id": call.id},
                )
                continue
            outgoing = Outgoing(queue_name=message.queue_name, priority=call.priority, wire=wire)
            bursts.setdefault(message.backend, []).append((pending, outgoing))
        for alias, burst in bursts.items():
            taken = self._backend_of(alias).publisher.publish([outgoing for _, outgoing in burst])
            for (pending, _), is_taken in zip(burst, taken, strict=True):
                pending.is_published = is_taken

    def _insert(self, pending: _Pending) -> None:
        """The next attempt as a row."""
        message = pending.work.message
        call = _next_call(pending)
        backend = self._backend_of(message.backend)
        try:
            insert_call(
                backend.database,
                task_of(backend, call, message.queue_name, state=pending.outcome.state),
                row_id(call.id),
                call,
                delay=pending.outcome.delay,
            )
        except (DatabaseError, InterfaceError, ValueError, OverflowError) as error:
            pending.refusals += 1
            if pending.refusals < (_MAX_FAULTS if isinstance(error, CONNECTION_ERRORS) else _MAX_REFUSALS):
                raise
            # One that no database takes must not hold up the others for ever.
            logger.error(  # noqa: TRY400  # the traceback is ours, not the task's
                "Task %s id=%s is given up: its next attempt cannot be stored (%s).",
                call.name,
                call.id,
                error,
                extra={"action": "retry_refused", "task_id": call.id},
            )


def _next_call(pending: _Pending) -> Call:
    """What another worker needs to know for the next attempt."""
    message, outcome = pending.work.message, pending.outcome
    error = ""
    if outcome.error is not None:
        at = message.last_attempted_at + timedelta(seconds=outcome.duration)
        error = outcome.error.line(attempt=message.attempt, worker=pending.worker_id, at=at)
    return replace(
        pending.held.call,
        retries=message.attempt,
        # It was due, or would not have run: the next attempt has a moment of its own.
        eta=None,
        errors=message.errors + error,
        worker_ids=message.worker_ids,
        metadata=message.metadata if outcome.metadata is None else outcome.metadata,
    )
