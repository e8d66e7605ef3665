"""Rows by way of the transitions alone, and what stands in them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, connections
from django.utils import timezone

from django_taskq import State
from django_taskq.core.ids import uuid7
from django_taskq.core.message import Message
from django_taskq.models import TaskRecord
from django_taskq.transitions.claim import Lanes, claim
from django_taskq.transitions.enqueue import NewTask, insert
from django_taskq.transitions.finish import End, finish

USING = "default"
#: Workers, by the form of their ids.
ANNE, BERT = "anne-1-aaaa", "bert-2-bbbb"
EVERYTHING = Lanes(("default",))

#: Text that some database, driver or terminal may take amiss.
ODD_TEXT = "'quotes' \"double\" `back` \\ \\' %s %(name)s %% {} ; -- /* */ 🙂👩‍👩‍👧 עברית \u202e ﷽ \x01\x7f\x85\u2028 \\u0000 \t\r\n"

NEW = NewTask(
    name="tests.taskapp.tasks.noop",
    queue_name="default",
    backend="default",
    priority=0,
    state=State.READY,
    options="",
    metadata="",
    max_deliveries=3,
    acks_late=True,
    run_after=None,
    expires_at=None,
)


def now() -> datetime:
    """Return this machine's clock; the servers run on it, too."""
    return datetime.now(UTC)


def ago(seconds: float) -> datetime:
    """Return a moment in the past."""
    return now() - timedelta(seconds=seconds)


def ahead(seconds: float) -> datetime:
    """Return a moment to come."""
    return now() + timedelta(seconds=seconds)


def put(arguments: str = "[[],{}]", **changes: Any) -> str:
    """Insert a task; return its id."""
    task_id = str(uuid7(time.time()))
    insert(connections[USING], replace(NEW, **changes), task_id, arguments)
    return task_id


def take(limit: int = 1, worker: str = ANNE, lanes: Lanes = EVERYTHING) -> list[Message]:
    """Claim."""
    return claim(USING, lanes, limit, worker)


def take_one(worker: str = ANNE) -> Message:
    """Claim the one task there is."""
    (message,) = take(10, worker)
    return message


def put_and_take(worker: str = ANNE, **changes: Any) -> Message:
    """Insert a task and claim it."""
    task_id = put(**changes)
    message = take_one(worker)
    assert message.id == task_id
    return message


def put_in(state: State) -> str:
    """Bring a new task into this state, by legal moves where there are any today; return its id."""
    if state in {State.READY, State.SCHEDULED, State.WAITING}:
        return put(state=state, run_after=ahead(3600) if state is State.SCHEDULED else None)
    message = put_and_take()
    if state is not State.RUNNING:
        written = finish(USING, [End(id=message.id, claim=message.claim, state=state)])
        assert written == {message.id: state}
    return message.id


def row(task_id: str) -> TaskRecord:
    """Read a row."""
    return TaskRecord.objects.get(pk=task_id)


def columns(task_id: str) -> dict[str, Any]:
    """Read all of a row, to see that nothing has changed."""
    return dict(TaskRecord.objects.filter(pk=task_id).values().get())


def aware(moment: datetime | None) -> datetime:
    """Return a moment of a row as one in UTC, whatever the project's settings.

    Not only aware: Python finds moments in an hour that comes twice equal to none of another zone (PEP 495).
    """
    assert moment is not None
    return (timezone.make_aware(moment) if timezone.is_naive(moment) else moment).astimezone(UTC)


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect the statements the connection executes."""
    seen: list[str] = []

    def note(execute: Any, sql: str, params: Sequence[Any], many: bool, context: Any) -> Any:
        seen.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield seen
