"""What of a row may be seen: what a task calls sensitive may not, nor what Django's error reports hide by its name."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import Parameter
from typing import Any

from .aliases import taskq_backends
from .core import codec
from .core.sensitive import hidden_texts, hide_all, hide_keys, hide_texts
from .exceptions import UnknownTask
from .hiding import is_hidden_name, seen_arguments
from .models import TaskRecord
from .registry import resolve, signature

#: what decoding raises for a row that is not as this package writes rows
SPOILT = (TypeError, ValueError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One row, as it may be seen.

    ``arguments``: without what is sensitive; None where they cannot be read. ``is_known``: whether the task's code is
    here; where it is not, nobody knows what is sensitive, and all of them are hidden. ``is_open``: nothing is sensitive.
    """

    arguments: dict[str, Any] | None
    is_known: bool
    is_open: bool
    secrets: frozenset[str] = frozenset()
    parameters: tuple[str, ...] = ()

    def text(self, text: str) -> str:
        """A text without what is hidden in the arguments: messages, tracebacks and log lines may repeat them."""
        return hide_texts(text, self.secrets) if self.secrets else text

    def value(self, value: object) -> object:
        """A JSON value without what is hidden by its name."""
        return hide_keys(value, is_hidden_name)


def sight_of(record: TaskRecord) -> Sight:
    """What may be seen of a row."""
    known = sensitive_of(record)
    parameters = () if known is None else tuple(one.name for one in known[1])
    try:
        args, kwargs = record.call_arguments
    except SPOILT:
        return Sight(arguments=None, is_known=known is not None, is_open=known is not None and not known[0])
    if known is None:
        seen: Any = hide_all(args, kwargs)
    else:
        seen = seen_arguments(args, kwargs, *known)
    secrets = hidden_texts([args, kwargs], list(seen))
    return Sight(
        arguments={"args": seen[0], "kwargs": seen[1]},
        is_known=known is not None,
        is_open=known is not None and not known[0],
        secrets=frozenset(secrets),
        parameters=parameters,
    )


def sensitive_of(record: TaskRecord) -> tuple[frozenset[str], list[Parameter]] | None:
    """What the task, or this call of it, calls sensitive, and the parameters; None where its code is not here."""
    imports = [
        name for backend in taskq_backends() if backend.alias == record.backend for name in backend.config.imports
    ]
    try:
        # Not only what is registered yet: a web process need not have imported every task.
        task = resolve(record.name, imports)
        called = codec.decode(record.options or "{}")
    except (UnknownTask, *SPOILT):
        return None
    names = getattr(getattr(task, "options", None), "sensitive", frozenset[str]())
    of_call = called.get("sensitive") if isinstance(called, dict) else None
    if isinstance(of_call, list):
        names |= {str(name) for name in of_call}
    parameters = list(signature(task.func).parameters.values())
    return names, parameters[1:] if task.takes_context else parameters


def visible_arguments(record: TaskRecord) -> dict[str, Any] | None:
    """Positional and keyword arguments without what is sensitive; None where they cannot be read."""
    return sight_of(record).arguments


def argument_at(sight: Sight, path: str) -> object:
    """The argument, or a part of one, of this path, as text; None where there is none, or it is hidden.

    ``path``: a name or a position, then keys and positions within, with dots between.
    """
    if sight.arguments is None:
        return None
    first, *rest = path.split(".")
    args, kwargs = sight.arguments["args"], sight.arguments["kwargs"]
    by_position = dict(zip(sight.parameters, args, strict=False)) | {str(index): one for index, one in enumerate(args)}
    value = (by_position | kwargs).get(first)
    for step in rest:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value
