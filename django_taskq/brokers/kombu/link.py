"""A connection that consumes, and the thread that owns it.

All that touches the connection happens in that thread: connecting, heartbeats, receiving, acks. So a
broker that hangs holds up nobody, and a worker that waits for its database keeps its connection. The
worker's I/O thread says what it wants and what is done, and takes deliveries from a deque.
"""

from __future__ import annotations

import logging
import random
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ...conf import BackendOptions
from ..topology import TopologyError, broadcast_queue, declare
from .amqp_ear import AmqpEar, heartbeat_for
from .connection import abandon, describe, dial, errors_of, is_amqp
from .ears import Answer, Ear
from .inbox import Delivery, Inbox
from .virtual_ear import VirtualEar

logger = logging.getLogger("django_taskq.broker")

#: seconds until the next try to connect: from, to; a share of it is left to chance, so that a broker that comes
#: back is not met by everybody at once
_BACKOFF, _BACKOFF_MAX, _JITTER = 0.1, 2.0, 0.5
#: seconds between two log lines about a broker that stays away
_COMPLAIN_EVERY = 30.0
#: seconds until the next try to consume from a queue that could not be declared
_DECLARE_AGAIN = 5.0


@dataclass(frozen=True, slots=True)
class _Wish:
    queue_names: frozenset[str] = frozenset()
    prefetch: int = 0


