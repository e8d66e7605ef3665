"""The duty that fires schedules: at their ticks, by the database's clock."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..backend import TaskqBackend
from ..transitions.ticks import prune_ticks, seconds_to_tick
from .deployed import deploy_schedules
from .duties import Duty
from .firing import BATCH, Firing

#: seconds until the next try at schedules that somebody else has locked
_LOCKED = 0.2
#: seconds between two looks whether a task has ended that a tick waits for
_WAIT_LOOK = 1.0
#: seconds after which the other duties have their turn, when many ticks come at once
_TURN = 2.0
#: seconds between two looks for old ticks, and how old these are; a tick's row is needed only while somebody could fire it
#: again, which takes a keeper that slept through it, or a clock that was put back
_PRUNE, _TICK_AGE = 60.0, 86_400.0
#: rows and batches of one pruning
_PRUNE_ROWS, _PRUNE_BATCHES = 1_000, 20


class Schedules:
    """A duty; see ``duties``. ``backends``: all with rows in this database.

    ``longest``: seconds to the next look while no tick comes.
    """

    def __init__(self, using: str, backends: Sequence[TaskqBackend], longest: float) -> None:
        self._using = using
        self._backends = backends
        self._longest = longest
        self._firing = Firing(using, {backend.alias: backend for backend in backends})
        self._is_deployed = False
        #: when it last looked (monotonic)
        self.looked_at = 0.0
        self._wait_at = 0.0

    def __call__(self, now: float) -> float:
        """Fire what is due; gives the seconds to the next tick."""
        self.looked_at = now
        if not self._is_deployed:
            deploy_schedules(self._using, self._backends)
            self._is_deployed = True
        wait = seconds_to_tick(self._using)
        while wait is not None and wait <= 0:
            found, moved = self._firing.fire_due()
            if moved < found:
                return _LOCKED
            wait = seconds_to_tick(self._using)
            if time.monotonic() - now > _TURN:
                break
        pause = self._longest if wait is None else min(max(wait, 0.0), self._longest)
        if self._firing.may_wait:
            if now >= self._wait_at:
                self._firing.fire_waiting()
                self._wait_at = now + _WAIT_LOOK
            if self._firing.may_wait:
                pause = min(pause, _WAIT_LOOK)
        return pause


def fire_once(using: str, backends: Sequence[TaskqBackend]) -> int:
    """Fire what is due now, for a worker that ends soon; gives how many schedules were moved on."""
    deploy_schedules(using, backends)
    firing = Firing(using, {backend.alias: backend for backend in backends})
    firing.fire_waiting()
    end = time.monotonic() + _TURN
    fired = 0
    # Whoever comes next goes on; of those of each second some are always due.
    while time.monotonic() < end:
        found, moved = firing.fire_due()
        fired += moved
        if found < BATCH:
            break
    return fired


def prune_old_ticks(using: str) -> Duty:
    """Delete ticks that came long ago."""

    def duty(now: float) -> float:
        for _ in range(_PRUNE_BATCHES):
            if prune_ticks(using, _TICK_AGE, _PRUNE_ROWS) < _PRUNE_ROWS:
                return _PRUNE
        return 1.0

    return duty
