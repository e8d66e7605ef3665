"""``OPTIONS["routes"]``: which queue a task goes to that names none itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from django.utils.module_loading import import_string

from .core.options import nearest
from .core.queues import MAX_QUEUE_NAME
from .exceptions import OptionError
from .option_values import OptionsError, path_of, refuse

#: ``(task_name, args, kwargs) -> queue name``, or None to leave the task where it is.
Router: TypeAlias = Callable[[str, Sequence[Any], Mapping[str, Any]], "str | None"]
#: Pairs of a pattern and a queue's name; or a router, or where to find it.
Routes: TypeAlias = "tuple[tuple[str, str], ...] | Router | str"

_EXAMPLE = "For example {'shop.mail.*': 'mail'}, or the path of a function (task_name, args, kwargs) -> name or None."


def parse_routes(key: str, value: Any) -> Routes:
    """From a dict, a list of pairs, a function or a dotted path. Raises ``OptionsError``; imports nothing."""
    if isinstance(value, str):
        if "." not in value or not all(part.isidentifier() for part in value.split(".")):
            raise OptionsError(key, f"{path_of(key)}={value!r} is not the path of a function.", _EXAMPLE)
        return value
    if callable(value) and not isinstance(value, type):
        return value  # type: ignore[no-any-return]  # what it returns is looked at when it is called
    if isinstance(value, Mapping):
        return tuple(_pair((key, pattern), pattern, name) for pattern, name in value.items())
    if isinstance(value, list | tuple):
        return tuple(_item((key, index), item) for index, item in enumerate(value))
    raise OptionsError(key, f"{path_of(key)} cannot be a {type(value).__name__}.", _EXAMPLE)


def route(
    routes: Routes,
    task_name: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    allowed: Collection[str] = (),
) -> str | None:
    """The queue for a task that names none, or None where no route says anything.

    ``task_name``: the registered one. The first pattern that matches decides. ``allowed``: the alias's ``QUEUES``;
    empty: any. Raises ``OptionError`` for a router that fails or gives what is no name of a queue.
    """
    if isinstance(routes, tuple):
        return next((name for pattern, name in routes if fnmatchcase(task_name, pattern)), None)
    router, where = _router(routes)
    try:
        found = router(task_name, args, {} if kwargs is None else kwargs)
    except Exception as error:
        raise OptionError(f"{where} failed for the task {task_name}: {type(error).__name__}: {error}") from error
    if found is None:
        return None
    if not is_queue_name(found):
        raise OptionError(
            f"{where} gave {found!r} for the task {task_name}: give a queue's name of 1 to {MAX_QUEUE_NAME} characters, or None."
        )
    if allowed and found not in allowed:
        raise OptionError(
            f"{where} gave the queue {found!r} for the task {task_name}, which QUEUES does not have"
            f"{nearest(found, allowed) or '.'}"
        )
    return str(found)


def queues_of(routes: Routes) -> list[str]:
    """The queues that patterns lead to, each once; none that only a function knows."""
    return list(dict.fromkeys(name for _, name in routes)) if isinstance(routes, tuple) else []


def load_router(routes: Routes) -> None:
    """Import a router that is given by its path, so that a check can tell of a wrong one. Raises ``OptionError``."""
    if not isinstance(routes, tuple):
        _router(routes)


def is_queue_name(value: object) -> bool:
    """Whether this can be the name of a queue."""
    return isinstance(value, str) and 0 < len(value) <= MAX_QUEUE_NAME and "\0" not in value


def _router(routes: Router | str) -> tuple[Router, str]:
    """A router and how errors call it."""
    if not isinstance(routes, str):
        name = getattr(routes, "__qualname__", type(routes).__name__)
        return routes, f"{path_of('routes')}: the function {getattr(routes, '__module__', '?')}.{name}"
    try:
        # Looked up anew each time, which costs little: a reloaded module's new function takes its place.
        router = import_string(routes)
    except Exception as error:
        raise OptionError(f"{path_of('routes')}: {routes!r} cannot be imported: {error}") from error
    if not callable(router):
        raise OptionError(f"{path_of('routes')}: {routes!r} is a {type(router).__name__}, not a function.")
    return router, f"{path_of('routes')}: {routes}"


def _item(path: tuple[object, ...], item: Any) -> tuple[str, str]:
    if not isinstance(item, list | tuple) or len(item) != 2:
        raise refuse(path, f" must be a pair of a pattern and a queue's name, not {item!r}.", _EXAMPLE)
    return _pair(path, *item)


def _pair(path: tuple[object, ...], pattern: Any, name: Any) -> tuple[str, str]:
    if not isinstance(pattern, str) or not pattern:
        raise refuse(
            path, f": the pattern {pattern!r} is not text.", f"* and ? match within names of tasks. {_EXAMPLE}"
        )
    if isinstance(name, Mapping):
        raise refuse(path, " is a dict.", "Write the queue's name alone; exchanges and keys are said under 'queues'.")
    if not is_queue_name(name):
        raise refuse(path, f"={name!r} is not a queue's name.", f"Names have 1 to {MAX_QUEUE_NAME} characters.")
    return pattern, name
