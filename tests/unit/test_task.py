"""The task: a function with options, and the verbs on it. Enqueueing has tests of its own, with a database."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from django_taskq import Task, exponential, fixed, registry, task
from django_taskq.compat import InvalidTask, InvalidTaskBackend
from django_taskq.compat import Task as UpstreamTask
from django_taskq.core.retry import Delays
from django_taskq.definition import MAX_NAME, _call
from django_taskq.exceptions import OptionError
from tests.naming import shown
from tests.taskapp import tasks

if TYPE_CHECKING:
    from pytest_django import Settings

SOON = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _forget_what_tests_register(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_tasks", dict(registry._tasks))
    monkeypatch.setattr(registry, "_coroutines", registry._coroutines)


@pytest.fixture(autouse=True)
def _any_queue(settings: Settings) -> None:
    settings.TASKS = {"default": {"BACKEND": "django_taskq.TaskqBackend", "QUEUES": []}}


def function(a: int = 1, b: int = 2) -> int:
    """Have a docstring."""
    return a + b


async def coroutine(a: int = 1) -> int:
    return a


def with_context(context: Any, a: int = 1) -> int:
    return a


def make_local() -> Any:
    def local() -> None:
        """Be out of reach."""

    return local


lambdas = [lambda: 1, lambda: 2]


def slow_down(exception: BaseException, task_result: object) -> float:
    return 1.0


@task
def bare() -> str:
    return "called"


@task(
    max_attempts=3,
    backoff=[1, 2],
    retry_on=ValueError,
    sensitive="b",
    metadata={"a": 1},
    expires=60,
    aliases="full_in_old_times",
)
def full(a: int, b: int = 0) -> int:
    return a + b


# --- what the decorator makes


@pytest.mark.parametrize("decorator", [task, task(), task(priority=5, queue_name="mail")], ids=["bare", "()", "(…)"])
def test_the_decorator_makes_an_upstream_task(decorator: Any) -> None:
    made = decorator(function)
    assert isinstance(made, UpstreamTask)
    assert isinstance(made, Task)
    assert made.func is function
    assert made.name == "function"
    assert made.registered_name == made.module_path == f"{__name__}.function"


def test_options_are_fields_in_one_form_and_together() -> None:
    assert full.max_attempts == full.options.max_attempts == 3
    assert full.backoff == full.options.backoff == Delays((1.0, 2.0))
    assert full.retry_on == ("builtins.ValueError",)
    assert full.options.retry_on == frozenset({"builtins.ValueError"})
    assert full.sensitive == ("b",)
    assert full.metadata == {"a": 1}
    assert full.options.expires == 60
    assert full.aliases == ("full_in_old_times",)


def test_a_task_can_be_named() -> None:
    named = task(name="shop.send_mail")(function)
    assert named.name == named.registered_name == "shop.send_mail"
    assert named.module_path == f"{__name__}.function"


def test_upstreams_decorator_makes_the_same_class() -> None:
    from django_taskq import compat

    upstream = __import__(compat.Task.__module__.rsplit(".", 1)[0], fromlist=["task"]).task
    assert type(upstream(function)) is Task
    assert upstream(function) == task(function)


def test_a_task_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        bare.priority = 5  # type: ignore[misc]  # the mistake under test


def test_equal_tasks_are_equal_however_their_options_were_written() -> None:
    one = task(retry_on=[ValueError, KeyError], backoff=5, sensitive={"b", "a"})(function)
    other = task(retry_on=("builtins.KeyError", ValueError), backoff=fixed(5), sensitive=["a", "b"])(function)
    assert one == other
    assert hash(one) == hash(other)
    assert one != task(function)


@pytest.mark.parametrize(
    "given",
    [bare, full, full.using(priority=5, run_after=SOON, backoff=exponential(2))],
    ids=["bare", "full", "variant"],
)
def test_a_task_survives_pickling(given: Task) -> None:
    again = pickle.loads(pickle.dumps(given))
    assert again == given
    assert type(again) is Task
    assert again.options == given.options
    assert again.registered_name == given.registered_name


@pytest.mark.parametrize("path", ["does.not.exist", "os.path.join", f"{__name__}.function"])
def test_only_tasks_are_unpickled(path: str) -> None:
    with pytest.raises(ValueError, match=f"Expected '{path}' to point to a Task instance"):
        Task._reconstruct({"func": path})


# --- calling it


def test_calling_a_task_calls_the_function() -> None:
    assert bare() == bare.call() == "called"
    assert full(1, b=2) == full.call(1, b=2) == 3
    assert asyncio.run(full.acall(1, b=2)) == 3


def test_calling_an_async_task_gives_what_the_function_gives() -> None:
    made = task(coroutine)
    assert asyncio.run(made(7)) == 7
    assert made.call(7) == 7


# --- variants of a task


def test_enqueue_is_upstreams_own_since_tools_that_trace_patch_it_there() -> None:
    for name in ("enqueue", "aenqueue", "get_result", "aget_result"):
        assert getattr(Task, name) is getattr(UpstreamTask, name)


def test_using_makes_another_task_and_leaves_the_first() -> None:
    changed = bare.using(priority=5, queue_name="mail", run_after=SOON, max_attempts=3, acks_late=False)
    assert (changed.priority, changed.queue_name, changed.run_after) == (5, "mail", SOON)
    assert (changed.max_attempts, changed.options.max_attempts) == (3, 3)
    assert not changed.options.acks_late
    assert (bare.priority, bare.queue_name, bare.run_after, bare.max_attempts) == (0, "default", None, None)
    assert type(changed) is Task


def test_using_nothing_makes_an_equal_task() -> None:
    assert full.using() == full
    assert full.using() is not full


def test_using_adds_up() -> None:
    changed = full.using(priority=5).using(queue_name="mail").using(max_attempts=9)
    assert (changed.priority, changed.queue_name, changed.max_attempts) == (5, "mail", 9)
    assert changed.options.sensitive == full.options.sensitive
    assert changed.registered_name == full.registered_name


def test_a_named_task_keeps_its_name() -> None:
    named = task(name="shop.send_mail")(function).using(priority=5)
    assert named.registered_name == "shop.send_mail"


@pytest.mark.parametrize("run_after", [SOON, timedelta(minutes=5), 300, 0, 0.5], ids=repr)
def test_run_after_is_a_moment_or_a_delay(run_after: Any) -> None:
    assert bare.using(run_after=run_after).run_after == run_after


# --- mistakes


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("max_atempts", "did you mean 'max_attempts'?"),
        ("queue", "has no option 'queue'; did you mean 'queue_name'?"),
        ("countdown", "has no option 'countdown'"),
        ("func", "has no option 'func'"),
        ("options", "has no option 'options'"),
        ("registered_name", "has no option 'registered_name'"),
    ],
)
def test_an_unknown_option_is_a_type_error_with_the_nearest(option: str, said: str) -> None:
    given: dict[str, Any] = {option: 1}
    for where in (lambda: task(**given), lambda: bare.using(**given)):
        with pytest.raises(TypeError) as refusal:
            where()
        assert said in str(refusal.value)


@pytest.mark.parametrize("option", ["name", "aliases", "takes_context"])
def test_what_belongs_to_the_function_cannot_be_changed_for_a_call(option: str) -> None:
    given: dict[str, Any] = {option: "x"}
    with pytest.raises(TypeError, match=rf"using\(\) has no option '{option}'"):
        bare.using(**given)


def test_run_after_belongs_to_the_call_alone() -> None:
    with pytest.raises(TypeError, match="run_after cannot be defined statically with the @task decorator"):
        task(run_after=SOON)  # type: ignore[call-overload]  # the mistake under test


@pytest.mark.parametrize(
    ("given", "said"),
    [
        *(({"priority": value}, "priority must be a whole number between -100 and 100") for value in (-101, 101, 1.0)),
        *(({"priority": value}, "priority must be a whole number") for value in ("5", True, 3.1)),
        *(({"queue_name": value}, "queue_name=") for value in ("", "q" * 129, 5, "a\x00b", "\ud800", b"mail")),
        ({"run_after": datetime(2100, 1, 1)}, "run_after must be an aware datetime"),  # noqa: DTZ001  # the mistake
        *(({"run_after": value}, "run_after=") for value in (-1, timedelta(-1), float("nan"), "tomorrow", True)),
        ({"expires": datetime(2100, 1, 1)}, "expires must be an aware datetime"),  # noqa: DTZ001  # the mistake
        *(({"expires": value}, "expires=") for value in (-1, "tomorrow", True)),
        *(({"max_attempts": value}, "max_attempts=") for value in (0, -1, 1.5, "3", True)),
        ({"max_deliveries": 0}, "max_deliveries=0"),
        ({"backoff": "soon"}, "backoff='soon'"),
        ({"retry_on": [int]}, "retry_on="),
        ({"metadata": {"a": object()}}, "metadata: Unsupported type"),
        ({"sensitive": [["a"]]}, "sensitive="),
        ({"record": "no"}, "record='no'"),
    ],
    ids=shown,
)
def test_a_value_that_cannot_be_is_an_invalid_task(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidTask) as refusal:
        bare.using(**given)
    assert said in str(refusal.value)
    if "run_after" not in given:
        with pytest.raises(InvalidTask) as refusal:
            task(**given)(function)
        assert said in str(refusal.value)


@pytest.mark.parametrize("given", [{"name": "n" * (MAX_NAME + 1)}, {"name": "a\x00"}, {"aliases": [""]}], ids=repr)
def test_a_name_that_cannot_be_stored_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidTask, match="a task's name is text of 1 to 255 characters"):
        task(**given)(function)


@pytest.mark.parametrize("wrong", [any, partial(function), print, int, make_local()], ids=shown)
def test_only_functions_of_a_module_are_tasks(wrong: Any) -> None:
    with pytest.raises(InvalidTask, match="Task function must be defined at a module level"):
        task(wrong)


def test_a_lambda_needs_a_name() -> None:
    made = task(name="shop.constant")(lambdas[0])
    assert made.call() == 1
    with pytest.raises(InvalidTask, match="A lambda has no name to find it by"):
        task(lambdas[0])


def test_the_context_must_be_the_first_argument() -> None:
    assert task(takes_context=True)(with_context).takes_context
    with pytest.raises(InvalidTask, match="first argument of 'context'"):
        task(takes_context=True)(function)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(InvalidTaskBackend, match="unknown"):
        bare.using(backend="unknown")


def test_a_queue_that_the_settings_do_not_name_is_refused(settings: Settings) -> None:
    settings.TASKS = {"default": {"BACKEND": "django_taskq.TaskqBackend", "QUEUES": ["default", "mail"]}}
    assert bare.using(queue_name="mail").queue_name == "mail"
    with pytest.raises(InvalidTask, match="Queue 'slow' is not valid for backend"):
        bare.using(queue_name="slow")


def test_naive_moments_are_local_time_without_use_tz(settings: Settings) -> None:
    settings.USE_TZ = False
    naive = datetime(2100, 1, 1)  # noqa: DTZ001  # what such projects have
    changed = bare.using(run_after=naive, expires=naive)
    assert changed.run_after == changed.expires == naive


# --- other backends


def upstream_backend(name: str) -> str:
    return f"{UpstreamTask.__module__.rsplit('.', 1)[0]}.backends.{name.lower()}.{name}Backend"


def test_our_tasks_run_on_upstreams_own_backends(settings: Settings) -> None:
    ours = {"BACKEND": "django_taskq.TaskqBackend"}
    settings.TASKS = {"default": ours, "now": {"BACKEND": upstream_backend("Immediate")}}
    result = tasks.add.using(backend="now").enqueue(1, 2)
    assert result.return_value == 3
    results = tasks.add.using(backend="now").enqueue_many([(1, 2), ((3,), {"right": 4})])
    assert [result.return_value for result in results] == [3, 7]


def test_a_delay_is_a_moment_for_upstreams_own_backends(settings: Settings) -> None:
    settings.TASKS = {"default": {"BACKEND": upstream_backend("Dummy")}}
    before = datetime.now(UTC)
    run_after = bare.using(run_after=timedelta(hours=1)).run_after
    assert isinstance(run_after, datetime)
    assert timedelta(hours=1) <= run_after - before < timedelta(hours=1, minutes=1)


# --- calls of enqueue_many


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ((), ([], {})),
        ((1,), ([1], {})),
        ([1, 2], ([1, 2], {})),
        (((1,), {"b": 2}), ([1], {"b": 2})),
        (([], {}), ([], {})),
        ((1, {"b": 2}), ([1, {"b": 2}], {})),
        (((1,), (2,)), ([(1,), (2,)], {})),
        (range(2), ([0, 1], {})),
    ],
    ids=repr,
)
def test_a_call_is_positional_arguments_or_a_pair(call: Any, expected: Any) -> None:
    assert _call(call) == expected


@pytest.mark.parametrize(
    "call", [1, "ab", b"ab", None, {"b": 2}, {1, 2}, pytest.param(iter([1]), id="iterator")], ids=repr
)
def test_anything_else_is_no_call(call: Any) -> None:
    with pytest.raises(TypeError, match=r"enqueue_many\(\) takes a sequence of arguments per call"):
        _call(call)


def test_the_errors_of_options_are_ours_and_pythons() -> None:
    with pytest.raises(InvalidTask) as refusal:
        bare.using(max_attempts=0)
    assert isinstance(refusal.value.__cause__, OptionError)
