"""Every error this package raises on purpose.

::

    TaskqError
    ├── TaskFailed              the task ended without a value
    │   ├── TaskCancelled
    │   └── TaskExpired
    ├── ResultTimeout           (also TimeoutError)
    ├── ResultUnavailable       the result is not kept, or cannot be waited for here
    │   └── ResultStoreError    what keeps results does not answer
    ├── OptionError             (also ValueError) a task option that cannot be
    │   └── ScheduleError       a schedule that cannot be, field by field
    ├── UnknownTask             a name that no registered task has
    ├── UnknownSchedule         a name that no schedule has
    ├── WorkerLost              the worker died while it ran the task
    ├── TimeLimitExceeded       the task ran for longer than its time_limit
    ├── SoftTimeLimitExceeded   raised in a task that runs for longer than its soft_time_limit
    └── TaskSignal              raised by tasks to say how they end
        ├── Retry
        └── Reject

    Interrupt (BaseException)   raised in a task that has to end now

Bad arguments keep Python's own types: ``TypeError`` for what is not JSON or does not fit the
signature, ``ValueError`` for what JSON or a database cannot hold. A task that is defined or
enqueued wrongly raises upstream's ``InvalidTask``.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple

#: seconds; longer delays are a mistake somewhere, and would overflow a timestamp (100 years)
MAX_DELAY = 100 * 365.25 * 86400.0


class TaskqError(Exception):
    """Something in django_taskq went wrong."""

    def __init__(self, *args: object) -> None:
        if not args:
            args = ((self.__doc__ or type(self).__name__).strip().splitlines()[0],)
        super().__init__(*args)


class TaskFailed(TaskqError):
    """The task failed.

    Carries what the worker stored, as text: nothing here is rebuilt from stored data, so a
    hostile row cannot make the reader import or construct anything.

    ``task_id``: the result's id. ``exception_class_path``: dotted path of the remote class.
    ``message``: its text. ``traceback``: the remote traceback as text, "" when there was none.
    """

    def __init__(
        self,
        message: str = "",
        *,
        task_id: str = "",
        exception_class_path: str = "",
        traceback: str = "",
    ) -> None:
        self.task_id = task_id
        self.exception_class_path = exception_class_path
        self.message = message
        self.traceback = traceback
        text = f"{exception_class_path}: {message}" if exception_class_path else message
        super().__init__(f"{text}\n\n{traceback}" if traceback else text or "The task failed.")


class TaskCancelled(TaskFailed):
    """The task was cancelled before it could finish."""


class TaskExpired(TaskFailed):
    """The task was not started before it expired."""


class ResultTimeout(TaskqError, TimeoutError):
    """The task did not finish within the timeout."""


class ResultUnavailable(TaskqError):
    """There is no result to wait for."""


class ResultStoreError(ResultUnavailable):
    """What keeps the results does not answer, or answers with an error."""


class OptionError(TaskqError, ValueError):
    """A task option has a value it cannot have."""


class FieldProblem(NamedTuple):
    """What is wrong with one field of a schedule, and what to do about it."""

    field: str
    message: str
    hint: str


class ScheduleError(OptionError):
    """A schedule says something that cannot be.

    ``problems``: each ``FieldProblem`` that was found, at least one.
    """

    def __init__(self, problems: Iterable[FieldProblem] = ()) -> None:
        self.problems = tuple(problems)
        said = "; ".join(f"{one.field}: {one.message} {one.hint}".rstrip() for one in self.problems)
        super().__init__(*([said] if said else []))

    def __reduce__(self) -> tuple[type[ScheduleError], tuple[tuple[FieldProblem, ...]]]:
        return type(self), (self.problems,)


class UnknownTask(TaskqError):
    """No registered task has this name."""


class UnknownSchedule(TaskqError):
    """No schedule has this name."""


class WorkerLost(TaskqError):
    """The worker that ran this task was lost."""


class TimeLimitExceeded(TaskqError):
    """The task ran for longer than its time_limit."""


class SoftTimeLimitExceeded(TaskqError):
    """The task ran for longer than its soft_time_limit.

    Raised in the task itself, which may catch it, tidy up and return. Not caught it is a failure as any other.
    """


class Interrupt(BaseException):
    """The task has to end now: it was cancelled, or ran for longer than its time_limit.

    Raised in ``def`` tasks, at whatever they are doing; ``async def`` tasks get ``asyncio.CancelledError``. No
    ``Exception``, so that what tasks catch on their way does not keep them. Who catches it all the same is ended with its
    process.
    """


class TaskSignal(TaskqError):
    """Raised by a task to say how it wants to end."""


class Retry(TaskSignal):
    """The task asks to be run again.

    ``delay``: seconds or ``timedelta`` until then; ``None`` leaves it to the task's ``backoff``.
    Counts as a failed attempt: once ``max_attempts`` are used up, the task ends FAILED.
    """

    def __init__(self, message: str = "", *, delay: float | timedelta | None = None) -> None:
        if isinstance(delay, timedelta):
            delay = delay.total_seconds()
        is_number = isinstance(delay, int | float) and not isinstance(delay, bool)
        if delay is not None and not (is_number and 0 <= delay <= MAX_DELAY):
            raise OptionError(f"Retry(delay={delay!r}): give seconds from 0 to {MAX_DELAY:.0f}, or a timedelta.")
        self.delay = delay
        super().__init__(message or "The task asked to be run again.")


class Reject(TaskSignal):
    """The task gives up: it ends FAILED now, whatever attempts are left."""
