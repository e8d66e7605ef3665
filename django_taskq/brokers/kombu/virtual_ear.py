"""Receiving over kombu's virtual transports: Redis, memory and others."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...conf import BackendOptions
from .ears import BURST, Answer
from .inbox import TURN, Delivery, Inbox

if TYPE_CHECKING:
    from .redis_bulk import RedisBulk

logger = logging.getLogger("django_taskq.broker")

#: seconds of a turn where the wait cannot be interrupted: an ack waits that long
_BLIND_TURN = 0.05
#: what a message that no transport should have accepted may raise when it is unpacked
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


class VirtualEar:
    """See ``Ear``. These transports wait inside, and for nothing else."""

    prefetches_by_consumer = False

    def __init__(self, connection: Any, inbox: Inbox, options: BackendOptions) -> None:
        self._connection = connection
        self._inbox = inbox
        self._topology = options.topology
        channel = self._channel = connection.channel()
        # kombu would decompress a message before anybody could refuse it; it leaves alone what has errors.
        channel.Message = type("Unread", (channel.Message,), {"errors": ("left packed",)})
        self._queue_names: dict[str, None] = {}
        self._unanswered: dict[str, None] = {}
        self._prefetch = 0
        self._bulk: RedisBulk | None = None
        if options.transport == "redis":
            # Here, since the client library is an extra.
            from .redis_bulk import RedisBulk  # noqa: PLC0415

            self._bulk = RedisBulk(channel)
        elif options.transport == "memory":
            # Within one process a look costs nothing.
            connection.transport.polling_interval = _BLIND_TURN

    def set_prefetch(self, count: int) -> None:
        """See ``Ear``."""
        self._channel.basic_qos(0, count, False)
        self._prefetch = count

    def begin(self, queue_name: str, source: str, lost: Callable[[], None]) -> None:
        """See ``Ear``. Nothing tells here that a queue was deleted; whoever publishes makes it anew."""
        self._queue_names[queue_name] = None
        self._channel.basic_consume(source, False, lambda message: self._take(queue_name, message), queue_name)

    def end(self, queue_name: str) -> None:
        """See ``Ear``."""
        del self._queue_names[queue_name]
        self._channel.basic_cancel(queue_name)

    def pause(self) -> None:
        """See ``Ear``."""
        if self._bulk is None:
            return
        try:
            self._bulk.interrupt()
        except _MALFORMED as error:
            _log_malformed(error)

    def turn(self) -> None:
        """See ``Ear``."""
        if not self._queue_names:
            self._inbox.wait(TURN)
            return
        self._inbox.wait(0.0)
        if self._bulk is not None and len(self._unanswered) >= self._prefetch:
            self.pause()
            self._inbox.announce()
            self._inbox.wait(self._inbox.patience())
            return
        until = time.monotonic() + _BLIND_TURN
        count = 0
        while count < BURST and not self._inbox.answers:
            try:
                self._connection.drain_events(timeout=_BLIND_TURN)
            except TimeoutError:
                break
            except _MALFORMED as error:
                _log_malformed(error)
            count += 1
            if self._bulk is not None:
                self._take_bulk(self._bulk)
                break
            if time.monotonic() > until:
                break
        self._inbox.announce()

    def answer(self, deliveries: Sequence[Delivery], how: Answer) -> None:
        """See ``Ear``."""
        tags = [one.tag for one in deliveries if one.tag in self._unanswered]
        for tag in tags:
            del self._unanswered[tag]
        if self._bulk is not None:
            tags = self._bulk.ack(tags) if how != "requeue" else [tag for tag in tags if not self._bulk.requeue(tag)]
        for tag in tags:
            if how == "ack":
                self._channel.basic_ack(tag)
            else:
                self._channel.basic_reject(tag, requeue=how == "requeue")

    def flush(self) -> None:
        """See ``Ear``. Nothing is on its way."""

    def answer_lasting(self, deliveries: Sequence[Delivery], how: Answer) -> bool:
        """See ``Ear``."""
        if self._bulk is None:
            return False
        tags = [one.tag for one in deliveries]
        for tag in tags:
            self._bulk.hold(tag)
        if how == "requeue":
            for tag in reversed(tags):
                self._bulk.requeue(tag)
        else:
            self._bulk.ack(tags)
        return True

    def _take_bulk(self, bulk: RedisBulk) -> None:
        """Where a message came there may be more."""
        names = [name for name in self._queue_names if not self._topology.is_broadcast(name)]
        room = self._prefetch - len(self._unanswered)
        if not names or room < 1:
            return
        for queue_name, item in bulk.take(names, min(room, BURST), time.time()):
            try:
                message = self._channel.Message(json.loads(item), channel=self._channel)
            except _MALFORMED as error:
                bulk.discard(item)
                _log_malformed(error)
                continue
            bulk.hold(message.delivery_tag)
            self._take(queue_name, message)

    def _take(self, queue_name: str, message: Any) -> None:
        headers = message.headers if isinstance(message.headers, Mapping) else {}
        self._unanswered[message.delivery_tag] = None
        self._inbox.deliveries.append(
            Delivery(
                epoch=self._inbox.epoch,
                tag=message.delivery_tag,
                queue_name=queue_name,
                body=message.body,
                content_type=message.content_type,
                content_encoding=message.content_encoding,
                headers={name: value for name, value in headers.items() if name != "redelivered"},
                properties=message.properties,
                is_redelivered=bool(headers.get("redelivered")),
                is_lasting=self._bulk is not None and not self._topology.is_broadcast(queue_name),
            )
        )


def _log_malformed(error: Exception) -> None:
    logger.error(
        "A message was set aside: the transport cannot unpack it (%s).",
        type(error).__name__,
        extra={"action": "message_refused"},
    )
