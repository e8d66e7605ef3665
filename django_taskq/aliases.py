"""Which aliases of ``TASKS`` are ours."""

from __future__ import annotations

from .backend import TaskqBackend
from .compat import InvalidTaskBackend, task_backends


def taskq_backends(*, skip_broken: bool = False) -> list[TaskqBackend]:
    """The backends of all aliases that use ``TaskqBackend`` or a class made from it, in the order of ``TASKS``.

    Raises upstream's ``InvalidTaskBackend`` for an alias whose class cannot be imported, unless those are
    to be skipped.
    """
    backends = []
    for alias in task_backends:
        try:
            backend = task_backends[alias]
        except InvalidTaskBackend:
            if not skip_broken:
                raise
            continue
        if isinstance(backend, TaskqBackend):
            backends.append(backend)
    return backends


def backends_on(using: str) -> list[TaskqBackend]:
    """The backends whose rows are in this database; without those whose class cannot be imported."""
    return [backend for backend in taskq_backends(skip_broken=True) if backend.database == using]


def taskq_databases() -> list[str]:
    """The ``DATABASES`` aliases that hold our rows, each once. Raises ``OptionsError``."""
    return list(dict.fromkeys(backend.database for backend in taskq_backends()))
