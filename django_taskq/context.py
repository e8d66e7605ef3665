"""What a task may know of its own run, and say about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NoReturn

from .compat import TaskContext as UpstreamContext
from .core import codec
from .exceptions import Retry


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext(UpstreamContext):
    """The first argument of a task with ``takes_context=True``.

    ``attempt`` counts from 1. ``metadata`` is a dict of the task's own, kept over its attempts: what
    is in it when the attempt ends is what the next one finds.
    """

    metadata: dict[str, codec.JSON] = field(default_factory=dict)
    report: Callable[[str], None] = field(repr=False, compare=False)
    is_cancelled: Callable[[], bool] = field(repr=False, compare=False)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far the task is; ``TaskResult.progress`` shows it. Cheap: the newest report wins."""
        for name, value in {"done": done, "total": 0 if total is None else total}.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"progress({name}={value!r}): give a number.")
        self.report(codec.encode({"done": done, "total": total, "message": codec.clean(str(message))}))

    def retry(self, delay: float | timedelta | None = None, message: str = "") -> NoReturn:
        """End this attempt and ask for another, ``delay`` seconds from now (None: by ``backoff``)."""
        raise Retry(message, delay=delay)

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for this task to stop."""
        return self.is_cancelled()
