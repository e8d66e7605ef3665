"""Exchanges, queues and bindings made at a broker, by workers and publishers alike.

Works on the channels of kombu's transports: py-amqp's, and the virtual ones (Redis, memory …), which
have no type in common.
Everything here may be repeated; who calls it remembers what a connection has declared already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from amqp.exceptions import AMQPError
from kombu.transport.virtual.base import Channel as VirtualChannel
from kombu.transport.virtual.base import NotEquivalentError

from ..core.topology import Exchange, Queue, Topology
from ..exceptions import TaskqError

__all__ = ["Topology", "TopologyError", "broadcast_queue", "declare", "declare_all"]

#: milliseconds; how long a worker's own queue of a broadcast outlives its last consumer. RabbitMQ deletes it with
#: the connection; Redis forgets the bindings of killed workers by it.
_BROADCAST_EXPIRES = 60_000

#: Replies after which the channel is closed and the same request would fail again (AMQP 0-9-1, section 1.7).
_HINTS = {
    403: "Give the broker's user the right to configure it, or say 'declare': False and make it yourself.",
    404: "It says 'declare': False, so somebody else has to make it first.",
    405: "Another connection has it for itself alone.",
    406: (
        "It exists with other settings, which cannot be changed: make the settings alike, or stop the workers, let the "
        "queue run empty and delete it; it will be made anew."
    ),
}


class TopologyError(TaskqError):
    """The broker refused an exchange, a queue or a binding, and will again. The channel is closed."""


def declare(topology: Topology, channel: Any, queue_name: str) -> None:
    """Make a queue and all that leads to it, and where its dead letters go.

    Of a broadcast queue only the exchange: see :func:`broadcast_queue`. Raises ``TopologyError``, and the transport's
    own errors when the connection fails.
    """
    _declare(topology, channel, topology.queue(queue_name), set())


def declare_all(topology: Topology, channel: Any) -> None:
    """Make all that is configured, whether a queue uses it or not; see :func:`declare` for the errors."""
    done: set[str] = set()
    for exchange in topology.exchanges.values():
        _declare_exchange(channel, exchange)
    for queue in topology.queues.values():
        _declare(topology, channel, queue, done)


def broadcast_queue(topology: Topology, channel: Any, queue_name: str) -> str:
    """Make a queue of this process's own for a broadcast; its name.

    It goes with the connection, so that each one needs a new one. See :func:`declare` for the errors.
    """
    queue = topology.queue(queue_name)
    _declare(topology, channel, queue, set())
    own_name = f"{queue_name}.{uuid4()}"
    _ask(
        channel.queue_declare,
        f"The queue {own_name!r}",
        queue=own_name,
        durable=False,
        exclusive=True,
        auto_delete=True,
        arguments={"x-expires": _BROADCAST_EXPIRES, **queue.arguments},
    )
    _bind(channel, own_name, queue.exchange, "", {})
    return own_name


def _declare(topology: Topology, channel: Any, queue: Queue, done: set[str]) -> None:
    if queue.name in done:
        return
    done.add(queue.name)
    if queue.broadcast:
        _declare_exchange(channel, topology.exchange(queue.exchange) or Exchange(name=queue.exchange, type="fanout"))
        return
    for binding in queue.bindings:
        exchange = topology.exchange(binding.exchange)
        if exchange is not None:
            _declare_exchange(channel, exchange)
    _declare_dead_letters(topology, channel, queue, done)
    if not queue.declare:
        return
    _ask(
        channel.queue_declare,
        f"The queue {queue.name!r}",
        queue=queue.name,
        durable=queue.durable,
        exclusive=False,
        auto_delete=queue.auto_delete,
        arguments=dict(queue.arguments),
    )
    for binding in queue.bindings:
        _bind(channel, queue.name, binding.exchange, binding.routing_key, binding.arguments)


def _declare_dead_letters(topology: Topology, channel: Any, queue: Queue, done: set[str]) -> None:
    """Where a queue's dead letters go, before there can be one: RabbitMQ drops those that nobody takes."""
    exchange = topology.exchange(queue.arguments.get("x-dead-letter-exchange", ""))
    if exchange is not None:
        _declare_exchange(channel, exchange)
    for target in topology.dead_letters_of(queue):
        _declare(topology, channel, target, done)


def _declare_exchange(channel: Any, exchange: Exchange) -> None:
    # A virtual channel only takes note of an exchange's type, and has to, whoever made it.
    if exchange.declare or isinstance(channel, VirtualChannel):
        _ask(
            channel.exchange_declare,
            f"The exchange {exchange.name!r}",
            exchange=exchange.name,
            type=exchange.type,
            durable=exchange.durable,
            auto_delete=exchange.auto_delete,
            arguments=dict(exchange.arguments),
        )


def _bind(channel: Any, queue_name: str, exchange: str, routing_key: str, arguments: Mapping[str, Any]) -> None:
    _ask(
        channel.queue_bind,
        f"The binding of the queue {queue_name!r} to the exchange {exchange!r}",
        queue=queue_name,
        exchange=exchange,
        routing_key=routing_key,
        arguments=dict(arguments),
    )


def _ask(request: Any, what: str, **arguments: Any) -> None:
    try:
        request(**arguments)
    except NotEquivalentError as error:
        raise TopologyError(f"{what} cannot be declared. {_HINTS[406]}") from error
    except AMQPError as error:
        hint = _HINTS.get(error.code)
        if hint is None:
            raise
        raise TopologyError(f"{what} cannot be declared: {error.reply_text} {hint}") from error
