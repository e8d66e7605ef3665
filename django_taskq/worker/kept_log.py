"""Lines that tasks log, on their way into their rows."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime

from .. import registry
from ..backend import TaskqBackend
from ..core import codec
from ..current import MAX_LINE, running
from ..producer import options_of
from .logs import is_unhandled

#: whose lines are about tasks, not from them
_FRAMEWORK = frozenset({"django", "django_taskq", "django_tasks", "kombu", "amqp"})


class LogKeeper(logging.Handler):
    """On the root logger: hands each line from INFO up to the task in whose context it was logged."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, if a task wants it kept."""
        one = running.get()
        if one is None or not one.keeps_log or record.name.partition(".")[0] in _FRAMEWORK:
            return
        try:
            one.add_line(_line(record))
        except Exception:  # noqa: BLE001  # a message that does not fit its arguments; logging has a way to say so
            self.handleError(record)


def keep_lines(backends: Iterable[TaskqBackend]) -> None:
    """Begin to keep lines in this process, when any alias or task wants it."""
    if not (
        any(backend.config.keep_logs for backend in backends)
        or any(options_of(task).keep_logs for task in registry.tasks())
    ):
        return
    root = logging.getLogger()
    if not root.handlers and logging.lastResort is not None:
        # The project configures other loggers alone. What no handler takes is still to be printed.
        logging.lastResort.addFilter(is_unhandled)
        root.addHandler(logging.lastResort)
    if not any(isinstance(handler, LogKeeper) for handler in root.handlers):
        root.addHandler(LogKeeper(logging.INFO))


def _line(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = f"{at} {record.levelname} {record.name}: {record.getMessage()}"
    if record.exc_info and record.exc_info[0] is not None:
        if not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        line = f"{codec.shorten(line, MAX_LINE // 2)}\n{codec.shorten(record.exc_text, MAX_LINE // 2 - 1)}"
    return line