class Link:
    """Receives from queues of one broker; see the module for who calls what.

    ``ring``: called in the link's thread when deliveries have come, the connection is new, or it receives from another
    queue. ``arrived``: called there instead when deliveries have come. ``turned``: after each turn, once a second at
    least while there is a connection.
    """

    def __init__(
        self,
        options: BackendOptions,
        ring: Callable[[], None],
        *,
        arrived: Callable[[], None] | None = None,
        turned: Callable[[], None] = lambda: None,
    ) -> None:
        self.is_connected = False
        #: why the last connection failed, in words and without passwords; "" while there is one
        self.trouble = ""
        #: when the thread last had nothing but the broker to wait for (monotonic)
        self.turned_at = time.monotonic()
        self._options = options
        self._topology = options.topology
        self._inbox = Inbox(ring, arrived)
        self._turned = turned
        #: answers to lasting deliveries, for the next connection
        self._kept: list[tuple[list[Delivery], Answer]] = []
        self._wish = _Wish()
        self._is_stopping = False
        self._is_abandoned = False
        self._connection: Any | None = None
        self._ear: Ear | None = None
        self._consuming: set[str] = set()
        self._prefetch = 0
        self._declare_at: dict[str, float] = {}
        self._broadcast: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="taskq-broker", daemon=True)

    # The worker's side

    def take(self, limit: int) -> list[Delivery]:
        """Up to ``limit`` of what has come."""
        return self._inbox.take(limit)

    @property
    def deliveries(self) -> deque[Delivery]:
        """What has come and nobody has taken yet."""
        return self._inbox.deliveries

    def is_receiving(self, queue_name: str) -> bool:
        """Whether the broker delivers from this queue."""
        return queue_name in self._consuming

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def want(self, queue_names: frozenset[str], prefetch: int) -> None:
        """Receive from these queues, with up to ``prefetch`` unanswered deliveries each; 0 receives nothing."""
        wish = _Wish(queue_names, prefetch)
        if wish != self._wish:
            self._wish = wish
            self._inbox.wake()

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        """These are done with."""
        self._answer(deliveries, "ack")

    def ack_soon(self, delivery: Delivery) -> None:
        """It is done with; its ack may wait for whatever the broker sends next, or some milliseconds. For any thread."""
        if self.can_answer(delivery):
            self._inbox.ack_soon(delivery, max(self._prefetch // 2, 1))

    def put_back(self, delivery: Delivery) -> None:
        """It was taken, and is to be taken again."""
        self._inbox.deliveries.appendleft(delivery)

    def reject(self, deliveries: Iterable[Delivery]) -> None:
        """These are set aside: the queue's dead-letter exchange gets them, where it has one."""
        self._answer(deliveries, "reject")

    def requeue(self, deliveries: Iterable[Delivery]) -> None:
        """These are for others."""
        self._answer(deliveries, "requeue")

    def ack_now(self, delivery: Delivery, timeout: float) -> bool:
        """Wait until the broker has the ack; False when it has not been sent, and then it is not sent any more."""
        done, sent, withdrawn = threading.Event(), threading.Event(), threading.Event()

        def send() -> None:
            # Called without an ear when the connection is lost: nobody is to wait on then.
            if self._ear is not None and not withdrawn.is_set():
                self._send([delivery], "ack")
                sent.set()
                self._ear.flush()
            done.set()

        epoch = self._inbox.epoch
        self._inbox.answers.append(send)
        self._inbox.wake()
        if not done.wait(timeout):
            withdrawn.set()
        is_same = epoch == self._inbox.epoch and (delivery.is_lasting or delivery.epoch == epoch)
        return sent.is_set() and is_same

    def stop(self, timeout: float) -> None:
        """Send the answers, close the connection, end the thread; after ``timeout`` seconds without a word."""
        self._is_stopping = True
        self._inbox.wake()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self.abandon()

    def leave_to_parent(self) -> None:
        """In a forked child, where its thread is not: close the descriptors, and leave the connection to the parent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            abandon(connection)

    def abandon(self) -> None:
        """Give up on a thread that hangs: shut its socket under it. It ends as soon as it notices."""
        self._is_stopping = self._is_abandoned = True
        self._inbox.epoch += 1
        self.is_connected = False
        connection = self._connection
        if connection is not None:
            _shut(connection)

    def can_answer(self, delivery: Delivery) -> bool:
        """Whether the broker would still know what is meant."""
        return delivery.is_lasting or delivery.epoch == self._inbox.epoch

    def _answer(self, deliveries: Iterable[Delivery], how: Answer) -> None:
        answered = [one for one in deliveries if self.can_answer(one)]
        if answered:
            self._inbox.answers.append(lambda: self._send(answered, how))
            self._inbox.wake()

    # The link's thread

    def _run(self) -> None:
        pause = _BACKOFF
        complained_at = float("-inf")
        url = self._options.broker
        while not self._is_stopping:
            errors: tuple[type[BaseException], ...] = (OSError,)
            began = time.monotonic()
            try:
                self._connection = connection = dial(self._options, heartbeat=heartbeat_for(self._options.heartbeat))
                errors = errors_of(connection)
                self._serve(connection)
            except Exception as error:
                if self._is_abandoned:
                    break
                if self.is_connected and time.monotonic() - began > _BACKOFF_MAX:
                    pause = _BACKOFF
                self.trouble = describe(error, url)
                is_new = self.is_connected or began - complained_at > _COMPLAIN_EVERY
                if is_new:
                    complained_at = began
                logger.log(
                    logging.WARNING if is_new else logging.DEBUG,
                    "The broker failed: %s; trying again.",
                    self.trouble,
                    exc_info=not isinstance(error, (*errors, OSError)) and self.is_connected,
                    extra={"action": "broker_failed"},
                )
            self._forget()
            if not self._is_stopping:
                self._nap(pause * (1 - _JITTER * random.random()))  # noqa: S311  # jitter, not a secret
                pause = min(pause * 2, _BACKOFF_MAX)
        if self._is_abandoned:
            self._forget()

    def _forget(self) -> None:
        """The connection is gone: whatever it delivered comes again."""
        if not self._is_abandoned:
            self._inbox.epoch += 1
        self.is_connected = False
        lasting = [one for one in self.deliveries if one.is_lasting]
        self.deliveries.clear()
        connection, self._connection, self._ear = self._connection, None, None
        if connection is not None:
            abandon(connection)
        self._consuming.clear()
        self._broadcast.clear()
        self._prefetch = 0
        # Answers to deliveries say nothing any more; who waits for them must not wait on.
        self._send_answers()
        if lasting:
            self._kept.append((lasting, "requeue"))

    def _nap(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._is_stopping and (left := until - time.monotonic()) > 0:
            self.turned_at = time.monotonic()
            self._inbox.wait(left)

    def _serve(self, connection: Any) -> None:
        """Until told to stop, or the connection fails."""
        ear: Ear
        if is_amqp(connection):
            ear = AmqpEar(connection, self._inbox)
        else:
            ear = VirtualEar(connection, self._inbox, self._options)
        while self._kept and ear.answer_lasting(*self._kept[0]):
            del self._kept[0]
        self._ear = ear
        self._inbox.epoch += 1
        self.is_connected = True
        self.trouble = ""
        self._declare_at.clear()
        logger.info("Connected to the broker.", extra={"action": "broker_connected"})
        self._inbox.ring()
        while not self._is_stopping:
            self.turned_at = time.monotonic()
            # In this order: what is requeued because nothing is wanted any more must not come back here.
            self._consume(connection, ear)
            self._send_answers()
            ear.turn()
            self._turned()
        self._send_answers()
        self._cancel(ear)
        self._give_back()
        connection.release()
        self._connection = None

    def _consume(self, connection: Any, ear: Ear) -> None:
        """Make what is consumed what is wanted."""
        wish = self._wish
        if not wish.prefetch:
            self._cancel(ear)
            self._give_back()
            return
        if wish.prefetch != self._prefetch:
            if ear.prefetches_by_consumer:
                self._cancel(ear)
            ear.set_prefetch(wish.prefetch)
            self._prefetch = wish.prefetch
        for queue_name in self._consuming - wish.queue_names:
            self._consuming.remove(queue_name)
            ear.end(queue_name)
        now = time.monotonic()
        for queue_name in wish.queue_names - self._consuming:
            if self._declare_at.get(queue_name, 0.0) <= now:
                self._begin(connection, ear, queue_name)

    def _begin(self, connection: Any, ear: Ear, queue_name: str) -> None:
        try:
            # A channel of its own: a queue that differs from what is configured costs the channel.
            with connection.channel() as declaring:
                source = self._declare(declaring, queue_name)
        except (TopologyError, *connection.channel_errors) as error:
            logger.error(  # noqa: TRY400  # it says all
                "Queue %r is not consumed: %s",
                queue_name,
                describe(error, self._options.broker),
                extra={"action": "queue_refused"},
            )
            self._declare_at[queue_name] = time.monotonic() + _DECLARE_AGAIN
            return

        def lost() -> None:
            # It is declared and consumed anew.
            self._consuming.discard(queue_name)
            self._broadcast.pop(queue_name, None)

        self._consuming.add(queue_name)
        ear.begin(queue_name, source, lost)
        self._inbox.ring()
        self._declare_at.pop(queue_name, None)

    def _declare(self, channel: Any, queue_name: str) -> str:
        """Make the queue; gives its name at the broker."""
        if not self._topology.is_broadcast(queue_name):
            declare(self._topology, channel, queue_name)
            return queue_name
        if queue_name not in self._broadcast:
            self._broadcast[queue_name] = broadcast_queue(self._topology, channel, queue_name)
        return self._broadcast[queue_name]

    def _cancel(self, ear: Ear) -> None:
        ear.pause()
        while self._consuming:
            ear.end(self._consuming.pop())
        self._prefetch = 0

    def _give_back(self) -> None:
        """Leave to others what came in before the broker heard that nothing more is wanted."""
        self._send(self._inbox.take(sys.maxsize), "requeue")

    def _send_answers(self) -> None:
        late = self._inbox.take_late(everything=self._is_stopping)
        if late:
            # Those of a connection that has ended are dropped.
            self._send(late, "ack")
        answers = self._inbox.answers
        while answers:
            # One that fails is given again: over the next connection, where it still says something.
            answers[0]()
            answers.popleft()

    def _send(self, deliveries: list[Delivery], how: Answer) -> None:
        ear = self._ear
        lasting = [one for one in deliveries if one.is_lasting and one.epoch != self._inbox.epoch]
        if lasting and (ear is None or not ear.answer_lasting(lasting, how)):
            self._kept.append((lasting, how))
        if ear is not None:
            ear.answer([one for one in deliveries if one.epoch == self._inbox.epoch], how)


def _shut(connection: Any) -> None:
    """Wake a thread that hangs in this connection's socket."""
    sock = getattr(getattr(connection, "_connection", None), "sock", None)
    if isinstance(sock, socket.socket):
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            # It is shut already.
            return
