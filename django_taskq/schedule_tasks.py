"""From a schedule to its tasks: what is called, where, and when.

On the way that any other call takes, so that options, routes, headers, brokers and signals are what they are there. But a
schedule's task always has a row (a broadcast cannot have one), and nobody waits for its answer here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from . import registry
from .backend import TaskqBackend
from .compat import UpstreamTask
from .core.schedule import Rule, jittered
from .definition import Task
from .exceptions import OptionError
from .producer import encode_call, enqueue_many, options_of
from .result import TaskResult
from .schedules.definition import Schedule


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadySchedule:
    """A schedule with all that its tasks need."""

    schedule: Schedule
    rule: Rule
    backend: TaskqBackend
    task: UpstreamTask

    def expires_at(self, tick_at: datetime) -> datetime | None:
        """When the task of this tick is not worth starting any more."""
        expires = self.schedule.expires
        return None if expires is None else tick_at + timedelta(seconds=expires)

    def run_after(self, tick_at: datetime, now: datetime) -> datetime | None:
        """When the task of this tick is to run, where that is later than now."""
        if not self.schedule.jitter:
            return None
        at = jittered(self.schedule.name, tick_at, self.schedule.jitter)
        return at if at > now else None


class Planned(NamedTuple):
    """A task that a tick is to have; ``tick_at`` None: it is enqueued by hand."""

    ready: ReadySchedule
    tick_at: datetime | None
    task_id: str


def make_ready(schedule: Schedule, rule: Rule, backends: Mapping[str, TaskqBackend]) -> ReadySchedule:
    """Raises what says why it cannot be: ``UnknownTask``, ``InvalidTask``, ``TypeError``, ``ValueError``."""
    backend = backends.get(schedule.backend)
    if backend is None:
        raise OptionError(f"TASKS has no alias {schedule.backend!r} whose rows are in this database.")
    task = registry.resolve(schedule.task, backend.config.imports)
    changes: dict[str, Any] = {}
    if schedule.queue_name and schedule.queue_name != task.queue_name:
        changes["queue_name"] = schedule.queue_name
    if schedule.priority is not None and schedule.priority != task.priority:
        changes["priority"] = schedule.priority
    if schedule.backend != task.backend:
        changes["backend"] = schedule.backend
    if not options_of(task).record and not _is_broadcast(backend, schedule.queue_name or task.queue_name):
        changes["record"] = True
    if schedule.expires is not None and not isinstance(task, Task):
        raise OptionError(f"expires: {schedule.task} is not made by django_taskq's own @task, and has none.")
    encode_call(task, schedule.args, schedule.kwargs)
    return ReadySchedule(schedule=schedule, rule=rule, backend=backend, task=task.using(**changes) if changes else task)


def enqueue_planned(planned: Sequence[Planned], now: datetime) -> list[TaskResult]:
    """Enqueue tasks in the transaction that is open, one burst for those that differ in arguments alone.

    ``now``: the database's. Raises what ``producer.enqueue_many`` does, and what receivers of ``task_enqueued`` do.
    """
    bursts: dict[tuple[object, ...], tuple[UpstreamTask, list[Planned]]] = {}
    for one in planned:
        ready, at = one.ready, one.tick_at
        changes: dict[str, Any] = {
            "run_after": None if at is None else ready.run_after(at, now),
            "expires": ready.expires_at(now if at is None else at),
        }
        changes = {name: at for name, at in changes.items() if at is not None}
        key = (ready.backend.alias, _variant(ready.task), *changes.items())
        if key not in bursts:
            bursts[key] = (ready.task.using(**changes) if changes else ready.task, [])
        bursts[key][1].append(one)
    results = []
    for task, burst in bursts.values():
        results += enqueue_many(
            burst[0].ready.backend,
            task,
            [(one.ready.schedule.args, one.ready.schedule.kwargs) for one in burst],
            ids=[one.task_id for one in burst],
            awaited=False,
        )
    return results


def _variant(task: UpstreamTask) -> tuple[object, ...]:
    """Equal for tasks that are the same but for the call; schedules change nothing else."""
    return registry.registered_name(task), task.queue_name, task.priority, options_of(task).record


def _is_broadcast(backend: TaskqBackend, queue_name: str) -> bool:
    return backend.config.is_kombu and backend.config.topology.is_broadcast(queue_name)
