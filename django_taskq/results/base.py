"""What the results of an alias offer: to callers, who wait, and to workers, who tell how tasks ended."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, TypeAlias

from django.db.backends.base.base import BaseDatabaseWrapper

from ..core.reply import Reply
from ..models import TaskRecord

#: how a task ended: its row, or what a worker said of it
Ended: TypeAlias = "TaskRecord | Reply"


class Ticket(Protocol):
    """What somebody holds for as long as it may wait for a task's end; ``results``: who gave it, and waits with it."""

    results: ResultStore


class ResultStore(Protocol):
    """One alias's results.

    ``task_id``: as its producer chose it. ``is_recorded``: whether the task has a row for as long as somebody may ask
    for its result; else it may have one for a while, or none. ``ticket``: what ``expect`` gave, where it is at hand.
    """

    #: whether ``keep`` does anything
    keeps: bool

    def open(self) -> str:
        """The queue that workers are to reply to, which is read from now on; "" where there is none."""

    def expect(self, task_id: str, connection: BaseDatabaseWrapper) -> Ticket | None:
        """Called before a task is on its way whose end somebody may wait for; gives what that somebody has to hold.

        ``connection``: the one whose commit it waits for. None: nothing.
        """

    def wait(
        self, task_id: str, timeout: float | None, *, is_recorded: bool = True, ticket: object | None = None
    ) -> Ended:
        """How the task ended, once it has.

        Raises ``ResultTimeout`` after ``timeout`` seconds (None: never), at most 0.5 s later, ``ResultUnavailable`` when
        waiting cannot help (``ResultStoreError``: because a server does not answer), ``TaskResultDoesNotExist`` when
        there is no such task.
        """

    async def await_(
        self, task_id: str, timeout: float | None, *, is_recorded: bool = True, ticket: object | None = None
    ) -> Ended:
        """See :meth:`wait`; the event loop stays free."""

    def find(self, task_id: str) -> Reply | None:
        """How a task without a row ended; None when it is not known here, or not yet."""

    def value_of(self, task_id: str, text: str | None) -> str | None:
        """The value of a row that is SUCCESSFUL and says ``text``, as JSON text; None when none is kept.

        Raises ``ResultStoreError``, and ``ResultUnavailable`` when it was kept and is not there any more.
        """

    def keep(self, reply: Reply) -> bool:
        """Take what a worker says of a task that has ended, before its row does; False when the row is to keep it.

        A later attempt's end takes the place of an earlier one's, never the other way round. Raises ``ResultStoreError``,
        and ``ValueError`` for a value too large.
        """

    def forget(self, task_id: str) -> None:
        """Keep the value no longer; also where there is none. Raises ``ResultStoreError``."""

    def sweep(self, now: datetime, longest: float | None) -> int:
        """Delete what is over from a store that does not do that by itself; gives how many, -1: nobody knows.

        ``longest``: seconds for which the longest-lived results of this alias are kept; None: some for ever.
        """
