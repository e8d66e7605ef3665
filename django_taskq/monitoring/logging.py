"""Log records that say which task wrote them, as text and as JSON.

For ``LOGGING`` of a project, and for ``runworker --log-format``::

    "filters": {"task": {"()": "django_taskq.monitoring.logging.TaskContextFilter"}},
    "formatters": {"json": {"()": "django_taskq.monitoring.logging.JsonFormatter"}},
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from ..core import codec
from ..core.message import Message
from ..current import running

__all__ = ["JsonFormatter", "TaskContextFilter", "TextFormatter"]

#: what every record has (logging.LogRecord), and formatters add to it
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
#: in this order, before whatever else a record carries
_CONTEXT = ("action", "task_id", "task", "queue", "attempt", "worker")
#: characters of a value that is not JSON, as text
_MAX_VALUE = 2_000


class TaskContextFilter(logging.Filter):
    """Gives each record ``task_id``, ``task``, ``queue``, ``attempt`` and ``worker``; "" outside of tasks.

    For formats such as ``"%(levelname)s %(task_id)s %(message)s"``. What a record says itself stays. Belongs to the
    handler, not to a logger: those see only what was logged on themselves.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets all pass."""
        for name, value in _context().items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class TextFormatter(logging.Formatter):
    """A line for people, with the task's id where one runs and the line does not name it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(process)d %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """The line, without a traceback."""
        line = super().formatMessage(record)
        one = running.get()
        return line if one is None or one.message.id in line else f"{line} [id={one.message.id}]"


class JsonFormatter(logging.Formatter):
    """One JSON object per line.

    ``time`` (UTC, ISO 8601), ``level``, ``logger``, ``message``, ``process``, ``thread``; where they are known ``action``,
    ``task_id``, ``task``, ``queue``, ``attempt``, ``worker``; ``exception``: a traceback. Then whatever ``extra`` had.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
            "thread": record.threadName,
        }
        given = vars(record)
        context = _context()
        for name in _CONTEXT:
            value = given.get(name, context.get(name, ""))
            if value != "":
                line[name] = value
        if record.exc_info:
            line["exception"] = record.exc_text or self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        for name, value in given.items():
            if name not in _STANDARD and name not in line and value != "":
                line[name] = value
        return json.dumps(line, ensure_ascii=False, default=_text)


def _context() -> dict[str, object]:
    one = running.get()
    if one is None:
        return dict.fromkeys(("task_id", "task", "queue", "attempt", "worker"), "")
    message = one.message
    return {
        "task_id": message.id,
        "task": message.name,
        "queue": message.queue_name,
        "attempt": message.attempt,
        "worker": _worker(message),
    }


def _worker(message: Message) -> str:
    """Whoever has this attempt: the last line."""
    return message.worker_ids.rstrip("\n").rpartition("\n")[2]


def _text(value: object) -> str:
    return codec.shorten(repr(value), _MAX_VALUE)
