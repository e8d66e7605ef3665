"""What callers hold of a task they enqueued."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from . import registry
from .compat import TASK_REFRESH_ATTRS, TaskError, TaskResultStatus, UpstreamResult, UpstreamTask
from .core import codec
from .core.message import Message
from .core.outcome import AttemptError
from .core.reply import Reply
from .core.states import State
from .database import as_project_time
from .exceptions import ResultUnavailable, TaskCancelled, TaskExpired, TaskFailed
from .models import TaskRecord
from .results.waiting import await_within, call_within

if TYPE_CHECKING:
    from .backend import TaskqBackend
    from .results.base import Ended, ResultStore, Ticket

_REFRESHED = (*sorted(TASK_REFRESH_ATTRS), "state", "progress", "metadata", "attempt_errors")

_FAILURES = {State.CANCELLED: TaskCancelled, State.EXPIRED: TaskExpired}
_REASONS = {
    State.CANCELLED: "The task was cancelled.",
    State.EXPIRED: "The task was not started before it expired.",
    State.FAILED: "The task failed; its errors are not kept (store_errors=False).",
}
#: no set, which would ask each status for its hash, in Python
_ENDED = (TaskResultStatus.SUCCESSFUL, TaskResultStatus.FAILED)
#: types of values that JSON has, and that have no others in them
_PLAIN = frozenset({str, int, float, bool, type(None)})
_STATUSES = {state: TaskResultStatus(state.upstream) for state in State}
_UNWANTED = (
    "The task has no record, and nobody keeps its value (store_result=False, of the task, the call or OPTIONS): there is "
    "nothing to wait for."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a running task is: ``done`` of ``total`` (None: unknown), in the task's own unit."""

    done: float
    total: float | None = None
    message: str = ""


