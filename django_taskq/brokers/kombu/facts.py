"""What a broker tells of its queues."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from ...conf import BackendOptions
from ..base import QueueFacts
from .connection import asking, describe, errors_of, is_amqp

logger = logging.getLogger("django_taskq.broker")

#: transports that count what waits (kombu's others answer 0, whatever there is)
_COUNTING = frozenset({"amqp", "redis", "memory", "sqs", "mongodb", "azureservicebus"})
_UNKNOWN = QueueFacts(ready=None, unacked=None, consumers=None)


def ask(options: BackendOptions, queue_names: Collection[str]) -> dict[str, QueueFacts] | None:
    """As :func:`facts`; None while the broker does not answer."""
    try:
        return facts(options, queue_names)
    except errors_of(None) as error:
        logger.info("Queues cannot be asked for: %s", describe(error, options.broker), extra={"action": "facts_failed"})
        return None


def facts(options: BackendOptions, queue_names: Collection[str]) -> dict[str, QueueFacts]:
    """The facts of each queue; one that is missing at the broker has nothing in it.

    Opens a connection for the question. Raises what ``connection.errors_of(None)`` names.
    """
    with asking(options) as connection:
        return _facts(options, connection, queue_names)


def _facts(options: BackendOptions, connection: Any, queue_names: Collection[str]) -> dict[str, QueueFacts]:
    if options.transport not in _COUNTING:
        return dict.fromkeys(queue_names, _UNKNOWN)
    counts_consumers = is_amqp(connection)
    found = {}
    for queue_name in queue_names:
        channel = connection.channel()
        try:
            answer = channel.queue_declare(queue_name, passive=True)
        except connection.channel_errors:
            # No such queue; the question has cost the channel.
            found[queue_name] = QueueFacts(ready=0, unacked=None, consumers=0 if counts_consumers else None)
        else:
            consumers = answer.consumer_count if counts_consumers else None
            found[queue_name] = QueueFacts(ready=answer.message_count, unacked=None, consumers=consumers)
            channel.close()
    return found
