"""The suite's classes, and what stands in its modules where it says ``DummyBackend`` and ``ImmediateBackend``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from django_taskq import TaskqBackend, TaskResult
from django_taskq.compat import Task, task_backends
from django_taskq.models import TaskRecord
from django_taskq.testing import run_tasks
from tests.upstream.source import directory

# The suite knows itself as the package ``tasks`` at the top of ``sys.path``.
sys.path.insert(0, str(directory()))
tasks = import_module("tasks.tasks")

if TYPE_CHECKING:
    from django.test import SimpleTestCase, TransactionTestCase

    class TaskTestCase(SimpleTestCase): ...

    class DummyBackendTestCase(SimpleTestCase): ...

    class ImmediateBackendTestCase(SimpleTestCase): ...

    class DummyBackendTransactionTestCase(TransactionTestCase): ...

    class ImmediateBackendTransactionTestCase(TransactionTestCase): ...
else:
    from tasks.test_dummy_backend import DummyBackendTestCase, DummyBackendTransactionTestCase
    from tasks.test_immediate_backend import ImmediateBackendTestCase, ImmediateBackendTransactionTestCase
    from tasks.test_tasks import TaskTestCase

__all__ = [
    "DummyBackendTestCase",
    "DummyBackendTransactionTestCase",
    "ImmediateBackendTestCase",
    "ImmediateBackendTransactionTestCase",
    "TaskTestCase",
    "replacements",
    "tasks",
]


class ListedBackend(TaskqBackend):
    """Ours, with the two names by which the suite looks into upstream's dummy."""

    @property
    def results(self) -> list[TaskResult]:
        """All results, oldest first."""
        return [self.get_result(str(pk)) for pk in TaskRecord.objects.order_by("pk").values_list("pk", flat=True)]

    def clear(self) -> None:
        """Forget all results."""
        TaskRecord.objects.all().delete()


class DrainedBackend(TaskqBackend):
    """Ours, with everything run by the time ``enqueue`` returns, as upstream's immediate backend has it."""

    def enqueue(self, task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskResult:
        """Enqueue and run; what the suite gets is the result read back."""
        result = super().enqueue(task, args, kwargs)
        run_tasks()
        result.refresh()
        return result


def replacements() -> dict[str, type[TaskqBackend]]:
    """Return what to put where: the modules that define upstream's backends, and those of the suite that name them."""
    upstream = type(task_backends).__module__
    return {
        f"{upstream}.backends.dummy.DummyBackend": ListedBackend,
        f"{upstream}.backends.immediate.ImmediateBackend": DrainedBackend,
        "tasks.test_tasks.DummyBackend": ListedBackend,
        "tasks.test_tasks.ImmediateBackend": DrainedBackend,
        "tasks.test_dummy_backend.DummyBackend": ListedBackend,
        "tasks.test_immediate_backend.ImmediateBackend": DrainedBackend,
    }
