"""The keeper's thread: does each duty when its time comes, on a connection of its own."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Sequence

from django.db import DatabaseError, InterfaceError, connections

from ..aliases import backends_on
from ..backend import TaskqBackend
from ..database import tune_worker_connection
from ..wakeup import (
    DUE_CHANNEL,
    OPERATION_CHANNEL,
    READY_CHANNEL,
    SCHEDULE_CHANNEL,
    Wakeup,
    open_wakeup,
    settling_pause,
)
from .duties import Duty, expire, forget, promote, prune, rescue
from .operations import Operations
from .outbox import Outbox
from .schedules import Schedules, prune_old_ticks
from .statistics import add_up
from .stores import sweep_stores

logger = logging.getLogger("django_taskq.keeper")

#: seconds between two rounds at least, however often hints come (SQLite hints at every write)
_SHORTEST = 0.05
#: seconds to the next look for due tasks where nothing tells of new ones
_UNHINTED = 1.0
#: seconds until the next try after the database failed
_RECONNECT = 1.0


class Keeper:
    """Keeps house in one database, while this process is elected.

    Two at once (a frozen one that wakes up) do no harm: every duty is made of guarded statements.
    """

    def __init__(self, using: str, backends: Sequence[TaskqBackend]) -> None:
        self._using = using
        self._backends = backends
        self._stop_in, self._stop_out = os.pipe()
        self._thread = threading.Thread(target=self._run, name=f"taskq-keeper-{using}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the statement in flight; waits for that 2 s at most."""
        os.write(self._stop_out, b"!")
        self._thread.join(2.0)
        if not self._thread.is_alive():
            os.close(self._stop_in)
            os.close(self._stop_out)

    def _run(self) -> None:
        while True:
            wakeup: Wakeup | None = None
            try:
                tune_worker_connection(connections[self._using])
                # The outbox is for what is READY, too, where a message broker has to be told.
                outbox = self._outbox()
                channels = [DUE_CHANNEL, SCHEDULE_CHANNEL, OPERATION_CHANNEL]
                wakeup = open_wakeup(self._using, channels if outbox is None else [*channels, READY_CHANNEL])
                self._keep(wakeup, outbox)
            except Exception as error:  # without this thread nothing would come due, and nobody would notice
                logger.warning(
                    "Keeping house failed (%s: %s); trying again.",
                    type(error).__name__,
                    str(error).strip(),
                    exc_info=not isinstance(error, (DatabaseError, InterfaceError, OSError)),
                    extra={"action": "keeper_failed"},
                )
            else:
                return
            finally:
                if wakeup is not None:
                    wakeup.close()
                connections[self._using].close()
            if self._told_to_stop(_RECONNECT):
                return

    def _outbox(self) -> Outbox | None:
        # Of all aliases, served by this worker or not: there is one keeper per database.
        backends = [backend for backend in backends_on(self._using) if backend.config.is_kombu]
        return Outbox(self._using, backends) if backends else None

    def _keep(self, wakeup: Wakeup, outbox: Outbox | None) -> None:
        duties, hinted, named = self._duties(wakeup, outbox)
        settled_at = 0.0
        while True:
            for duty, at in duties.items():
                now = time.monotonic()
                if now >= at:
                    duties[duty] = now + duty(now)
            now = time.monotonic()
            pause = max(min(duties.values()) - now, _SHORTEST)
            if now < settled_at:
                pause = min(pause, max(settling_pause(wakeup.settles_in - (settled_at - now)), _SHORTEST))
            is_hinted = wakeup.arrived() or self._wait(wakeup, pause)
            if self._told_to_stop(_SHORTEST if is_hinted else 0.0):
                return
            if is_hinted:
                channels = {hint.channel for hint in wakeup.drain()}
                settled_at = time.monotonic() + wakeup.settles_in
                duties.update((duty, 0.0) for channel, duty in named.items() if channel in channels)
            if (is_hinted or now < settled_at) and wakeup.has_news():
                duties.update(dict.fromkeys(hinted, 0.0))
                if wakeup.settles_in:
                    # Whatever was written: it may have been a schedule, or an operation.
                    duties.update((duty, min(duties[duty], duty.looked_at + _UNHINTED)) for duty in named.values())

    def _duties(
        self, wakeup: Wakeup, outbox: Outbox | None
    ) -> tuple[dict[Duty, float], list[Duty], dict[str, Schedules | Operations]]:
        """All duties, at once; those that a hint may concern; and those that have hints of their own, by channel."""
        longest = _UNHINTED if wakeup.trusted_for is None else wakeup.trusted_for
        promote_due = promote(self._using, longest)
        # Of all aliases, as above.
        schedules = Schedules(self._using, backends_on(self._using), longest)
        operations = Operations(self._using, is_hinted=wakeup.trusted_for is not None)
        lease = min(backend.config.lease for backend in self._backends)
        duties: dict[Duty, float] = dict.fromkeys(
            (
                promote_due,
                schedules,
                expire(self._using),
                rescue(self._using, lease),
                prune(self._backends),
                forget(self._using),
                sweep_stores(self._backends),
                prune_old_ticks(self._using),
                add_up(self._using),
                # Last: it takes the longest, and is in nobody's way.
                operations,
            ),
            0.0,
        )
        hinted: list[Duty] = [promote_due]
        if outbox is not None:
            # After what makes tasks READY, and as soon.
            duties[outbox] = 0.0
            hinted.append(outbox)
        return duties, hinted, {SCHEDULE_CHANNEL: schedules, OPERATION_CHANNEL: operations}

    def _wait(self, wakeup: Wakeup, pause: float) -> bool:
        """Whether something came before the ``pause`` was over."""
        return bool(select.select([self._stop_in, *wakeup.filenos()], [], [], pause)[0])

    def _told_to_stop(self, timeout: float) -> bool:
        return bool(select.select([self._stop_in], [], [], timeout)[0])
