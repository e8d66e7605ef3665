"""A worker process's standing in one database: its row, its heartbeat, and whether it keeps house."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Collection, Sequence

from django.db import connections

from ..backend import TaskqBackend
from ..database import tune_worker_connection
from ..keeper.loop import Keeper
from ..models import TaskRecord, WorkerRecord
from ..transitions import workers
from ..transitions.finish import Held, release
from .settings import WorkerSettings

logger = logging.getLogger("django_taskq.worker")

#: heartbeats per lease: two may get lost before the lease is
_BEATS = 3
#: seconds an election holds at most, and its share of the lease: the tasks of a keeper that died with its
#: worker must find a new one in time
_TERM, _TERM_SHARE = 15.0, 0.5
#: tries to stay the keeper per term; the others try half as often
_ELECTIONS = 3


class Lease:
    """Kept by the I/O thread, on its connection; every method may raise the database's errors."""

    def __init__(self, using: str, worker_id: str, backends: Sequence[TaskqBackend], settings: WorkerSettings) -> None:
        self.using = using
        self.worker_id = worker_id
        self._backends = backends
        self._settings = settings
        self._lease = min(backend.config.lease for backend in backends)
        self._term = min(_TERM, self._lease * _TERM_SHARE)
        self._registered = False
        self._next_beat = 0.0
        self._next_election = 0.0
        self._keeper: Keeper | None = None

    def take(self, held: Collection[tuple[str, int]]) -> bool:
        """After (re)connecting: register, or beat; False when the old registration was declared lost.

        A claim whose answer got lost with the connection left rows RUNNING that nobody here knows of:
        they are given back. ``held``: ids and claims this process does know of.
        """
        tune_worker_connection(connections[self.using])
        now = time.monotonic()
        self._next_beat = now + self._lease / _BEATS
        if self._registered:
            if not workers.heartbeat(self.using, self.worker_id):
                self._registered = False
                return False
            self._release_unknown(held)
            return True
        workers.register(
            self.using,
            WorkerRecord(
                id=self.worker_id,
                name=self._settings.name[:64],
                hostname=socket.gethostname()[:255],
                pid=os.getpid(),
                backends=",".join(self._settings.backends)[:255],
                queues=str(self._settings.queues),
                slots=self._settings.slots,
                lease=self._lease,
            ),
        )
        self._registered = True
        return True

    def keep(self, now: float) -> bool:
        """Beat and stand for election when it is time; False when this process was declared lost."""
        if now >= self._next_beat:
            if not workers.heartbeat(self.using, self.worker_id):
                self._registered = False
                return False
            self._next_beat = now + self._lease / _BEATS
        if not self._settings.burst and now >= self._next_election:
            self._next_election = now + self._term / _ELECTIONS * (1 if self._keeper else 2)
            self._hold_office(workers.elect(self.using, self.worker_id, self._term))
        return True

    def next_duty(self) -> float:
        """When :meth:`keep` has something to do (monotonic)."""
        return self._next_beat if self._settings.burst else min(self._next_beat, self._next_election)

    def leave(self) -> None:
        """Sign off: the keeper's office is free, the row goes. Rows still held are rescued by others."""
        if self._keeper is not None:
            self._keeper.stop()
            self._keeper = None
            workers.resign(self.using, self.worker_id)
        if self._registered:
            workers.deregister(self.using, self.worker_id)
            self._registered = False

    def rename(self, worker_id: str) -> None:
        """Go on under a new id, after the old one was declared lost."""
        self.worker_id = worker_id
        self._registered = False

    def _hold_office(self, elected: bool) -> None:
        if elected and self._keeper is None:
            self._keeper = Keeper(self.using, self._backends)
            self._keeper.start()
        elif not elected and self._keeper is not None:
            self._keeper.stop()
            self._keeper = None

    def _release_unknown(self, held: Collection[tuple[str, int]]) -> None:
        rows = TaskRecord.objects.using(self.using).filter(state="RUNNING", worker_id=self.worker_id)
        unknown = [
            Held(str(pk), claim, attempt, worker_ids)
            for pk, claim, attempt, worker_ids in rows.values_list("pk", "claim", "attempt", "worker_ids")
            if (str(pk), claim) not in held
        ]
        if unknown:
            release(self.using, unknown)
            logger.warning(
                "%d claimed tasks whose claim got lost with the connection were given back.",
                len(unknown),
                extra={"action": "claims_given_back"},
            )
