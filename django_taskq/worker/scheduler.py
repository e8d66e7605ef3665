"""A process that keeps house and runs no tasks: ``runscheduler``."""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from django.db import DatabaseError, InterfaceError, connections

from ..backend import TaskqBackend
from ..bell import Bell
from ..database import tune_worker_connection
from ..keeper.office import Office
from .notify import Notifier

logger = logging.getLogger("django_taskq.keeper")

#: seconds until the next try after a database failed
_RECONNECT = 1.0
#: seconds between two signs of life
_SIGN = 1.0


class Scheduler:
    """Stands for election in these databases until the ``bell`` rings and ``is_stopped``.

    ``holder``: what the process is called; no other may be called so. ``heartbeat_file``: touched every second.
    """

    def __init__(
        self,
        databases: Mapping[str, Sequence[TaskqBackend]],
        holder: str,
        bell: Bell,
        is_stopped: Callable[[], bool],
        heartbeat_file: str | None = None,
    ) -> None:
        self._offices = {using: Office(using, holder, backends) for using, backends in databases.items()}
        self._tuned: set[str] = set()
        self._bell = bell
        self._is_stopped = is_stopped
        self._file = None if heartbeat_file is None else Path(heartbeat_file).absolute()
        self._notifier = Notifier()
        self._alive_at = 0.0

    def run(self) -> None:
        """Work until stopped. Raises ``OSError`` where the heartbeat file cannot be written."""
        if self._file is not None:
            self._file.touch()
        self._notifier.ready()
        while not self._is_stopped():
            now = time.monotonic()
            for using, office in self._offices.items():
                self._stand(using, office, now)
            self._give_sign(now)
            due = min(office.next_at for office in self._offices.values()) - time.monotonic()
            is_watched = self._file is not None or self._notifier.is_listened_to
            if select.select([self._bell.watched], [], [], max(min(due, _SIGN) if is_watched else due, 0.0))[0]:
                self._bell.quieten()
        self._notifier.stopping()
        for using, office in self._offices.items():
            self._leave(using, office)
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _stand(self, using: str, office: Office, now: float) -> None:
        try:
            if using not in self._tuned:
                tune_worker_connection(connections[using])
                self._tuned.add(using)
            was_held = office.is_held
            office.stand(now)
        except (DatabaseError, InterfaceError) as error:
            logger.warning(
                "Database %r: %s; trying again.", using, str(error).strip(), extra={"action": "database_failed"}
            )
            connections[using].close()
            self._tuned.discard(using)
            office.next_at = now + _RECONNECT
            return
        if office.is_held and not was_held:
            logger.info("Keeps house in database %r.", using, extra={"action": "elected"})

    def _give_sign(self, now: float) -> None:
        if self._file is not None:
            self._file.touch()
        interval = self._notifier.watchdog_interval
        if interval is not None and now >= self._alive_at:
            self._alive_at = now + max(interval - _SIGN, 0.0)
            self._notifier.alive()

    def _leave(self, using: str, office: Office) -> None:
        try:
            office.leave()
        except (DatabaseError, InterfaceError) as error:
            # Its term ends by itself.
            logger.warning("Database %r: %s.", using, str(error).strip(), extra={"action": "database_failed"})
