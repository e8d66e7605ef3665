"""Results as replies: the worker sends each to the queue of the process that waits for it, and nobody keeps any.

One queue per process and broker, with a random name; the broker deletes it a minute after the process is gone. One
thread reads it for everybody (``brokers.kombu.link``: it has the connection for itself, and makes it anew as often as
it takes). Whoever enqueues a task gets a ``Ticket``, which is in the table before the message is on its way; the reply
goes to the ticket. A ticket lives as long as somebody holds it: the ``TaskResult`` does, and the request scope. A
reply for which there is none is counted and dropped.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from typing import Any
from weakref import WeakValueDictionary

from asgiref.sync import sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..brokers.kombu.inbox import Delivery
from ..brokers.kombu.link import Link
from ..conf import BackendOptions
from ..core.reply import Reply, decode_reply
from ..core.reply_queue import new_reply_queue
from ..core.untrusted import BadMessage
from ..exceptions import ResultUnavailable
from . import scope
from .base import Ended
from .database import UNCOMMITTED, DatabaseResults
from .waiting import await_answer, wait_for_answer
from .watcher import PerProcess

logger = logging.getLogger("django_taskq.results")

#: milliseconds for which the broker keeps a queue that nobody reads: a connection that was lost is back sooner
_EXPIRES = 60_000
#: replies and bytes that wait in the queue of a process that does not read, the newest; bounds what it costs the broker
_MAX_LENGTH, _MAX_BYTES = 50_000, 64 * 2**20
#: replies on their way to the process that are not acked
_PREFETCH = 1_000
#: replies, and bytes of them, that have been taken and are not acked yet
_MOST_UNACKED, _MOST_UNACKED_BYTES = 100, 2**20
#: seconds for which they are not
_UNACKED_FOR = 0.5
#: seconds for the first connection: who enqueues before the queue is there may miss the reply
_OPEN_TIMEOUT = 1.0
#: seconds for a goodbye at the end of the process
_CLOSE_TIMEOUT = 0.2
#: seconds between two log lines about replies that are none
_COMPLAIN_EVERY = 10.0

_ENDED = "The request that waited for this reply has ended."


class Ticket:
    """The right to one reply; for any thread of the process that made it."""

    __slots__ = ("__weakref__", "_future", "is_forgotten", "pid", "reply", "results", "unsent_in")

    def __init__(self, results: RpcResults) -> None:
        self.results = results
        self.pid = os.getpid()
        self.reply: Reply | None = None
        self.is_forgotten = False
        #: the thread whose commit it waits for; 0 when there is none to wait for
        self.unsent_in = 0
        self._future: Future[Reply] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # It is worth nothing anywhere else.
        return type(None), ()

    def future(self) -> Future[Reply]:
        """Done when the reply has come. Nobody may cancel it: others may wait for the same."""
        with _tickets_lock:
            if self._future is None:
                self._future = Future()
                if self.reply is not None:
                    self._future.set_result(self.reply)
                elif self.is_forgotten:
                    self._future.set_exception(ResultUnavailable(_ENDED))
            return self._future

    def sent(self) -> None:
        """The commit has come."""
        self.unsent_in = 0

    def settle(self, reply: Reply) -> bool:
        """The reply has come; False when it had before."""
        with _tickets_lock:
            if self.reply is not None or self.is_forgotten:
                return False
            self.reply = reply
            future = self._future
        if future is not None:
            future.set_result(reply)
        return True

    def forget(self) -> None:
        """Nobody is going to ask any more."""
        with _tickets_lock:
            is_open, self.is_forgotten = self.reply is None and not self.is_forgotten, True
            self.reply = None
            future, self._future = self._future, None
        # Else whoever has settled it answers those who wait.
        if future is not None and is_open:
            future.set_exception(ResultUnavailable(_ENDED))


# Recursive, because a signal may wait in the thread that holds it.
_tickets_lock = threading.RLock()


def _after_fork() -> None:
    global _tickets_lock  # noqa: PLW0603
    # Another thread may have held it when this process was forked.
    _tickets_lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


class ReplyQueue:
    """This process's queue at one broker, and who waits for what comes from there."""

    def __init__(self, options: BackendOptions) -> None:
        self.name = new_reply_queue()
        self._lock = threading.Lock()
        self._tickets: WeakValueDictionary[str, Ticket] = WeakValueDictionary()
        self._pid = os.getpid()
        self._is_open = False
        self._ready = threading.Event()
        #: replies that nobody waited for any more
        self.dropped = 0
        self._complained_at = float("-inf")
        self._unacked: list[Delivery] = []
        self._unacked_bytes = 0
        self._unacked_since = 0.0
        # Redis gives back what nobody has acked for a while, to whoever reads.
        self._most_unacked = _MOST_UNACKED if options.transport == "amqp" else 1
        arguments = {"x-expires": _EXPIRES, "x-max-length": _MAX_LENGTH, "x-max-length-bytes": _MAX_BYTES}
        self._link = Link(
            replace(options, exchanges={}, queues={self.name: {"arguments": arguments}}, queue_defaults={}, routes=()),
            self._take,
            turned=self._ack_late,
        )

    def open(self) -> None:
        """See to it that replies arrive; waits for the first connection, and not for long."""
        if self._is_open and self._ready.is_set():
            return
        with self._lock:
            if not self._is_open:
                self._is_open = True
                self._link.want(frozenset({self.name}), _PREFETCH)
                self._link.start()
        self._ready.wait(_OPEN_TIMEOUT)
        # Whoever comes after this one does not wait again: the broker is down, and says so elsewhere.
        self._ready.set()

    def expect(self, task_id: str, results: RpcResults) -> Ticket:
        """A ticket for a reply that may come from now on; ``results``: where it is waited for."""
        ticket = self._tickets[task_id] = Ticket(results)
        scope.hold(ticket)
        return ticket

    def ticket_of(self, task_id: str) -> Ticket | None:
        """The ticket that somebody still holds."""
        return self._tickets.get(task_id)

    def trouble(self) -> str:
        """Why no reply can come, "" when one can."""
        if self._link.is_connected:
            return ""
        return f"The broker cannot be reached: {self._link.trouble or 'it does not answer'}."

    def close(self) -> None:
        """At the end of the process: the queue goes by itself."""
        if self._is_open and self._pid == os.getpid():
            self._link.stop(_CLOSE_TIMEOUT)

    def leave_to_parent(self) -> None:
        """In a forked child: close its end of the connection, without a word. The broker is to see when the parent dies."""
        self._link.leave_to_parent()

    # The link's thread

    def _take(self) -> None:
        if not self._ready.is_set() and self._link.is_receiving(self.name):
            self._ready.set()
        deliveries = self._link.take(_PREFETCH)
        for delivery in deliveries:
            reply = self._read(delivery)
            if reply is None or not reply.state.is_final:
                # Celery's workers may say that they have begun.
                continue
            ticket = self._tickets.get(reply.correlation_id)
            if ticket is None or not ticket.settle(reply):
                self.dropped += 1
        self._ack(deliveries)

    def _ack(self, deliveries: Sequence[Delivery]) -> None:
        """Ack, in time, and many at once: an ack for each reply takes the broker as long as the reply itself.

        Those that are left when the connection ends come again, and are dropped.
        """
        unacked = self._unacked
        if not unacked:
            self._unacked_since = time.monotonic()
        unacked += deliveries
        self._unacked_bytes += sum(len(delivery.body or b"") for delivery in deliveries)
        if len(unacked) >= self._most_unacked or self._unacked_bytes >= _MOST_UNACKED_BYTES:
            self._ack_all()

    def _ack_late(self) -> None:
        """Nothing has come for a while."""
        if self._unacked and time.monotonic() - self._unacked_since >= _UNACKED_FOR:
            self._ack_all()

    def _ack_all(self) -> None:
        self._link.ack(self._unacked)
        self._unacked, self._unacked_bytes = [], 0

    def _read(self, delivery: Delivery) -> Reply | None:
        try:
            return decode_reply(
                delivery.body,
                content_type=delivery.content_type,
                content_encoding=delivery.content_encoding,
                headers=delivery.headers,
                properties=delivery.properties,
            )
        except BadMessage as error:
            now = time.monotonic()
            if now - self._complained_at >= _COMPLAIN_EVERY:
                self._complained_at = now
                logger.error("A reply is dropped: %s", error, extra={"action": "reply_refused"})  # noqa: TRY400  # it says all
            self.dropped += 1
            return None


