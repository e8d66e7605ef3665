"""The backend that ``TASKS`` names: Django's tasks API on our rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property, partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core import checks
from django.db import router

from . import producer, registry
from .announcements import send_cancelled
from .compat import (
    TASK_MAX_PRIORITY,
    TASK_MIN_PRIORITY,
    BaseTaskBackend,
    InvalidTask,
    TaskResultDoesNotExist,
    UpstreamTask,
)
from .conf import BackendOptions
from .core import codec
from .core.options import CARRIED, TaskOptions, decode_overrides
from .core.queues import MAX_QUEUE_NAME
from .core.reply_queue import is_ours
from .core.states import State
from .core.topology import unfit
from .definition import Task
from .forks import renew_properties
from .models import TaskRecord
from .option_checks import check_options
from .result import TaskResult, result_of, result_of_reply
from .results.base import ResultStore
from .results.registry import open_store, reply_broker
from .transitions import operate

if TYPE_CHECKING:
    from .brokers.kombu.publisher import Publisher


class TaskqBackend(BaseTaskBackend):
    """``TASKS = {"default": {"BACKEND": "django_taskq.TaskqBackend", "QUEUES": [], "OPTIONS": {...}}}``."""

    task_class = Task  # type: ignore[assignment]  # the backport's is generic to its type checker, ours is not
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    #: the last task that it was found it can run: most are enqueued again and again
    _validated: UpstreamTask | None = None

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.plans = producer.Plans()

    @cached_property
    def config(self) -> BackendOptions:
        """``OPTIONS``, parsed. Raises ``OptionsError``."""
        return BackendOptions.parse(self.options)

    @cached_property
    def database(self) -> str:
        """The ``DATABASES`` alias that holds this backend's rows."""
        return self.config.database_alias or router.db_for_write(TaskRecord)

    @cached_property
    def result_store(self) -> ResultStore:
        """Where results are waited for."""
        return open_store(self.config, self.database)

    @cached_property
    def publisher(self) -> Publisher:
        """What tells the message broker; one per process, whatever the thread."""
        from .brokers.kombu.publisher import publisher_for  # noqa: PLC0415  # who has no such broker does not load kombu

        return publisher_for(self.config)

    def replier(self, queue_name: str) -> Publisher:
        """What tells a caller: over its own broker when the results have one, else over this alias's."""
        return self._own_replier if is_ours(queue_name) else self.publisher

    @cached_property
    def _own_replier(self) -> Publisher:
        from .brokers.kombu.publisher import publisher_for  # noqa: PLC0415  # as above

        return publisher_for(reply_broker(self.config))

    def ttl_of(self, options: TaskOptions, state: State) -> float | None:
        """Seconds for which the result of a task that ended so is kept; None: until somebody clears it.

        CANCELLED and EXPIRED ones go with the successful: nobody needs to look into them.
        """
        if state is State.FAILED:
            return self.config.failure_ttl if options.failure_ttl is None else options.failure_ttl
        return self.config.result_ttl if options.result_ttl is None else options.result_ttl

    def settled(self, options: TaskOptions) -> TaskOptions:
        """A task's options with this alias's word on what they leave open, where it is not the default's."""
        changes: dict[str, Any] = {}
        if options.store_result is None and not self.config.stores_results:
            changes["store_result"] = False
        if options.store_errors is None and not self.config.store_errors:
            changes["store_errors"] = False
        if options.keep_logs is None and not self.config.keep_logs:
            changes["keep_logs"] = False
        return replace(options, **changes) if changes else options

    @cached_property
    def task_options(self) -> TaskOptions:
        """Those of tasks that say nothing."""
        return self.settled(TaskOptions())

    def validate_task(self, task: UpstreamTask) -> None:
        """Raise ``InvalidTask`` for what this backend cannot run."""
        if task is self._validated:
            # Tasks do not change.
            return
        if isinstance(task.priority, bool) or not isinstance(task.priority, int):
            raise InvalidTask(f"priority must be a whole number between {TASK_MIN_PRIORITY} and {TASK_MAX_PRIORITY}.")
        name = task.queue_name
        if not isinstance(name, str) or not 0 < len(name) <= MAX_QUEUE_NAME or codec.clean(name) != name:
            raise InvalidTask(f"queue_name={name!r}: must be text of 1 to {MAX_QUEUE_NAME} characters.")
        if self.config.is_kombu and (reason := unfit(name)):
            raise InvalidTask(f"queue_name={name!r}: {reason}")
        # Upstream knows moments only; delays were checked when the task was made.
        moment = task.run_after if isinstance(task.run_after, datetime) else None
        super().validate_task(
            SimpleNamespace(  # type: ignore[arg-type]  # upstream reads just these
                func=task.func,
                takes_context=task.takes_context,
                priority=task.priority,
                run_after=moment,
                queue_name=name,
            )
        )
        self._validated = task

    def enqueue(self, task: UpstreamTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskResult:
        """See ``producer.enqueue``."""
        return producer.enqueue(self, task, args, kwargs)

    def enqueue_many(
        self, task: UpstreamTask, calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]]
    ) -> list[TaskResult]:
        """See ``producer.enqueue_many``."""
        return producer.enqueue_many(self, task, calls)

    def get_result(self, result_id: str) -> TaskResult:
        """The task with this id. Raises ``TaskResultDoesNotExist``; without a row, ``ResultStoreError``, too."""
        try:
            record = TaskRecord.objects.using(self.database).get(pk=UUID(str(result_id)), backend=self.alias)
        except (TaskRecord.DoesNotExist, ValueError) as error:
            reply = self.result_store.find(str(result_id))
            if reply is None or not reply.name:
                raise TaskResultDoesNotExist(result_id) from error
            return result_of_reply(self, reply)
        return result_of(self, record)

    def cancel(self, result_id: str) -> bool:
        """Cancel a task by its id; see ``TaskResult.cancel``."""
        try:
            task_id = str(UUID(str(result_id)))
        except ValueError:
            # No task of ours has such an id.
            return False
        return operate.cancel(self.database, task_id, on_ended=partial(send_cancelled, self.alias, task_id))

    def task_of(self, record: TaskRecord) -> UpstreamTask:
        """The task of a row, with the options of its call. Raises ``UnknownTask``."""
        task = registry.resolve(record.name, self.config.imports)
        options = producer.options_of(task)
        changes: dict[str, Any] = {}
        if isinstance(task, Task):
            called = decode_overrides(record.options, options)
            changes = {
                name: getattr(called, name) for name in CARRIED if getattr(called, name) != getattr(options, name)
            }
            if record.acks_late != options.acks_late:
                changes["acks_late"] = record.acks_late
            if record.max_deliveries != options.max_deliveries:
                changes["max_deliveries"] = record.max_deliveries
        if record.queue_name != task.queue_name and (not self.queues or record.queue_name in self.queues):
            changes["queue_name"] = record.queue_name
        if record.priority != task.priority:
            changes["priority"] = record.priority
        if record.run_after is not None:
            changes["run_after"] = record.run_after
        if task.backend != self.alias:
            changes["backend"] = self.alias
        return task.using(**changes) if changes else task

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        """What is wrong with this alias; empty when nothing is."""
        return list(check_options(self.alias, self.options))


renew_properties(TaskqBackend.__module__, TaskqBackend.__name__)
renew_properties(BackendOptions.__module__, BackendOptions.__name__)
