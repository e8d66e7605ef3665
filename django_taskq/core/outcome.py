"""How an attempt ended, as data: what to write, decided away from the code that writes it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from ..exceptions import OptionError, Reject, Retry
from . import codec
from .fingerprint import fingerprint, innermost_own
from .options import TaskOptions
from .record import record
from .retry import Backoff, Delays, class_path, matches, seconds_of
from .states import State

#: characters; beyond, the middle is left out, as the ends name the caller and the cause
MAX_TRACEBACK = 32_000
#: characters; a message is read in lists
MAX_MESSAGE = 4_000

_EXCEPTION = frozenset({"builtins.Exception"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptError:
    """Why one attempt failed, as text.

    ``at``: the moment in UTC, ISO 8601, "" until it is written. ``attempt`` counts from 1. ``place``: the function of
    the project's own code that was nearest, see ``core.fingerprint``.
    """

    exception_class_path: str
    message: str
    traceback: str
    attempt: int = 0
    worker: str = ""
    at: str = ""
    place: str = ""

    @classmethod
    def of(cls, exception: BaseException, *, skip_frames: int = 0) -> Self:
        """From a live exception; never raises, whatever its ``__str__`` does.

        ``skip_frames``: how many of the outermost frames are ours and of no use to the reader.
        """
        frames = exception.__traceback__
        for _ in range(skip_frames):
            if frames is not None and frames.tb_next is not None:
                frames = frames.tb_next
        return cls(
            exception_class_path=codec.clean(class_path(type(exception))),
            message=codec.shorten(codec.clean(_text(exception)), MAX_MESSAGE),
            traceback=codec.shorten(codec.clean(_traceback(exception, frames)), MAX_TRACEBACK),
            place=codec.clean(innermost_own(frames)),
        )

    def fingerprint(self, task_name: str) -> str:
        """What this failure has in common with others that are the same one."""
        return fingerprint(self.exception_class_path, self.place or task_name, self.message)

    def line(self, *, attempt: int, worker: str, at: datetime) -> str:
        """One JSON line, as the row's ``errors`` keeps it, with its newline."""
        return (
            codec.encode(
                {
                    "class": self.exception_class_path,
                    "message": self.message,
                    "traceback": self.traceback,
                    "attempt": attempt,
                    "worker": worker,
                    "at": at.isoformat(),
                    **({"place": self.place} if self.place else {}),
                }
            )
            + "\n"
        )

    @classmethod
    def parse(cls, lines: str) -> list[Self]:
        """All errors of a row, oldest first."""
        errors = []
        # Not splitlines(): it also parts at characters that JSON leaves as they are (U+0085, U+2028, U+2029).
        for line in filter(None, lines.split("\n")):
            entry = codec.decode(line)
            if isinstance(entry, dict):
                errors.append(
                    cls(
                        exception_class_path=str(entry.get("class", "")),
                        message=str(entry.get("message", "")),
                        traceback=str(entry.get("traceback", "")),
                        attempt=int(str(entry.get("attempt", 0))),
                        worker=str(entry.get("worker", "")),
                        at=str(entry.get("at", "")),
                        place=str(entry.get("place", "")),
                    )
                )
        return errors


@record
class Outcome:
    """The end of an attempt.

    ``state``: SUCCESSFUL, FAILED, CANCELLED, SCHEDULED (run again after ``delay`` seconds) or READY
    (run again now). ``result``: JSON text or None. ``metadata``: JSON text when the task changed
    it, else None. ``keep_row``: False when the row goes with the task's success.
    ``duration``: seconds the task ran. ``is_unstarted``: it did not even start, and counts for nothing.
    ``log``: what the task logged, as lines. ``is_rejected``: the task itself gave up, or cannot run. ``is_kept``: ``result`` is in a store, where the row need
    not have it.
    """

    state: State
    result: str | None = None
    error: AttemptError | None = None
    delay: float = 0.0
    metadata: str | None = None
    keep_row: bool = True
    duration: float = 0.0
    is_unstarted: bool = False
    is_rejected: bool = False
    is_kept: bool = False
    log: str = ""

    @property
    def is_retry(self) -> bool:
        """Whether the task will run again."""
        return not self.state.is_final

    def after(self, duration: float, metadata: str | None = None) -> Outcome:
        """The same end, with the seconds it took, and the metadata that it left."""
        # ``replace`` takes four times as long.
        return Outcome(
            state=self.state,
            result=self.result,
            error=self.error,
            delay=self.delay,
            metadata=metadata,
            keep_row=self.keep_row,
            duration=duration,
            is_unstarted=self.is_unstarted,
            is_rejected=self.is_rejected,
            is_kept=self.is_kept,
            log=self.log,
        )


