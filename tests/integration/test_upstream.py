"""Django's own tests of its tasks, on our backend; what is overridden says why."""

from __future__ import annotations

import dataclasses
from typing import Any
from unittest import mock

from asgiref.sync import sync_to_async
from django.test import SimpleTestCase, TestCase, TransactionTestCase
from django.utils import timezone

from django_taskq.compat import TaskResultDoesNotExist, TaskResultStatus, default_task_backend
from django_taskq.models import TaskRecord
from tests.upstream import suite


class OnOurBackend(SimpleTestCase):
    """Wherever the suite, or its settings, name upstream's dummy and immediate backends, they get ours."""

    @classmethod
    def setUpClass(cls) -> None:
        # Before the settings: backends are made from these by name, and again when the settings go back.
        for name, backend in suite.replacements().items():
            cls.enterClassContext(mock.patch(name, backend))
        super().setUpClass()


async def results() -> list[Any]:
    """Return all of the default backend's results, from where Django's ORM can be used."""
    return await sync_to_async(lambda: default_task_backend.results)()  # type: ignore[attr-defined, no-any-return]  # suite.ListedBackend


class TestTask(OnOurBackend, suite.TaskTestCase, TestCase):
    async def test_enqueue_task_async(self) -> None:
        # Upstream looks at its list from the event loop; a database does not allow that.
        result = await suite.tasks.noop_task.aenqueue()
        self.assertEqual(result.status, TaskResultStatus.READY)
        self.assertEqual(result.task, suite.tasks.noop_task)
        self.assertEqual(result.args, [])
        self.assertEqual(result.kwargs, {})
        self.assertEqual(await results(), [result])

    async def test_refresh_result(self) -> None:
        # As above.
        result = await suite.tasks.noop_task.aenqueue()
        original_result = dataclasses.asdict(result)
        await sync_to_async(result.refresh)()
        self.assertEqual(dataclasses.asdict(result), original_result)
        await result.arefresh()
        self.assertEqual(dataclasses.asdict(result), original_result)


class TestDummyBackend(OnOurBackend, suite.DummyBackendTestCase, TestCase):
    async def test_enqueue_task_async(self) -> None:
        # Upstream looks at its list from the event loop; a database does not allow that.
        for task in [suite.tasks.noop_task, suite.tasks.noop_task_async]:
            with self.subTest(task):
                result = await task.aenqueue()
                self.assertEqual(result.status, TaskResultStatus.READY)
                self.assertIs(result.is_finished, False)
                self.assertIsNone(result.started_at)
                self.assertIsNone(result.last_attempted_at)
                self.assertIsNone(result.finished_at)
                with self.assertRaisesMessage(ValueError, "Task has not finished yet"):
                    _ = result.return_value
                self.assertEqual(result.task, task)
                self.assertEqual(result.args, [])
                self.assertEqual(result.kwargs, {})
                self.assertEqual(result.attempts, 0)
                self.assertIn(result, await results())

    def test_refresh_result(self) -> None:
        # Upstream changes the object in the backend's list; our truth is the row.
        result = default_task_backend.enqueue(suite.tasks.calculate_meaning_of_life, (), {})
        TaskRecord.objects.update(state="SUCCESSFUL")
        self.assertEqual(result.status, TaskResultStatus.READY)
        result.refresh()
        self.assertEqual(result.status, TaskResultStatus.SUCCESSFUL)

    async def test_refresh_result_async(self) -> None:
        # As above.
        result = await default_task_backend.aenqueue(suite.tasks.calculate_meaning_of_life, (), {})
        await TaskRecord.objects.aupdate(state="SUCCESSFUL")
        self.assertEqual(result.status, TaskResultStatus.READY)
        await result.arefresh()
        self.assertEqual(result.status, TaskResultStatus.SUCCESSFUL)


class TestImmediateBackend(OnOurBackend, suite.ImmediateBackendTestCase, TestCase):
    def test_throws_keyboard_interrupt(self) -> None:
        # Upstream runs the task in the caller, who pressed Ctrl-C; ours runs in a worker, which goes on.
        result = default_task_backend.enqueue(suite.tasks.failing_task_keyboard_interrupt, [], {})
        self.assertEqual(result.status, TaskResultStatus.FAILED)
        self.assertEqual(result.errors[0].exception_class, KeyboardInterrupt)

    async def test_cannot_get_result(self) -> None:
        # Upstream keeps no results; ours does, and knows which it never had.
        result = await default_task_backend.aenqueue(suite.tasks.calculate_meaning_of_life, (), {})
        again: Any = await default_task_backend.aget_result(result.id)
        self.assertEqual(again.return_value, 42)
        with self.assertRaises(TaskResultDoesNotExist):
            await sync_to_async(default_task_backend.get_result)("123")
        with self.assertRaises(TaskResultDoesNotExist):
            await default_task_backend.aget_result("123")

    async def test_cannot_refresh_result(self) -> None:
        # As above.
        result = await default_task_backend.aenqueue(suite.tasks.calculate_meaning_of_life, (), {})
        await result.arefresh()
        self.assertEqual(result.return_value, 42)
        await sync_to_async(result.refresh)()
        self.assertEqual(result.return_value, 42)

    def test_cannot_pass_run_after(self) -> None:
        # Upstream cannot defer; ours can.
        default_task_backend.validate_task(suite.tasks.failing_task_value_error.using(run_after=timezone.now()))


class TestDummyBackendInTransactions(OnOurBackend, suite.DummyBackendTransactionTestCase, TransactionTestCase):
    #: Upstream needs no tables, and so no apps.
    available_apps = None


class TestImmediateBackendInTransactions(OnOurBackend, suite.ImmediateBackendTransactionTestCase, TransactionTestCase):
    #: As above.
    available_apps = None
