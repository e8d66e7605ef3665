"""From a call to a row: what is written, what the caller holds, and what is refused before anything is written."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.db import DatabaseError, connection, transaction
from django.db.transaction import TransactionManagementError

from django_taskq import State, Task, TaskqBackend, TaskResult, UnknownTask, exponential, fixed, registry, task
from django_taskq.compat import (
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultStatus,
    UpstreamResult,
    UpstreamTask,
    default_task_backend,
    task_backends,
    task_enqueued,
    task_started,
)
from django_taskq.core.options import CARRIED
from django_taskq.models import TaskRecord
from django_taskq.testing import run_tasks
from tests.taskapp.models import Note
from tests.taskapp.tasks import add, asleep, note

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db

#: Seconds between two clocks that are the same, on a busy machine.
SLACK = 5.0
OURS = {"BACKEND": "django_taskq.TaskqBackend", "QUEUES": []}


@task
def anything(*args: Any, **kwargs: Any) -> None:
    """Take whatever there is."""


@task(takes_context=True)
def with_context(context: Any, order: int, *, note: str = "") -> None:
    """Take a context, which the caller does not give."""


@task(
    max_attempts=3,
    backoff=[1, 2],
    retry_on=(OSError,),
    metadata={"source": "web"},
    expires=60,
    priority=7,
    acks_late=False,
    max_deliveries=9,
    sensitive=["secret"],
)
def full(secret: str = "") -> None:
    """Have options of its own."""


def slowly(exception: BaseException, task_result: object) -> float:
    return 1.0


def plain_function(number: int) -> int:
    return number


@pytest.fixture(autouse=True)
def _any_queue(settings: Settings) -> None:
    settings.TASKS = {"default": OURS, "other": OURS}


@pytest.fixture
def announced() -> Iterator[list[tuple[type, Any]]]:
    """What ``task_enqueued`` told: sender and result."""
    seen: list[tuple[type, Any]] = []

    def hear(sender: type, task_result: Any, **kwargs: Any) -> None:
        seen.append((sender, task_result))

    task_enqueued.connect(hear)
    yield seen
    task_enqueued.disconnect(hear)


def row(result: Any) -> TaskRecord:
    return TaskRecord.objects.get(pk=result.id)


def near(moment: datetime | None, expected: datetime) -> bool:
    assert moment is not None
    return abs(moment - expected) < timedelta(seconds=SLACK)


# --- the row and the result


def test_a_call_becomes_a_row() -> None:
    result = add.using(queue_name="mail", priority=3).enqueue(1, right=2)
    record = row(result)
    assert (record.name, record.queue_name, record.priority) == ("tests.taskapp.tasks.add", "mail", 3)
    assert (record.backend, record.state, record.arguments) == ("default", "READY", '[[1],{"right":2}]')
    assert (record.options, record.metadata, record.run_after, record.expires_at) == ("", "", None, None)
    assert (record.max_deliveries, record.acks_late) == (3, True)
    assert near(record.enqueued_at, datetime.now(UTC))


def test_the_caller_holds_what_the_row_says() -> None:
    result = add.enqueue(1, right=2)
    assert isinstance(result, TaskResult)
    assert result.id == str(UUID(result.id)) == str(row(result).pk)
    assert (result.status, result.state) == (TaskResultStatus.READY, State.READY)
    assert (result.args, result.kwargs, result.backend) == ([1], {"right": 2}, "default")
    assert result.task == add
    assert (result.attempts, result.errors, result.worker_ids, result.progress) == (0, [], [], None)
    assert not result.is_finished
    assert result.enqueued_at == row(result).enqueued_at
    with pytest.raises(ValueError, match="Task has not finished yet"):
        _ = result.return_value


@pytest.mark.parametrize(
    ("made", "options"),
    [
        (anything, {}),
        (asleep, {}),
        (full, {}),
        (anything, {"priority": -5, "queue_name": "mail"}),
        (anything, {"run_after": datetime(2100, 1, 1, tzinfo=UTC)}),
        (
            anything,
            {"max_attempts": 5, "backoff": exponential(2, 60), "retry_on": ValueError, "give_up_on": [KeyError]},
        ),
        (anything, {"record": False, "store_result": False, "store_errors": False}),
        (anything, {"acks_late": False, "max_deliveries": 1}),
        (anything, {"soft_time_limit": 5, "time_limit": timedelta(minutes=1), "keep_logs": False}),
        (full, {"max_attempts": None, "backoff": None, "retry_on": (), "acks_late": True, "sensitive": ()}),
    ],
    ids=lambda value: value.name if isinstance(value, Task) else "-".join(value),
)
def test_a_result_read_back_equals_the_one_that_was_given(made: Task, options: dict[str, Any]) -> None:
    result = made.using(**options).enqueue("x")
    again = made.get_result(result.id)
    assert again == result
    for name in (*CARRIED, "acks_late", "max_deliveries"):
        assert getattr(again.task, name) == getattr(result.task, name)
    result.refresh()
    assert again == result


@pytest.mark.parametrize(("args", "kwargs"), [((1, "a"), {}), ((None, (1, 2)), {"b": {"c": (3,)}}), ((), {})])
def test_what_the_caller_gets_is_a_result_like_any_other(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    result = anything.using(metadata={"order": 1}).enqueue(*args, **kwargs)
    made = {one.name: getattr(result, one.name) for one in fields(result) if one.init}
    assert TaskResult(**made) == result
    assert type(result) is TaskResult
    assert (result.args, result.kwargs) == (json.loads(json.dumps(args)), json.loads(json.dumps(kwargs)))
    assert not result.is_finished
    for one in fields(result):
        with pytest.raises(FrozenInstanceError):
            setattr(result, one.name, None)


def test_what_signals_and_the_context_show_is_a_result_like_any_other() -> None:
    shown: list[TaskResult] = []

    def look(task_result: TaskResult, **kwargs: object) -> None:
        made = {one.name: getattr(task_result, one.name) for one in fields(task_result) if one.init}
        assert TaskResult(**made) == task_result
        assert (task_result.state, task_result.status) == (State.RUNNING, TaskResultStatus.RUNNING)
        shown.append(task_result)

    result = anything.using(metadata={"order": 1}).enqueue([1, {"a": None}], b={"c": [3]})
    task_started.connect(look)
    try:
        assert run_tasks() == 1
    finally:
        task_started.disconnect(look)
    (running,) = shown
    assert type(running) is TaskResult
    assert (running.id, running.metadata) == (result.id, {"order": 1})
    assert (running.args, running.kwargs) == ([[1, {"a": None}]], {"b": {"c": [3]}})
    assert running.started_at == running.last_attempted_at
    assert len(running.worker_ids) == 1


def test_another_definition_of_the_same_task_is_what_the_next_call_is_compared_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call = anything.using(max_attempts=3)
    assert json.loads(row(call.enqueue()).options) == {"max_attempts": 3}
    changed = replace(anything, max_attempts=3)
    monkeypatch.setitem(registry._tasks, registry.registered_name(anything), changed)
    assert row(call.enqueue()).options == ""


def test_tasks_that_are_made_for_a_call_do_not_pile_up() -> None:
    backend = anything.get_backend()
    assert isinstance(backend, TaskqBackend)
    results = [anything.using(priority=number % 100).enqueue(number) for number in range(450)]
    assert len(backend.plans) < 250
    assert [result.args for result in results] == [[number] for number in range(450)]


def test_a_result_survives_pickling() -> None:
    result = add.enqueue(1, 2)
    again = pickle.loads(pickle.dumps(result))
    assert again == result
    again.refresh()


def test_options_of_the_task_stay_in_its_code_and_those_of_the_call_travel() -> None:
    own, changed = (
        full.enqueue(),
        full.using(max_attempts=5, backoff=fixed(9), metadata={"b": 1}, expires=None).enqueue(),
    )
    assert (row(own).options, row(own).metadata) == ("", '{"source":"web"}')
    assert (row(own).max_deliveries, row(own).acks_late, row(own).priority) == (9, False, 7)
    assert near(row(own).expires_at, datetime.now(UTC) + timedelta(seconds=60))
    assert '"max_attempts":5' in row(changed).options
    assert '"backoff":[9' in row(changed).options
    assert (row(changed).metadata, row(changed).expires_at) == ('{"b":1}', None)
    assert changed.metadata == {"b": 1}


def test_ids_increase() -> None:
    made = [anything.enqueue().id for _ in range(50)]
    assert made == sorted(made)
    assert [str(pk) for pk in TaskRecord.objects.order_by("pk").values_list("pk", flat=True)] == made


def test_odd_arguments_arrive() -> None:
    odd = {"ключ 🙂": ["'\";--", "\\", "%s", "\u202e", "\u2028\x85", 2**70, -0.5, None, True, {"": []}], "x" * 300: 1}
    result = anything.enqueue(odd, keyword=odd)
    assert row(result).call_arguments == ([odd], {"keyword": odd})
    assert anything.get_result(result.id).args == [odd]


def test_upstreams_own_tasks_can_be_enqueued() -> None:
    upstream: Any = UpstreamTask(func=plain_function, priority=1, backend="default", queue_name="x", run_after=None)
    result = default_task_backend.enqueue(upstream, [1], {})
    assert row(result).name == f"{__name__}.plain_function"
    assert default_task_backend.get_result(result.id).task.func is plain_function


def test_aliases_keep_their_rows_apart() -> None:
    result = add.using(backend="other").enqueue(1, 2)
    assert (row(result).backend, result.backend) == ("other", "other")
    assert task_backends["other"].get_result(result.id).task.backend == "other"
    with pytest.raises(TaskResultDoesNotExist):
        default_task_backend.get_result(result.id)


@pytest.mark.parametrize("result_id", ["123", "", "x" * 100, "0190a0a0-0000-7000-8000-000000000000", None, 5, "\x00"])
def test_an_id_that_nobody_has_is_no_result(result_id: Any) -> None:
    with pytest.raises(TaskResultDoesNotExist):
        default_task_backend.get_result(result_id)
    assert not task_backends["default"].cancel(result_id)  # type: ignore[attr-defined]  # ours


def test_a_row_of_a_task_that_is_gone_says_so() -> None:
    result = add.enqueue(1, 2)
    TaskRecord.objects.update(name="tests.taskapp.tasks.of_yesterday")
    with pytest.raises(UnknownTask, match="leads to nothing"):
        result.refresh()


def test_what_is_written_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    logger = UpstreamTask.__module__.split(".base")[0]
    with caplog.at_level(logging.DEBUG, logger=logger):
        result = add.enqueue(1, 2)
    assert [record.getMessage() for record in caplog.records if result.id in record.getMessage()] == [
        f"Task id={result.id} path=tests.taskapp.tasks.add enqueued backend=default"
    ]


# --- signals


def test_an_enqueue_is_announced_once_with_its_result(announced: list[tuple[type, Any]]) -> None:
    result = add.enqueue(1, 2)
    assert announced == [(TaskqBackend, result)]
    assert announced[0][1] is result


def test_each_of_many_is_announced(announced: list[tuple[type, Any]]) -> None:
    results = add.enqueue_many([(1, 2), (3, 4)])
    assert announced == [(TaskqBackend, result) for result in results]


# --- many


def test_many_calls_become_as_many_rows_in_their_order() -> None:
    results = anything.enqueue_many([(), (1,), [2], ((3,), {"kw": 4}), ([], {"kw": 5})])
    calls = [([], {}), ([1], {}), ([2], {}), ([3], {"kw": 4}), ([], {"kw": 5})]
    assert [(result.args, result.kwargs) for result in results] == calls
    assert [record.call_arguments for record in TaskRecord.objects.order_by("pk")] == calls
    assert [result.id for result in results] == [str(record.pk) for record in TaskRecord.objects.order_by("pk")]
    assert {result.enqueued_at for result in results} == {row(results[0]).enqueued_at}
    assert [anything.get_result(result.id) for result in results] == results


def test_many_may_be_a_generator_or_none() -> None:
    assert len(anything.enqueue_many((number,) for number in range(2_500))) == 2_500
    assert TaskRecord.objects.count() == 2_500
    assert anything.enqueue_many([]) == []
    assert TaskRecord.objects.count() == 2_500


def test_many_have_the_options_of_one() -> None:
    later = full.using(run_after=30, queue_name="mail", max_attempts=9)
    for result in later.enqueue_many([(), ()]):
        assert (row(result).state, row(result).queue_name, row(result).metadata) == (
            "SCHEDULED",
            "mail",
            '{"source":"web"}',
        )


@pytest.mark.parametrize(
    ("calls", "error"),
    [
        ([(1, 2), (1, object())], TypeError),
        ([(1, 2), (1,)], TypeError),
        ([(1, 2), 3], TypeError),
        ([(1, 2), (1, float("nan"))], ValueError),
        (5, TypeError),
    ],
    ids=["no JSON", "arity", "no call", "no number", "no calls"],
)
def test_of_many_all_are_written_or_none(calls: Any, error: type[Exception], announced: list[tuple[type, Any]]) -> None:
    with pytest.raises(error):
        add.enqueue_many(calls)
    assert not TaskRecord.objects.exists()
    assert announced == []


# --- async


def test_enqueueing_from_a_coroutine() -> None:
    async def main() -> list[Any]:
        one = await add.aenqueue(1, right=2)
        many = await add.aenqueue_many([(3, 4), (5, 6)])
        await one.arefresh()
        assert await add.aget_result(one.id) == one
        assert await many[0].acancel()
        await many[0].arefresh()
        return [one, *many]

    results = async_to_sync(main)()
    assert [row(result).call_arguments for result in results] == [([1], {"right": 2}), ([3, 4], {}), ([5, 6], {})]
    assert [result.state for result in results] == [State.READY, State.CANCELLED, State.READY]


# --- later, and not later than


@pytest.mark.parametrize("delay", [timedelta(minutes=5), 300, 300.5], ids=repr)
def test_a_delay_is_counted_from_the_enqueue(delay: Any) -> None:
    result = anything.using(run_after=delay).enqueue()
    record = row(result)
    assert (record.state, result.state, result.status) == ("SCHEDULED", State.SCHEDULED, TaskResultStatus.READY)
    assert near(record.run_after, record.enqueued_at + timedelta(seconds=300))
    assert result.task.run_after == record.run_after
    assert anything.get_result(result.id) == result


def test_a_moment_is_kept_as_it_is() -> None:
    moment = datetime(2100, 3, 28, 2, 30, 0, 123456, UTC).astimezone()
    result = anything.using(run_after=moment).enqueue()
    assert (row(result).state, row(result).run_after) == ("SCHEDULED", moment)


@pytest.mark.parametrize("past", [datetime(2000, 1, 1, tzinfo=UTC), 0, timedelta(0)], ids=repr)
def test_what_is_due_already_is_ready(past: Any) -> None:
    result = anything.using(run_after=past).enqueue()
    assert row(result).state == "READY"


@pytest.mark.parametrize("expires", [60, timedelta(minutes=1)])
def test_expiry_is_counted_from_the_enqueue(expires: Any) -> None:
    record = row(anything.using(expires=expires).enqueue())
    assert near(record.expires_at, record.enqueued_at + timedelta(seconds=60))


def test_what_would_expire_before_it_is_due_is_refused() -> None:
    with pytest.raises(InvalidTask, match="it would never run"):
        anything.using(run_after=60, expires=30).enqueue()
    assert not TaskRecord.objects.exists()


# --- bad input


def circle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


BAD_ARGUMENTS: dict[str, tuple[Any, type[Exception], str]] = {
    "object": (object(), TypeError, "Unsupported type: <class 'object'>"),
    "set": ({1}, TypeError, "Unsupported type: <class 'set'>"),
    "datetime": (datetime.now(UTC), TypeError, "Unsupported type: <class 'datetime.datetime'>"),
    "key": ({(1,): 2}, TypeError, "Unsupported type"),
    "nan": (float("nan"), ValueError, "Unsupported value"),
    "infinity": ([float("inf")], ValueError, "Unsupported value"),
    "nul": ("a\x00b", ValueError, "NUL"),
    "surrogate": ({"a": "\ud800"}, ValueError, "surrogate"),
    "circle": (circle(), ValueError, "Circular"),
    "huge": (10**400, ValueError, "beyond the range"),
    "bytes": (b"\xff", ValueError, "Unsupported value"),
    "deep": (json.loads("[" * 300 + "]" * 300), ValueError, "nested more than 200 levels deep"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_arguments_that_cannot_be_stored_are_refused_and_named(name: str, announced: list[tuple[type, Any]]) -> None:
    value, error, said = BAD_ARGUMENTS[name]
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("argument 2 (counted from 1)", lambda: anything.enqueue("fine", value)),
        ("argument 'wrong'", lambda: anything.enqueue("fine", right=1, wrong=value)),
        ("argument 1 (counted from 1)", lambda: anything.enqueue_many([((value,), {})])),
    ]
    for where, call in calls:
        with pytest.raises(error) as refusal:
            call()
        assert said in str(refusal.value)
        assert where in str(refusal.value)
        assert f"{__name__}.anything" in str(refusal.value)
    assert not TaskRecord.objects.exists()
    assert announced == []


@pytest.mark.parametrize(
    ("made", "args", "kwargs", "said"),
    [
        (add, [], {}, "missing a required argument: 'left'"),
        (add, [1], {}, "missing a required argument: 'right'"),
        (add, [1, 2, 3], {}, "too many positional arguments"),
        (add, [1, 2], {"left": 3}, "multiple values for argument 'left'"),
        (add, [1, 2], {"wrong": 3}, "got an unexpected keyword argument 'wrong'"),
        (with_context, [], {}, "missing a required argument: 'order'"),
        (with_context, [1, 2], {}, "too many positional arguments"),
        (with_context, [1], {"context": 2}, "multiple values for argument 'context'"),
    ],
    ids=lambda value: value.name if isinstance(value, Task) else str(value),
)
def test_arguments_that_do_not_fit_are_refused(made: Task, args: list[Any], kwargs: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=f"^{made.module_path}: {said}"):
        made.enqueue(*args, **kwargs)
    with pytest.raises(TypeError, match=f"^{made.module_path}: {said}"):
        made.enqueue_many([(args, kwargs)])
    assert not TaskRecord.objects.exists()


def test_the_context_is_not_the_callers_to_give() -> None:
    assert row(with_context.enqueue(1, note="x")).call_arguments == ([1], {"note": "x"})


@pytest.mark.parametrize("year", [1, 1000, 9999])
def test_years_that_no_database_keeps_are_refused(year: int) -> None:
    moment = datetime(year, 6, 1, tzinfo=UTC)
    for option, made in (
        ("run_after", anything.using(run_after=moment)),
        ("expires", anything.using(expires=moment)),
    ):
        with pytest.raises(InvalidTask, match=f"{option}=.*must be in the years"):
            made.enqueue()
    assert not TaskRecord.objects.exists()


@pytest.mark.parametrize("moment", [datetime(1001, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, 23, 59, 59, 999999, UTC)])
def test_years_that_all_databases_keep_are_kept(moment: datetime) -> None:
    assert row(anything.using(run_after=moment).enqueue()).run_after == moment


def test_a_backoff_function_belongs_to_the_task() -> None:
    with pytest.raises(InvalidTask, match="a function cannot be given per call"):
        anything.using(backoff=slowly).enqueue()
    assert not TaskRecord.objects.exists()


def test_a_queue_the_settings_do_not_name_is_refused_when_the_settings_have_changed(settings: Settings) -> None:
    mail = anything.using(queue_name="mail")
    settings.TASKS = {"default": {**OURS, "QUEUES": ["default"]}}
    with pytest.raises(InvalidTask, match="Queue 'mail' is not valid for backend"):
        mail.enqueue()
    with pytest.raises(InvalidTask, match="Queue 'mail' is not valid for backend"):
        mail.enqueue_many([()])
    assert not TaskRecord.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "enqueue", [lambda: add.enqueue(1, 2), lambda: add.enqueue_many([(1, 2)])], ids=["one", "many"]
)
def test_a_broken_transaction_refuses_and_nothing_is_lost(enqueue: Callable[[], Any]) -> None:
    with transaction.atomic():
        Note.objects.create(text="in the same transaction")
        with pytest.raises(DatabaseError), transaction.atomic(savepoint=False), connection.cursor() as cursor:
            cursor.execute("SELECT no_such_column FROM taskapp_note")
        with pytest.raises(TransactionManagementError):
            enqueue()
    assert not Note.objects.exists()
    assert not TaskRecord.objects.exists()
    enqueue()
    assert TaskRecord.objects.count() == 1


# --- cancel


def test_who_holds_the_result_can_cancel() -> None:
    result = note.enqueue("never")
    assert result.cancel()
    assert not result.cancel()
    result.refresh()
    assert (result.state, result.status, result.is_finished) == (State.CANCELLED, TaskResultStatus.FAILED, True)


def test_what_is_gone_cannot_be_cancelled_or_refreshed() -> None:
    result = note.enqueue("never")
    TaskRecord.objects.all().delete()
    assert not result.cancel()
    with pytest.raises(TaskResultDoesNotExist):
        result.refresh()


def test_the_callers_arguments_stay_its_own() -> None:
    args, kwargs = [1, [2]], {"a": {"b": 3}}
    result = anything.enqueue(*args, **kwargs)
    assert (result.args, result.kwargs) == (args, kwargs)
    args[1].append(4)  # type: ignore[attr-defined]  # a list
    kwargs["a"]["c"] = 5
    assert (result.args, result.kwargs) == ([1, [2]], {"a": {"b": 3}})


@pytest.mark.parametrize(
    ("given", "expected"),
    [((1, 2), [1, 2]), (b"a", "a"), ({"x": (b"y",)}, {"x": ["y"]}), (True, True), (None, None), (1.5, 1.5), ([], [])],
)
def test_arguments_are_shown_as_json_has_them(given: Any, expected: Any) -> None:
    result = anything.enqueue(given, 0, key=given)
    assert result.args == [expected, 0]
    assert result.kwargs == {"key": expected}


@pytest.mark.parametrize("status", TaskResultStatus)
def test_a_task_has_ended_when_upstream_says_so(status: TaskResultStatus) -> None:
    result = add.enqueue(1, 2)
    object.__setattr__(result, "status", status)
    assert result.is_finished is UpstreamResult.is_finished.fget(result)  # type: ignore[attr-defined]  # a property
