"""From rows and calls to the message broker, once they are committed.

A publish that fails costs nobody a task: the row stays in the outbox (``transitions.outbox``), from where
the keeper publishes it, and a call without a row is given one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from . import registry
from .brokers.kombu.outgoing import POSTER, Outgoing
from .compat import DEFAULT_TASK_QUEUE_NAME
from .core.options import TaskOptions
from .core.states import State
from .core.wire import Call, CallForm, encode_reference
from .routes import queues_of
from .transitions.enqueue import NewTask, Publication, insert
from .transitions.outbox import Unpublished, mark_unpublished

if TYPE_CHECKING:
    from .backend import TaskqBackend

_DEFAULT_OPTIONS = TaskOptions()

logger = logging.getLogger("django_taskq.broker")


def publication_of(backend: TaskqBackend, state: State, connection: BaseDatabaseWrapper) -> Publication:
    """What a row that is inserted now, in this state, can say about the broker."""
    if not backend.config.is_kombu:
        return Publication.NONE
    if state is not State.READY:
        # The broker is told when it is due: what it hears before is dropped, and would count as told.
        return Publication.PENDING
    # While it is known to be down, the row says so from the start and is not written a second time.
    return Publication.PRESUMED if _can_follow(connection) and backend.publisher.is_up else Publication.PENDING


def publish_after_commit(
    backend: TaskqBackend, new: NewTask, ids: Sequence[str], connection: BaseDatabaseWrapper
) -> None:
    """Tell the broker of rows that were inserted as PRESUMED, once they are committed."""
    if new.publication is Publication.PRESUMED:
        rows = [Unpublished(task_id, new.backend, new.queue_name, new.priority) for task_id in ids]
        is_one = new.reply_to and len(rows) == 1
        publish = partial(_post_row, backend, rows[0]) if is_one else partial(_publish_rows, backend, rows)
        connection.on_commit(publish)


def publish_rows(backend: TaskqBackend, rows: Sequence[Unpublished]) -> list[str]:
    """Tell the broker of READY rows; gives the ids of those that it took."""
    taken = backend.publisher.publish([_outgoing(row) for row in rows])
    return [row.id for row, is_taken in zip(rows, taken, strict=True) if is_taken]


def _outgoing(row: Unpublished) -> Outgoing:
    return Outgoing(queue_name=row.queue_name, priority=row.priority, wire=encode_reference(row.id))


def publish_calls(
    backend: TaskqBackend,
    new: NewTask,
    calls: Sequence[tuple[str, str]],
    enqueued_at: datetime,
    connection: BaseDatabaseWrapper,
) -> None:
    """Publish tasks without rows, each ``(id, arguments)``, once the caller's transaction is committed.

    Those that the broker does not take become rows, so that they run when it is back; so do those for a queue that
    no worker would find otherwise.
    """
    if not (_can_follow(connection) and _is_known(backend, new)):
        _insert_calls(backend, new, calls)
    elif connection.in_atomic_block:
        connection.on_commit(partial(_publish_calls, backend, new, calls, enqueued_at))
    else:
        # What ``on_commit`` does, too, after another look whether it may.
        _publish_calls(backend, new, calls, enqueued_at)


def known_queues(backends: Iterable[TaskqBackend]) -> set[str]:
    """The queues of these backends as far as settings and tasks name them: no broker tells what it has."""
    aliases = set()
    names: set[str] = set()
    for backend in backends:
        aliases.add(backend.alias)
        names |= {*backend.queues, *backend.config.topology.queue_names, *queues_of(backend.config.routes)}
    names |= {task.queue_name for task in registry.tasks() if task.backend in aliases}
    return names or {DEFAULT_TASK_QUEUE_NAME}


def _is_known(backend: TaskqBackend, new: NewTask) -> bool:
    """Whether a worker that serves all queues listens to this one without a row that names it."""
    task = registry.lookup(new.name)
    is_its_own = task is not None and task.queue_name == new.queue_name and task.backend == backend.alias
    return is_its_own or new.queue_name in known_queues([backend])


def _can_follow(connection: BaseDatabaseWrapper) -> bool:
    """Whether something can be done right after the commit: not where the project begins transactions by hand."""
    return bool(connection.in_atomic_block or connection.get_autocommit())


def _publish_rows(backend: TaskqBackend, rows: Sequence[Unpublished]) -> None:
    taken = set(publish_rows(backend, rows))
    _put_back(backend, [row.id for row in rows if row.id not in taken])


def _post_row(backend: TaskqBackend, row: Unpublished) -> None:
    """Where somebody waits for the answer: the row is in the outbox, and so nothing is lost by not waiting."""

    def done(taken: list[bool]) -> None:
        if not taken[0]:
            with _own_connection(backend.database):
                _put_back(backend, [row.id])

    backend.publisher.post([_outgoing(row)], done)


def _put_back(backend: TaskqBackend, left: Sequence[str]) -> None:
    try:
        mark_unpublished(backend.database, left)
    except (DatabaseError, InterfaceError) as error:
        # Committed they are; the keeper misses them at the broker a few seconds later.
        logger.warning(
            "%d tasks could not be published, nor put back in the outbox (%s); they are found later.",
            len(left),
            error,
            extra={"action": "outbox_failed"},
        )


def _publish_calls(
    backend: TaskqBackend, new: NewTask, calls: Sequence[tuple[str, str]], enqueued_at: datetime
) -> None:
    form = _form_of(new, enqueued_at)
    messages = [
        Outgoing(queue_name=new.queue_name, priority=new.priority, wire=form.fill(task_id, arguments, enqueued_at))
        for task_id, arguments in calls
    ]

    def settle(taken: list[bool]) -> None:
        if all(taken):
            return
        left = [call for call, is_taken in zip(calls, taken, strict=True) if not is_taken]
        with _own_connection(backend.database):
            _insert_calls(backend, new, left)

    if new.reply_to and len(calls) == 1:
        # The reply is the confirm. Waiting for both would take twice as long.
        backend.publisher.post(messages, settle)
    else:
        settle(backend.publisher.publish(messages))


def _form_of(new: NewTask, enqueued_at: datetime) -> CallForm:
    form: CallForm | None = new.form
    if form is None:
        form = new.form = CallForm(  # type: ignore[misc]  # kept there, and not changed any more
            Call(
                id="",
                name=new.name,
                arguments="",
                expires=new.expires_at,
                options=new.options,
                metadata=new.metadata,
                enqueued_at=enqueued_at,
                acks_late=None if new.acks_late else False,
                max_deliveries=new.max_deliveries if new.max_deliveries != _DEFAULT_OPTIONS.max_deliveries else None,
                priority=new.priority,
                reply_to=new.reply_to,
                headers=new.headers,
            )
        )
    return form


@contextmanager
def _own_connection(using: str) -> Iterator[None]:
    """Leave no connection behind in a thread that is not the caller's."""
    try:
        yield
    finally:
        if threading.current_thread().name == POSTER:
            connections[using].close()


def _insert_calls(backend: TaskqBackend, new: NewTask, calls: Sequence[tuple[str, str]]) -> None:
    connection = connections[backend.database]
    for task_id, arguments in calls:
        insert(connection, new, task_id, arguments)
