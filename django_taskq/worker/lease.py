"""A worker process's standing in one database: its row, its heartbeat, and whether it keeps house."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Collection, Sequence

from django.db import connections

from ..aliases import backends_on
from ..backend import TaskqBackend
from ..database import tune_worker_connection
from ..keeper.office import Office
from ..keeper.schedules import fire_once
from ..models import TaskRecord, WorkerRecord
from ..transitions import workers
from ..transitions.finish import Held, release
from .settings import WorkerSettings

logger = logging.getLogger("django_taskq.worker")

#: heartbeats per lease: two may get lost before the lease is
_BEATS = 3


class Lease:
    """Kept by the I/O thread, on its connection; every method may raise the database's errors."""

    def __init__(self, using: str, worker_id: str, backends: Sequence[TaskqBackend], settings: WorkerSettings) -> None:
        self.using = using
        self.worker_id = worker_id
        self._settings = settings
        self._lease = min(backend.config.lease for backend in backends)
        self._registered = False
        self._next_beat = 0.0
        self._has_fired = False
        self._office = Office(using, worker_id, backends) if settings.keeps_house else None

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
        if self._office is not None:
            self._office.stand(now)
        return True

    def next_duty(self) -> float:
        """When :meth:`keep` has something to do (monotonic)."""
        return self._next_beat if self._office is None else min(self._next_beat, self._office.next_at)

    def leave(self) -> None:
        """Sign off: the keeper's office is free, the row goes. Rows still held are rescued by others."""
        if self._office is not None:
            self._office.leave()
        if self._registered:
            workers.deregister(self.using, self.worker_id)
            self._registered = False

    def fire_schedules(self) -> int:
        """Fire the schedules that are due, once: where only bursts run, nobody else would. Gives how many."""
        if self._has_fired or not self._settings.scheduler:
            return 0
        self._has_fired = True
        return fire_once(self.using, backends_on(self.using))

    def rename(self, worker_id: str) -> None:
        """Go on under a new id, after the old one was declared lost."""
        self.worker_id = worker_id
        self._registered = False
        if self._office is not None:
            self._office.holder = worker_id

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