#: by what the connection depends on
_queues = PerProcess(ReplyQueue, ReplyQueue.leave_to_parent)


class RpcResults:
    """The results of an alias whose callers get replies. A recorded task's row has the value, too."""

    keeps = False

    def __init__(self, options: BackendOptions, rows: DatabaseResults) -> None:
        #: how the broker is reached over which replies travel
        self._options = options
        self._rows = rows
        #: looking it up takes longer than all else that is done before a task is on its way
        self._held: tuple[int, ReplyQueue | None] = (0, None)

    @property
    def _queue(self) -> ReplyQueue:
        pid, queue = self._held
        if queue is None or pid != os.getpid():
            options = self._options
            queue = _queues.of((options.broker, options.heartbeat, repr(options.broker_options)), options)
            self._held = os.getpid(), queue
        return queue

    def open(self) -> str:
        """See ``ResultStore``."""
        queue = self._queue
        queue.open()
        return queue.name

    def expect(self, task_id: str, connection: BaseDatabaseWrapper) -> Ticket:
        """See ``ResultStore``."""
        ticket = self._queue.expect(task_id, self)
        if connection.in_atomic_block:
            ticket.unsent_in = threading.get_ident()
            connection.on_commit(ticket.sent)
        return ticket

    def wait(self, task_id: str, timeout: float | None, *, is_recorded: bool = True, ticket: Any = None) -> Ended:
        """See ``ResultStore``."""
        ticket = self._ticket(task_id, ticket, is_recorded=is_recorded)
        if ticket is None:
            return self._rows.wait(task_id, timeout)
        # Read once: another thread may forget it.
        reply: Ended | None = ticket.reply
        if reply is not None:
            return reply
        if ticket.unsent_in:
            self._check_sent(ticket)
        return wait_for_answer(
            ticket.future(), self._rows, task_id, timeout, trouble=self._queue.trouble, is_recorded=is_recorded
        )

    async def await_(
        self, task_id: str, timeout: float | None, *, is_recorded: bool = True, ticket: Any = None
    ) -> Ended:
        """See ``ResultStore``."""
        ticket = self._ticket(task_id, ticket, is_recorded=is_recorded)
        if ticket is None:
            return await self._rows.await_(task_id, timeout)
        # Read once: another thread may forget it.
        reply: Ended | None = ticket.reply
        if reply is not None:
            return reply
        if ticket.unsent_in:
            await sync_to_async(self._check_sent, thread_sensitive=True)(ticket)
        return await await_answer(
            ticket.future(), self._rows, task_id, timeout, trouble=self._queue.trouble, is_recorded=is_recorded
        )

    def find(self, task_id: str) -> Reply | None:
        """See ``ResultStore``."""
        ticket = self._queue.ticket_of(task_id)
        return None if ticket is None else ticket.reply

    def value_of(self, task_id: str, text: str | None) -> str | None:
        """See ``ResultStore``."""
        return text

    def keep(self, reply: Reply) -> bool:
        """See ``ResultStore``."""
        return False

    def forget(self, task_id: str) -> None:
        """See ``ResultStore``."""
        ticket = self._queue.ticket_of(task_id)
        if ticket is not None:
            ticket.forget()

    def sweep(self, now: datetime, longest: float | None) -> int:
        """See ``ResultStore``."""
        return 0

    def _check_sent(self, ticket: Ticket) -> None:
        """Raise ``ResultUnavailable`` where this thread's own transaction is why no reply can come."""
        if ticket.unsent_in != threading.get_ident():
            return
        if connections[self._rows.using].in_atomic_block:
            raise ResultUnavailable(UNCOMMITTED)
        raise ResultUnavailable("The transaction that the task was enqueued in was rolled back: there is no such task.")

    def _ticket(self, task_id: str, ticket: Ticket | None, *, is_recorded: bool) -> Ticket | None:
        """The ticket for this reply; None when the row is all there is."""
        ticket = ticket or self._queue.ticket_of(task_id)
        if ticket is not None and ticket.pid == os.getpid() and not ticket.is_forgotten:
            return ticket
        if is_recorded:
            return None
        if ticket is not None and ticket.is_forgotten:
            raise ResultUnavailable("The reply was forgotten: the request that the task was enqueued in has ended.")
        raise ResultUnavailable(
            "The reply to a task without a record goes to the process that enqueued it, and this is another one "
            "(after a fork: the parent), or nobody there holds its TaskResult any more."
        )


def close_queues() -> None:
    """At the end of the process."""
    for queue in list(_queues.values()):
        queue.close()


atexit.register(close_queues)
