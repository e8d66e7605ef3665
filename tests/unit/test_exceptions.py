"""The tree of errors."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from django_taskq import exceptions
from django_taskq.exceptions import (
    MAX_DELAY,
    FieldProblem,
    OptionError,
    ResultTimeout,
    Retry,
    ScheduleError,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    TaskqError,
)


def family(cls: type[TaskqError] = TaskqError) -> Iterator[type[TaskqError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from family(child)


CLASSES = [cls for cls in family() if cls.__module__ == exceptions.__name__]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_says_something_by_itself(cls: type[TaskqError]) -> None:
    assert cls.__doc__
    assert str(cls()).endswith(".")


def test_the_docstring_draws_all_of_them() -> None:
    assert exceptions.__doc__ is not None
    assert [cls.__name__ for cls in CLASSES if cls.__name__ not in exceptions.__doc__] == []


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_errors_can_be_sent_to_another_process(cls: type[TaskqError]) -> None:
    said = [FieldProblem("expression", "what happened", "")] if issubclass(cls, ScheduleError) else "what happened"
    error = cls(said)  # which each of them takes
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert str(again) == str(error)


def test_who_waits_can_catch_what_python_calls_these() -> None:
    assert issubclass(ResultTimeout, TimeoutError)
    assert issubclass(OptionError, ValueError)
    assert issubclass(TaskCancelled, TaskFailed)
    assert issubclass(TaskExpired, TaskFailed)


def test_a_failure_shows_the_remote_class_and_traceback() -> None:
    error = TaskFailed("no such order", task_id="1", exception_class_path="shop.NoOrder", traceback="Traceback …\n")
    assert str(error) == "shop.NoOrder: no such order\n\nTraceback …\n"
    assert (error.task_id, error.message, error.exception_class_path) == ("1", "no such order", "shop.NoOrder")


def test_a_failure_keeps_its_parts_on_the_way_to_another_process() -> None:
    error = TaskFailed("no such order", task_id="1", exception_class_path="shop.NoOrder", traceback="Traceback …\n")
    again = pickle.loads(pickle.dumps(error))
    assert vars(again) == vars(error)
    assert str(again) == str(error)


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [(None, None), (0, 0), (1.5, 1.5), (timedelta(minutes=1), 60), (MAX_DELAY, MAX_DELAY)],
    ids=repr,
)
def test_a_retry_takes_seconds_or_a_timedelta(delay: Any, seconds: float | None) -> None:
    assert Retry(delay=delay).delay == seconds


@pytest.mark.parametrize(
    "delay",
    [-1, timedelta(-1), timedelta.max, 1e300, float("inf"), float("nan"), 10**400, "5", True, Decimal(1)],
    ids=lambda delay: repr(delay)[:20],
)
def test_a_retry_refuses_what_no_database_could_add_to_a_time(delay: Any) -> None:
    with pytest.raises(OptionError, match="Retry"):
        Retry(delay=delay)
