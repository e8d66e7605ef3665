"""One attempt of one task: decode, signal, call, judge.

Runs the author's code and answers with an ``Outcome``; writes nothing. Whatever the task raises ends
here, ``SystemExit`` and ``KeyboardInterrupt`` included.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.dispatch import Signal

from .. import registry
from ..backend import TaskqBackend
from ..compat import UpstreamTask, task_finished, task_started
from ..context import TaskContext
from ..core import codec
from ..core.message import Message
from ..core.options import decode_overrides
from ..core.outcome import AttemptError, Outcome, fail, succeed
from ..core.states import State
from ..current import Running, begin
from ..exceptions import Interrupt, TaskCancelled, TaskqError, TimeLimitExceeded
from ..instrument import attempting, is_watched
from ..producer import options_of
from ..result import TaskResult, end_picture, running_result
from ..signals import task_cancelled, task_retrying
from .guard import Cause, CoroutineGuard, Guard, Relay, shut
from .keeping import keep

if TYPE_CHECKING:
    from .slots import Work

logger = logging.getLogger("django_taskq.task")

#: frames of ours above the task's own in a traceback, without a relay's
_OWN_FRAMES = 1

#: results without a value: one that is not kept, and None
_NOTHING = (None, "null")

#: of a task that was given up: somebody else has told its end
_NOBODYS = Outcome(state=State.READY, is_unstarted=True)


class Attempt:
    """A claimed task on its way through a slot.

    ``report``: takes progress as JSON text. ``is_cancelled``: whether somebody asked the task to stop.
    ``admit``: asked right before the start, whether it may start at all. ``answer``: told of an end for good, with the
    slot's work, after signals and before the log; must not raise, and is not asked where the value has to be stored
    first. ``limits``: the soft and the hard one, in seconds, of tasks that have none of their own.
    """

    def __init__(
        self,
        backend: TaskqBackend,
        message: Message,
        *,
        report: Callable[[str], None],
        is_cancelled: Callable[[], bool],
        admit: Callable[[], bool] | None = None,
        answer: Callable[[Work, Outcome], None] | None = None,
        limits: tuple[float | None, float | None] = (None, None),
    ) -> None:
        self.backend = backend
        self.message = message
        self._running = Running(message)
        self._report = report
        self._is_cancelled = is_cancelled
        self._admit = admit
        # Not where the value has to be stored before.
        self._answer = None if backend.result_store.keeps else answer
        self._work: Work | None = None
        self._limits = limits
        self._task: UpstreamTask
        self._options = backend.task_options
        self._result: TaskResult
        self._context: TaskContext | None = None
        self._args: list[Any]
        self._kwargs: dict[str, Any]
        self._started = 0.0
        #: task, options and arguments are known
        self._is_ready = False
        self._own_frames = _OWN_FRAMES

    @property
    def can_be_told(self) -> bool:
        """Whether the task can see that somebody asked it to stop."""
        return self._context is not None

    def run(self, guard: Guard | None = None, work: Work | None = None) -> Outcome:
        """Run it in this thread. Never raises. ``guard``: the slot's, which is open while the task's own code runs."""
        guard = guard or Guard()
        self._work = work
        try:
            with attempting(begin(self._running)):
                return self._running.ended(self._kept(self._run(guard, work)))
        except BaseException as error:  # noqa: BLE001  # see _broken
            shut(guard)
            return self._broken(error)
        finally:
            # It holds this attempt: a cycle for each task is garbage for the collector.
            self._work = None

    async def arun(self, guard: CoroutineGuard, work: Work | None = None) -> Outcome:
        """Run an ``async def`` task on this event loop. Never raises."""
        self._work = work
        try:
            with attempting(begin(self._running)):
                outcome = await self._arun(guard, work)
                if self.backend.result_store.keeps:
                    outcome = await sync_to_async(self._kept, thread_sensitive=False)(outcome)
                return self._running.ended(outcome)
        except BaseException as error:  # noqa: BLE001  # see _broken
            shut(guard)
            return self._broken(error)
        finally:
            self._work = None

    def overdue(self, cause: Cause, ident: int | None = None) -> Outcome:
        """How a task ends that does not end by itself, or was killed for it. Never raises.

        For any thread; what the task did to its metadata is left alone. ``ident``: the thread in which it is stuck.
        """
        try:
            if not self._is_ready:
                outcome = self._resolve()
                if outcome is not None:
                    return outcome
                # Killed, and nobody knows when.
                self._started -= self._effective_limits()[1] or 0.0
            self._context = None
            with attempting(self._running):
                return self._running.ended(self._kept(self._interrupted(cause, None, _where(ident))))
        except BaseException as error:  # noqa: BLE001  # see _broken
            return self._broken(error)

    def _run(self, guard: Guard, work: Work | None) -> Outcome:
        outcome = self._prepare()
        if outcome is not None:
            return outcome
        try:
            guard.open(work, *self._effective_limits())
            # ``call`` of an ``async def`` task would add frames; there is none here unless coroutine slots are off.
            value = (
                self._task.call(*self._args, **self._kwargs)
                if self.message.name in registry.coroutine_names()
                else self._task.func(*self._args, **self._kwargs)
            )
            shut(guard)
        except BaseException as exception:  # noqa: BLE001  # whatever the author's code raises is an outcome
            shut(guard)
            return self._raised(exception, guard)
        return self._returned(value, guard)

    async def _arun(self, guard: CoroutineGuard, work: Work | None) -> Outcome:
        outcome = self._prepare()
        if outcome is not None:
            return outcome
        try:
            soft, hard = self._effective_limits()
            guard.open(work, soft, hard)
            coroutine = self._task.func(*self._args, **self._kwargs)
            if soft is not None:
                self._own_frames += 1
                coroutine = Relay(coroutine, guard)
            value = await coroutine
            shut(guard)
        except BaseException as exception:  # noqa: BLE001  # as above; a cancelled coroutine ends here, too
            shut(guard)
            return self._raised(exception, guard)
        return self._returned(value, guard)

    def _effective_limits(self) -> tuple[float | None, float | None]:
        """The soft and the hard limit in seconds: the task's own, or else the worker's."""
        soft, hard = self._options.soft_time_limit, self._options.time_limit
        return (self._limits[0] if soft is None else soft, self._limits[1] if hard is None else hard)

    def _kept(self, outcome: Outcome) -> Outcome:
        """The outcome as the row is to have it: a value may be kept elsewhere."""
        return keep(self.backend, self.message, self._options, outcome)

    def _prepare(self) -> Outcome | None:
        """Everything before the call; an outcome when it cannot come to that."""
        message = self.message
        outcome = self._resolve()
        if outcome is not None:
            return outcome
        if self._admit is not None:
            if not self._admit():
                return Outcome(state=State.READY, is_unstarted=True)
            if message.expires_at is not None and message.expires_at <= datetime.now(UTC):
                # Whoever waits for a task without a row has nobody else to hear it from.
                logger.info(
                    "Task %s id=%s has expired.",
                    message.name,
                    message.id,
                    extra={"action": "task_expired", "task_id": message.id},
                )
                return Outcome(state=State.EXPIRED)
        self._args, self._kwargs = list(self._result.args), dict(self._result.kwargs)
        if self._task.takes_context:
            self._context = TaskContext(
                task_result=self._result,
                metadata=dict(self._result.metadata),
                report=self._report,
                is_cancelled=self._is_cancelled,
            )
            self._args.insert(0, self._context)
        self._send(task_started)
        self._started = time.monotonic()
        return None

    def _resolve(self) -> Outcome | None:
        """Find the task, its options and its arguments; an outcome when they cannot be."""
        message = self.message
        self._started = time.monotonic()
        try:
            self._task = registry.resolve(message.name, self.backend.config.imports)
            self._options = self.backend.settled(decode_overrides(message.options, options_of(self._task)))
            args, kwargs = codec.decode(message.arguments)  # type: ignore[misc, str-unpack]  # a pair, or the row is damaged
            self._result = running_result(self._task, message, list(args), dict(kwargs))  # type: ignore[arg-type]  # as above
        except (TaskqError, TypeError, ValueError, RecursionError) as error:
            logger.error(  # noqa: TRY400  # the error says it all; its traceback is ours, not the task's
                "Task %s id=%s cannot run: %s",
                message.name,
                message.id,
                error,
                extra={"action": "task_refused", "task_id": message.id},
            )
            return Outcome(state=State.FAILED, error=AttemptError.of(error), is_rejected=True)
        self._is_ready = True
        self._running.task_result = self._result
        self._running.sensitive = self._options.sensitive
        self._running.keeps_log = self._options.keeps_log
        return None

    def _returned(self, value: object, guard: Guard) -> Outcome:
        if guard.is_abandoned:
            return _NOBODYS
        if guard.cause is Cause.LIMIT:
            # It came to an end after it was to have ended: whoever sees FAILED must not find a value some other time.
            return self._interrupted(Cause.LIMIT, None)
        try:
            outcome = succeed(value, self._options)
        except (TypeError, ValueError) as error:
            # Trying again would return the same.
            return self._failed(error, may_retry=False)
        return self._ended(outcome, value=None if outcome.result in _NOTHING else codec.decode(outcome.result))

    def _raised(self, exception: BaseException, guard: Guard) -> Outcome:
        """Called while ``exception`` is being handled."""
        if guard.is_abandoned:
            return _NOBODYS
        if guard.cause is None or guard.cause is Cause.SOFT_LIMIT:
            return self._failed(exception)
        return self._interrupted(guard.cause, exception)

    def _interrupted(self, cause: Cause, exception: BaseException | None, note: str = "") -> Outcome:
        """The end of a task that was made to end. ``exception``: what came out of it."""
        if cause is Cause.CANCEL:
            error: TaskqError = TaskCancelled("The task was cancelled while it ran.")
        else:
            error = TimeLimitExceeded(
                f"The task ran for longer than its time_limit of {self._effective_limits()[1]:g} s."
            )
        if note:
            error.add_note(note)
        try:
            raise error from None
        except TaskqError:
            # Not where it was raised here is of interest.
            error.__traceback__ = None if exception is None else exception.__traceback__
            if cause is Cause.LIMIT:
                return self._failed(error)
            # It may have had something to say about it.
            is_own = exception is not None and not isinstance(exception, Interrupt | asyncio.CancelledError)
            shown = AttemptError.of(
                exception if is_own and exception is not None else error, skip_frames=self._own_frames
            )
            outcome = Outcome(state=State.CANCELLED, error=shown if self._options.keeps_errors else None)
            return self._ended(outcome, exception=error)

    def _failed(self, exception: BaseException, *, may_retry: bool = True) -> Outcome:
        """Called while ``exception`` is being handled: whoever listens to ``task_finished`` may look at it."""
        if is_watched():
            self._running.exception = exception
        outcome = fail(
            exception,
            self._options,
            failures=self.message.failures,
            chance=random.random(),  # noqa: S311  # jitter, not a secret
            ask=lambda backoff: self._ask(backoff, exception),
            may_retry=may_retry,
            skip_frames=self._own_frames,
        )
        return self._ended(outcome, exception=exception)

    def _broken(self, error: BaseException) -> Outcome:
        """Something around the task raised, such as a log handler of the project's: no reason to end a slot."""
        return Outcome(
            state=State.FAILED, error=AttemptError.of(error), duration=max(time.monotonic() - self._started, 0.0)
        )

    def _ask(
        self, backoff: Callable[..., float | timedelta | None], exception: BaseException
    ) -> float | timedelta | None:
        return backoff(exception, self._result)

    def _ended(self, outcome: Outcome, *, value: object = None, exception: BaseException | None = None) -> Outcome:
        duration = time.monotonic() - self._started
        outcome = outcome.after(duration, self._changed_metadata())
        # As the row will have it.
        is_cancelled = outcome.state is not State.SUCCESSFUL and self._is_cancelled()
        if outcome.state.is_final or is_cancelled:
            finished_at = self.message.last_attempted_at + timedelta(seconds=duration)
            state = State.CANCELLED if is_cancelled else outcome.state
            end_picture(self._result, state, finished_at, value, outcome.error)
            self._send(task_finished)
            if state is State.CANCELLED:
                self._send(task_cancelled)
        else:
            self._send(task_retrying, exception=exception, delay=outcome.delay)
        if outcome.state.is_final and self._answer is not None and self._work is not None:
            # Before the log is written: that takes as long as the rest of a small task, and longer after some idling.
            self._answer(self._work, outcome)
        # A handler that raises must not take the outcome along, and leaves no way to tell of it.
        with suppress(Exception):
            self._log(outcome, exception)
        return outcome

    def _send(self, signal: Signal, **named: object) -> None:
        try:
            signal.send_robust(sender=type(self.backend), task_result=self._result, **named)
        except BaseException as error:  # noqa: BLE001  # what a receiver raises to end a program ends none here, either
            logger.error(  # noqa: TRY400  # the traceback would not say whose receiver it was
                "Task %s id=%s: a receiver of a signal raised %r.",
                self.message.name,
                self.message.id,
                error,
                extra={"action": "receiver_failed", "task_id": self.message.id},
            )

    def _changed_metadata(self) -> str | None:
        if self._context is None or self._context.metadata == self._result.metadata:
            return None
        try:
            return codec.encode(self._context.metadata)
        except (TypeError, ValueError) as error:
            logger.warning(
                "Task %s id=%s left metadata that cannot be stored (%s); it stays as it was.",
                self.message.name,
                self.message.id,
                error,
                extra={"action": "metadata_refused", "task_id": self.message.id},
            )
            return None

    def _log(self, outcome: Outcome, exception: BaseException | None) -> None:
        message = self.message
        extra = {"task_id": message.id, "task": message.name, "queue": message.queue_name, "attempt": message.attempt}
        if outcome.state is State.SUCCESSFUL:
            logger.info(
                "Task %s id=%s succeeded in %.3f s",
                message.name,
                message.id,
                outcome.duration,
                extra={"action": "task_succeeded", **extra},
            )
        elif outcome.is_retry:
            logger.warning(
                "Task %s id=%s failed in attempt %d (%s); it runs again in %.1f s",
                message.name,
                message.id,
                message.attempt,
                type(exception).__name__,
                outcome.delay,
                extra={"action": "task_retried", **extra},
            )
        elif outcome.state is State.CANCELLED:
            logger.warning(
                "Task %s id=%s was cancelled in attempt %d after %.3f s",
                message.name,
                message.id,
                message.attempt,
                outcome.duration,
                extra={"action": "task_cancelled", **extra},
            )
        else:
            # Upstream's own line brings the traceback.
            logger.error(
                "Task %s id=%s failed for good in attempt %d after %.3f s (%s)",
                message.name,
                message.id,
                message.attempt,
                outcome.duration,
                type(exception).__name__,
                extra={"action": "task_failed", **extra},
            )


def _where(ident: int | None) -> str:
    """What a thread is doing in a task's own code; "" where that is not known."""
    frame = None if ident is None else sys._current_frames().get(ident)  # noqa: SLF001  # documented, and has no other name
    if frame is None:
        return ""
    stack = traceback.extract_stack(frame)
    ours = [index for index, one in enumerate(stack) if one.filename == __file__]
    return "Given up here:\n" + "".join(traceback.format_list(stack[max(ours, default=-1) + 1 :]))
