"""Receiving over AMQP."""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Callable, Sequence
from typing import Any

from .contents import read_delivery
from .ears import Answer
from .inbox import TURN, Delivery, Inbox
from .reading import FrameReader

logger = logging.getLogger("django_taskq.broker")

#: silence of the broker after which a connection is dead, in heartbeats: each half of one RabbitMQ looks whether it has
#: sent anything since the last look, and beats if not, so that one may pass in silence
_SILENCE = 1.25
#: seconds by which a beat may be late where there is news
_BEATS_LATE = 0.1


def heartbeat_for(wanted: float) -> float:
    """What to ask the broker for, so that its silence shows within ``wanted`` seconds; 0: nothing."""
    # The protocol has whole seconds, and 0 for none.
    return max(float(round(wanted / _SILENCE)), 1.0) if wanted else 0.0


class AmqpEar:
    """See ``Ear``. Waits for the socket and the inbox at once, and keeps the heartbeats."""

    prefetches_by_consumer = True  # RabbitMQ, "Consumer Prefetch"

    def __init__(self, connection: Any, inbox: Inbox) -> None:
        self._connection = connection
        self._amqp = connection.connection
        self._channel = connection.channel()
        self._channel_id: int = self._channel.channel_id
        self._reader = FrameReader(self._amqp, self._channel_id, self._take_method, self._refuse)
        #: names of queues by the tags of their consumers
        self._queue_names: dict[bytes, str] = {}
        self._inbox = inbox
        self._poll = select.poll()
        self._poll.register(self._amqp.sock, select.POLLIN)
        self._poll.register(inbox.wake_in, select.POLLIN)
        self._prefetch = 0
        #: delivery tags, in their order
        self._unanswered: dict[int, None] = {}
        self._beat_at, self._heard_at, self._bytes_received = 0.0, time.monotonic(), -1

    def set_prefetch(self, count: int) -> None:
        """See ``Ear``."""
        self._prefetch = count
        self._ask_for_prefetch()

    def begin(self, queue_name: str, source: str, lost: Callable[[], None]) -> None:
        """See ``Ear``."""
        tag = _tag(queue_name)

        def cancelled(_tag: str) -> None:
            self._queue_names.pop(_written(tag), None)
            lost()

        self._channel.basic_consume(
            source,
            consumer_tag=tag,
            callback=lambda message: self._take_message(queue_name, message),
            on_cancel=cancelled,
        )
        self._queue_names[_written(tag)] = queue_name

    def end(self, queue_name: str) -> None:
        """See ``Ear``."""
        tag = _tag(queue_name)
        self._channel.basic_cancel(tag)
        self._queue_names.pop(_written(tag), None)
        self._inbox.announce()

    def pause(self) -> None:
        """Whatever is unread comes again."""

    def turn(self) -> None:
        """See ``Ear``."""
        has_news = self._reader.has_read_ahead()
        for descriptor, _ in self._poll.poll(0.0 if has_news else self._inbox.patience() * 1e3):
            if descriptor == self._inbox.wake_in:
                self._inbox.quieten()
            else:
                has_news = True
        if has_news:
            # Once: answers that wait are sent before more is read.
            self._reader.receive()
            self._inbox.announce()
        now = time.monotonic()
        # Who was told of news waits for this thread to let go of the interpreter: beats can wait for the next turn.
        if now >= self._beat_at + (_BEATS_LATE if has_news else 0.0):
            self._beat(now)

    def answer(self, deliveries: Sequence[Delivery], how: Answer) -> None:
        """See ``Ear``."""
        tags = [one.tag for one in deliveries if one.tag in self._unanswered]
        for tag in tags:
            del self._unanswered[tag]
        if how == "ack":
            for tag in self._ack_in_one(tags):
                self._channel.basic_ack(tag)
        else:
            for tag in tags:
                self._channel.basic_reject(tag, requeue=how == "requeue")

    def flush(self) -> None:
        """See ``Ear``. AMQP does not confirm acks; but what comes after them on their channel, it answers in order."""
        self._ask_for_prefetch()

    def _ask_for_prefetch(self) -> None:
        self._channel.basic_qos(0, self._prefetch, False)
        # While it waited for that answer, deliveries may have come.
        self._inbox.announce()

    def answer_lasting(self, deliveries: Sequence[Delivery], how: Answer) -> bool:
        """Tags are the connection's own."""
        return False

    def _ack_in_one(self, tags: list[int]) -> list[int]:
        """Ack with one frame all tags before the first that is still unanswered; gives the others."""
        first = next(iter(self._unanswered), None)
        early = [tag for tag in tags if first is None or tag < first]
        if len(early) < 2:
            return tags
        self._channel.basic_ack(max(early), multiple=True)
        return [tag for tag in tags if first is not None and tag > first]

    def _beat(self, now: float) -> None:
        amqp = self._amqp
        self._beat_at = now + TURN
        if not amqp.heartbeat:
            return
        self._connection.heartbeat_check()
        if amqp.bytes_recv != self._bytes_received:
            self._bytes_received = amqp.bytes_recv
            self._heard_at = now
        elif now - self._heard_at > amqp.heartbeat * _SILENCE:
            raise ConnectionError(f"nothing was heard for {now - self._heard_at:.0f} s")

    def _take_method(self, data: bytes, start: int, end: int) -> int:
        """Take a delivery past py-amqp; see ``Taker``."""
        read = read_delivery(data, start, end, self._channel_id)
        if read is None:
            return 0
        consumer, tag, is_redelivered, properties, body, after = read
        queue_name = self._queue_names.get(consumer)
        if queue_name is None:
            # py-amqp gives it back.
            return 0
        self._take(queue_name, tag, properties, body, is_redelivered)
        return after

    def _refuse(self, tag: int, error: Exception) -> None:
        """Set aside what cannot be read; with the connection it would come again, for ever."""
        logger.warning(
            "A message was set aside: its properties cannot be read (%s).", error, extra={"action": "message_refused"}
        )
        self._channel.basic_reject(tag, requeue=False)

    def _take_message(self, queue_name: str, message: Any) -> None:
        """Take what py-amqp has read."""
        is_redelivered = bool(message.delivery_info.get("redelivered"))
        self._take(queue_name, message.delivery_tag, message.properties, message.body, is_redelivered)

    def _take(
        self, queue_name: str, tag: int, properties: dict[str, Any], body: bytes | str, is_redelivered: bool
    ) -> None:
        self._unanswered[tag] = None
        # By position: it is made for each message, and takes a third less so.
        self._inbox.deliveries.append(
            Delivery(
                self._inbox.epoch,
                tag,
                queue_name,
                body,
                properties.get("content_type"),
                properties.get("content_encoding"),
                properties.get("application_headers"),
                properties,
                is_redelivered,
            )
        )


def _tag(queue_name: str) -> str:
    return f"taskq-{os.getpid()}-{queue_name}"


def _written(tag: str) -> bytes:
    """As it comes back with each delivery."""
    return tag.encode("utf-8", "surrogatepass")
