"""From outcomes to rows, in batches, and past whatever a database refuses."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from django.db import DatabaseError, InterfaceError

from ..core.fingerprint import fingerprint
from ..core.message import Message
from ..core.outcome import AttemptError, Outcome
from ..core.reply_queue import decode_address
from ..core.states import State
from ..database import CONNECTION_ERRORS
from ..results.kept import ELSEWHERE
from ..transitions.finish import End, finish
from .replies import Replies
from .slots import Work
from .statement import reply_of

logger = logging.getLogger("django_taskq.worker")

#: seconds an outcome may wait for company while more tasks are running
PATIENCE = 0.01
#: outcomes per statement
_BATCH = 500
#: how often an outcome may fail with its connection, right after that was made anew, before it is given up: one
#: that is large (a packet too large is answered so), and any other, which rather had bad luck with its database
_MAX_FAULTS_LARGE, _MAX_FAULTS = 3, 30
#: characters of an outcome that may be too large; MySQL's own limit never was lower by default
_LARGE = 1_000_000


@dataclass(frozen=True, slots=True)
class _Pending:
    work: Work
    outcome: Outcome
    end: End
    since: float


class Writer:
    """Writes the ends of attempts; used by the I/O thread alone.

    After a database error the outcomes stay here and are tried one by one, so that one which cannot
    be stored costs itself only: it is written as FAILED with the reason.
    """

    def __init__(self, using_of: Callable[[str], str], replies: Replies) -> None:
        self._using_of = using_of
        self._replies = replies
        self._pending: list[_Pending] = []
        self._singly = False
        self._faults: Counter[str] = Counter()

    def add(self, work: Work, outcome: Outcome, *, worker_id: str, now: float) -> None:
        """Take over an outcome."""
        self._pending.append(_Pending(work, outcome, end_of(work.message, outcome, worker_id), now))

    def is_empty(self) -> bool:
        """Whether everything is written."""
        return not self._pending

    def due_in(self, now: float, *, busy: bool) -> float | None:
        """Seconds until a write is due; None without outcomes. ``busy``: more of them come soon."""
        if not self._pending:
            return None
        if not busy or len(self._pending) >= _BATCH:
            return 0.0
        return max(self._pending[0].since + PATIENCE - now, 0.0)

    def write(self) -> Iterable[Work]:
        """Write a batch; gives the tasks whose end is settled, to be taken as they come.

        Raises the database's errors; what was not given until then stays here.
        """
        if self._singly:
            return self._write_singly()
        batch = self._pending[:_BATCH]
        try:
            self._write(batch)
        except (DatabaseError, InterfaceError, ValueError, OverflowError):
            self._singly = True
            raise
        del self._pending[: len(batch)]
        return [pending.work for pending in batch]

    def _write_singly(self) -> Iterator[Work]:
        while self._pending:
            pending = self._pending[0]
            try:
                self._write([pending])
            except CONNECTION_ERRORS as error:
                self._faults[pending.end.id] += 1
                if self._faults[pending.end.id] >= (_MAX_FAULTS_LARGE if _is_large(pending.end) else _MAX_FAULTS):
                    self._pending[0] = _unstorable(pending, error)
                    self._faults.pop(pending.end.id)
                raise
            except (DatabaseError, ValueError, OverflowError) as error:
                logger.error(  # noqa: TRY400  # it is raised again
                    "Task %s id=%s: its end cannot be stored (%s).",
                    pending.work.message.name,
                    pending.end.id,
                    error,
                    extra={"action": "end_refused", "task_id": pending.end.id},
                )
                self._pending[0] = _unstorable(pending, error)
                raise
            del self._pending[0]
            yield pending.work
        self._singly = False
        self._faults.clear()

    def _write(self, batch: list[_Pending]) -> None:
        groups: dict[tuple[str, int], list[_Pending]] = {}
        seen: Counter[str] = Counter()
        for pending in batch:
            # A task that was taken from this process and came back may end twice in a batch, and goes by its id there.
            groups.setdefault((self._using_of(pending.work.message.backend), seen[pending.end.id]), []).append(pending)
            seen[pending.end.id] += 1
        for (using, _), group in groups.items():
            written = finish(using, [pending.end for pending in group])
            self._answer(group, written)
            if len(written) < len(group):
                for pending in group:
                    if pending.end.id not in written:
                        logger.warning(
                            "Task %s id=%s: the end of this attempt came too late and was discarded; "
                            "the task is somebody else's, or its end is written already.",
                            pending.work.message.name,
                            pending.end.id,
                            extra={"action": "end_discarded", "task_id": pending.end.id},
                        )
        self._replies.send()

    def _answer(self, group: Iterable[_Pending], written: Mapping[str, State]) -> None:
        """Tell who waits for the tasks that have ended, by what their rows say."""
        for pending in group:
            message = pending.work.message
            state = written.get(message.id)
            if state is None or not state.is_final or not message.reply_to:
                continue
            queue_name, correlation_id = decode_address(message.reply_to, message.id)
            reply = reply_of(message, pending.outcome, task_id=correlation_id, correlation_id=correlation_id)
            if state is not pending.outcome.state:
                # Somebody had cancelled it.
                reply = replace(reply, state=state, result=None, error=None)
            self._replies.add(message.backend, queue_name, reply)


def end_of(message: Message, outcome: Outcome, worker_id: str) -> End:
    """An outcome as the end of the attempt it belongs to."""
    error = ""
    if outcome.error is not None:
        # The claim's moment is the database's; this process's monotonic clock adds how long it took.
        at = message.last_attempted_at + timedelta(seconds=outcome.duration)
        error = outcome.error.line(attempt=message.attempt, worker=worker_id, at=at)
    return End(
        id=message.id,
        claim=message.claim,
        state=outcome.state,
        result=ELSEWHERE if outcome.is_kept else outcome.result,
        error=error,
        delay=outcome.delay,
        metadata=outcome.metadata,
        duration=outcome.duration,
        log=outcome.log,
        keep_row=outcome.keep_row or outcome.state is not State.SUCCESSFUL,
        fingerprint=_fingerprint_of(outcome, message) if outcome.state is State.FAILED else "",
    )


def _fingerprint_of(outcome: Outcome, message: Message) -> str:
    # Where errors are not kept, all failures of a task are one.
    return outcome.error.fingerprint(message.name) if outcome.error else fingerprint("", message.name, "")


def _is_large(end: End) -> bool:
    return len(end.result or "") + len(end.error) + len(end.metadata or "") >= _LARGE


def _unstorable(pending: _Pending, error: Exception) -> _Pending:
    outcome = Outcome(state=State.FAILED, error=AttemptError.of(error), duration=pending.end.duration or 0.0)
    owner = pending.work.message.worker_ids.split("\n")[-2]
    return replace(pending, outcome=outcome, end=end_of(pending.work.message, outcome, owner))
