"""From a call to a row: everything that can be wrong with it is said here, before anything is written."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from . import registry
from .compat import DEFAULT_TASK_QUEUE_NAME, InvalidTask, UpstreamTask, task_enqueued
from .core import codec
from .core.ids import uuid7
from .core.options import TaskOptions, encode_overrides
from .core.states import State
from .database import as_project_time, database_now
from .definition import Task
from .exceptions import OptionError
from .instrument import sending
from .publication import publication_of, publish_after_commit, publish_calls
from .result import TaskResult, enqueued_result
from .routes import route
from .transitions.enqueue import NewTask, Publication, insert, insert_many

if TYPE_CHECKING:
    from .backend import TaskqBackend
    from .results.base import Ticket

_DEFAULT_OPTIONS = TaskOptions()

#: tasks whose plans are kept; those that ``using()`` makes for a single call are among them
_MAX_PLANS = 200

#: What every database keeps, and no time zone moves out of what a datetime can be (MySQL manual, "DATETIME"; SQLite
#: sorts moments as text).
_FIRST_YEAR, _LAST_YEAR = 1001, 9998


def enqueue(backend: TaskqBackend, task: UpstreamTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskResult:
    """Insert one task in the caller's transaction, if one is open; a message broker hears of it after the commit.

    Raises ``InvalidTask`` for the task's options, ``TypeError`` for arguments that don't fit the
    function or are not JSON, ``ValueError`` for arguments that cannot be stored, and the
    database's own errors; nothing was written then.
    """
    backend.validate_task(task)
    arguments = encode_call(task, args, kwargs)
    if backend.config.routes:
        task = _routed(backend, task, args, kwargs)
    # Once: looking it up takes half as long as making a message.
    connection = connections[backend.database]
    task, new, is_recorded = _prepare(backend, task, connection)
    task_id = uuid7.text(time.time())
    # Before anybody can run it: the answer must find who waits for it.
    ticket = backend.result_store.expect(task_id, connection) if new.reply_to else None
    with _sending(backend, new, [task_id], is_recorded) as headers:
        if headers:
            new = replace(new, headers=headers)
        if is_recorded:
            enqueued_at = insert(connection, new, task_id, arguments)
            publish_after_commit(backend, new, [task_id], connection)
        else:
            enqueued_at = datetime.now(UTC)
            publish_calls(backend, new, [(task_id, arguments)], enqueued_at, connection)
    result = _result(task, new, task_id, enqueued_at, args=args, kwargs=kwargs, ticket=ticket)
    task_enqueued.send(type(backend), task_result=result)
    return result


def enqueue_many(
    backend: TaskqBackend,
    task: UpstreamTask,
    calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]],
    *,
    ids: Sequence[str] | None = None,
    awaited: bool = True,
) -> list[TaskResult]:
    """Insert one task per call, all or none; see :func:`enqueue` for the errors.

    ``ids``: those of the tasks, where they are known before. ``awaited``: whether this process may wait for the results,
    where these are sent to whoever has enqueued the task.
    """
    backend.validate_task(task)
    texts = [encode_call(task, args, kwargs) for args, kwargs in calls]
    if not texts:
        return []
    if ids is None:
        now = time.time()
        ids = [uuid7.text(now) for _ in texts]
    if not backend.config.routes:
        return _enqueue_burst(backend, task, calls, texts, ids, awaited=awaited)
    # A route may send each call elsewhere; what they are enqueued with is common to a queue.
    queues: dict[str, tuple[UpstreamTask, list[int]]] = {}
    for index, (args, kwargs) in enumerate(calls):
        routed = _routed(backend, task, args, kwargs)
        queues.setdefault(routed.queue_name, (routed, []))[1].append(index)
    results: dict[int, TaskResult] = {}
    with transaction.atomic(using=backend.database, savepoint=False):
        for routed, indexes in queues.values():
            burst = _enqueue_burst(
                backend,
                routed,
                [calls[index] for index in indexes],
                [texts[index] for index in indexes],
                [ids[index] for index in indexes],
                awaited=awaited,
            )
            results.update(zip(indexes, burst, strict=True))
    return [results[index] for index in range(len(calls))]


def _enqueue_burst(
    backend: TaskqBackend,
    task: UpstreamTask,
    calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]],
    texts: Sequence[str],
    ids: Sequence[str],
    *,
    awaited: bool,
) -> list[TaskResult]:
    connection = connections[backend.database]
    task, new, is_recorded = _prepare(backend, task, connection, awaited=awaited)
    rows = list(zip(ids, texts, strict=True))
    tickets = [backend.result_store.expect(task_id, connection) if new.reply_to else None for task_id in ids]
    with _sending(backend, new, ids, is_recorded) as headers:
        if headers:
            new = replace(new, headers=headers)
        if is_recorded:
            enqueued_at = insert_many(backend.database, new, rows)
            publish_after_commit(backend, new, ids, connection)
        else:
            enqueued_at = datetime.now(UTC)
            publish_calls(backend, new, rows, enqueued_at, connection)
    results = [
        _result(task, new, task_id, enqueued_at, args=args, kwargs=kwargs, ticket=ticket)
        for task_id, ticket, (args, kwargs) in zip(ids, tickets, calls, strict=True)
    ]
    for result in results:
        task_enqueued.send(type(backend), task_result=result)
    return results


def _sending(backend: TaskqBackend, new: NewTask, ids: Sequence[str], is_recorded: bool) -> AbstractContextManager[str]:
    return sending(
        name=new.name,
        queue_name=new.queue_name,
        backend=backend.alias,
        broker=backend.config.transport,
        ids=ids,
        recorded=is_recorded,
    )


def options_of(task: UpstreamTask) -> TaskOptions:
    """The run options of a task; upstream's own tasks have none."""
    return task.options if isinstance(task, Task) else _DEFAULT_OPTIONS


