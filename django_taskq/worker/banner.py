"""What a worker says of itself when it starts."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from django.db import connections

from ..backend import TaskqBackend
from ..registry import coroutine_names, task_names
from .settings import WorkerSettings


def banner(settings: WorkerSettings, backends: Sequence[TaskqBackend]) -> str:
    """The lines, without a trailing newline. URLs are shown by scheme only: they may hold passwords."""
    processes = _count(settings.processes, "process", "processes")
    slots = _count(settings.threads, "thread", "threads")
    if settings.coroutines:
        slots += f" and {_count(settings.coroutines, 'coroutine', 'coroutines')}"
    databases = {backend.database: connections[backend.database].vendor for backend in backends}
    serves = ", ".join(f"{backend.alias} (database {backend.database}{_broker(backend)})" for backend in backends)
    names = task_names()
    asynchronous = len(coroutine_names())
    lines = [
        f"django_taskq{_version()}  worker {settings.name}",
        f"  serves    {serves}",
        f"  on        {', '.join(f'{alias}: {vendor}' for alias, vendor in databases.items())}",
        f"  queues    {'all' if settings.queues.is_everything else settings.queues}",
        f"  runs      {processes}, each with {slots}",
        f"  knows     {_count(len(names), 'task', 'tasks')}{f', {asynchronous} of them async' if asynchronous else ''}",
    ]
    if settings.burst:
        lines.append("  until     nothing due is left")
    if settings.max_tasks is not None:
        lines.append(f"  until     {_count(settings.max_tasks, 'task', 'tasks')} have run")
    renewal = [
        *([] if settings.max_tasks_per_child is None else [_count(settings.max_tasks_per_child, "task", "tasks")]),
        *([] if settings.max_memory_per_child is None else [f"{settings.max_memory_per_child >> 20} MiB of memory"]),
    ]
    if renewal:
        lines.append(f"  replaces  each process after {' or '.join(renewal)}")
    if settings.reload:
        lines.append("  reloads   when code changes")
    return "\n".join(lines)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _broker(backend: TaskqBackend) -> str:
    return f", broker {backend.config.transport}" if backend.config.is_kombu else ""


def _version() -> str:
    try:
        return f" {version('django-taskq-kombu')}"
    except PackageNotFoundError:
        # Run from a checkout that was not installed.
        return ""
