"""Emptying a queue of a broker."""

from __future__ import annotations

from amqp.exceptions import NotFound
from kombu.exceptions import OperationalError

from ...conf import BackendOptions
from .connection import abandon, describe, dial, errors_of


def purge_queue(options: BackendOptions, queue_name: str) -> int:
    """Delete what waits in a queue, and give how many messages; what consumers have in their hands stays theirs.

    Opens a connection for it, which waits for no answer longer than some seconds. Raises what
    ``connection.errors_of(None)`` names.
    """
    connection = dial(options, heartbeat=0.0)
    try:
        channel = connection.channel()
        try:
            # How many is what a virtual transport counts, too.
            return int(channel.queue_purge(queue_name) or 0)
        except NotFound:
            # No such queue.
            return 0
    except errors_of(None):
        raise
    except errors_of(connection) as error:
        # redis-py's errors are known only to who has a connection.
        raise OperationalError(describe(error, options.broker)) from error
    finally:
        abandon(connection)
