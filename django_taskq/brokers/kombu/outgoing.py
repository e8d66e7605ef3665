"""What is handed to a publisher. Imports no client library, so that whoever makes messages needs none."""

from __future__ import annotations

from ...core.record import record
from ...core.wire import Wire

#: the name of the thread that may tell what became of a message
POSTER = "taskq-poster"


@record
class Outgoing:
    """A message, and the queue it is for.

    ``priority``: ours, -100 to 100. ``reply``: straight to a queue that somebody else has made and may have deleted
    since; then the message is gone, and nobody minds.
    """

    queue_name: str
    wire: Wire
    priority: int = 0
    reply: bool = False
