"""Tasks under the names that the Celery app has for its own; loaded by ``OPTIONS["imports"]``."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from django_taskq import TaskContext, task
from tests.taskapp.tasks import hold_and_fail, leave


class ShopError(Exception):
    """An exception that the Celery project has no class for under this path."""


@task(name="shop.echo", aliases=["shop.old_echo"], record=False, takes_context=True)
def echo(context: TaskContext, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return what came, and who ran it."""
    found = context.task_result
    return {"by": "ours", "id": found.id, "attempt": context.attempt, "args": args, "kwargs": kwargs}


@task(name="shop.mark", record=False, takes_context=True)
def mark(context: TaskContext, path: str, *args: Any, **kwargs: Any) -> None:
    """Leave in a file what came."""
    line = {"by": "ours", "id": context.task_result.id, "attempt": context.attempt, "args": args, "kwargs": kwargs}
    leave(path, json.dumps(line))


@task(name="shop.fail", record=False)
def fail(message: str, kind: str = "ValueError") -> NoReturn:
    """Fail."""
    raise {"ValueError": ValueError, "ShopError": ShopError}[kind](message)


@task(name="shop.hand_over", record=False, takes_context=True)
def hand_over(context: TaskContext, queue: str, countdown: float) -> str:
    """Take over what a Celery worker began."""
    return f"ours in attempt {context.attempt}"


@task(name="shop.stumble", record=False, max_attempts=2, backoff=0)
def stumble(directory: str) -> str:
    """Fail once the test lets it."""
    hold_and_fail.func(directory)
    raise AssertionError("it has failed already")


@task(name="shop.nobody", record=False)
def nobody() -> None:
    """Be a task that the Celery app does not have."""
