"""Locks of others that a forked child would find held for ever, by threads that it does not have.

A process may fork while its other threads call tasks. What those hold at that moment is held in the child, too, where
nobody lets go of it: Django's signals are locked while their receivers are looked up, its handlers while a backend is,
and cached properties (Python 3.11, and kombu's) while they are computed. All that a call comes by is unlocked here;
our own modules see to their own.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from asgiref.local import Local
from django.db.backends.signals import connection_created

from . import signals
from .compat import task_backends, task_enqueued, task_finished, task_started

_SIGNALS = (
    connection_created,
    task_enqueued,
    task_started,
    task_finished,
    *(getattr(signals, name) for name in signals.__all__),
)

#: modules that may have been loaded when the process forks, and classes in them
_classes: list[tuple[str, str]] = []


def renew_properties(module: str, *classes: str) -> None:
    """Let a child compute the cached properties of these classes and of those made from them.

    ``module``: its name; it need not be loaded.
    """
    _classes.extend((module, name) for name in classes)


def _renew() -> None:
    for signal in _SIGNALS:
        signal.lock = threading.Lock()
    # No harm done: the child makes its backends anew, as each thread does.
    handler: Any = task_backends
    handler._connections = Local(handler.thread_critical)  # noqa: SLF001  # no public way leads past its lock
    for module, name in _classes:
        if module in sys.modules:
            for cls in _family(getattr(sys.modules[module], name)):
                _renew_properties(cls)


def _renew_properties(cls: type) -> None:
    for value in vars(cls).values():
        if isinstance(value, cached_property) and hasattr(value, "lock"):
            value.lock = threading.RLock()


def _family(cls: type) -> Iterator[type]:
    yield cls
    made_from_it: list[type] = cls.__subclasses__()
    for each in made_from_it:
        yield from _family(each)


os.register_at_fork(after_in_child=_renew)
