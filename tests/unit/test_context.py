"""What a task may know of its own run, and say about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from django_taskq import Retry, State, TaskContext, TaskResult
from django_taskq.compat import TaskContext as UpstreamContext
from django_taskq.compat import TaskResultStatus
from django_taskq.core import codec
from django_taskq.exceptions import OptionError
from tests.taskapp.tasks import noop

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def make_context(reports: list[str] | None = None, *, cancelled: bool = False) -> TaskContext:
    result = TaskResult(
        task=noop,
        id="0",
        status=TaskResultStatus.RUNNING,
        state=State.RUNNING,
        enqueued_at=NOW,
        started_at=NOW,
        last_attempted_at=NOW,
        finished_at=None,
        args=[],
        kwargs={},
        backend="default",
        errors=[],
        worker_ids=["a", "b"],
    )
    return TaskContext(
        task_result=result,
        report=(reports if reports is not None else []).append,
        is_cancelled=lambda: cancelled,
    )


def test_it_is_upstreams_context_and_more() -> None:
    context = make_context()
    assert isinstance(context, UpstreamContext)
    assert context.task_result.id == "0"
    assert context.attempt == 2
    assert context.metadata == {}


@pytest.mark.parametrize(
    ("given", "reported"),
    [
        ((1,), {"done": 1, "total": None, "message": ""}),
        ((1, 10), {"done": 1, "total": 10, "message": ""}),
        ((0.5, 1.0, "half 🙂"), {"done": 0.5, "total": 1.0, "message": "half 🙂"}),
        ((-1, 0, "a\x00b\ud800"), {"done": -1, "total": 0, "message": "a\\x00b\\xd800"}),
        ((1, 2, 3), {"done": 1, "total": 2, "message": "3"}),
    ],
)
def test_progress_is_reported_as_json(given: Any, reported: dict[str, Any]) -> None:
    reports: list[str] = []
    make_context(reports).progress(*given)
    assert [codec.decode(report) for report in reports] == [reported]


@pytest.mark.parametrize("given", [("1",), (None,), (True,), (1, "10"), (1, False), (1j,)], ids=repr)
def test_progress_that_is_no_number_is_a_type_error(given: Any) -> None:
    with pytest.raises(TypeError, match=r"progress\(.*give a number"):
        make_context().progress(*given)


@pytest.mark.parametrize("given", [(float("nan"),), (1, float("inf")), (10**400,)], ids=["nan", "inf", "huge"])
def test_progress_that_no_database_holds_is_a_value_error(given: Any) -> None:
    with pytest.raises(ValueError, match="Unsupported value"):
        make_context().progress(*given)


@pytest.mark.parametrize(("delay", "seconds"), [(None, None), (5, 5), (timedelta(minutes=1), 60)])
def test_retry_ends_the_attempt(delay: Any, seconds: float | None) -> None:
    with pytest.raises(Retry, match="not yet") as signal:
        make_context().retry(delay, "not yet")
    assert signal.value.delay == seconds


def test_an_impossible_delay_is_an_error_of_the_tasks_own() -> None:
    with pytest.raises(OptionError):
        make_context().retry(-1)


@pytest.mark.parametrize("cancelled", [True, False])
def test_whether_somebody_wants_it_to_stop_is_asked_each_time(cancelled: bool) -> None:
    assert make_context(cancelled=cancelled).cancelled is cancelled
