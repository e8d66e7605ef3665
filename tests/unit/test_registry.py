"""From a task's name to the task."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from django_taskq import UnknownTask, registry, task
from django_taskq.compat import InvalidTask
from django_taskq.compat import Task as UpstreamTask
from tests.taskapp import tasks


@pytest.fixture(autouse=True)
def _forget_what_tests_register(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_tasks", dict(registry._tasks))
    monkeypatch.setattr(registry, "_coroutines", registry._coroutines)


@pytest.fixture
def make_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a function from source to the name of a module that can be imported, and is not yet."""
    monkeypatch.syspath_prepend(tmp_path)
    names: list[str] = []

    def make(source: str) -> str:
        names.append(f"jobs_{len(names)}_of_{tmp_path.name.replace('-', '_')}")
        (tmp_path / f"{names[-1]}.py").write_text(source)
        return names[-1]

    yield make
    for name in names:
        sys.modules.pop(name, None)


def function() -> None:
    """Be a task of many names."""


def other_function() -> None:
    """Be another."""


def test_a_task_is_found_by_its_path() -> None:
    assert registry.resolve("tests.taskapp.tasks.add") is tasks.add
    assert registry.lookup("tests.taskapp.tasks.add") is tasks.add
    assert registry.registered_name(tasks.add) == "tests.taskapp.tasks.add"


def test_a_task_with_a_name_is_found_by_that_alone() -> None:
    named = task(name="shop.send")(function)
    assert registry.resolve("shop.send") is named
    assert registry.lookup(f"{__name__}.function") is None


def test_a_task_is_found_by_its_old_names() -> None:
    moved = task(name="new", aliases=["old", "older"])(function)
    assert registry.resolve("old") is registry.resolve("older") is registry.resolve("new") is moved


def test_the_same_task_with_other_options_is_no_other_task() -> None:
    known = registry.resolve("tests.taskapp.tasks.add")
    tasks.add.using(priority=5, max_attempts=3)
    assert registry.resolve("tests.taskapp.tasks.add") is known


def test_a_name_belongs_to_one_function() -> None:
    task(name="taken")(function)
    with pytest.raises(InvalidTask, match=r"name='taken' is taken by .*\.function; give .*\.other_function another"):
        task(name="taken")(other_function)
    with pytest.raises(InvalidTask, match="name='taken' is taken"):
        task(name="free", aliases=["taken"])(other_function)


def test_a_reloaded_function_takes_its_own_place(make_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name = make_module("from django_taskq import task\n@task\ndef job(): pass\n")
    first = registry.resolve(f"{name}.job", [name])
    del sys.modules[name]
    registry._tasks.pop(f"{name}.job")
    second = registry.resolve(f"{name}.job", [name])
    assert second is not first
    registry.register(first)
    assert registry.resolve(f"{name}.job") is first


def test_a_task_of_upstreams_own_class_has_its_path_for_a_name() -> None:
    upstream: Any = UpstreamTask(func=function, priority=0, backend="default", queue_name="default", run_after=None)
    assert registry.registered_name(upstream) == f"{__name__}.function"
    registry.register(upstream)
    assert registry.resolve(f"{__name__}.function") is upstream


def test_a_task_that_is_not_registered_yet_is_found_in_an_installed_app() -> None:
    registry._tasks.pop("tests.taskapp.tasks.add")
    assert registry.resolve("tests.taskapp.tasks.add") is tasks.add


def test_a_module_of_imports_is_imported_when_it_is_needed(make_module: Any) -> None:
    name = make_module("from django_taskq import task\n@task\ndef job(): return 42\n")
    with pytest.raises(UnknownTask, match="not inside an installed app"):
        registry.resolve(f"{name}.job")
    assert name not in sys.modules
    assert registry.resolve(f"{name}.job", [name]).call() == 42


@pytest.mark.parametrize(
    "name",
    [
        "",
        "job",
        ".job",
        "..job",
        "os.system",
        "subprocess.run",
        "builtins.eval",
        "tests.taskapplication.tasks.job",
        "tests.acceptance.process.Process",
        "a\x00b.c",
        "x" * 10_000,
        "ä.ö",
    ],
    ids=lambda name: ascii(name)[:20],
)
def test_nothing_outside_is_imported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(module: str) -> ModuleType:
        raise AssertionError(f"{module} was imported")

    monkeypatch.setattr(registry, "import_module", refuse)
    with pytest.raises(UnknownTask, match="No task is named"):
        registry.resolve(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tests.taskapp.tasks.nothing", "leads to nothing"),
        ("tests.taskapp.tasks.Note", "leads to a ModelBase"),
        ("tests.taskapp.tasks.os", "leads to a module"),
        ("tests.taskapp.tasks.add.func", "importing tests.taskapp.tasks.add failed"),
        ("tests.taskapp.missing.job", "importing tests.taskapp.missing failed with ModuleNotFoundError"),
        ("tests.taskapp..tasks.add", "importing tests.taskapp..tasks failed"),
        ("django.contrib.auth.hashers.make_password", "leads to a function"),
    ],
)
def test_what_is_no_task_is_never_called(name: str, reason: str) -> None:
    with pytest.raises(UnknownTask) as refusal:
        registry.resolve(name)
    assert reason in str(refusal.value)


def test_the_path_of_a_task_with_another_name_is_no_name() -> None:
    module: Any = sys.modules[__name__]
    module.renamed = task(name="shop.renamed")(function)
    try:
        with pytest.raises(UnknownTask, match=r"the task at that path is named 'shop\.renamed'"):
            registry.resolve(f"{__name__}.renamed", [__name__])
    finally:
        del module.renamed


@pytest.mark.parametrize("problem", ["1 / 0", "raise SystemExit(3)", "def (", "import nothing_of_this_name"])
def test_a_module_that_does_not_import_says_why(make_module: Any, problem: str) -> None:
    name = make_module(problem)
    with pytest.raises(UnknownTask, match=f"importing {name} failed with") as refusal:
        registry.resolve(f"{name}.job", [name])
    assert refusal.value.__cause__ is not None


def test_coroutines_are_known_by_all_their_names() -> None:
    names = registry.coroutine_names()
    assert "tests.taskapp.tasks.asleep" in names
    assert "tests.taskapp.tasks.sleep" not in names
    assert set(names) <= set(registry.task_names())


@pytest.mark.parametrize(
    "function",
    [
        lambda: None,
        lambda a: a,
        lambda a, b=1: (a, b),
        lambda a=1, b=2: (a, b),
        lambda a, /, b, *, c=3: (a, b, c),
        lambda a, *, c: (a, c),
        lambda *args: args,
        lambda a, b=1, *args, c=3, **kwargs: (a, b, args, c, kwargs),
        lambda *args, c: (args, c),
        lambda **kwargs: kwargs,
    ],
    ids=lambda function: str(inspect.signature(function)),
)
def test_positional_arguments_fit_as_binding_them_finds(function: Callable[..., Any]) -> None:
    least, most = registry.positional(function)
    for count in range(6):
        try:
            registry.signature(function).bind(*range(count))
        except TypeError:
            assert not least <= count <= most
        else:
            assert least <= count <= most
