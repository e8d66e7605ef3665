"""Publishing from any thread: one connection for each process and broker, shared, and never waited for.

Whoever publishes first sends what all others have handed in meanwhile, and waits once for all their confirms; the
next of those who came too late for that leads the next round. So many threads publish many times faster than one, and
one as fast as the broker answers.

A broker in trouble is noticed once. From then on everybody is turned away at once, and one thread in the background
tries to reach it; who keeps messages in rows publishes them later.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from amqp.exceptions import RecoverableConnectionError

from ...conf import BackendOptions
from .amqp_sender import AmqpSender, Blocked, prepare, prepare_route
from .connection import abandon, describe, dial, is_amqp, safe_url
from .outgoing import Outgoing
from .poster import Poster
from .sender import Deadline, Letter, Refused, Route, Sender
from .virtual_sender import VirtualSender

__all__ = ["Outgoing", "Publisher", "publisher_for"]

logger = logging.getLogger("django_taskq.broker")

#: seconds for connecting, declaring, sending and confirming together, as long as the broker does nothing; and in all
PATIENCE, LIMIT = 1.0, 2.0
#: seconds in which a thread must have come under way before it gives up
_PICKUP = 1.0
#: the same limit for a round of many or long messages, each of which the broker answers in time
_LONG_LIMIT = 5.0
#: messages in a round; what one thread has beyond that takes turns with others
_ROUND = 2_000
#: messages that are few, and bytes that are little
_FEW, _LITTLE = 500, 1024 * 1024

#: seconds without traffic after which a connection may be dead without a sign, and how long it may take to prove
#: the opposite: the rest of the patience is for another one
_IDLE, _IDLE_PATIENCE = 5.0, 0.4
#: how often a round is tried when its connections end, and the time without which another try is not worth it
_TRIES, _SHORTEST_TRY = 3, 0.05

#: seconds until the next try to connect: from, to; half of it is left to chance, so that a broker that comes back is
#: not met by everybody at once
_BACKOFF, _BACKOFF_MAX = 0.2, 5.0
_CONNECT_TIMEOUT = 2.0
#: seconds that one answer may take
_ANSWER_TIMEOUT = 0.9
#: seconds for a goodbye at the end of the process
_CLOSE_TIMEOUT = 0.2

#: seconds after which a round that has not ended is not going to: its thread was stopped in the middle by force
_STALE = 30.0
#: reconnections because the broker refused something, in one round
_MAX_REFUSALS = 8
#: seconds between two log lines about messages that cannot be sent
_COMPLAIN_EVERY = 10.0
_MAX_ROUTES = 10_000
_MAX_PUBLISHERS = 64


class _Ticket:
    """What one thread waits for. ``letters``: what of it is in the next round. ``wake``: what it waits on, if it does."""

    __slots__ = ("is_done", "letters", "wake")

    wake: threading.Lock

    def __init__(self, letters: list[Letter]) -> None:
        self.letters = letters
        self.is_done = False

    def wait_on(self) -> None:
        """It is going to wait."""
        self.wake = threading.Lock()
        self.wake.acquire()  # whoever settles it or hands over the lead releases it, once


class Publisher:
    """Publishes to the broker of an alias; for any thread of this process, and after a fork for the child's.

    After ``close`` the next publish connects again.
    """

    def __init__(self, options: BackendOptions) -> None:
        self._sender: Sender | None = None
        #: a connection that the broker has blocked, for the thread that waits until it is free
        self._blocked: Sender | None = None
        self._options = options
        self._topology = options.topology
        self._transport = options.transport
        self._is_amqp = self._transport == "amqp"
        self._routes: dict[tuple[str, bool], Route] = {}
        self._complained_at = float("-inf")
        self._begin()
        _publishers.add(self)

    def _begin(self) -> None:
        """State as in a new process: no connection, no other threads."""
        self._pid = os.getpid()
        # Recursive, because a signal may publish in the thread that holds it. Never held while waiting.
        self._mutex = threading.RLock()
        self._leader: _Ticket | None = None
        self._led_at = 0.0
        self._leading_thread = 0
        self._waiting: deque[_Ticket] = deque()
        #: why the broker cannot be published to; None while it can, as far as we know
        self._trouble: str | None = None
        self._connector: threading.Thread | None = None
        self._stop = threading.Event()
        #: set when the connector has a connection, or none
        self._arrived = threading.Event()
        self._pause = _BACKOFF
        self._poster: Poster | None = None

    def __del__(self) -> None:
        for sender in (self._sender, self._blocked):
            if sender is not None:
                sender.abandon()

    @property
    def is_up(self) -> bool:
        """Whether publishing has a chance: false from a failure until the broker has taken a message again."""
        return self._trouble is None

    def publish(self, messages: Sequence[Outgoing]) -> list[bool]:
        """Publish; for each message, whether the broker has it.

        True: confirmed, where the transport confirms and ``OPTIONS["confirm"]`` wants it; else: handed over. False:
        not, or nobody knows. Such a message may arrive nevertheless, once or twice.

        Never raises for a broker in trouble. Returns at once while that is known, and otherwise within a second
        (two at the worst, when other threads' messages come first). More than 500 messages or 1 MiB may take longer:
        then the second is for what the broker takes at a time.
        """
        if self._pid != os.getpid():
            self.forget_parent()
        if self._trouble is not None and self._is_hopeless():
            return [False] * len(messages)
        letters = [self._letter(message) for message in messages]
        if any(letter.result is None for letter in letters):
            for few in _rounds(letters):
                self._take_part(_Ticket(few))
                if self._trouble is not None:
                    break
        results = [letter.result is True for letter in letters]
        if not all(results):
            self._complain(letters)
        return results

    def post(self, messages: Sequence[Outgoing], done: Callable[[list[bool]], None]) -> None:
        """Publish without waiting; ``done`` gets what :meth:`publish` would have given.

        For messages of which something else tells whether they have come. ``done`` is called once, in this thread or
        another, and must not take long.
        """
        if self._pid != os.getpid():
            self.forget_parent()
        if self._trouble is not None and self._is_hopeless():
            done([False] * len(messages))
            return
        letters = [self._letter(message) for message in messages]
        poster = self._poster
        if poster is None:
            with self._mutex:
                poster = self._poster = self._poster or Poster(self)
        poster.post(messages, letters, done)

    def write(self, letters: list[Letter], *, wait: bool) -> Sender | None:
        """Send without waiting for confirms; gives the connection on which they are under way.

        None when that is not possible. ``wait``: for others who are sending.
        """
        ticket = _Ticket([])
        sender: Sender | None = None
        try:
            if self._take_lead(ticket, wait=wait) and self._trouble is None:
                sender = self._sender
                return sender if sender is not None and sender.post(letters) else None
        except Exception:
            logger.debug("The connection to the broker has ended", exc_info=True)
            self._discard(sender)
        except BaseException:
            # Stopped by force, with half a message on its way.
            self._discard(sender)
            raise
        finally:
            self._leave(ticket)
        return None

    def _take_lead(self, ticket: _Ticket, *, wait: bool) -> bool:
        with self._mutex:
            if self._leader is None:
                self._leader = ticket
                self._led_at = time.monotonic()
                self._leading_thread = threading.get_ident()
                return True
        return wait and self._join(ticket)

    def collect(self, sender: Sender, *, wait: bool) -> None:
        """Take note of what the broker says on this connection about what was posted there.

        ``wait``: until it has said so of all, or is given up.
        """
        ticket = _Ticket([])
        try:
            if self._join(ticket) and self.is_current(sender):
                try:
                    sender.collect(Deadline(PATIENCE, LIMIT), wait=wait)
                except Exception:
                    logger.debug("The connection to the broker has ended", exc_info=True)
                    self._discard(sender)
        finally:
            self._leave(ticket)

    def is_current(self, sender: Sender) -> bool:
        """Whether this connection is in use."""
        return self._sender is sender

    def drop(self, sender: Sender) -> None:
        """Use this connection no longer."""
        ticket = _Ticket([])
        try:
            if self._join(ticket) and self.is_current(sender):
                self._discard(sender)
        finally:
            self._leave(ticket)

    def serves(self, options: BackendOptions) -> bool:
        """Whether an alias with these options may share this publisher."""
        ours = self._options
        return (
            ours.broker == options.broker
            and ours.confirm == options.confirm
            and ours.broker_options == options.broker_options
            and self._topology == options.topology
        )

    def close(self, timeout: float = _CLOSE_TIMEOUT) -> None:
        """Say goodbye to the broker, in at most ``timeout`` seconds; before that, settle what was posted."""
        if self._poster is not None and self._pid == os.getpid():
            self._poster.flush()
        with self._mutex:
            self._stop.set()
            self._stop = threading.Event()
            self._connector = None
            self._trouble = None
            blocked, self._blocked = self._blocked, None
            sender, self._sender = self._sender, None
            is_in_use = self._leader is not None
        if blocked is not None:
            blocked.abandon()
        if sender is None:
            return
        if is_in_use or self._pid != os.getpid():
            sender.abandon()
        else:
            sender.close(timeout)

    def forget_parent(self) -> None:
        """Called in a forked child: the connection is the parent's, and threads that held locks are not here."""
        senders = self._sender, self._blocked
        self._sender = self._blocked = None
        self._begin()
        for sender in senders:
            if sender is not None:
                sender.abandon()

    @property
    def is_in_use(self) -> bool:
        """Whether a thread publishes just now."""
        return self._leader is not None

    # Letters

    def _letter(self, message: Outgoing) -> Letter:
        key = (message.queue_name, message.reply)
        route = self._routes.get(key) or self._new_route(key)
        if message.priority in route.priorities:
            priority = route.priorities[message.priority]
        else:
            priority = self._topology.priority(message.queue_name, message.priority, self._transport)
            route.priorities[message.priority] = priority
        letter = Letter(route, message.wire, priority)
        if route.problem:
            letter.give_up(route.problem)
        elif self._is_amqp:
            try:
                prepare(letter)
            except Exception as error:  # noqa: BLE001  # struct.error, ValueError …: whatever does not fit into AMQP
                letter.give_up(f"{error} ({type(error).__name__})")
        return letter

    def _new_route(self, key: tuple[str, bool]) -> Route:
        queue_name, reply = key
        route = Route(self._topology, queue_name, reply=reply)
        if self._is_amqp:
            prepare_route(route)
        if len(self._routes) >= _MAX_ROUTES:
            # Names of reply queues never end.
            self._routes.clear()
        self._routes[key] = route
        return route

    def _complain(self, letters: list[Letter]) -> None:
        """Log what can never be published. One line in a while: the reasons repeat."""
        hopeless = [letter for letter in letters if letter.problem]
        now = time.monotonic()
        if not hopeless or now - self._complained_at < _COMPLAIN_EVERY:
            return
        self._complained_at = now
        logger.error(
            "%s of %s messages cannot be published, one of them for the queue %r: %s",
            len(hopeless),
            len(letters),
            hopeless[0].route.queue_name[:100],
            hopeless[0].problem[:300],
            extra={"action": "message_refused"},
        )

    # Leading and following

    def _take_part(self, ticket: _Ticket) -> None:
        """Get a ticket's letters settled, in the round of whoever leads it."""
        try:
            if self._join(ticket):
                self._lead(ticket)
        finally:
            # Also when this thread was stopped by force anywhere above.
            self._leave(ticket)

    def _join(self, ticket: _Ticket) -> bool:
        """Whether this thread leads; else its ticket is done, or out of time."""
        with self._mutex:
            if self._leader is None:
                self._leader = ticket
                return True
            if self._leading_thread == threading.get_ident():
                # A signal's handler publishes, in the middle of a round of the thread that it interrupts.
                return False
            ticket.wait_on()
            self._waiting.append(ticket)
        ticket.wake.acquire(timeout=_PICKUP)
        with self._mutex:
            if self._leader is ticket or ticket.is_done:
                return self._leader is ticket
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                return self._seize(ticket)
        # It is under way, and that ends in time.
        ticket.wake.acquire(timeout=LIMIT)
        return False

    def _seize(self, ticket: _Ticket) -> bool:
        """Lead in place of a thread that was stopped by force where it could not hand over. Holds the mutex."""
        if time.monotonic() - self._led_at < _STALE:
            return False
        self._leader = ticket
        stale, self._sender = self._sender, None
        if stale is not None:
            stale.abandon()
        return True

    def _lead(self, ticket: _Ticket) -> None:
        with self._mutex:
            self._led_at = time.monotonic()
            self._leading_thread = threading.get_ident()
            tickets, count = [ticket], len(ticket.letters)
            while self._waiting and count < _ROUND:
                tickets.append(self._waiting.popleft())
                count += len(tickets[-1].letters)
        try:
            self._round([letter for each in tickets for letter in each.letters if letter.result is None])
        except BaseException:
            # Stopped by force. Half a message may be on its way, so that the connection is of no use.
            self._discard(self._sender)
            raise
        finally:
            for each in islice(tickets, 1, None):
                each.is_done = True
                each.wake.release()

    def _leave(self, ticket: _Ticket) -> None:
        """Hand over to the next; when the broker is gone, send everybody home."""
        with self._mutex:
            if self._leader is not ticket:
                with contextlib.suppress(ValueError):
                    self._waiting.remove(ticket)
                return
            self._leader = None
            self._leading_thread = 0
            while self._waiting:
                waiting = self._waiting.popleft()
                if self._trouble is None:
                    self._leader = waiting
                    self._led_at = time.monotonic()
                    waiting.wake.release()
                    return
                waiting.is_done = True
                waiting.wake.release()

    # A round

    def _round(self, letters: list[Letter]) -> None:
        """Settle these letters, or leave them without a result when the broker is in trouble."""
        size = sum(len(letter.wire.body) for letter in letters)
        is_small = len(letters) <= _FEW and size <= _LITTLE
        deadline = Deadline(PATIENCE, LIMIT if is_small else _LONG_LIMIT + size / _LITTLE)
        failures = refusals = 0
        while letters:
            sender, is_new = self._connected(deadline)
            if sender is None:
                return
            may_be_dead = not is_new and time.monotonic() - sender.used_at > _IDLE
            try:
                self._send(sender, letters, deadline.within(_IDLE_PATIENCE) if may_be_dead else deadline)
            except Refused as error:
                self._discard(sender)
                refusals += 1
                self._blame(sender.unsettled(), letters, str(error), is_last=refusals > _MAX_REFUSALS)
                deadline.progress()
            except Blocked as error:
                # This connection hears it when that is over.
                self._sender, self._blocked = None, sender
                self._go_down(error)
                return
            except Exception as error:
                self._discard(sender)
                failures += 1
                if failures == _TRIES or deadline.remaining() < _SHORTEST_TRY:
                    self._go_down(error)
                    return
                logger.debug("Publishing once more, over a new connection", exc_info=True)
            letters = [letter for letter in letters if letter.result is None]
        self._pause = _BACKOFF

    def _send(self, sender: Sender, letters: Sequence[Letter], deadline: Deadline) -> None:
        """First what may have made the broker refuse others, each by itself."""
        suspects = [letter for letter in letters if letter.is_suspect]
        for letter in suspects:
            sender.send([letter], deadline)
        if len(suspects) < len(letters):
            sender.send([letter for letter in letters if not letter.is_suspect], deadline)

    def _blame(self, unsettled: list[Letter], letters: list[Letter], why: str, *, is_last: bool) -> None:
        """Find out which letters the broker refuses: those that it refuses when they come alone."""
        if len(unsettled) == 1 and unsettled[0].is_suspect:
            unsettled[0].give_up(why)
        for letter in unsettled or letters:
            letter.is_suspect = True
        if is_last:
            for letter in letters:
                if letter.result is None and letter.is_suspect:
                    letter.give_up(why)

    # The connection

    def _connected(self, deadline: Deadline) -> tuple[Sender | None, bool]:
        """A connection that seems to stand, and whether it is new; None when there is none in time."""
        sender = self._sender
        if sender is not None:
            try:
                sender.check()
            except Exception:
                # Closed while nobody looked: a restart, a load balancer. Nothing of ours was under way.
                logger.debug("The connection to the broker has ended", exc_info=True)
                self._discard(sender)
            else:
                return sender, False
        with self._mutex:
            if self._trouble is not None:
                return None, True
            self._arrived.clear()
            is_started = self._start_connector(at_once=True)
        if not is_started:
            self._connect_here()
        elif not self._arrived.wait(max(deadline.remaining(), 0.0)):
            self._go_down(TimeoutError("no connection in time"))
        return self._sender, True

    def _discard(self, sender: Sender | None) -> None:
        """Let go of a connection on which something has failed."""
        with self._mutex:
            if self._sender is sender:
                self._sender = None
        if sender is not None:
            sender.abandon()

    def _go_down(self, error: BaseException) -> None:
        """Turn everybody away until the broker takes messages again."""
        with self._mutex:
            if self._sender is not None:
                # It came in this very moment.
                return
            is_news = self._trouble is None
            self._trouble = describe(error, self._options.broker)
            self._start_connector(at_once=False)
        if is_news:
            logger.warning(
                "Cannot publish to the broker %s: %s",
                safe_url(self._options.broker),
                self._trouble,
                extra={"action": "broker_down"},
            )

    def _is_hopeless(self) -> bool:
        """Whether the broker is in trouble, and somebody is looking after it."""
        with self._mutex:
            return self._trouble is not None and self._start_connector(at_once=False)

    # The thread that connects

    def _start_connector(self, *, at_once: bool) -> bool:
        """See to it that there is one; false where no thread can be started any more. Holds the mutex."""
        if self._connector is not None and self._connector.is_alive():
            return True
        self._connector = threading.Thread(
            target=self._connect, args=(self._stop, at_once), name="taskq-publisher", daemon=True
        )
        try:
            self._connector.start()
        except RuntimeError:
            # The interpreter ends, or the process may have no more threads.
            self._connector = None
            return False
        return True

    def _connect(self, stop: threading.Event, at_once: bool) -> None:
        """Try until there is a connection, and then end."""
        if not at_once:
            self._rest(stop)
        while not stop.is_set():
            if self._try_to_connect(stop):
                return
            self._rest(stop)

    def _rest(self, stop: threading.Event) -> None:
        pause, self._pause = self._pause, min(self._pause * 2, _BACKOFF_MAX)
        stop.wait(random.uniform(0.5, 1.0) * pause)  # noqa: S311  # spreads load, keeps no secret

    def _try_to_connect(self, stop: threading.Event) -> bool:
        """Whether the thread's work is done."""
        sender: Sender | None = None
        try:
            with self._mutex:
                sender, self._blocked = self._blocked, None
            if sender is None:
                sender = self._open()
            if self._adopt(sender, stop, is_proven=False):
                return True
            sender.prove(stop)
            return self._adopt(sender, stop, is_proven=True)
        except Exception as error:  # noqa: BLE001  # whatever it is, nobody would try again if this thread ended
            if sender is not None:
                sender.abandon()
            if not stop.is_set():
                self._go_down(error)
                self._arrived.set()
            return False

    def _connect_here(self) -> None:
        try:
            self._adopt(self._open(), self._stop, is_proven=True)
        except Exception as error:  # noqa: BLE001  # as in the thread
            self._go_down(error)

    def _open(self) -> Sender:
        try:
            return self._open_once()
        except (OSError, RecoverableConnectionError) as error:
            if isinstance(error, TimeoutError | ConnectionRefusedError):
                raise
            # Somebody was there and hung up in the middle: a restart, a load balancer that moves on.
            return self._open_once()

    def _open_once(self) -> Sender:
        connection: Any = dial(
            self._options,
            heartbeat=0,
            timeout=_CONNECT_TIMEOUT,
            answer_timeout=_ANSWER_TIMEOUT,
            name=f"django_taskq publisher {os.getpid()}",
        )
        try:
            if is_amqp(connection):
                return AmqpSender(connection, self._topology, confirm=self._options.confirm)
            return VirtualSender(connection, self._topology)
        except BaseException:
            abandon(connection)
            raise

    def _adopt(self, sender: Sender, stop: threading.Event, *, is_proven: bool) -> bool:
        """Take a connection into use, unless the broker has yet to prove that it takes messages."""
        with self._mutex:
            if stop.is_set() or self._pid != os.getpid():
                sender.abandon()
                return True
            if self._trouble is not None and not is_proven:
                return False
            was_down, self._trouble = self._trouble is not None, None
            self._sender = sender
            self._connector = None
            self._arrived.set()
        if was_down:
            logger.info(
                "The broker %s takes messages again", safe_url(self._options.broker), extra={"action": "broker_up"}
            )
        return True


def publisher_for(options: BackendOptions) -> Publisher:
    """The publisher of this process for a broker, shared by all aliases with the same settings for it."""
    known = _by_options.get(options)
    if known is None:
        with _registry_lock:
            known = _by_options.get(options) or _add(options)
    return known


def _add(options: BackendOptions) -> Publisher:
    if len(_by_options) >= _MAX_PUBLISHERS:
        idle = next((key for key, each in _by_options.items() if not each.is_in_use), None)
        if idle is not None:
            # Whoever still has it may go on to use it: it connects again.
            _by_options.pop(idle).close()
    publisher = next((each for each in _by_options.values() if each.serves(options)), None) or Publisher(options)
    _by_options[options] = publisher
    return publisher


def _rounds(letters: list[Letter]) -> Iterator[list[Letter]]:
    for start in range(0, len(letters), _ROUND):
        yield letters[start : start + _ROUND]


def _close_all() -> None:
    """At the end of the process: goodbyes that take no time."""
    for publisher in list(_publishers):
        publisher.close()


def _forget_parents() -> None:
    """In a forked child, before anything else runs."""
    global _registry_lock  # noqa: PLW0603
    _registry_lock = threading.Lock()
    for publisher in list(_publishers):
        publisher.forget_parent()


_publishers: weakref.WeakSet[Publisher] = weakref.WeakSet()
_by_options: dict[BackendOptions, Publisher] = {}
_registry_lock = threading.Lock()
atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_parents)
