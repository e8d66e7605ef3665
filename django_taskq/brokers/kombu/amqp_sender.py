"""Confirmed publishing on an AMQP channel: many messages under way, their confirms counted as they come."""

from __future__ import annotations

import logging
import os
import select
import struct
import time
import uuid
from collections.abc import Sequence
from itertools import takewhile
from threading import Event
from typing import Any

from amqp import spec
from amqp.exceptions import AMQPError, ChannelError, MessageNacked
from amqp.exceptions import ConnectionError as AMQPConnectionError

from ...core.topology import Topology
from .connection import abandon
from .frames import CHANNEL, Unsendable, frames, properties_of, publish_method
from .reading import FrameReader
from .sender import Deadline, Letter, Refused, Route, declare_if_allowed

logger = logging.getLogger("django_taskq.broker")

#: messages under way without a confirm; more bring RabbitMQ nothing
_WINDOW = 500
#: messages and bytes that go out in one write
_BATCH, _BATCH_BYTES = 100, 256 * 1024
#: bytes in one call of the socket: what a slow network takes within the patience of a deadline
_PIECE = 128 * 1024

#: seconds without traffic after which a connection may be dead without a sign
_IDLE = 5.0
#: seconds for what is posted to be written: the network's buffers are full only when nobody reads
_POST_PATIENCE = 1.0
#: seconds in which the broker confirms a message that nobody gets; and, when it has said that it is short of memory
#: or disk, until it is asked on another connection whether that is still so
_PROOF_TIMEOUT, _BLOCKED_TIMEOUT = 2.0, 60.0
#: seconds between two looks whether anybody still wants to know
_TURN = 0.5

#: queues of which a connection remembers that they were declared
_MAX_DECLARED = 10_000

#: a confirm: its method, the tag of the message, and whether all before that are meant, too
_CONFIRM = struct.Struct(">4sQB")
_ACK, _NACK = (struct.pack(">HH", *method) for method in (spec.Basic.Ack, spec.Basic.Nack))

#: Replies that close a connection for what was sent over it (AMQP 0-9-1, section 1.7): syntax, sequence, resources,
#: what is not allowed, and RabbitMQ's answer to what it had not thought of.
_OUR_FAULT = frozenset({501, 502, 503, 505, 506, 530, 540, 541})


class Blocked(OSError):
    """The broker is short of memory or disk and takes no messages."""