class _Deadline:
    """Until when a caller waits; ``timeout``: seconds from now, None for as long as it takes."""

    def __init__(self, timeout: float | None) -> None:
        self._at = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        """Seconds from now."""
        return None if self._at is None else max(self._at - time.monotonic(), 0.0)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A value that is not in the row, and what the row says instead."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult(UpstreamResult):
    """A task that was enqueued: a picture of its row, taken when it was made or last refreshed.

    ``state`` is finer than upstream's ``status``. ``attempt_errors``: what went wrong, per attempt.
    """

    state: State
    progress: Progress | None = None
    metadata: Mapping[str, codec.JSON] = field(default_factory=dict)
    attempt_errors: list[AttemptError] = field(default_factory=list)
    #: what has to live for as long as somebody may wait for a reply
    _ticket: Ticket | None = field(default=None, repr=False, compare=False)

    @property
    def is_finished(self) -> bool:
        """Whether the task has ended."""
        return self.status in _ENDED

    @property
    def return_value(self) -> Any:
        """The task's value, from wherever it is kept. Raises ``ValueError`` unless the task was successful."""
        if isinstance(self._return_value, _Kept):
            object.__setattr__(self, "_return_value", self._loaded(self._return_value))
        return UpstreamResult.return_value.fget(self)  # type: ignore[attr-defined]  # a property

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the task's end and give its value.

        ``timeout``: seconds, None to wait for as long as it takes. Raises ``TaskFailed`` with the remote
        class path and traceback (``TaskCancelled``, ``TaskExpired``), ``ResultTimeout`` at most
        0.5 s after the timeout, ``ResultUnavailable`` when there will be nothing to get (``ResultStoreError``: when
        what keeps results does not answer).
        """
        timeout = self._checked(timeout)
        until = _Deadline(timeout)
        if not self.is_finished:
            results = self._results()
            self._end(results.wait(self.id, timeout, is_recorded=self._is_recorded, ticket=self._ticket))
        if isinstance(self._return_value, _Kept):
            # Also what keeps the value has no longer than the caller.
            call_within(lambda: self.return_value, until.left())
        return self._value()

    async def aget(self, timeout: float | None = None) -> Any:
        """See :meth:`get`; the event loop stays free."""
        timeout = self._checked(timeout)
        until = _Deadline(timeout)
        if not self.is_finished:
            results = self._results()
            self._end(await results.await_(self.id, timeout, is_recorded=self._is_recorded, ticket=self._ticket))
        if isinstance(self._return_value, _Kept):
            await await_within(lambda: self.return_value, until.left())
        return self._value()

    def cancel(self) -> bool:
        """Cancel the task: at once while it waits; a running one is asked to stop.

        False when it had ended already, or does not exist any more.
        """
        return self._backend().cancel(self.id)

    async def acancel(self) -> bool:
        """See :meth:`cancel`."""
        return await sync_to_async(self.cancel, thread_sensitive=True)()

    def forget(self) -> None:
        """Keep the task's value no longer, where it is in a store of its own; a row goes when its time is over.

        Whoever holds a result that was read has it still. Raises ``ResultStoreError``.
        """
        self._backend().result_store.forget(self.id)

    async def aforget(self) -> None:
        """See :meth:`forget`."""
        await sync_to_async(self.forget, thread_sensitive=False)()

    def refresh(self) -> None:
        """Take a new picture. Raises ``TaskResultDoesNotExist`` when nothing is known of the task any more, or yet."""
        self._take(self._backend().get_result(self.id))

    async def arefresh(self) -> None:
        """See :meth:`refresh`."""
        self._take(await self._backend().aget_result(self.id))

    def _take(self, other: UpstreamResult) -> None:
        for name in _REFRESHED:
            object.__setattr__(self, name, getattr(other, name))

    def _end(self, ended: Ended) -> None:
        """Take the picture of the end."""
        if isinstance(ended, Reply):
            end_by_reply(self, ended)
        else:
            self._take(result_of(self._backend(), ended))

    def _loaded(self, kept: _Kept) -> Any:
        text = self._backend().result_store.value_of(self.id, kept.text)
        return None if text is None else codec.decode(text)

    @property
    def _is_recorded(self) -> bool:
        options = getattr(self.task, "options", None)
        return options is None or bool(options.record)

    def _results(self) -> ResultStore:
        """Where to wait for the end. Raises ``ResultUnavailable`` when nobody is going to say how the task ended."""
        if self._ticket is not None:
            # Whoever gave it wants the value. Looking up the backend takes as long as all else in ``get``.
            return self._ticket.results
        backend = self._backend()
        if not self._is_recorded and not backend.settled(self.task.options).keeps_result:  # type: ignore[attr-defined]  # ours
            raise ResultUnavailable(_UNWANTED)
        return backend.result_store

    def _backend(self) -> TaskqBackend:
        return self.task.get_backend()  # type: ignore[return-value]  # only our backend makes our results

    def _checked(self, timeout: float | None) -> float | None:
        if timeout is None:
            return None
        if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or not timeout >= 0:
            raise ValueError(f"timeout={timeout!r}: give seconds from 0 up, or None to wait without limit.")
        # Longer ones, infinity among them, overflow what waiting is made of.
        return None if timeout > threading.TIMEOUT_MAX else timeout

    def _value(self) -> Any:
        if self.state is State.SUCCESSFUL:
            return self.return_value
        error = self.attempt_errors[-1] if self.attempt_errors and self.state is State.FAILED else None
        raise _FAILURES.get(self.state, TaskFailed)(
            error.message if error else _REASONS[self.state],
            task_id=self.id,
            exception_class_path=error.exception_class_path if error else "",
            traceback=error.traceback if error else "",
        )


class _Unsealed(TaskResult):
    """A ``TaskResult`` that is being made, until it becomes one; no other thread knows of it yet.

    A frozen dataclass sets each of its eighteen fields by a function: 2,000 instructions instead of 100.
    """

    __slots__ = ()

    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__


def _picture(
    task: UpstreamTask,
    task_id: str,
    *,
    state: State,
    enqueued_at: datetime,
    args: list[Any],
    kwargs: dict[str, Any],
    backend: str,
    metadata: dict[str, codec.JSON],
    started_at: datetime | None = None,
    last_attempted_at: datetime | None = None,
    errors: list[AttemptError] | None = None,
    worker_ids: list[str] | None = None,
    ticket: Ticket | None = None,
) -> Any:
    """The picture of a task that has not ended, as yet unsealed. What can be changed is the picture's own from here on."""
    made: Any = _Unsealed.__new__(_Unsealed)
    made.task = task
    made.id = task_id
    made.status = _STATUSES[state]
    made.state = state
    made.enqueued_at = as_project_time(enqueued_at)
    made.started_at = started_at
    made.last_attempted_at = last_attempted_at
    made.finished_at = None
    made.args = args
    made.kwargs = kwargs
    made.backend = backend
    made.errors = _task_errors(errors) if errors else []
    made.worker_ids = worker_ids or []
    made.progress = None
    made.metadata = metadata
    made.attempt_errors = errors or []
    made._return_value = None  # noqa: SLF001  # of this module's class
    made._ticket = ticket  # noqa: SLF001  # as above
    return made


def _sealed(made: Any) -> TaskResult:
    made.__class__ = TaskResult
    return made  # type: ignore[no-any-return]  # what it has become


def enqueued_result(
    task: UpstreamTask,
    task_id: str,
    *,
    state: State,
    enqueued_at: datetime,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    backend: str,
    metadata: Mapping[str, codec.JSON],
    ticket: Ticket | None,
) -> TaskResult:
    """The picture of a task that has just been enqueued."""
    made = _picture(
        task,
        task_id,
        state=state,
        enqueued_at=enqueued_at,
        args=list(args),
        kwargs=dict(kwargs),
        backend=backend,
        metadata=dict(metadata),
        ticket=ticket,
    )
    if not _PLAIN.issuperset(map(type, (*args, *kwargs.values()))):
        # Upstream's way to have values as JSON has them.
        made.__post_init__()
    return _sealed(made)


