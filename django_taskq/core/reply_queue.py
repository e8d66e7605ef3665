"""Names of the queues in which callers wait for answers."""

from __future__ import annotations

import re
from uuid import uuid4

_PREFIX = "taskq.reply."
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
#: Ours, and Celery's, which are a UUID and no more. Whoever forges another name must not reach a queue of tasks.
_REPLY_QUEUE = re.compile(rf"(?:{re.escape(_PREFIX)})?{_UUID}")


def new_reply_queue() -> str:
    """A name that nobody else has, nor can guess."""
    return f"{_PREFIX}{uuid4()}"


def is_reply_queue(name: str) -> bool:
    """Whether a queue that a message names can be a caller's."""
    return _REPLY_QUEUE.fullmatch(name) is not None


def is_ours(name: str) -> bool:
    """Whether one of our callers made it."""
    return name.startswith(_PREFIX)


def encode_address(queue_name: str, correlation_id: str, task_id: str) -> str:
    """Where a row's answer goes, in one text; "" for nowhere."""
    if not queue_name or not correlation_id or correlation_id == task_id:
        return queue_name
    return f"{queue_name} {correlation_id}"


def decode_address(address: str, task_id: str) -> tuple[str, str]:
    """``(queue_name, correlation_id)``."""
    queue_name, _, correlation_id = address.partition(" ")
    return queue_name, correlation_id or task_id
