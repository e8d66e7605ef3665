"""Receiving over one connection; belongs to the thread that owns it, and after an error to nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

from .inbox import Delivery

#: deliveries that are read before answers are sent
BURST = 500

#: "reject": the queue's dead-letter exchange gets it, where it has one
Answer: TypeAlias = Literal["ack", "reject", "requeue"]


class Ear(Protocol):
    """One connection that receives; deliveries go to the link's ``Inbox``."""

    #: a change of the prefetch holds for consumers that begin after it
    prefetches_by_consumer: bool

    def set_prefetch(self, count: int) -> None:
        """Receive up to ``count`` messages that are unanswered, from each queue."""

    def begin(self, queue_name: str, source: str, lost: Callable[[], None]) -> None:
        """Receive from the queue ``source``, what stands for ``queue_name``. ``lost``: called when it was deleted."""

    def end(self, queue_name: str) -> None:
        """Receive no more from that queue."""

    def pause(self) -> None:
        """Nothing is going to be read for a while: take what is on its way here, if it would be lost otherwise."""

    def turn(self) -> None:
        """Receive what there is; wait for it, until the inbox is woken or a turn is over."""

    def answer(self, deliveries: Sequence[Delivery], how: Answer) -> None:
        """Answer what this connection delivered."""

    def flush(self) -> None:
        """Wait until the broker has acted on the answers, where it could still lose them with the connection."""

    def answer_lasting(self, deliveries: Sequence[Delivery], how: Answer) -> bool:
        """Answer what another connection delivered; False when it cannot be answered here."""
