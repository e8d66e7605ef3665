"""From a task's name to the task: the only way from stored text to code.

A name that is not registered yet is taken as a path, and only in modules of installed apps or of
``OPTIONS["imports"]``; what is found there must be a task. Nothing else is imported or called.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

from django.apps import apps

from .compat import Task, UpstreamTask
from .exceptions import OptionError, UnknownTask

_tasks: dict[str, UpstreamTask] = {}
_coroutines: frozenset[str] = frozenset()


def registered_name(task: UpstreamTask) -> str:
    """The name rows and messages know a task by."""
    return getattr(task, "registered_name", "") or task.module_path


def register(task: UpstreamTask) -> None:
    """Make a task known under its name and aliases.

    The first definition of a function stays: variants made by ``using()`` are the same task. A
    reloaded module's new function takes its place. Raises ``OptionError`` when the name is taken
    by another function.
    """
    for name in (registered_name(task), *getattr(task, "aliases", ())):
        known = _tasks.get(name)
        if known is None or (known.func is not task.func and known.module_path == task.module_path):
            _know(name, task)
        elif known.module_path != task.module_path:
            raise OptionError(f"name={name!r} is taken by {known.module_path}; give {task.module_path} another one.")


def _know(name: str, task: UpstreamTask) -> None:
    global _coroutines  # noqa: PLW0603  # replaced as a whole, so that readers need no lock
    _tasks[name] = task
    changed = _coroutines | {name} if inspect.iscoroutinefunction(task.func) else _coroutines - {name}
    if changed != _coroutines:
        _coroutines = changed


def lookup(name: str) -> UpstreamTask | None:
    """The registered task of this name, or None."""
    return _tasks.get(name)


def task_names() -> list[str]:
    """Names and aliases of the registered tasks."""
    return list(_tasks)


def tasks() -> list[UpstreamTask]:
    """The registered tasks; those with aliases more than once."""
    return list(_tasks.values())


def coroutine_names() -> frozenset[str]:
    """Names of the registered ``async def`` tasks; the same object until another is registered."""
    return _coroutines


def resolve(name: str, imports: Sequence[str] = ()) -> UpstreamTask:
    """The task of this name; imports its module if that is allowed. Raises ``UnknownTask`` with the reason."""
    known = _tasks.get(name)
    if known is not None:
        return known
    module_name, _, attribute = name.rpartition(".")
    if not module_name or not _may_import(module_name, imports):
        raise UnknownTask(
            f"No task is named {name!r}. It is not registered here, and its path is not inside an installed app "
            "or OPTIONS['imports']. Was it renamed (then give it an alias), or does this worker run older code?"
        )
    try:
        found = getattr(import_module(module_name), attribute, None)
    except (Exception, SystemExit) as error:
        raise UnknownTask(f"No task is named {name!r}: importing {module_name} failed with {error!r}.") from error
    known = _tasks.get(name)
    if known is not None:
        return known
    if not isinstance(found, Task):
        what = "nothing" if found is None else f"a {type(found).__name__}"
        raise UnknownTask(f"No task is named {name!r}: its path leads to {what}, not to a task.")
    if registered_name(found) != name:
        raise UnknownTask(f"No task is named {name!r}: the task at that path is named {registered_name(found)!r}.")
    register(found)
    return found


@lru_cache(maxsize=4096)
def signature(func: Callable[..., Any]) -> inspect.Signature:
    """``inspect.signature``, which costs more than the rest of an enqueue."""
    return inspect.signature(func)


@lru_cache(maxsize=4096)
def positional(func: Callable[..., Any]) -> tuple[int, int]:
    """How many positional arguments, and no others, a function can be called with: at least, at most.

    Binding them takes longer than encoding them, and what it finds out is this.
    """
    least = most = 0
    for parameter in signature(func).parameters.values():
        is_needed = parameter.default is parameter.empty
        if parameter.kind is parameter.VAR_POSITIONAL:
            most = sys.maxsize
        elif parameter.kind is parameter.KEYWORD_ONLY:
            if is_needed:
                return 1, 0
        elif parameter.kind is not parameter.VAR_KEYWORD:
            least += is_needed
            most += 1
    return least, most


def _may_import(module_name: str, imports: Sequence[str]) -> bool:
    allowed = [config.name for config in apps.get_app_configs()]
    return any(module_name == root or module_name.startswith(f"{root}.") for root in (*allowed, *imports))
