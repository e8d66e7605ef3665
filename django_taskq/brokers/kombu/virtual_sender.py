"""Publishing through kombu's virtual transports (Redis, memory, SQS …): no confirms; a command that was answered counts."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence
from importlib import import_module
from threading import Event
from typing import Any

from kombu.exceptions import BatchPublishError

from ...core.reply_queue import is_ours
from ...core.topology import Topology
from .connection import abandon, errors_of
from .sender import Deadline, Letter, Refused, Route, declare_if_allowed

#: messages in one round trip (Redis)
_BATCH = 200

_MAX_DECLARED = 10_000
#: milliseconds after the last reply for which Redis keeps those that a caller of ours has not read: it is gone then
_REPLIES_EXPIRE = 60_000


class VirtualSender:
    """Sends over one connection of a virtual transport; see ``Sender``."""

    def __init__(self, connection: Any, topology: Topology) -> None:
        self._connection = connection
        self._topology = topology
        self._channel = connection.channel()
        self._is_redis = connection.transport.driver_type == "redis"
        self._trouble = errors_of(connection)
        self._can_batch = bool(
            getattr(self._channel, "create_publish_batch", None)
            and getattr(self._channel, "supports_batch_publish", True)
        )
        self._declared: set[str] = set()
        self._sent: list[Letter] = []
        self.used_at = time.monotonic()

    def check(self) -> None:
        """Nothing to do: redis-py looks at a connection before it uses it, and the others have none of their own."""

    def send(self, letters: Sequence[Letter], deadline: Deadline) -> None:
        """See ``Sender``."""
        for few in _few(letters):
            self._sent = few
            self._declare(few)
            if len(few) > 1 and self._can_batch:
                self._send_together(few)
            else:
                for letter in few:
                    self._send_one(letter)
            deadline.progress()
        self._sent = []
        self.used_at = time.monotonic()

    def post(self, letters: Sequence[Letter]) -> bool:
        """A command is always answered."""
        return False

    def collect(self, deadline: Deadline, *, wait: bool) -> None:
        """Nothing is posted."""

    def unsettled(self) -> list[Letter]:
        """See ``Sender``."""
        return [letter for letter in self._sent if letter.result is None]

    def prove(self, stop: Event) -> None:
        """See ``Sender``: a Redis that is full, or a replica, answers, but takes nothing. The others are believed."""
        if self._is_redis:
            with self._channel.conn_or_acquire() as client, contextlib.suppress(_no_permission()):
                client.set(f"taskq.{uuid.uuid4()}", "", px=1)

    def close(self, timeout: float) -> None:
        """Nobody waits for a goodbye."""
        self.abandon()

    def abandon(self) -> None:
        """See ``Sender``."""
        abandon(self._connection)

    def _declare(self, letters: Sequence[Letter]) -> None:
        """Make the queues of these letters; settle those that no queue would take, as nobody else would notice."""
        if self._is_redis:
            self._let_replies_expire(letters)
        for route in {
            letter.route.queue_name: letter.route for letter in letters if letter.route.is_declared_here
        }.values():
            try:
                problem = "" if self._has_queue(route) else "no queue takes it"
            except Exception as error:
                judged = self._judged(error)
                if not isinstance(judged, Refused):
                    raise
                problem = str(judged)
            for letter in letters if problem else ():
                if letter.route is route:
                    letter.give_up(problem)

    def _let_replies_expire(self, letters: Sequence[Letter]) -> None:
        """Redis knows nothing of what the caller has declared: kombu's channels tell it with each message."""
        for name in {letter.route.queue_name for letter in letters if not letter.route.is_declared_here}:
            if name not in self._declared and is_ours(name):
                self._remember(name)
                self._channel.queue_declare(queue=name, arguments={"x-expires": _REPLIES_EXPIRE})

    def _remember(self, queue_name: str) -> None:
        if len(self._declared) > _MAX_DECLARED:
            self._declared.clear()
        self._declared.add(queue_name)

    def _has_queue(self, route: Route) -> bool:
        """Make the queue where it was not made over this connection. Whether messages reach any."""
        is_known = route.queue_name in self._declared
        if not is_known:
            declare_if_allowed(self._topology, self._channel, route.queue_name)
            self._remember(route.queue_name)
        if not route.exchange or not route.mandatory:
            return True
        if not self._leads_somewhere(route) and is_known:
            # Bindings are data in the server, and somebody has wiped it. kombu remembers that it wrote them.
            self._channel.state.queue_bindings_delete(route.queue_name)
            declare_if_allowed(self._topology, self._channel, route.queue_name)
        return self._leads_somewhere(route)

    def _leads_somewhere(self, route: Route) -> bool:
        exchange = self._channel.typeof(route.exchange)
        if exchange.type == "fanout":
            return True
        table = self._channel.get_table(route.exchange)
        return bool(table and exchange.lookup(table, route.exchange, route.routing_key, None))

    def _send_together(self, letters: Sequence[Letter]) -> None:
        batch = self._channel.create_publish_batch(max_size=4 * _BATCH)
        try:
            buffered = []
            for letter in letters:
                if letter.result is None:
                    self._put(letter, batch.publish)
                    buffered.append(letter)
            batch.flush()
        except BatchPublishError as error:
            raise self._judged(error.__cause__ or error) from error
        finally:
            batch.close()
        for letter in buffered:
            letter.result = True

    def _send_one(self, letter: Letter) -> None:
        if letter.result is None:
            self._put(letter, self._channel.basic_publish)
            letter.result = True

    def _put(self, letter: Letter, publish: Any) -> None:
        wire, route = letter.wire, letter.route
        properties = {"delivery_mode": route.delivery_mode, **wire.properties}
        try:
            message = self._channel.prepare_message(
                wire.body,
                priority=letter.priority,
                content_type=properties.pop("content_type", None),
                content_encoding=properties.pop("content_encoding", None),
                headers=dict(wire.headers),
                properties=properties,
            )
            publish(message, exchange=route.exchange, routing_key=route.routing_key)
        except BatchPublishError:
            raise
        except Exception as error:
            raise self._judged(error) from error

    def _judged(self, error: BaseException) -> BaseException:
        """The error, or that it is the messages' own fault: what cannot be written, a key of Redis of another type."""
        if isinstance(error, self._trouble) and "WRONGTYPE" not in str(error):
            return error
        return Refused(f"{error} ({type(error).__name__})")


def _no_permission() -> type[Exception]:
    found: type[Exception] = import_module("redis.exceptions").NoPermissionError
    return found


def _few(letters: Sequence[Letter]) -> Iterator[list[Letter]]:
    for start in range(0, len(letters), _BATCH):
        yield list(letters[start : start + _BATCH])