class AmqpSender:
    """Sends over one AMQP connection; see ``Sender``."""

    def __init__(self, connection: Any, topology: Topology, *, confirm: bool) -> None:
        self._connection = connection
        self._topology = topology
        self._confirm = confirm
        self.used_at = time.monotonic()
        self.is_blocked = False
        #: queues this connection has declared, and where messages for them go
        self._declared: dict[str, tuple[str, str]] = {}
        self._tag = 0
        #: letters by delivery tag, in the order they were sent
        self._waiting: dict[int, Letter] = {}
        #: letters that came back because no queue takes them
        self._returned: list[Letter] = []
        #: the same where nobody waits for confirms: (exchange, routing key, message)
        self._strays: list[tuple[str, str, Any]] = []
        amqp = self._amqp = connection.connection
        amqp.on_blocked = self._on_blocked
        amqp.on_unblocked = self._on_unblocked
        self._transport = amqp.transport
        self._reader = FrameReader(amqp, CHANNEL, self._take_confirm)
        self._frame_max: int = amqp.frame_max
        channel = self._channel = amqp.channel(CHANNEL)
        # What comes back is compared with what was sent: bytes.
        channel.auto_decode = False
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        if confirm:
            channel.confirm_select()
        self._poll = select.poll()
        self._poll.register(self._transport.sock, select.POLLIN)

    # What a publisher asks

    def check(self) -> None:
        """See ``Sender``."""
        if self._reader.is_tls:
            while self._is_readable():
                self._reader.receive()
            return
        # Where no confirm is due there is seldom anything, and to hear so takes longer by reading: it raises.
        if self._waiting or self._is_readable():
            while self._reader.receive():
                pass

    def send(self, letters: Sequence[Letter], deadline: Deadline) -> None:
        """See ``Sender``."""
        try:
            if self._strays:
                self._send_strays(deadline)
            self._declare([letter.route for letter in letters], deadline)
            self._deliver(letters, deadline)
            if self._returned:
                self._deliver_again(deadline)
        except ChannelError as error:
            raise Refused(str(error)) from error
        except AMQPConnectionError as error:
            if error.reply_code in _OUR_FAULT:
                raise Refused(str(error)) from error
            raise
        self.used_at = time.monotonic()

    def post(self, letters: Sequence[Letter]) -> bool:
        """See ``Sender``. Not on a connection that may be dead without a sign, nor where more is to be done."""
        now = time.monotonic()
        if now - self.used_at > _IDLE or len(self._waiting) + len(letters) > _WINDOW:
            return False
        self.check()
        if self.is_blocked or self._returned or self._strays:
            return False
        if any(letter.route.is_declared_here and letter.route.queue_name not in self._declared for letter in letters):
            return False
        deadline = Deadline(_POST_PATIENCE, _POST_PATIENCE)
        position = 0
        while position < len(letters):
            position = self._write_some(letters, position, deadline)
        self.used_at = now
        return True

    def collect(self, deadline: Deadline, *, wait: bool) -> None:
        """See ``Sender``."""
        self.check()
        if self._returned or self._strays or (wait and self._waiting):
            self.send([], deadline)

    def unsettled(self) -> list[Letter]:
        """See ``Sender``."""
        return [letter for letter in (*self._waiting.values(), *self._returned) if letter.result is None]

    def prove(self, stop: Event) -> None:
        """See ``Sender``. A broker that says it is blocked is waited for on this connection.

        RabbitMQ reads nothing from a blocked connection, not even its end: each new one would stay until the alarm is over.
        """
        # Nobody waits any more for what was under way when the broker was blocked.
        self._waiting.clear()
        self._returned.clear()
        began = time.monotonic()
        while self.is_blocked:
            self._listen(stop, began + _BLOCKED_TIMEOUT)
        channel = self._amqp.channel()
        answers: list[bool] = []
        channel.events["basic_ack"].add(lambda _tag, _multiple: answers.append(True))
        channel.events["basic_nack"].add(lambda _tag, _multiple: answers.append(False))
        channel.confirm_select()
        # Two: RabbitMQ takes one message before it blocks a new connection.
        for count in (1, 2):
            _publish(channel, channel.prepare_message(b""), "", f"taskq.{uuid.uuid4()}")
            began = free_since = time.monotonic()
            while len(answers) < count:
                if self.is_blocked:
                    free_since = time.monotonic()
                self._listen(stop, min(free_since + _PROOF_TIMEOUT, began + _BLOCKED_TIMEOUT))
        if not all(answers):
            raise MessageNacked("the broker refuses messages")
        channel.close()
        self.used_at = time.monotonic()

    def close(self, timeout: float) -> None:
        """See ``Sender``."""
        try:
            self._transport.sock.settimeout(timeout)
            self._amqp.close()
        except (OSError, AMQPError):
            logger.debug("No orderly end of a connection to the broker", exc_info=True)
        self.abandon()

    def abandon(self) -> None:
        """See ``Sender``."""
        abandon(self._connection)

    # Sending

    def _declare(self, routes: Sequence[Route], deadline: Deadline) -> None:
        """Make the queues of these routes, each once for a connection."""
        declared = self._declared
        missing = {
            route.queue_name: (route.exchange, route.routing_key)
            for route in routes
            if route.queue_name not in declared and route.is_declared_here
        }
        if not missing:
            return
        if len(declared) > _MAX_DECLARED:
            declared.clear()
        for queue_name, target in missing.items():
            self._wait_at_most(deadline)
            # On a channel of its own, because a refusal closes it.
            channel = self._amqp.channel()
            declare_if_allowed(self._topology, channel, queue_name)
            channel.close()
            declared[queue_name] = target

    def _deliver(self, letters: Sequence[Letter], deadline: Deadline) -> None:
        """Send and, where the broker confirms, wait for all confirms but those of letters that come back."""
        waiting = self._waiting
        position, count = 0, len(letters)
        while position < count or waiting:
            if self.is_blocked:
                raise Blocked("the broker is short of memory or disk space and takes no messages")
            while position < count and len(waiting) < _WINDOW:
                position = self._write_some(letters, position, deadline)
                # What has come already makes room for more.
                self.check()
                if self.is_blocked:
                    break
            if not waiting or self.is_blocked:
                continue
            before = len(waiting)
            self._await(_left(deadline))
            if len(waiting) < before and count > 1:
                deadline.progress()

    def _write_some(self, letters: Sequence[Letter], position: int, deadline: Deadline) -> int:
        """Write the next few letters; gives how far they have come."""
        batch, size = [], 0
        end = min(len(letters), position + _BATCH)
        while position < end and size < _BATCH_BYTES:
            letter = letters[position]
            position += 1
            if letter.result is not None:
                continue
            try:
                data = frames(letter.route.method, letter.properties, letter.wire.body, self._frame_max)
            except Unsendable as error:
                letter.give_up(str(error))
                continue
            letter.is_returned = False
            if self._confirm:
                self._tag += 1
                self._waiting[self._tag] = letter
            batch.append(data)
            size += len(data)
            if not self._confirm:
                letter.result = True
        self._write(b"".join(batch), deadline)
        return position

    def _write(self, data: bytes, deadline: Deadline) -> None:
        if len(data) <= _PIECE:
            rest = data[self._write_now(data, deadline) :]
            if rest:
                self._wait_at_most(deadline)
                self._transport.write(rest)
            return
        self._wait_at_most(deadline)
        pieces = memoryview(data)
        for start in range(0, len(data), _PIECE):
            self._transport.write(pieces[start : start + _PIECE])
            deadline.progress()
            self._wait_at_most(deadline)

    def _write_now(self, data: bytes, deadline: Deadline) -> int:
        """Write what can be written with one call, which never waits; gives how many bytes.

        ``sendall`` makes three with a timeout, and after each of them waits for other threads to let this one go on.
        """
        sock = self._transport.sock
        if sock is None or self._reader.is_tls or not sock.gettimeout():
            return 0
        _left(deadline)
        try:
            # It has a timeout: its descriptor does not wait.
            return os.write(sock.fileno(), data)
        except BlockingIOError:
            return 0

    def _deliver_again(self, deadline: Deadline) -> None:
        """What came back goes out once more, after its queue was made anew: somebody has deleted it."""
        again, self._returned = self._returned, []
        for letter in again:
            self._declared.pop(letter.route.queue_name, None)
        self._declare([letter.route for letter in again], deadline)
        self._deliver(again, deadline)
        lost, self._returned = self._returned, []
        for letter in lost:
            letter.give_up("no queue takes it")

    def _send_strays(self, deadline: Deadline) -> None:
        """The same without confirms: what came back since the last time, once more."""
        strays, self._strays = self._strays, []
        targets = {(exchange, routing_key) for exchange, routing_key, _ in strays}
        names = [name for name, target in self._declared.items() if target in targets]
        for name in names:
            del self._declared[name]
        self._declare([Route(self._topology, name, reply=False) for name in names], deadline)
        self._wait_at_most(deadline)
        for exchange, routing_key, message in strays:
            _publish(self._channel, message, exchange, routing_key)

    def _wait_at_most(self, deadline: Deadline) -> None:
        """Let writes, and methods that wait for an answer, take no longer than there is time."""
        self._transport.sock.settimeout(_left(deadline))

    def _listen(self, stop: Event, until: float) -> None:
        """Hear what the broker has to say, for a moment."""
        if stop.is_set() or time.monotonic() > until:
            raise TimeoutError("the broker does not confirm messages")
        try:
            self._amqp.drain_events(timeout=_TURN)
        except TimeoutError:
            return

    def _await(self, timeout: float) -> None:
        """Hear what the broker says next. Raises ``TimeoutError``."""
        if not (self._is_readable() or self._poll.poll(timeout * 1e3)):
            raise TimeoutError("the broker did not confirm a message in time")
        self._reader.receive()

    def _is_readable(self) -> bool:
        if self._transport.sock is None:
            raise OSError("the connection is closed")
        return bool(self._poll.poll(0)) or self._reader.has_read_ahead()

    # What the broker says

    def _take_confirm(self, data: bytes, start: int, end: int) -> int:
        """Take a confirm past py-amqp; see ``Taker``."""
        if end - start != _CONFIRM.size:
            return 0
        method, tag, bits = _CONFIRM.unpack_from(data, start)
        if method == _ACK:
            self._on_ack(tag, bits & 1 == 1)
        elif method == _NACK:
            self._on_nack(tag, bits & 1 == 1)
        else:
            return 0
        return end + 1

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:
        for letter in self._answered(delivery_tag, multiple):
            if letter.is_returned:
                self._returned.append(letter)
            else:
                letter.result = True

    def _on_nack(self, delivery_tag: int, multiple: bool) -> None:
        for letter in self._answered(delivery_tag, multiple):
            letter.result = False

    def _answered(self, delivery_tag: int, multiple: bool) -> list[Letter]:
        waiting = self._waiting
        if not multiple:
            letter = waiting.pop(delivery_tag, None)
            return [] if letter is None else [letter]
        # Tags only grow, and the dict is in their order.
        return [waiting.pop(tag) for tag in list(takewhile(delivery_tag.__ge__, waiting))]

    def _on_return(self, _error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        """Find the letter that came back. The broker says so before it confirms it, and not under which tag."""
        if not self._confirm:
            self._strays.append((exchange, routing_key, message))
            return
        correlation_id = message.properties.get("correlation_id")
        body = message.body or b""
        for letter in self._waiting.values():
            route = letter.route
            if (
                not letter.is_returned
                and route.routing_key == routing_key
                and route.exchange == exchange
                and letter.wire.body == body
                and letter.wire.properties.get("correlation_id") == correlation_id
            ):
                letter.is_returned = True
                return

    def _on_blocked(self, _reason: str) -> None:
        self.is_blocked = True

    def _on_unblocked(self) -> None:
        self.is_blocked = False


def _publish(channel: Any, message: Any, exchange: str, routing_key: str) -> None:
    """``basic_publish`` less its look for news without a timeout, which spins on half a frame."""
    channel.send_method(spec.Basic.Publish, "Bssbb", (0, exchange, routing_key, False, False), message)


def prepare_route(route: Route) -> None:
    """Make what all messages for a queue begin with."""
    try:
        route.method = publish_method(route.exchange, route.routing_key, route.mandatory)
    except (struct.error, ValueError) as error:
        route.problem = f"its name cannot be written ({error})"


def prepare(letter: Letter) -> None:
    """Make what can be made in the thread that publishes the letter. Raises for what AMQP has no way to write."""
    wire = letter.wire
    letter.properties = properties_of(wire.properties, wire.headers, letter.route.delivery_mode, letter.priority)


def _left(deadline: Deadline) -> float:
    remaining = deadline.remaining()
    if remaining <= 0:
        raise TimeoutError("the broker does not answer in time")
    return remaining
