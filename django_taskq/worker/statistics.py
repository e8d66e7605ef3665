"""What a process has counted, until it stands in the databases."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from uuid import uuid4

from django.db import DatabaseError, InterfaceError

from ..backend import TaskqBackend
from ..core.counts import Series, add_series, counts_of
from ..transitions import statistics

logger = logging.getLogger("django_taskq.worker")

#: seconds between two writes; what a killed process has counted since the last one is lost
_WRITE = 5.0
#: seconds until the next try after the database refused
_AGAIN = 30.0


class Statistics:
    """Counts of one process, each in the database of its task. Everything here is for its I/O thread.

    What is counted belongs to the minute, by the database's clock, in which it is written: five seconds later at most.
    """

    def __init__(self, backends: Mapping[str, TaskqBackend], using: str) -> None:
        """``using``: for tasks of an alias that is no more, as a lost worker may leave them."""
        self._backends, self._using = backends, using
        self._accounts: dict[str, _Account] = {}

    def ended(
        self, backend: str, name: str, queue_name: str, end: str, *, seconds: float | None, waited: float | None
    ) -> None:
        """Count the end of an attempt, one of ``core.counts.ENDS``."""
        known = self._backends.get(backend)
        using = self._using if known is None else known.database
        account = self._accounts.get(using)
        if account is None:
            account = self._accounts[using] = _Account(using)
        counts_of(account.fresh, name, queue_name).ended(end, seconds=seconds, waited=waited)

    def due_in(self, now: float) -> float | None:
        """Seconds until something is to be written; None while nothing was counted."""
        waits = [max(account.next_write - now, 0.0) for account in self._accounts.values() if account.fresh]
        return min(waits, default=None)

    def write_due(self, now: float) -> None:
        """Write what it is time for."""
        for account in self._accounts.values():
            if account.fresh and now >= account.next_write:
                account.next_write = now + (_WRITE if account.write() else _AGAIN)

    def write_all(self) -> None:
        """Write what was counted: this process ends."""
        for account in self._accounts.values():
            account.write()


class _Account:
    """Of one database."""

    def __init__(self, using: str) -> None:
        self._using = using
        #: not the worker's id, which changes when it is taken for lost
        self._source = uuid4().hex
        #: a minute, and what stands in its row
        self._minute = 0
        self._written: Series = {}
        #: what was counted since
        self.fresh: Series = {}
        #: monotonic
        self.next_write = 0.0

    def write(self) -> bool:
        """Write what was counted; False where the database refuses, which is no reason to stop working.

        Should it have been written all the same, as where the answer was lost, the next try within that minute writes
        the same numbers; a later one counts those seconds twice.
        """
        if not self.fresh:
            return True
        try:
            minute = statistics.minute_of(self._using)
            whole: Series = {}
            if minute == self._minute:
                add_series(whole, self._written)
            add_series(whole, self.fresh)
            is_written = statistics.put(self._using, minute, self._source, whole)
        except (DatabaseError, InterfaceError, ValueError, OverflowError) as error:
            logger.warning(
                "Statistics could not be written (%s: %s); counted later.",
                type(error).__name__,
                str(error).strip(),
                extra={"action": "statistics_failed"},
            )
            return False
        if is_written:
            self._minute, self._written, self.fresh = minute, whole, {}
        # Else this process was frozen between the two statements: what it has counted belongs to another minute.
        return True
