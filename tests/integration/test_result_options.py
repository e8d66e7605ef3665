"""Whether values and errors are kept: what the alias, the task and the call say, and who hears of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, cast

import pytest
from asgiref.sync import async_to_sync

from django_taskq import ResultUnavailable, State, Task, TaskFailed, TaskqBackend, TaskResult
from django_taskq.compat import task_backends
from django_taskq.core.options import TaskOptions
from django_taskq.models import TaskRecord
from django_taskq.results.kept import ELSEWHERE
from django_taskq.testing import run_tasks
from tests.memory_store import MEMORY
from tests.taskapp.tasks import add, fail, noop

pytestmark = pytest.mark.django_db

OURS = "django_taskq.TaskqBackend"


@pytest.fixture
def backend(settings: Any) -> Callable[..., TaskqBackend]:
    """Return a function from OPTIONS to the backend that all tasks of this test have."""

    def make(**options: Any) -> TaskqBackend:
        settings.TASKS = {"default": {"BACKEND": OURS, "OPTIONS": options}}
        return cast("TaskqBackend", task_backends["default"])

    return make


def ended(task: Task, *args: Any) -> tuple[TaskResult, TaskRecord]:
    """Run a task; return its result and its row."""
    result = task.enqueue(*args)
    run_tasks()
    result.refresh()
    return result, TaskRecord.objects.get(pk=result.id)


SAYS_NOTHING: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("options", "said", "expected"),
    [
        ({}, SAYS_NOTHING, True),
        ({}, {"store_result": False}, False),
        ({"store_result": False}, SAYS_NOTHING, False),
        ({"store_result": False}, {"store_result": True}, True),
        ({"store_result": False}, {"store_result": None}, False),
        ({"results": "disabled://"}, SAYS_NOTHING, False),
        # It is what holds for tasks that say nothing, no more.
        ({"results": "disabled://"}, {"store_result": True}, True),
    ],
)
def test_a_value_is_kept_as_the_call_says_then_the_task_then_the_alias(
    backend: Callable[..., TaskqBackend], options: dict[str, Any], said: dict[str, Any], expected: bool
) -> None:
    backend(**options)
    result, row = ended(add.using(**said), 1, 2)
    assert row.result == ("3" if expected else None)
    assert (result.state, result.get(1)) == (State.SUCCESSFUL, 3 if expected else None)


def test_a_store_gets_the_values_of_tests_too(backend: Callable[..., TaskqBackend]) -> None:
    backend(results="mem://tests", result_stores=MEMORY)
    result, row = ended(add, 1, 2)
    assert row.result == ELSEWHERE
    assert result.get(5) == 3
    assert async_to_sync(add.get_result(result.id).aget)(5) == 3


def test_a_call_says_more_than_its_task(backend: Callable[..., TaskqBackend]) -> None:
    backend()
    silent = add.using(store_result=False)
    assert ended(silent.using(store_result=True), 1, 2)[1].result == "3"
    assert ended(silent.using(store_result=None), 1, 2)[1].result == "3"


@pytest.mark.parametrize(
    ("options", "said", "expected"),
    [
        ({}, SAYS_NOTHING, True),
        ({}, {"store_errors": False}, False),
        ({"store_errors": False}, SAYS_NOTHING, False),
        ({"store_errors": False}, {"store_errors": True}, True),
        # As with Celery's task_store_errors_even_if_ignored; here it is the default.
        ({"store_result": False}, SAYS_NOTHING, True),
        ({"results": "disabled://"}, SAYS_NOTHING, True),
    ],
)
def test_errors_are_kept_in_the_same_way(
    backend: Callable[..., TaskqBackend], options: dict[str, Any], said: dict[str, Any], expected: bool
) -> None:
    backend(**options)
    result, row = ended(fail.using(**said), "why")
    assert ("why" in row.errors) is expected
    with pytest.raises(TaskFailed, match="why" if expected else "its errors are not kept"):
        result.get(1)


@pytest.mark.parametrize("results", ["rpc+amqp://guest:guest@127.0.0.1:1//", "mem://nobody"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, {"store_result": False}),
        ({"store_result": False}, SAYS_NOTHING),
        ({"store_result": False}, {"store_errors": False}),
    ],
)
def test_nobody_waits_for_an_unrecorded_value_that_nobody_keeps(
    backend: Callable[..., TaskqBackend], results: str, options: dict[str, Any], said: dict[str, Any]
) -> None:
    backend(results=results, result_stores=MEMORY, **options)
    began = time.monotonic()
    result = noop.using(record=False, **said).enqueue()
    for get in (result.get, async_to_sync(result.aget)):
        with pytest.raises(ResultUnavailable, match="store_result=False"):
            get(60)
    assert time.monotonic() - began < 5
    assert TaskRecord.objects.get().reply_to == "", "and no worker answers"


def test_what_a_call_says_travels_with_it(backend: Callable[..., TaskqBackend]) -> None:
    backend()
    task = noop.using(store_errors=False, result_ttl=60, failure_ttl=None)
    assert (task.result_ttl, task.failure_ttl) == (60.0, None)
    row = TaskRecord.objects.get(pk=task.enqueue().id)
    assert json.loads(row.options) == {"store_errors": False, "result_ttl": 60.0}
    found = noop.get_result(str(row.pk)).task
    assert (found.store_errors, found.result_ttl, found.store_result) == (False, 60.0, None)  # type: ignore[attr-defined]  # ours


@pytest.mark.parametrize(
    ("options", "said", "state", "expected"),
    [
        ({}, SAYS_NOTHING, State.SUCCESSFUL, 7 * 86400),
        ({}, SAYS_NOTHING, State.CANCELLED, 7 * 86400),
        ({}, SAYS_NOTHING, State.FAILED, 30 * 86400),
        ({"result_ttl": None}, SAYS_NOTHING, State.EXPIRED, None),
        ({"result_ttl": 5}, {"result_ttl": 60.0}, State.SUCCESSFUL, 60),
        ({"result_ttl": 5}, {"result_ttl": 60.0}, State.FAILED, 30 * 86400),
        ({"failure_ttl": None}, {"failure_ttl": 60.0}, State.FAILED, 60),
    ],
)
def test_how_long_is_said_by_the_task_then_by_the_alias(
    backend: Callable[..., TaskqBackend],
    options: dict[str, Any],
    said: dict[str, Any],
    state: State,
    expected: float | None,
) -> None:
    assert backend(**options).ttl_of(TaskOptions(**said), state) == expected
