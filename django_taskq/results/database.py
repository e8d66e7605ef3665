"""Results in the task's own row.

One thread per process and database waits for all callers: it holds one connection, LISTENs where
it can (PostgreSQL) or watches the file (SQLite on Linux), and looks at the rows on a timer in any
case. Callers wait on futures, so that a thousand of them cost one query per look, and none holds
a connection of its own or sees the stale snapshot of its own transaction.
"""

from __future__ import annotations

import asyncio
import select
import time
from datetime import datetime
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..compat import TaskResultDoesNotExist
from ..core.reply import Reply
from ..core.states import FINAL
from ..database import in_memory, leave_pool
from ..exceptions import ResultTimeout, ResultUnavailable
from ..models import TaskRecord
from ..wakeup import DONE_CHANNEL, Hint, Wakeup, open_wakeup, settling_pause
from .base import Ticket
from .watcher import PerProcess, Watcher

#: seconds between two looks: a share of how long the youngest caller has waited, within these bounds
_FIRST_LOOK, _LAST_LOOK, _SHARE = 0.002, 0.25, 0.1
#: the same while hints come by themselves
_HINTED_LOOK = 1.0
#: seconds of timeout below which the caller looks for itself: the watcher may take as long to start
IMPATIENT = 0.05
#: rows per look
_CHUNK = 500

UNCOMMITTED = (
    "The task was enqueued in a transaction that has not been committed, so no worker can see it yet: "
    "waiting here would never end. Wait after the commit (in tests: run_tasks(), or TransactionTestCase)."
)
_NO_RECORD = (
    "The task has record=False: its row goes when it succeeds, so there is no result to get. "
    "Give the alias other results, such as 'rpc://' or 'redis://…', or keep the record."
)


class DatabaseResults:
    """The results of one database."""

    keeps = False

    def __init__(self, using: str) -> None:
        self.using = using

    def open(self) -> str:
        """See ``ResultStore``."""
        return ""

    def expect(self, task_id: str, connection: BaseDatabaseWrapper) -> Ticket | None:
        """See ``ResultStore``."""
        return None

    def find(self, task_id: str) -> Reply | None:
        """See ``ResultStore``."""
        return None

    def value_of(self, task_id: str, text: str | None) -> str | None:
        """See ``ResultStore``."""
        return text

    def keep(self, reply: Reply) -> bool:
        """See ``ResultStore``."""
        return False

    def forget(self, task_id: str) -> None:
        """See ``ResultStore``: the row goes when its time is over."""

    def sweep(self, now: datetime, longest: float | None) -> int:
        """See ``ResultStore``."""
        return 0

    def wait(
        self, task_id: str, timeout: float | None, *, is_recorded: bool = True, ticket: object | None = None
    ) -> TaskRecord:
        """See ``ResultStore``."""
        if not is_recorded:
            raise ResultUnavailable(_NO_RECORD)
        record = self.own_view(task_id, timeout)
        if record is not None:
            return record
        watcher = watcher_of(self.using)
        waiter = watcher.watch(task_id)
        try:
            return waiter.result(timeout)
        except TimeoutError as error:
            raise _timeout(task_id, timeout) from error
        except TaskResultDoesNotExist as error:
            raise self._missing(task_id) from error
        finally:
            watcher.forget(task_id, waiter)

    async def await_(
        self, task_id: str, timeout: float | None, *, is_recorded: bool = True, ticket: object | None = None
    ) -> TaskRecord:
        """See ``ResultStore``."""
        if not is_recorded:
            raise ResultUnavailable(_NO_RECORD)
        record = await sync_to_async(self.own_view, thread_sensitive=True)(task_id, timeout)
        if record is not None:
            return record
        watcher = watcher_of(self.using)
        waiter = watcher.watch(task_id)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(waiter), timeout)
        except TimeoutError as error:
            raise _timeout(task_id, timeout) from error
        except TaskResultDoesNotExist as error:
            raise await sync_to_async(self._missing, thread_sensitive=True)(task_id) from error
        finally:
            watcher.forget(task_id, waiter)

    def own_view(self, task_id: str, timeout: float | None) -> TaskRecord | None:
        """The ended row as the caller's own transaction sees it, or a caller that does not wait.

        Others leave it to the watcher: nobody needs to ask twice.
        """
        connection = connections[self.using]
        is_impatient = timeout is not None and timeout < IMPATIENT
        if not (connection.in_atomic_block or is_impatient or in_memory(connection)):
            return None
        try:
            record = TaskRecord.objects.using(self.using).get(pk=UUID(task_id))
        except TaskRecord.DoesNotExist as error:
            raise TaskResultDoesNotExist(task_id) from error
        if record.state in FINAL:
            return record
        if in_memory(connection):
            raise ResultUnavailable(
                "The task has not ended, and no worker can see a database in memory. "
                "In tests call django_taskq.testing.run_tasks() first."
            )
        return None

    def _missing(self, task_id: str) -> Exception:
        if connections[self.using].in_atomic_block:
            return ResultUnavailable(UNCOMMITTED)
        return TaskResultDoesNotExist(task_id)


