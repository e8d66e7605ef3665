"""Where tasks go at a broker: exchanges, queues, bindings. Data only; ``brokers.topology`` declares it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

ExchangeType: TypeAlias = Literal["direct", "topic", "fanout", "headers"]

#: Bytes of a name or a routing key: AMQP 0-9-1, section 4.2.5.3, short strings.
MAX_NAME = 255
#: AMQP 0-9-1, section 3.1.4, and RabbitMQ: names that nobody but the broker may give.
RESERVED = "amq."

#: Priorities of transports that know them without being told: 0 to this.
_VIRTUAL_PRIORITIES = 9

#: Transports of which 0 is the first (kombu, ``transport/redis.py``: lists in the order of ``priority_steps``).
_ZERO_FIRST = frozenset({"redis"})
#: Transports of which 9 is the first (kombu, ``transport/mongodb.py``: stored reversed, read ascending).
_NINE_FIRST = frozenset({"mongodb"})

#: What RabbitMQ 4 takes for "high" in a quorum queue: more than 4 (its documentation, "Quorum Queues", "Priorities").
_QUORUM_HIGH = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """An exchange. ``declare=False``: somebody else made it, and here it is only referred to."""

    name: str
    type: ExchangeType = "direct"
    durable: bool = True
    auto_delete: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    declare: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Messages that an exchange passes on to a queue. ``arguments``: what a headers exchange compares."""

    exchange: str
    routing_key: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue, and where tasks for it are published: ``exchange`` ("": straight to the queue) and ``routing_key``.

    ``bindings``: all of them, the one that brings our own tasks included. ``persistent``: whether messages survive a
    restart of the broker; None: as the alias says. ``broadcast``: not one queue but a fanout exchange of this name,
    to which each worker process binds a queue of its own.
    """

    name: str
    exchange: str = ""
    routing_key: str = ""
    bindings: tuple[Binding, ...] = ()
    durable: bool = True
    auto_delete: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    persistent: bool | None = None
    broadcast: bool = False
    declare: bool = True

    @property
    def max_priority(self) -> int | None:
        """The highest priority that the broker tells apart, where it has to be told."""
        found: int | None = self.arguments.get("x-max-priority")
        return found

    @property
    def is_quorum(self) -> bool:
        """Whether RabbitMQ keeps it on several nodes."""
        return self.arguments.get("x-queue-type") == "quorum"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """All exchanges and queues of an alias, and what a queue looks like that nobody configured.

    Equal topologies compare equal and have the same hash. ``default``: a queue without a name.
    """

    exchanges: Mapping[str, Exchange] = field(default_factory=dict, hash=False)
    queues: Mapping[str, Queue] = field(default_factory=dict, hash=False)
    default: Queue = field(default=Queue(name=""))
    persistent: bool = True

    @property
    def queue_names(self) -> tuple[str, ...]:
        """The configured queues, in the order of the settings."""
        return tuple(self.queues)

    def queue(self, queue_name: str) -> Queue:
        """The queue of this name, configured or not."""
        configured = self.queues.get(queue_name)
        return configured if configured is not None else named(self.default, queue_name)

    def exchange(self, exchange_name: str) -> Exchange | None:
        """The exchange of this name, if it is configured."""
        return self.exchanges.get(exchange_name)

    def target(self, queue_name: str) -> tuple[str, str]:
        """Exchange and routing key with which a task for this queue is published."""
        queue = self.queue(queue_name)
        return queue.exchange, queue.routing_key

    def is_broadcast(self, queue_name: str) -> bool:
        """Whether every worker process gets each message of this queue."""
        # Asked at each enqueue: a queue that nobody configured is not made for it.
        return self.queues.get(queue_name, self.default).broadcast

    def is_persistent(self, queue_name: str) -> bool:
        """Whether messages for this queue ask to survive a restart of the broker."""
        queue = self.queue(queue_name)
        return self.persistent if queue.persistent is None else queue.persistent

    def priority(self, queue_name: str, priority: int, transport: str) -> int | None:
        """What a message of our ``priority`` (-100 to 100, the higher the sooner) carries; None: nothing.

        ``transport``: as ``BackendOptions.transport`` names it. Order is kept, and 0 is in the middle.
        """
        if transport == "amqp":
            queue = self.queue(queue_name)
            if queue.is_quorum:
                # Two levels without a setting from RabbitMQ 4 on; older ones ignore it.
                return _QUORUM_HIGH if priority > 0 else None
            return None if queue.max_priority is None else _scale(priority, queue.max_priority)
        if transport in _ZERO_FIRST:
            return _scale(-priority, _VIRTUAL_PRIORITIES)
        if transport in _NINE_FIRST:
            return _scale(priority, _VIRTUAL_PRIORITIES)
        return None

    def dead_letters_of(self, queue: Queue) -> list[Queue]:
        """The configured queues that take what this one gives up, as far as its settings say where that goes."""
        exchange = queue.arguments.get("x-dead-letter-exchange")
        if exchange is None:
            return []
        if exchange == "":
            named_so = self.queues.get(queue.arguments.get("x-dead-letter-routing-key", queue.name))
            return [named_so] if named_so is not None else []
        return [one for one in self.queues.values() if any(bound.exchange == exchange for bound in one.bindings)]


def unfit(queue_name: str) -> str:
    """Why no message broker can have a queue of this name; "" when one can."""
    if len(queue_name.encode()) > MAX_NAME:
        return f"it has more than {MAX_NAME} bytes, which is what AMQP allows"
    if queue_name.startswith(RESERVED):
        return f"names that begin with {RESERVED!r} belong to the broker"
    return ""


def named(default: Queue, queue_name: str) -> Queue:
    """A queue like another one, under a name of its own."""
    bindings: tuple[Binding, ...] = ()
    if default.exchange:
        bindings = (Binding(exchange=default.exchange, routing_key=queue_name),)
    return replace(default, name=queue_name, routing_key=queue_name, bindings=bindings)


def _scale(priority: int, most: int) -> int:
    """-100..100 onto 0..``most``, to the nearest; what lies between two goes to the lower one."""
    priority = max(-100, min(100, priority))
    return ((priority + 100) * most + 99) // 200
