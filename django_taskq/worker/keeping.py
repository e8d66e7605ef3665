"""Values that are kept elsewhere than in rows: stored right after the task, in its own slot.

Before the row tells that the task has ended, so that whoever reads the row finds the value. And not in the I/O thread: a
store may be a world away.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta

from ..backend import TaskqBackend
from ..core.message import Message
from ..core.options import TaskOptions
from ..core.outcome import AttemptError, Outcome
from ..core.states import State
from ..exceptions import ResultStoreError
from .statement import reply_of

logger = logging.getLogger("django_taskq.worker")


def keep(backend: TaskqBackend, message: Message, options: TaskOptions, outcome: Outcome) -> Outcome:
    """Store how a task ended; gives the outcome as its row is to have it. ``options``: settled with the alias.

    What the store does not take is kept in the row, where there is one; a value too large for it fails the task. Of our
    own errors none is raised.
    """
    if not outcome.state.is_final or not backend.result_store.keeps:
        return outcome
    has_failed = outcome.state is State.FAILED
    is_wanted = options.keeps_result or (has_failed and options.keeps_errors)
    has_row = message.delivery is None and (options.record or outcome.state is not State.SUCCESSFUL)
    # Cancelled or expired: all there is to say stands in the row. Of a task without one, the store has to say it.
    is_told = has_row and not has_failed and outcome.result is None
    if not is_wanted or is_told:
        return outcome
    try:
        _store(backend, message, options, outcome)
    except ValueError as error:
        if has_failed:
            # Even that it failed is too much for this store.
            return outcome
        outcome = replace(outcome, state=State.FAILED, result=None, error=AttemptError.of(error))
        logger.error(  # noqa: TRY400  # it says all
            "Task %s id=%s failed for good: %s",
            message.name,
            message.id,
            error,
            extra={"action": "result_refused", "task_id": message.id},
        )
        return keep(backend, message, options, outcome)
    except ResultStoreError as error:
        logger.log(
            logging.WARNING if has_row else logging.ERROR,
            "Task %s id=%s: its result %s (%s)",
            message.name,
            message.id,
            "stays in its row" if has_row else "is lost",
            error,
            extra={"action": "result_not_stored", "task_id": message.id},
        )
        return outcome
    return replace(outcome, is_kept=True) if outcome.result is not None else outcome


def _store(backend: TaskqBackend, message: Message, options: TaskOptions, outcome: Outcome) -> None:
    reply = reply_of(message, outcome)
    ttl = backend.ttl_of(options, outcome.state)
    if ttl is not None and reply.finished_at is not None:
        reply = replace(reply, expires_at=reply.finished_at + timedelta(seconds=ttl))
    backend.result_store.keep(reply)