def _routed(backend: TaskqBackend, task: UpstreamTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> UpstreamTask:
    """The task in the queue that ``OPTIONS["routes"]`` sends it to, unless it names one itself."""
    if task.queue_name != DEFAULT_TASK_QUEUE_NAME:
        return task
    try:
        name = route(backend.config.routes, registry.registered_name(task), args, kwargs, allowed=tuple(backend.queues))
    except OptionError as error:
        raise InvalidTask(str(error)) from error
    return task if name is None or name == task.queue_name else replace(task, queue_name=name)


@dataclass(slots=True, eq=False)
class Plan:
    """What all calls of a task have in common.

    ``base``: the task in code, whose options the task's are compared with. ``new``: as the last call had it.
    ``is_awaited``: whether somebody may wait for the value, as somebody wants it.
    """

    task: UpstreamTask
    base: UpstreamTask | None
    new: NewTask
    is_recorded: bool
    is_awaited: bool


class Plans:
    """Plans of the tasks that one alias was given last: to make one is a sixth of what an enqueue takes."""

    def __init__(self) -> None:
        #: by the task's ``id()``, which is no other's while the plan is kept
        self._plans: dict[int, Plan] = {}

    def __len__(self) -> int:
        return len(self._plans)

    def of(self, task: UpstreamTask) -> Plan | None:
        """What was kept for the calls of this very task, if nothing has changed since."""
        plan = self._plans.get(id(task))
        return plan if plan is not None and registry.lookup(plan.new.name) is plan.base else None

    def keep(self, plan: Plan) -> None:
        """Keep it for the next call. Tasks do not change, but what a dict has in it may."""
        if options_of(plan.task).metadata:
            return
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        self._plans[id(plan.task)] = plan


def _prepare(
    backend: TaskqBackend, task: UpstreamTask, connection: BaseDatabaseWrapper, *, awaited: bool = True
) -> tuple[UpstreamTask, NewTask, bool]:
    """The task with its relative times made absolute, what all its rows have in common, and whether it has any."""
    plan = backend.plans.of(task)
    if plan is None:
        plan = _plan(backend, task)
    new = plan.new
    publication = publication_of(backend, new.state, connection) if plan.is_recorded else Publication.PENDING
    reply_to = backend.result_store.open() if awaited and plan.is_awaited else ""
    if new.publication is not publication or new.reply_to != reply_to:
        new = plan.new = replace(new, publication=publication, reply_to=reply_to)
    return plan.task, new, plan.is_recorded


def _plan(backend: TaskqBackend, task: UpstreamTask) -> Plan:
    if not isinstance(task, Task):
        # Made by upstream's own class, for instance while another backend was the default.
        registry.register(task)
    options = options_of(task)
    run_after = expires_at = None
    state = State.READY
    has_moments = task.run_after is not None or options.expires is not None
    if has_moments:
        state, run_after, expires_at = _moments(backend, task)
        if isinstance(task.run_after, int | float | timedelta):
            task = replace(task, run_after=as_project_time(run_after))
    name = registry.registered_name(task)
    base = registry.lookup(name)
    try:
        overrides = encode_overrides(options, options_of(base) if base is not None else _DEFAULT_OPTIONS)
    except OptionError as error:
        raise InvalidTask(str(error)) from error
    is_recorded = options.record or not backend.config.is_kombu or state is not State.READY
    if is_recorded and backend.config.is_kombu and backend.config.topology.is_broadcast(task.queue_name):
        raise InvalidTask(
            f"Queue {task.queue_name!r} is a broadcast: every worker runs what is sent to it, so that no row can hold its "
            "state. Give the task record=False, and no run_after."
        )
    new = NewTask(
        name=name,
        queue_name=task.queue_name,
        backend=backend.alias,
        priority=task.priority,
        state=state,
        options=overrides,
        metadata=codec.encode(options.metadata) if options.metadata else "",
        max_deliveries=options.max_deliveries,
        acks_late=options.acks_late,
        run_after=run_after,
        expires_at=expires_at,
        publication=Publication.PENDING,
    )
    plan = Plan(task, base, new, is_recorded, is_awaited=backend.settled(options).keeps_result)
    if not has_moments:
        backend.plans.keep(plan)
    return plan


def _moments(backend: TaskqBackend, task: UpstreamTask) -> tuple[State, datetime | None, datetime | None]:
    """The state of a task that is enqueued now; when it is to run, and when it expires."""
    now = database_now(backend.database)
    run_after = _moment(task.run_after, now, "run_after")
    expires_at = _moment(options_of(task).expires, now, "expires")
    if run_after is None or run_after <= now:
        return State.READY, run_after, expires_at
    if expires_at is not None and expires_at <= run_after:
        raise InvalidTask(f"expires ({expires_at}) is not after run_after ({run_after}): it would never run.")
    return State.SCHEDULED, run_after, expires_at


def encode_call(task: UpstreamTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """A call's arguments as a row has them. Raises as :func:`enqueue` does."""
    bound = (None, *args) if task.takes_context else args
    try:
        least, most = registry.positional(task.func)
        if kwargs or not least <= len(bound) <= most:
            registry.signature(task.func).bind(*bound, **kwargs)
    except TypeError as error:
        raise TypeError(f"{task.module_path}: {error}") from error
    try:
        return codec.encode([list(args), kwargs])
    except (TypeError, ValueError) as error:
        raise type(error)(f"{task.module_path}, {_culprit(args, kwargs)}: {error}") from error


def _culprit(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Which argument cannot be stored."""
    for where, value in [
        *((f"argument {index} (counted from 1)", value) for index, value in enumerate(args, start=1)),
        *((f"argument {name!r}", value) for name, value in kwargs.items()),
    ]:
        try:
            codec.encode(value)
        except (TypeError, ValueError):
            return where
    return "the arguments"


def _moment(value: datetime | timedelta | float | None, now: datetime, option: str) -> datetime | None:
    """An option's moment or delay as an aware moment in UTC."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        return now + (value if isinstance(value, timedelta) else timedelta(seconds=value))
    if timezone.is_naive(value):
        if settings.USE_TZ:
            raise InvalidTask(f"{option} must be an aware datetime.")
        value = timezone.make_aware(value)
    if not _FIRST_YEAR <= value.year <= _LAST_YEAR:
        raise InvalidTask(f"{option}={value!r}: must be in the years {_FIRST_YEAR} to {_LAST_YEAR}.")
    return value.astimezone(UTC)


def _result(
    task: UpstreamTask,
    new: NewTask,
    task_id: str,
    enqueued_at: datetime,
    *,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    ticket: Ticket | None,
) -> TaskResult:
    return enqueued_result(
        task,
        task_id,
        state=new.state,
        enqueued_at=enqueued_at,
        args=args,
        kwargs=kwargs,
        backend=new.backend,
        metadata=options_of(task).metadata,
        ticket=ticket,
    )