def succeed(value: object, options: TaskOptions) -> Outcome:
    """The outcome of a returned ``value``.

    Raises ``TypeError`` or ``ValueError`` when the value cannot be stored.
    """
    # Encoded even where it is not kept: whether a task fails must not depend on who reads it.
    result = codec.encode(value)
    return Outcome(
        state=State.SUCCESSFUL,
        result=result if options.keeps_result else None,
        keep_row=options.record,
    )


def fail(
    exception: BaseException,
    options: TaskOptions,
    *,
    failures: int,
    chance: float,
    ask: Callable[[Callable[..., float | timedelta | None]], float | timedelta | None],
    may_retry: bool = True,
    skip_frames: int = 0,
) -> Outcome:
    """The outcome of an ``exception``: FAILED, or another attempt.

    ``failures``: attempts that failed before this one. ``chance``: random number in [0, 1) for the
    jitter. ``ask``: calls a ``backoff`` function of the task's author with its arguments.
    """
    error = AttemptError.of(exception, skip_frames=skip_frames)
    delay: float | None = None
    if may_retry and _wants_retry(exception, options, failures):
        try:
            delay = _delay(exception, options, failures, chance, ask)
        except BaseException as problem:  # noqa: BLE001  # the author's backoff may raise anything
            note = AttemptError.of(problem)
            error = replace(error, traceback=f"{error.traceback}\nThe task's backoff failed, too:\n{note.traceback}")
    kept = error if options.keeps_errors else None
    if delay is None:
        return Outcome(state=State.FAILED, error=kept, is_rejected=isinstance(exception, Reject))
    return Outcome(state=State.SCHEDULED if delay > 0 else State.READY, error=kept, delay=delay)


def _wants_retry(exception: BaseException, options: TaskOptions, failures: int) -> bool:
    if isinstance(exception, Reject) or matches(exception, options.give_up_on):
        return False
    if options.max_attempts is not None and failures + 1 >= options.max_attempts:
        return False
    if isinstance(exception, Retry):
        return True
    return options.max_attempts is not None and matches(exception, options.retry_on or _EXCEPTION)


def _delay(
    exception: BaseException,
    options: TaskOptions,
    failures: int,
    chance: float,
    ask: Callable[[Callable[..., float | timedelta | None]], float | timedelta | None],
) -> float | None:
    if isinstance(exception, Retry) and exception.delay is not None:
        return exception.delay
    if isinstance(options.backoff, Backoff | Delays):
        return options.backoff.delay(failures + 1, chance)
    answer = ask(options.backoff)
    if answer is None:
        return None
    try:
        return seconds_of(answer, "backoff() returned")
    except OptionError as error:
        raise OptionError(f"{error} Return None to give up.") from error


def _text(exception: BaseException) -> str:
    try:
        return str(exception)
    except BaseException as error:  # noqa: BLE001  # __str__ is the task author's code, and nothing may escape here
        return f"<no text: str() raised {type(error).__name__}>"


def _traceback(exception: BaseException, frames: TracebackType | None) -> str:
    try:
        return "".join(traceback.format_exception(type(exception), exception, frames))
    except BaseException as error:  # noqa: BLE001  # it reads attributes of the author's class, as a SyntaxError's text
        problem = f"<formatting it raised {type(error).__name__}>"
        return "".join([*traceback.format_tb(frames), f"{class_path(type(exception))}: {problem}\n"])
