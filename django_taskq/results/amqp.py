"""Results in queues: one durable queue for each task, read as often as somebody likes until its time is over.

What Celery's ``amqp://`` results were, which it gave up in its version 5. Each queue holds one message, the newest, and
RabbitMQ deletes both when their time is over. Reading takes the message and puts it back, so that while one
process reads, another may find the queue empty for a moment, and looks again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from amqp import Message
from amqp.exceptions import AMQPError, ChannelError, NotFound, PreconditionFailed

from ..brokers.kombu.connection import abandon, dial
from ..conf import BackendOptions
from ..result_url import own_broker
from .keyvalue import CONNECT_TIMEOUT, OPERATION_TIMEOUT, KeyValueStore, StoreConfigError

#: seconds; RabbitMQ counts the life of a queue in milliseconds, in 32 bits
MAX_TTL = (2**32 - 1) / 1000
#: seconds for which a reader looks again at a queue that is there and empty: another reader may have the message
_HELD = 0.1
_LOOK_AGAIN = 0.005
#: seconds without use after which a connection may be dead without a sign
_STALE = 5.0

T = TypeVar("T")


class QueueStore(KeyValueStore):
    """See ``KeyValueStore``. ``options``: of the alias, whose results are ``amqp://``.

    A queue lives for the longest time that the alias keeps results, which so has to be limited; a single value may
    live shorter. Raises ``StoreConfigError``.
    """

    expires = True

    def __init__(self, options: BackendOptions) -> None:
        broker = own_broker(options.results)
        if broker:
            options = replace(options, broker=broker, broker_options=options.result_options)
        ttls = [options.result_ttl, options.failure_ttl]
        longest = max((ttl for ttl in ttls if ttl is not None), default=0.0)
        if None in ttls or longest > MAX_TTL:
            raise StoreConfigError(
                f"amqp:// needs a result_ttl and a failure_ttl of at most {MAX_TTL:.0f} seconds: queues are made for them."
            )
        self._options = options
        self._longest = longest
        #: one connection for all threads: results of this kind are for few and long tasks
        self._lock = threading.Lock()
        self._connection: Any = None
        self._channel: Any = None
        self._used_at = 0.0

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """See ``KeyValueStore``."""

        def publish(channel: Any) -> None:
            self._declare(channel, key)
            milliseconds = int(min(ttl or self._longest, self._longest) * 1000)
            message = Message(value, delivery_mode=2, expiration=str(max(milliseconds, 1)))
            channel.basic_publish_confirm(message, "", key, confirm_timeout=OPERATION_TIMEOUT)

        self._do(publish)

    def get(self, key: str) -> bytes | None:
        """See ``KeyValueStore``."""

        def read(channel: Any) -> bytes | None:
            until = time.monotonic() + _HELD
            while True:
                message = channel.basic_get(key)
                if message is not None:
                    channel.basic_reject(message.delivery_tag, requeue=True)
                    body = message.body
                    return body.encode() if isinstance(body, str) else bytes(body)
                if time.monotonic() >= until or not self._has_had(channel, key):
                    return None
                time.sleep(_LOOK_AGAIN)

        try:
            return self._do(read)
        except NotFound:
            return None

    def delete(self, key: str) -> None:
        """See ``KeyValueStore``. RabbitMQ takes the name of a queue that is not there for one it has deleted."""
        self._do(lambda channel: channel.queue_delete(key))

    def close(self) -> None:
        """See ``KeyValueStore``."""
        with self._lock:
            self._drop()

    def _has_had(self, channel: Any, key: str) -> bool:
        """Whether an empty queue is so because somebody reads its message just now: nobody else makes one."""
        return bool(channel.queue_declare(key, passive=True).queue)

    def _declare(self, channel: Any, key: str) -> None:
        milliseconds = int(self._longest * 1000)
        channel.queue_declare(
            key,
            durable=True,
            auto_delete=False,
            arguments={"x-expires": milliseconds, "x-max-length": 1, "x-overflow": "drop-head"},
        )

    def _do(self, work: Callable[[Any], T]) -> T:
        """Work on the channel, once more on a new one when the old one has ended meanwhile."""
        with self._lock:
            is_fresh = self._connect()
            try:
                return self._try(work)
            except (OSError, AMQPError) as error:
                if is_fresh or isinstance(error, ChannelError):
                    raise
                self._connect()
                return self._try(work)

    def _try(self, work: Callable[[Any], T]) -> T:
        try:
            result = work(self._channel)
        except NotFound:
            # It has closed the channel only.
            self._open_channel()
            raise
        except PreconditionFailed as error:
            self._open_channel()
            raise StoreConfigError(
                "the task has a queue with another time to live: result_ttl or failure_ttl were changed meanwhile"
            ) from error
        except (OSError, AMQPError):
            self._drop()
            raise
        self._used_at = time.monotonic()
        return result

    def _connect(self) -> bool:
        """Whether a new connection was made: there was none, or one that may be dead without a sign."""
        if self._connection is not None and time.monotonic() - self._used_at <= _STALE:
            return False
        self._drop()
        self._connection = dial(
            self._options,
            heartbeat=0,
            timeout=CONNECT_TIMEOUT,
            answer_timeout=OPERATION_TIMEOUT,
            name=f"django_taskq results {os.getpid()}",
        )
        self._open_channel()
        self._used_at = time.monotonic()
        return True

    def _open_channel(self) -> None:
        self._channel = self._connection.connection.channel()
        self._channel.auto_decode = False

    def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            abandon(connection)
