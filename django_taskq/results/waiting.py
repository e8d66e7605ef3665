"""Waiting for an answer that comes from elsewhere than the row, beside a look at the row now and then.

Not every task that ends does so in a worker that tells of it: one may be cancelled, expire, or be given up after its
worker was lost. Then its row says so, where it has one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from threading import Thread
from typing import Any, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connections

from ..compat import TaskResultDoesNotExist
from ..core.reply import Reply
from ..database import in_memory
from ..exceptions import ResultStoreError, ResultTimeout
from .base import Ended
from .database import IMPATIENT, DatabaseResults, watcher_of

#: seconds for which the answer is all that is waited for, at most
_ALONE = 1.0
#: seconds until the next look for a row when there was none
_NO_ROW = 5.0
#: seconds that a store has for an answer, also where the caller gives less
LEAST = 0.4

_TOO_SLOW = "What keeps the result did not answer in time. get() may be called again."

T = TypeVar("T")


def call_within(work: Callable[[], T], timeout: float | None) -> T:
    """What ``work`` gives or raises; ``ResultStoreError`` when it takes longer than the caller has to wait.

    ``timeout``: seconds; None for as long as it takes.
    """
    if timeout is None:
        return work()
    future = start(work)
    try:
        return future.result(max(timeout, LEAST))
    except FutureTimeout as error:
        if future.done():
            # The work's own.
            raise
        raise ResultStoreError(_TOO_SLOW) from error


async def await_within(work: Callable[[], T], timeout: float | None) -> T:
    """See :func:`call_within`; the event loop stays free."""
    future = start(work)
    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), None if timeout is None else max(timeout, LEAST))
    except TimeoutError as error:
        if future.done():
            raise
        raise ResultStoreError(_TOO_SLOW) from error


def start(work: Callable[[], T]) -> Future[T]:
    """Do it in a thread that the process does not wait for when it ends."""
    future: Future[T] = Future()
    # From here on nobody cancels it: who gives up leaves the thread to find that out.
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  # it is the caller's
            future.set_exception(error)
        finally:
            # Some stores are a database of the project's.
            connections.close_all()

    Thread(target=run, name="taskq-results-value", daemon=True).start()
    return future


def wait_for_answer(
    answer: Future[Reply],
    rows: DatabaseResults,
    task_id: str,
    timeout: float | None,
    *,
    trouble: Callable[[], str],
    is_recorded: bool = False,
) -> Ended:
    """The answer, or the row that has ended; see ``ResultStore.wait`` for the errors.

    ``trouble``: why no answer can come at the moment, "" when it can.
    """
    try:
        # What nearly all there is: 10 µs, where waiting for two futures takes 40.
        return answer.result(_alone(timeout))
    except FutureTimeout:
        plan = _Plan(answer, rows, task_id, timeout, trouble=trouble, is_recorded=is_recorded, waited=_alone(timeout))
    try:
        ended = plan.own_look()
        if ended is not None:
            return ended
        while True:
            wait(plan.futures(), plan.next(), FIRST_COMPLETED)
            ended = plan.ended()
            if ended is not None:
                return ended
    finally:
        plan.close()


async def await_answer(
    answer: Future[Reply],
    rows: DatabaseResults,
    task_id: str,
    timeout: float | None,
    *,
    trouble: Callable[[], str],
    is_recorded: bool = False,
) -> Ended:
    """See :func:`wait_for_answer`; the event loop stays free."""
    plan = _Plan(answer, rows, task_id, timeout, trouble=trouble, is_recorded=is_recorded)
    loop = asyncio.get_running_loop()
    rung = asyncio.Event()

    def ring(_: Future[Any]) -> None:
        # The loop may have ended while the answer was under way.
        if not loop.is_closed():
            loop.call_soon_threadsafe(rung.set)

    heard: list[Future[Any]] = []
    try:
        if plan.is_impatient and not answer.done():
            ended = await sync_to_async(plan.own_look, thread_sensitive=True)()
            if ended is not None:
                return ended
        while True:
            for future in plan.futures():
                if future not in heard:
                    heard.append(future)
                    future.add_done_callback(ring)
            with suppress(TimeoutError):
                await asyncio.wait_for(rung.wait(), plan.next())
            rung.clear()
            ended = plan.ended()
            if ended is not None:
                return ended
    finally:
        plan.close()


class _Plan:
    """What to wait for, and until when. Leaves the answer's future to whoever made it."""

    def __init__(
        self,
        answer: Future[Reply],
        rows: DatabaseResults,
        task_id: str,
        timeout: float | None,
        *,
        trouble: Callable[[], str],
        is_recorded: bool,
        waited: float = 0.0,
    ) -> None:
        self._answer = answer
        self._rows = rows
        self._task_id = task_id
        self._timeout = timeout
        self._trouble = trouble
        self._is_recorded = is_recorded
        began = time.monotonic() - waited
        self._deadline = None if timeout is None else began + max(timeout, LEAST)
        # No other thread sees rows in memory; and no row has an id that somebody else has made up.
        has_row = _is_ours(task_id) and not in_memory(connections[rows.using])
        self._look_at = began + _alone(timeout) if has_row else float("inf")
        #: whether the caller looks for itself: it does not wait for as long as another thread may take
        self.is_impatient = has_row and timeout is not None and timeout < IMPATIENT
        self._row: Future[Any] | None = None

    def futures(self) -> list[Future[Any]]:
        return [self._answer] if self._row is None else [self._answer, self._row]

    def own_look(self) -> Ended | None:
        """What the row says to an impatient caller; None when that is nothing, and for others."""
        if not self.is_impatient:
            return None
        try:
            return self._rows.own_view(self._task_id, self._timeout)
        except TaskResultDoesNotExist:
            if self._is_recorded:
                raise
            return None

    def next(self) -> float | None:
        """Seconds to wait."""
        until = self._deadline
        if self._row is None:
            until = self._look_at if until is None else min(until, self._look_at)
        return None if until is None else max(until - time.monotonic(), 0.0)

    def ended(self) -> Ended | None:
        """What has been found; None to wait on."""
        if self._answer.done():
            return self._answer.result()
        now = time.monotonic()
        if self._row is not None and self._row.done():
            row, self._row = self._row, None
            try:
                ended: Ended = row.result()
            except TaskResultDoesNotExist:
                if self._is_recorded:
                    raise
                self._look_at = now + _NO_ROW
            else:
                return ended
        if self._deadline is not None and now >= self._deadline:
            reason = self._trouble()
            if reason:
                raise ResultStoreError(f"Task {self._task_id}: no answer within {self._timeout} s. {reason}")
            raise ResultTimeout(
                f"Task {self._task_id} did not finish within {self._timeout} s. get() may be called again."
            )
        if self._row is None and now >= self._look_at:
            self._row = watcher_of(self._rows.using).watch(self._task_id)
        return None

    def close(self) -> None:
        if self._row is not None:
            watcher_of(self._rows.using).forget(self._task_id, self._row)


def _alone(timeout: float | None) -> float:
    """Seconds for which the answer is all that is waited for: the row is looked at in any case."""
    if timeout is None:
        return _ALONE
    return timeout if timeout < IMPATIENT else min(timeout / 2, _ALONE)


def _is_ours(task_id: str) -> bool:
    try:
        return str(UUID(task_id)) == task_id
    except ValueError:
        return False
