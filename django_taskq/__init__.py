"""Tasks and results for Django.

``INSTALLED_APPS = [..., "django_taskq"]``, ``TASKS = {"default": {"BACKEND": "django_taskq.TaskqBackend"}}``,
``manage.py migrate``, ``manage.py runworker``. Names that are not listed in ``__all__`` may change.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .backend import TaskqBackend
    from .context import TaskContext
    from .core.retry import exponential, fixed, linear
    from .core.states import State
    from .definition import Task, task
    from .exceptions import (
        Reject,
        ResultStoreError,
        ResultTimeout,
        ResultUnavailable,
        Retry,
        ScheduleError,
        SoftTimeLimitExceeded,
        TaskCancelled,
        TaskExpired,
        TaskFailed,
        TaskqError,
        TimeLimitExceeded,
        UnknownTask,
        WorkerLost,
    )
    from .result import TaskResult
    from .results.scope import request_scope
    from .schedules.definition import Schedule
    from .schedules.registry import schedule

__version__ = "0.1.0"

__all__ = [
    "Reject",
    "ResultStoreError",
    "ResultTimeout",
    "ResultUnavailable",
    "Retry",
    "Schedule",
    "ScheduleError",
    "SoftTimeLimitExceeded",
    "State",
    "Task",
    "TaskCancelled",
    "TaskContext",
    "TaskExpired",
    "TaskFailed",
    "TaskResult",
    "TaskqBackend",
    "TaskqError",
    "TimeLimitExceeded",
    "UnknownTask",
    "WorkerLost",
    "exponential",
    "fixed",
    "linear",
    "request_scope",
    "schedule",
    "task",
]

# Loaded when used: Django imports this package to find its apps, before models may be defined.
_MODULES = {
    "TaskqBackend": "backend",
    "TaskContext": "context",
    "exponential": "core.retry",
    "fixed": "core.retry",
    "linear": "core.retry",
    "State": "core.states",
    "TaskResult": "result",
    "request_scope": "results.scope",
    "Schedule": "schedules.definition",
    "schedule": "schedules.registry",
    "Task": "definition",
    "task": "definition",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES.get(name, 'exceptions')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
