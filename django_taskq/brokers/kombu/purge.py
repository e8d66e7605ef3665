"""Emptying a queue of a broker."""

from __future__ import annotations

from amqp.exceptions import NotFound

from ...conf import BackendOptions
from .connection import asking


def purge_queue(options: BackendOptions, queue_name: str) -> int:
    """Delete what waits in a queue, and give how many messages; what consumers have in their hands stays theirs.

    Opens a connection for it, which waits for no answer longer than some seconds. Raises what
    ``connection.errors_of(None)`` names.
    """
    with asking(options) as connection:
        try:
            # How many is what a virtual transport counts, too.
            return int(connection.channel().queue_purge(queue_name) or 0)
        except NotFound:
            # No such queue.
            return 0