class DatabaseWatcher(Watcher[TaskRecord]):
    """Waits for rows."""

    def __init__(self, using: str) -> None:
        super().__init__(f"taskq-results-{using}", f"the database {using!r}")
        self.using = using
        self._hinted_at = 0.0
        self._wakeup: Wakeup | None = None

    def _open(self) -> None:
        leave_pool(connections[self.using])
        self._wakeup = open_wakeup(self.using, [DONE_CHANNEL])

    def _shut(self) -> None:
        wakeup, self._wakeup = self._wakeup, None
        if wakeup is not None:
            wakeup.close()
        connections[self.using].close()

    def _sleep(self) -> list[str]:
        wakeup = self._wakeup
        assert wakeup is not None  # it is open while the thread sleeps
        return self._hinted(self._hints(wakeup))

    def _hints(self, wakeup: Wakeup) -> list[Hint] | None:
        """Wait for something to happen; the hints that came, or None when it is time to look at all rows."""
        with self._lock:
            idle = not self._waiting
            age = time.monotonic() - self._newest
            unused = time.monotonic() - self._last_used
        files = wakeup.filenos()
        if idle:
            timeout = max(self.idle - unused, 0.0)
        elif time.monotonic() - self._hinted_at < wakeup.settles_in:
            timeout = settling_pause(time.monotonic() - self._hinted_at)
        elif files:
            timeout = _HINTED_LOOK
        else:
            timeout = min(max(age * _SHARE, _FIRST_LOOK), _LAST_LOOK)
        if wakeup.arrived():
            return wakeup.drain()
        bell = self._bell.watched
        readable, _, _ = select.select([bell, *files], [], [], timeout)
        if bell in readable:
            self._bell.quieten()
        now = time.monotonic()
        if not readable:
            is_settling = now - self._hinted_at < wakeup.settles_in
            return [] if is_settling and not wakeup.has_news() else None
        if len(readable) == (bell in readable):
            return []
        self._hinted_at = now
        hints = wakeup.drain()
        return hints if wakeup.has_news() else []

    def _hinted(self, hints: list[Hint] | None) -> list[str]:
        """The ids a hint speaks of that somebody waits for."""
        if hints is None or any(hint.channel == "" or hint.payload == "*" for hint in hints):
            return self._everything()
        named = {task_id for hint in hints for task_id in hint.payload.split()}
        with self._lock:
            return [task_id for task_id in named if task_id in self._waiting]

    def _look(self, task_ids: list[str]) -> None:
        """Answer those whose rows have ended, or are gone."""
        for start in range(0, len(task_ids), _CHUNK):
            chunk = task_ids[start : start + _CHUNK]
            rows = TaskRecord.objects.using(self.using).filter(pk__in=[UUID(task_id) for task_id in chunk])
            left = set(chunk)
            # The end first: a hint has nearly always told of one, and the answer is then one query away.
            for record in rows.filter(state__in=sorted(FINAL)):
                left.discard(str(record.pk))
                for waiter in self._answered(str(record.pk)):
                    waiter.set_result(record)
            there = {str(pk) for pk in rows.values_list("pk", flat=True)} if left else set()
            for task_id in left - there:
                for waiter in self._answered(task_id):
                    waiter.set_exception(TaskResultDoesNotExist(task_id))


#: by the alias of the database
_watchers = PerProcess(DatabaseWatcher)


def watcher_of(using: str) -> DatabaseWatcher:
    """The watcher of a database's rows."""
    watcher: DatabaseWatcher = _watchers.of(using)
    return watcher


def _timeout(task_id: str, timeout: float | None) -> ResultTimeout:
    return ResultTimeout(f"Task {task_id} did not finish within {timeout} s. It goes on; get() may be called again.")
