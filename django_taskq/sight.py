"""What of a row may be seen: arguments that a task calls sensitive may not."""

from __future__ import annotations

from inspect import Parameter
from typing import Any

from .aliases import taskq_backends
from .core import codec
from .core.sensitive import hide_all, hide_sensitive
from .exceptions import UnknownTask
from .models import TaskRecord
from .registry import resolve, signature

#: what decoding raises for a row that is not as this package writes rows
SPOILT = (TypeError, ValueError, RecursionError)


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
    known = sensitive_of(record)
    try:
        args, kwargs = record.call_arguments
    except SPOILT:
        return None
    args, kwargs = hide_all(args, kwargs) if known is None else hide_sensitive(args, kwargs, *known)
    return {"args": args, "kwargs": kwargs}
