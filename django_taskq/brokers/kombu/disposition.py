"""What becomes of deliveries.

A reference is claimed by its id and acked at once: from there on the row's lease holds the task. A task without a row is
held by its delivery. Whatever the broker delivers twice, too late or by mistake ends here: nothing is imported,
unpickled or run that is not a task of a READY row or of a valid call.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ...conf import BackendOptions
from ...core.message import Message
from ...core.paused import Paused
from ...core.states import State
from ...core.wire import BadMessage, Call, Reference, decode
from ..base import Rows
from .inbox import Delivery

logger = logging.getLogger("django_taskq.broker")


@dataclass(slots=True)
class Disposition:
    """What becomes of each of some deliveries."""

    #: claimed tasks
    claimed: list[Message] = field(default_factory=list)
    #: those without rows to run, and whether each is acked when it has ended, not before it starts
    unrecorded: list[tuple[Delivery, Call, bool]] = field(default_factory=list)
    done: list[Delivery] = field(default_factory=list)
    #: those to set aside, and why
    refused: list[tuple[Delivery, str]] = field(default_factory=list)
    #: of queues that are paused
    requeued: list[Delivery] = field(default_factory=list)
    #: to be looked at again soon
    waiting: list[Delivery] = field(default_factory=list)
    #: the rows to claim, by their ids, with the deliveries that wait for what becomes of that
    references: dict[str, list[Delivery]] = field(default_factory=dict)


class Judge:
    """Decides what becomes of deliveries. Changes rows, and answers nothing."""

    def __init__(self, options: BackendOptions, rows: Rows) -> None:
        self._topology = options.topology
        self._rows = rows

    def judge(
        self, deliveries: Sequence[Delivery], names: Collection[str], wanted: bool, paused: Paused
    ) -> Disposition:
        """Decide on all of them, and claim. ``names``, ``wanted``: see ``Consumer.receive``.

        Raises the database's errors; then nothing is lost, and all may be decided on once more.
        """
        found = Disposition()
        for delivery in deliveries:
            if delivery.queue_name in paused.queues:
                found.requeued.append(delivery)
                continue
            try:
                content = read(delivery)
            except BadMessage as error:
                found.refused.append((delivery, str(error)))
                continue
            if isinstance(content, Reference):
                found.references.setdefault(content.id, []).append(delivery)
            else:
                is_suited = not (names or wanted) or (content.name in names) is wanted
                self._place(delivery, content, found, paused, is_suited=is_suited)
        if found.references:
            self._claim(names, wanted, found, paused)
        return found

    def _place(self, delivery: Delivery, call: Call, found: Disposition, paused: Paused, *, is_suited: bool) -> None:
        """What becomes of a task without a row. ``is_suited``: a slot is free that can run it."""
        has_expired = _has_expired(call)
        is_paused = call.name in paused.tasks and not has_expired
        if (reason := self._rows.refusal(call)) and not self._rows.is_awaited(call):
            found.refused.append((delivery, reason))
        elif self._topology.is_broadcast(delivery.queue_name) if is_paused else not is_suited:
            # Of what is paused every worker has one of its own there; they would share a row.
            found.waiting.append(delivery)
        elif reason:
            # Somebody waits: the slot tells them why, and sets it aside.
            found.unrecorded.append((delivery, call, True))
        elif has_expired and not self._rows.is_awaited(call):
            found.done.append(delivery)
            _log_dropped(delivery, call.id, "it has expired")
        elif has_expired or (_is_due(call) and not is_paused and not self._needs_row(delivery, call)):
            # Where somebody waits for what has expired, the slot says so, and does not run it.
            found.unrecorded.append((delivery, call, self._rows.acks_late(call)))
        else:
            # Of what is paused, too: it waits as a row, and does not come here again before its time. The row holds it
            # from here on, also where it cannot be claimed: a delivery that is kept, to be looked at once more, would
            # make another row when somebody has run this one, and it has gone.
            found.references.setdefault(self._rows.adopt(call, delivery.queue_name), [])
            found.done.append(delivery)

    def _needs_row(self, delivery: Delivery, call: Call) -> bool:
        """Whether a worker may have died of a task: as a row it is counted, leased and seen.

        Not one that every worker gets: they would share the row, and one of them its run.
        """
        return (
            delivery.is_redelivered
            and self._rows.acks_late(call)
            and not self._topology.is_broadcast(delivery.queue_name)
        )

    def _claim(self, names: Collection[str], wanted: bool, found: Disposition, paused: Paused) -> None:
        references = found.references
        found.claimed = self._rows.claim(list(references), names, wanted, paused)
        claimed = {message.id for message in found.claimed}
        rest = [task_id for task_id in references if task_id not in claimed]
        if rest and paused:
            for task_id in self._rows.put_off(rest, paused):
                found.done += references.pop(task_id)
                rest.remove(task_id)
        states = self._rows.states(rest) if rest else {}
        for task_id, deliveries in references.items():
            if task_id in claimed:
                found.done += deliveries
                for delivery in deliveries[1:]:
                    _log_dropped(delivery, task_id, "it was delivered more than once")
                continue
            state, has_expired = states.get(task_id, (None, False))
            if state is None:
                found.refused += [(delivery, f"there is no task {task_id} here.") for delivery in deliveries]
            elif state is State.READY and not has_expired:
                # Locked at the moment, or one that another kind of slot is to run. It is waited for once; while it is,
                # the keeper misses it at the broker, and publishes it again and again.
                found.waiting += deliveries[-1:]
                found.done += deliveries[:-1]
            else:
                found.done += deliveries
                for delivery in deliveries:
                    _log_dropped(delivery, task_id, f"it is {state.value}")


def read(delivery: Delivery) -> Call | Reference:
    """What a delivery says. Raises ``BadMessage``."""
    return decode(
        delivery.body,
        content_type=delivery.content_type,
        content_encoding=delivery.content_encoding,
        headers=delivery.headers,
        properties=delivery.properties,
    )


def _has_expired(call: Call) -> bool:
    return call.expires is not None and call.expires <= datetime.now(UTC)


def _is_due(call: Call) -> bool:
    return call.eta is None or call.eta <= datetime.now(UTC)


def _log_dropped(delivery: Delivery, task_id: str, reason: str) -> None:
    logger.info(
        "A message from queue %r for task %s was dropped: %s.",
        delivery.queue_name,
        task_id,
        reason,
        extra={"action": "message_dropped", "task_id": task_id},
    )