def result_of(backend: TaskqBackend, record: TaskRecord) -> TaskResult:
    """The picture of a row. Raises ``UnknownTask`` when its task's code is not here."""
    args, kwargs = record.call_arguments
    errors = record.attempt_errors
    state = State(record.state)
    result = TaskResult(
        task=backend.task_of(record),
        id=str(record.pk),
        status=_STATUSES[state],
        state=state,
        enqueued_at=record.enqueued_at,
        started_at=record.started_at,
        last_attempted_at=record.last_attempted_at,
        finished_at=record.finished_at,
        args=args,
        kwargs=kwargs,
        backend=record.backend,
        errors=_task_errors(errors),
        worker_ids=_lines(record.worker_ids),
        progress=_progress(record.progress),
        metadata=_metadata(record.metadata),
        attempt_errors=errors,
    )
    if record.result is not None:
        # Elsewhere than in the row: it is fetched when somebody wants it.
        value = codec.decode(record.result) if record.result else _Kept(record.result)
        object.__setattr__(result, "_return_value", value)
    return result


def result_of_reply(backend: TaskqBackend, reply: Reply) -> TaskResult:
    """The picture of a task without a row. Its arguments are not known. Raises ``UnknownTask``."""
    task = registry.resolve(reply.name, backend.config.imports)
    result = TaskResult(
        task=task if task.backend == backend.alias else task.using(backend=backend.alias),
        id=reply.task_id,
        status=TaskResultStatus.READY,
        state=State.READY,
        enqueued_at=as_project_time(reply.enqueued_at),
        started_at=None,
        last_attempted_at=None,
        finished_at=None,
        args=[],
        kwargs={},
        backend=backend.alias,
        errors=[],
        worker_ids=[],
    )
    end_by_reply(result, reply)
    return result


def end_by_reply(result: TaskResult, reply: Reply) -> None:
    """Bring a task's picture to the end that a worker tells of."""
    errors = [] if reply.error is None else [replace(reply.error, attempt=reply.attempt, worker=reply.worker)]
    value = None if reply.result is None else codec.decode(reply.result)
    started_at = as_project_time(reply.started_at)
    change = object.__setattr__
    change(result, "started_at", started_at)
    change(result, "last_attempted_at", started_at)
    change(result, "finished_at", as_project_time(reply.finished_at))
    change(result, "worker_ids", ["unknown"] * (reply.attempt - 1) + [reply.worker] if reply.attempt else [])
    change(result, "_return_value", value)
    if errors or result.errors or result.attempt_errors:
        change(result, "attempt_errors", errors)
        change(result, "errors", _task_errors(errors))
    # Last: another thread that sees that it has ended sees how.
    change(result, "state", reply.state)
    change(result, "status", _STATUSES[reply.state])


def running_result(task: UpstreamTask, message: Message, args: list[Any], kwargs: dict[str, Any]) -> TaskResult:
    """The picture of a task that a worker is about to run. ``args`` and ``kwargs`` are as JSON has them, and the picture's."""
    return _sealed(
        _picture(
            task,
            message.id,
            state=State.RUNNING,
            enqueued_at=message.enqueued_at,
            args=args,
            kwargs=kwargs,
            backend=message.backend,
            metadata=_metadata(message.metadata),
            started_at=as_project_time(message.started_at),
            last_attempted_at=as_project_time(message.last_attempted_at),
            errors=AttemptError.parse(message.errors),
            worker_ids=_lines(message.worker_ids),
        )
    )


def end_picture(
    result: TaskResult, state: State, finished_at: datetime | None, value: Any, error: AttemptError | None
) -> None:
    """Bring a running task's picture to its end, for the signals that tell of it."""
    changes: dict[str, Any] = {
        "state": state,
        "status": _STATUSES[state],
        "finished_at": as_project_time(finished_at),
        "_return_value": value,
    }
    for name, changed in changes.items():
        object.__setattr__(result, name, changed)
    if error is not None:
        result.attempt_errors.append(error)
        result.errors.extend(_task_errors([error]))


def _task_errors(errors: list[AttemptError]) -> list[TaskError]:
    return [TaskError(exception_class_path=error.exception_class_path, traceback=error.traceback) for error in errors]


def _lines(text: str) -> list[str]:
    """Lines that end with a newline; a name may hold what else ``splitlines`` takes for an end."""
    return text.split("\n")[:-1]


def _progress(text: str) -> Progress | None:
    given = codec.decode(text) if text else None
    if not isinstance(given, dict):
        return None
    return Progress(done=given["done"], total=given["total"], message=given["message"])  # type: ignore[arg-type]


def _metadata(text: str) -> dict[str, codec.JSON]:
    given = codec.decode(text) if text else {}
    return given if isinstance(given, dict) else {}
