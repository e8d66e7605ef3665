"""The duties: each does what there is to do now, and says in how many seconds to come back at the latest."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TypeAlias

from ..announcements import announce_lost
from ..backend import TaskqBackend
from ..retention import Rounds, plan
from ..transitions import workers
from ..transitions.control import forget_orders
from ..transitions.due import any_overdue, expire_overdue, promote_due, seconds_to_next

logger = logging.getLogger("django_taskq.keeper")

#: ``(now) -> seconds``; ``now`` is monotonic
Duty: TypeAlias = Callable[[float], float]

#: seconds between two looks for tasks that expired: they are never run in any case, this is only the record of it
_EXPIRY = 10.0
#: seconds until the next try at tasks whose time has come and which somebody else has locked
_LOCKED = 0.5
#: seconds between two looks for lost workers; with the lease of 30 s, tasks come back within 40 s
_RESCUE = 5.0
#: seconds after (re)connecting before anybody is declared lost, at most and beyond the lease: after a database
#: restart live workers are silent, too, and are back within 2 s
_GRACE, _GRACE_BEYOND = 8.0, 2.0
#: seconds between two prunings, and the batches and rows of one, so that it never holds up the other duties
_PRUNE, _PRUNE_BATCHES, _PRUNE_ROWS = 60.0, 10, 1_000
#: seconds between two looks for orders that nobody waits for any more
_FORGET = 60.0


def promote(using: str, longest: float) -> Duty:
    """Make tasks READY whose time has come. ``longest``: seconds to the next look while nothing is due."""

    def duty(now: float) -> float:
        # A look first: it costs no transaction of several statements, and mostly nothing is due.
        wait = seconds_to_next(using)
        while wait is not None and wait <= 0:
            if not promote_due(using):
                return _LOCKED
            wait = seconds_to_next(using)
        return longest if wait is None else min(max(wait, 0.0), longest)

    return duty


def expire(using: str) -> Duty:
    """End tasks that were not started in time."""

    def duty(now: float) -> float:
        while any_overdue(using):
            expired = expire_overdue(using)
            if not expired:
                return _LOCKED
            logger.info("%d tasks expired before they were started.", expired, extra={"action": "expired"})
        return _EXPIRY

    return duty


def rescue(using: str, lease: float) -> Duty:
    """Take back the tasks of lost workers. ``lease``: seconds after which a silent one is lost."""
    since = time.monotonic()
    grace = min(_GRACE, lease + _GRACE_BEYOND)

    def duty(now: float) -> float:
        if now - since < grace:
            return grace - (now - since)
        for worker_id in workers.remove_lost(using):
            lost: list[workers.LostTask] = []
            again, failed = workers.rescue(using, worker_id, lost=lost)
            announce_lost(lost)
            logger.warning(
                "Worker %s was lost: %d of its tasks run again, %d failed.",
                worker_id,
                again,
                failed,
                extra={"action": "worker_lost"},
            )
        return _RESCUE

    return duty


def prune(backends: Sequence[TaskqBackend]) -> Duty:
    """Delete rows that ended long ago, by ``result_ttl`` and ``failure_ttl`` of their tasks and aliases."""
    rounds = Rounds()

    def duty(now: float) -> float:
        batches = list(islice(rounds.carry_out(plan(backends), _PRUNE_ROWS, now), _PRUNE_BATCHES))
        if batches:
            logger.info("Deleted %d old tasks.", sum(batches), extra={"action": "pruned"})
        return 1.0 if len(batches) == _PRUNE_BATCHES else _PRUNE

    return duty


def forget(using: str) -> Duty:
    """Delete orders to workers that nobody waits for any more, or that were given to workers which are gone."""

    def duty(now: float) -> float:
        forget_orders(using)
        return _FORGET

    return duty
