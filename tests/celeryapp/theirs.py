"""The Celery app, with Celery's own defaults but for what the test wrote into TASKQ_CELERY, and its tasks.

Started as ``celery --app tests.celeryapp.theirs worker``. Each task is also one of ours, by its name; see ``ours``.
"""

from __future__ import annotations

import json
import os
from typing import Any, NoReturn

from celery import Celery, Task

#: Names the settings of the app, as JSON.
SETTINGS = "TASKQ_CELERY"

app = Celery("theirs")
app.conf.update(json.loads(os.environ[SETTINGS]))


class ShopError(Exception):
    """An exception of the project's own."""


def leave(path: str, **line: Any) -> None:
    """Append a line of JSON to a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{json.dumps(line)}\n".encode())
    finally:
        os.close(descriptor)


@app.task(name="shop.echo", bind=True)  # type: ignore[untyped-decorator]  # Celery has no types
def echo(self: Task, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return what came, and who ran it."""
    return {"by": "celery", "id": self.request.id, "attempt": self.request.retries + 1, "args": args, "kwargs": kwargs}


@app.task(name="shop.mark", bind=True)  # type: ignore[untyped-decorator]  # Celery has no types
def mark(self: Task, path: str, *args: Any, **kwargs: Any) -> None:
    """Leave in a file what came, and how."""
    request = self.request
    leave(
        path,
        by="celery",
        id=request.id,
        attempt=request.retries + 1,
        args=args,
        kwargs=kwargs,
        priority=request.delivery_info["priority"],
        expires=request.expires,
        reply_to=request.reply_to,
        shown=[request.argsrepr, request.kwargsrepr],
    )


@app.task(name="shop.fail")  # type: ignore[untyped-decorator]  # Celery has no types
def fail(message: str, kind: str = "ValueError") -> NoReturn:
    """Fail."""
    raise {"ValueError": ValueError, "ShopError": ShopError}[kind](message)


@app.task(name="shop.hand_over", bind=True)  # type: ignore[untyped-decorator]  # Celery has no types
def hand_over(self: Task, queue: str, countdown: float) -> NoReturn:
    """Ask for the next attempt in another queue."""
    raise self.retry(queue=queue, countdown=countdown)


@app.task(name="shop.stumble")  # type: ignore[untyped-decorator]  # Celery has no types
def stumble(directory: str) -> str:
    """Succeed, where ours fails."""
    leave(f"{directory}/celery", by="celery")
    return "celery"
