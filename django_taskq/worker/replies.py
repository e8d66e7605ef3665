"""Answers to callers who wait, in one burst per broker."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from ..backend import TaskqBackend
from ..brokers.kombu.outgoing import POSTER, Outgoing
from ..core.outcome import AttemptError, Outcome
from ..core.reply import Reply, encode_reply
from ..core.reply_queue import is_ours, is_reply_queue
from ..core.states import State
from ..core.wire import Wire
from .slots import Work
from .statement import reply_of

logger = logging.getLogger("django_taskq.worker")

#: seconds for which an answer is offered to a broker that does not take it, and between two tries: nobody waits for
#: ever, and the task's delivery is held for as long
_PERSISTENCE, _PAUSE = 15.0, 0.25


@dataclass(slots=True, eq=False)
class _Answer:
    work: Work
    outgoing: Outgoing
    #: when it is given up, and when to try again (monotonic)
    until: float
    due_at: float = 0.0


class Replies:
    """Answers those who wait. ``ring``: called when ``told`` has something and nobody answers anything just then."""

    def __init__(self, backend_of: Callable[[str], TaskqBackend], ring: Callable[[], None]) -> None:
        self._backend_of = backend_of
        self._ring = ring
        #: by alias, and whether a caller of ours waits: those may wait at another broker than Celery's
        self._waiting: dict[tuple[str, bool], list[Outgoing]] = {}
        self._told: deque[Work] = deque()
        self._again: deque[_Answer] = deque()

    def answer(self, work: Work, outcome: Outcome) -> None:
        """Answer who waits for a task without a row, right from its slot: it saves the time of waking another thread.

        Never raises. ``work.is_answered`` says afterwards whether somebody waits, and ``work.is_told``, sooner or later,
        that the broker has the answer, or does not take it. The first answer to a task is the only one.
        """
        if work.is_answered is not None:
            return
        work.is_answered = False
        message = work.message
        call = message.delivery.call
        if not call.reply_to or not outcome.state.is_final:
            return
        reply = reply_of(message, outcome, correlation_id=call.correlation_id)
        if _is_refused(call.reply_to, reply):
            return
        work.is_answered = True
        outgoing = Outgoing(queue_name=call.reply_to, wire=_wire(reply), reply=True)
        self._post(_Answer(work, outgoing, time.monotonic() + _PERSISTENCE))

    def go_on(self, now: float, *, is_leaving: bool) -> None:
        """Try again what a broker did not take; for the I/O thread. ``is_leaving``: this process is to end."""
        for _ in range(len(self._again)):
            answer = self._again.popleft()
            if is_leaving or now >= answer.until:
                _complain([False])
                self._tell(answer.work)
            elif now >= answer.due_at:
                self._post(answer)
            else:
                self._again.append(answer)

    def due_in(self, now: float) -> float | None:
        """Seconds until something is tried again; None when there is nothing."""
        return max(self._again[0].due_at - now, 0.0) if self._again else None

    def told(self) -> list[Work]:
        """What is told since the last look; for the I/O thread."""
        return [self._told.popleft() for _ in range(len(self._told))]

    def add(self, alias: str, queue_name: str, reply: Reply) -> None:
        """Answer who waits for a task with a row, with the next ``send``; for the I/O thread."""
        if not _is_refused(queue_name, reply):
            outgoing = Outgoing(queue_name=queue_name, wire=_wire(reply), reply=True)
            self._waiting.setdefault((alias, is_ours(queue_name)), []).append(outgoing)

    def send(self) -> None:
        """Send all, and wait for nothing: who is not answered looks at the row."""
        waiting, self._waiting = self._waiting, {}
        for (alias, _), replies in waiting.items():
            self._backend_of(alias).replier(replies[0].queue_name).post(replies, _complain)

    def _post(self, answer: _Answer) -> None:
        replier = self._backend_of(answer.work.message.backend).replier(answer.outgoing.queue_name)
        replier.post([answer.outgoing], partial(self._note, answer))

    def _note(self, answer: _Answer, taken: list[bool]) -> None:
        """Called in any thread."""
        if taken[0]:
            self._tell(answer.work)
            return
        answer.due_at = time.monotonic() + _PAUSE
        self._again.append(answer)
        self._ring()

    def _tell(self, work: Work) -> None:
        # In this order: whoever does not find it in the queue any more sees that it is told.
        work.is_told = True
        if work.on_told is not None:
            work.on_told(work)
        else:
            self._told.append(work)
        # Told by the thread that answers the next one: whatever wakes the I/O thread for that, or this, comes soon.
        if threading.current_thread().name == POSTER:
            self._ring()


def _is_refused(queue_name: str, reply: Reply) -> bool:
    """Others' queues are: messages name them."""
    if is_reply_queue(queue_name):
        return False
    logger.warning(
        "Task %s id=%s: nobody is answered, its reply_to is no queue of a caller.",
        reply.name,
        reply.task_id,
        extra={"action": "reply_refused", "task_id": reply.task_id},
    )
    return True


def _complain(taken: list[bool]) -> None:
    """What a broker does not take is lost: whoever waits gives up."""
    lost = taken.count(False)
    if lost:
        logger.warning("%d callers could not be answered.", lost, extra={"action": "replies_lost"})


def _wire(reply: Reply) -> Wire:
    try:
        return encode_reply(reply)
    except ValueError as error:
        # Too large for a message: better to hear that than nothing.
        return encode_reply(replace(reply, state=State.FAILED, result=None, error=AttemptError.of(error)))
