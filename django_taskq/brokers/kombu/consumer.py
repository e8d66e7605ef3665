"""What a worker process hears from a message broker, and answers it."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ...bell import Bell
from ...conf import BackendOptions
from ...core.message import Message
from ...core.paused import NOTHING_PAUSED, Paused
from ...core.queues import QueueSelection
from ...core.wire import BadMessage, Call
from ..base import Lane, QueueFacts, Rows
from .disposition import Judge, read
from .facts import ask, facts
from .heap import HUGE, SETTLED, give_back_memory
from .inbox import Delivery
from .link import Link
from .prefetch import MOST, Prefetch
from .second_looks import SecondLooks

logger = logging.getLogger("django_taskq.broker")

#: seconds between two looks which queues there are
_LOOK_FOR_QUEUES = 5.0
#: seconds that the thread of the connection may hang in the broker, before the connection is made anew
_HANGS = 20.0
#: connections in a row that hung, after which this process is no use any more
_MAX_HANGS = 3
#: seconds to say goodbye
_FAREWELL = 0.8
#: seconds to wait for the ack of a task that must not run twice
_FLUSH = 1.0


class BrokerHangs(Exception):
    """Connections to the broker hang one after the other: another process may do better."""


@dataclass(slots=True, eq=False)
class Unrecorded:
    """How a worker holds a task that has no row."""

    consumer: KombuConsumer
    delivery: Delivery
    call: Call
    #: it is acked when it has ended, not before it starts
    is_late: bool


class KombuConsumer:
    """Receives the tasks of the backends that share one broker; see ``Consumer``.

    ``backend``: the alias under which tasks without a row run. ``known``: gives the queues that exist by
    configuration. ``prefetch`` None: as many as can start soon. ``lane``: takes tasks without rows past the I/O thread.
    """

    def __init__(
        self,
        options: BackendOptions,
        using: str,
        backend: str,
        queues: QueueSelection,
        worker_id: str,
        *,
        rows: Rows,
        known: Callable[[], Collection[str]],
        prefetch: int | None = None,
        lane: Lane | None = None,
    ) -> None:
        self.using = using
        self.worker_id = worker_id
        self._options = options
        self._backend = backend
        self._queues = queues
        self._rows = rows
        self._known = known
        self._prefetch = Prefetch(prefetch if prefetch is not None else options.prefetch)
        self._names: frozenset[str] = frozenset()
        self._names_at = 0.0
        self._waiting = SecondLooks()
        self._judge = Judge(options, rows)
        #: for tasks without a row, what a claim is for those with one: never the same twice
        self._tokens = itertools.count(-1, -1)
        self._bell = Bell()
        self._lane = lane
        self._paused = NOTHING_PAUSED
        self._link: Link | None = None
        self._hangs = 0
        #: when the memory of huge messages is given back (monotonic)
        self._trim_at = float("inf")

    # Coming and going

    def open(self) -> None:
        """Begin to connect; deliveries come when the broker is there."""
        if self._link is None:
            self._link = self._new_link()
            self._link.start()

    def _new_link(self) -> Link:
        return Link(self._options, self._bell.ring, arrived=self._arrived)

    def disconnect(self) -> None:
        """Nothing here depends on the database: the connection stays, and so does what it delivered."""

    def close(self) -> None:
        """Give back what nobody took, and close the connection."""
        link, self._link = self._link, None
        if link is not None:
            link.requeue(self._waiting.take_all())
            link.stop(_FAREWELL)

    def tend(self, now: float, ahead: int) -> float:
        """See ``Consumer``. Raises ``BrokerHangs``."""
        assert self._link is not None
        self._watch(now)
        if now >= self._names_at:
            self._names = self._served()
            # Not before: a database that was away is asked again as soon as it is back.
            self._names_at = now + _LOOK_FOR_QUEUES
        is_kept = self._prefetch.decide(now, ahead, self._waiting.unsuited_since)
        self._link.want(self._names, self._prefetch.count)
        if not is_kept:
            self._give_back_delivered()
        if now >= self._trim_at:
            self._trim_at = float("inf")
            give_back_memory()
        if self._waiting.is_due(now):
            self._bell.ring()
        look_at = self._waiting.due_at(now, for_slots=not self._prefetch.is_resting)
        return min(self._names_at, self._prefetch.due_at, self._trim_at, look_at)

    def _watch(self, now: float) -> None:
        """Begin anew with a connection whose thread hangs."""
        assert self._link is not None
        if now - self._link.turned_at <= _HANGS:
            if self._link.is_connected:
                self._hangs = 0
            return
        self._hangs += 1
        if self._hangs > _MAX_HANGS:
            raise BrokerHangs(f"{self._hangs} connections to the broker hung for more than {_HANGS:.0f} s each.")
        logger.error(
            "The connection to the broker hung for more than %.0f s; it is made anew.",
            _HANGS,
            extra={"action": "broker_hangs"},
        )
        self._link.abandon()
        self._waiting = SecondLooks()
        self._link = self._new_link()
        self._link.start()

    def _served(self) -> frozenset[str]:
        exact = self._queues.exact
        if exact is None:
            exact = tuple(self._queues.of({*self._known(), *self._rows.queue_names()}))
        return frozenset(exact) - self._paused.queues

    def _give_back_delivered(self) -> None:
        assert self._link is not None
        self._link.requeue([*self._waiting.take_all(), *self._link.take(MOST)])

    # Past the I/O thread

    def _arrived(self) -> None:
        """Called in the link's thread: what the lane does not take is the I/O thread's."""
        self.hand_over()
        if self._link is not None and self._link.deliveries and not self._is_left_to_slots():
            self._bell.ring()

    def hand_over(self) -> None:
        """Give the lane what it has room for; for the link's thread, and for a slot that has come free."""
        link, lane = self._link, self._lane
        if link is None or lane is None:
            return
        while link.deliveries and lane.has_room():
            taken = link.take(1)
            if not taken:
                return
            message = self._plain(taken[0])
            if message is None:
                self._waiting.at_once(taken)
                self._bell.ring()
            elif not lane.submit(message):
                link.put_back(taken[0])
                return

    def _is_left_to_slots(self) -> bool:
        """Whether what comes next is better off with the slots, which are about to come free."""
        link, lane = self._link, self._lane
        if link is None or lane is None or not lane.is_moving():
            return False
        try:
            return _may_be_plain(link.deliveries[0])
        except IndexError:
            return False

    def _plain(self, delivery: Delivery) -> Message | None:
        """A task without a row of which there is nothing to decide but to run it in a thread; None for all others."""
        if not _may_be_plain(delivery):
            return None
        try:
            call = read(delivery)
        except BadMessage:
            # The I/O thread finds the same, and says so.
            return None
        if not isinstance(call, Call) or call.eta is not None or call.expires is not None:
            return None
        if not self._rows.runs_in_thread(call) or self._paused.covers(delivery.queue_name, call.name):
            return None
        return self._message(Unrecorded(self, delivery, call, is_late=self._rows.acks_late(call)))

    # Receiving

    def receive(self, limit: int, *, names: Collection[str] = (), wanted: bool = False) -> list[Message]:
        """Take up to ``limit`` of the tasks that were delivered."""
        if self._link is None:
            return []
        if names or wanted:
            self._waiting.suits_some(time.monotonic())
        else:
            self._waiting.suits()
            self._prefetch.suits()
        deliveries = self._take_delivered(limit, with_news=not self._is_left_to_slots())
        try:
            return self._read(self._link, deliveries, names, wanted)
        except Exception:
            # The database failed: nothing was answered, and nothing is lost.
            self._waiting.at_once(deliveries)
            raise

    def _take_delivered(self, limit: int, *, with_news: bool) -> list[Delivery]:
        assert self._link is not None
        taken: list[Delivery] = []
        now = time.monotonic()
        while len(taken) < limit and (delivery := self._waiting.take_due(now)) is not None:
            if self._link.can_answer(delivery):
                taken.append(delivery)
        return taken + self._link.take(limit - len(taken)) if with_news else taken

    def _read(self, link: Link, deliveries: Sequence[Delivery], names: Collection[str], wanted: bool) -> list[Message]:
        found = self._judge.judge(deliveries, names, wanted, self._paused)
        # From here on nothing raises: what was claimed is acked, and what is bad is told of, once.
        for delivery, reason in found.refused:
            if isinstance(delivery.body, bytes | str) and len(delivery.body) >= HUGE:
                self._trim_at = time.monotonic() + SETTLED
            logger.warning(
                "A message from queue %r was set aside: %s",
                delivery.queue_name,
                reason,
                extra={"action": "message_refused", "queue": delivery.queue_name},
            )
        link.ack(found.done)
        link.requeue(found.requeued)
        link.reject([delivery for delivery, _ in found.refused])
        now = time.monotonic()
        if names or wanted:
            # What is missing is a free slot of their kind, not a free row.
            self._waiting.when_suited(found.waiting, now)
        else:
            self._waiting.when_unlocked(found.waiting, now)
        held = [Unrecorded(self, delivery, call, is_late) for delivery, call, is_late in found.unrecorded]
        return [*found.claimed, *map(self._message, held)]

    def _message(self, held: Unrecorded) -> Message:
        call = held.call
        now = datetime.now(UTC)
        return Message(
            id=call.id,
            name=call.name,
            queue_name=held.delivery.queue_name,
            backend=self._backend,
            priority=call.priority,
            arguments=call.arguments,
            options=call.options,
            metadata=call.metadata,
            errors=call.errors,
            worker_ids=f"{call.worker_ids}{self.worker_id}\n",
            attempt=call.retries + 1,
            claim=next(self._tokens),
            losses=0,
            acks_late=held.is_late,
            enqueued_at=call.enqueued_at or now,
            run_after=None,
            started_at=now,
            last_attempted_at=now,
            expires_at=call.expires,
            headers=call.headers,
            delivery=held,
        )

    def admit(self, message: Message) -> bool:
        """Whether a task without a row may start now; called in its slot.

        With ``acks_late=False`` it is acked before, and does not start where the broker could not be told. What was
        delivered by a connection that is gone does not start either: it comes again, and would run twice.
        """
        held: Unrecorded = message.delivery
        link = self._link
        if link is None or not link.can_answer(held.delivery):
            return False
        if held.is_late:
            return True
        return link.ack_now(held.delivery, _FLUSH)

    def settle_soon(self, message: Message) -> None:
        """Ack what is acked late, with the next turn of the link's thread; for any thread."""
        if self._link is not None and message.delivery.is_late:
            self._link.ack_soon(message.delivery.delivery)

    def settle(self, messages: Sequence[Message]) -> None:
        """Ack what is acked late."""
        if self._link is not None:
            self._link.ack([one.delivery.delivery for one in messages if one.delivery.is_late])

    def reject(self, messages: Sequence[Message]) -> None:
        """Set aside what is acked late; what was acked before it started is no more at the broker."""
        if self._link is not None:
            self._link.reject([one.delivery.delivery for one in messages if one.delivery.is_late])

    def give_back(self, messages: Sequence[Message]) -> None:
        """Requeue."""
        if self._link is not None:
            self._link.requeue([one.delivery.delivery for one in messages])

    # Waking up

    def filenos(self) -> list[int]:
        """The link's bell."""
        return [self._bell.watched]

    def has_hints(self) -> bool:
        """The bell tells of all deliveries."""
        return False

    def has_news(self) -> bool:
        """Whether deliveries wait."""
        if self._link is None:
            return False
        if self._link.deliveries and not self._is_left_to_slots():
            return True
        return self._waiting.has_news(time.monotonic())

    def drain_hints(self) -> bool:
        """Quieten the bell."""
        self._bell.quieten()
        return self.has_news()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to the broker."""
        return self._link is not None and self._link.is_connected

    @property
    def trusted_for(self) -> float | None:
        """Deliveries always ring."""
        return _LOOK_FOR_QUEUES

    @property
    def settles_in(self) -> float:
        """At once."""
        return 0.0

    @property
    def hears_words(self) -> bool:
        """Only rows are listened to for that."""
        return False

    def pause(self, paused: Paused) -> None:
        """See ``Consumer``. What was delivered before is looked at with this in mind."""
        self._paused = paused
        self._names_at = 0.0

    def is_drained(self) -> bool:
        """Whether the broker answers, and has nothing for us; what it cannot count is taken for nothing."""
        if self._link is None or not self._link.is_connected or self.has_news() or self._waiting:
            return False
        names = [name for name in self._names if not self._options.topology.is_broadcast(name)]
        found = ask(self._options, names)
        return found is not None and not any(one.ready for one in found.values())

    def facts(self, queue_names: Collection[str]) -> Mapping[str, QueueFacts]:
        """Asked over a connection of its own."""
        return facts(self._options, queue_names)


def _may_be_plain(delivery: Delivery) -> bool:
    """Whether this looks like a task without a row that nobody died of."""
    return not delivery.is_redelivered and isinstance(delivery.headers, dict) and "task" in delivery.headers
