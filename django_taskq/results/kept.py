"""Results in a store of keys and values: what is the same for all of them.

The row of a task, where it has one, tells that it has ended; the store has the value. A task without a row is told of
by the store alone.
"""

from __future__ import annotations

import logging
import os
import re
import select
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from django.db.backends.base.base import BaseDatabaseWrapper

from ..core.reply import Reply, decode_body, encode_body
from ..core.untrusted import MAX_BODY, BadMessage
from ..exceptions import ResultStoreError, ResultUnavailable
from .base import Ended, Ticket
from .database import DatabaseResults
from .keyvalue import KeyValueStore, Listener
from .waiting import LEAST, await_answer, await_within, call_within, start, wait_for_answer
from .watcher import PerProcess, Watcher

logger = logging.getLogger("django_taskq.results")

#: what a row says instead of a value that is in the store; no JSON text is empty
ELSEWHERE = ""

#: what keys begin with, unless ``key_prefix`` says otherwise
DEFAULT_PREFIX = "taskq-result-"

#: how often a worker tries to store, and the seconds between
_TRIES, _PAUSE = 3, 0.2
#: seconds between two looks: a share of how long the youngest caller has waited, within these bounds
_FIRST_LOOK, _LAST_LOOK, _SHARE = 0.005, 1.0, 0.1
#: the same while the server tells by itself; what it tells may get lost
_HINTED_LOOK = 2.0
#: seconds without an answer of the server after which callers are told
_GIVE_UP = 10.0
#: seconds after which a look that is under way is called slow
_SLOW = 0.3
#: seconds for one answer above which several are asked for at once, and how many: else the last would come too late
_FAR, _AT_ONCE = 0.01, 16
#: what is stored under a name like a task's while nobody is to sweep again
_SWEPT = "swept"
#: under which ids that are no UUIDs become keys
_NAMESPACE = uuid.UUID("0198b0d2-7a41-7d6b-8f0e-3c5b2a9d4e11")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

T = TypeVar("T")


class Shelf:
    """One store as we use it: replies instead of bytes, one kind of error, and nothing that is over.

    ``name``: what messages call the store; has no secrets. ``describe``: an error in words, without secrets. One per
    process and store; for any thread.
    """

    def __init__(self, store: KeyValueStore, name: str, prefix: str, describe: Callable[[BaseException], str]) -> None:
        self.store = store
        self.name = name
        self.max_size = min(store.max_size or MAX_BODY, MAX_BODY)
        self._prefix = prefix
        self._describe = describe

    def key(self, task_id: str) -> str:
        """Under which a task's end is stored."""
        if not _UUID.fullmatch(task_id):
            # Celery's producers may choose any text.
            task_id = str(uuid.uuid5(_NAMESPACE, task_id))
        return f"{self._prefix}{task_id}"

    def put(self, reply: Reply) -> None:
        """Store, unless a later attempt's end is there; see ``ResultStore.keep``."""
        body = encode_body(reply, self.max_size)
        key = self.key(reply.task_id)
        ttl = None
        if reply.expires_at is not None:
            # Rather a moment too long than too short.
            ttl = max((reply.expires_at - datetime.now(UTC)).total_seconds(), 1.0)
        # An attempt whose worker was taken for lost may come to its end after the one that took its place.
        there = self.get(reply.task_id)
        if there is not None and there.attempt > reply.attempt:
            return
        self._call(lambda: self.store.put(key, body, ttl))

    def get(self, task_id: str) -> Reply | None:
        """What is stored and not over; None when there is nothing. Raises ``ResultStoreError``."""
        key = self.key(task_id)
        body = self._call(lambda: self.store.get(key))
        if body is None:
            return None
        try:
            reply = decode_body(str(body, "utf-8"))
        except (BadMessage, UnicodeDecodeError) as error:
            raise ResultStoreError(f"{self.name}: what is stored for task {task_id} is not a result: {error}") from None
        if reply.expires_at is not None and reply.expires_at <= datetime.now(UTC):
            return None
        return reply

    def delete(self, task_id: str) -> None:
        """Delete; also what is not there. Raises ``ResultStoreError``."""
        key = self.key(task_id)
        self._call(lambda: self.store.delete(key))

    def sweep(self, now: datetime, longest: float) -> int:
        """See ``KeyValueStore.sweep``. Raises ``ResultStoreError``."""
        return self._call(lambda: self.store.sweep(now.timestamp(), longest))

    def may_sweep(self, now: datetime, pause: float) -> bool:
        """Whether nobody has said this within the last ``pause`` seconds, in any process. Raises ``ResultStoreError``.

        Two who ask at the same moment may both be told so: then two sweep, which is only more work than one.
        """
        key = f"{self._prefix}{_SWEPT}"
        body = self._call(lambda: self.store.get(key))
        try:
            swept_at = float(body or 0)
        except ValueError:
            swept_at = 0.0
        if swept_at <= now.timestamp() < swept_at + pause:
            return False
        self._call(lambda: self.store.put(key, str(now.timestamp()).encode(), pause))
        return True

    def listen(self) -> Listener | None:
        """See ``KeyValueStore.listener``. Raises ``ResultStoreError``."""
        return self._call(self.store.listener)

    def error(self, problem: BaseException) -> ResultStoreError:
        """Our error for one of the client's."""
        return ResultStoreError(f"{self.name} failed: {self._describe(problem)}")

    def _call(self, operation: Callable[[], T]) -> T:
        try:
            return operation()
        except Exception as error:  # noqa: BLE001  # clients raise what they like
            # Not "from error": its text, and the locals in its traceback, may hold a password.
            raise self.error(error) from None


class KeptResults:
    """The results of an alias that keeps them in a store.

    ``shelf_of``: gives this process's shelf; asked again after a fork, since connections are nobody's to share.
    """

    keeps = True

    def __init__(self, shelf_of: Callable[[], Shelf], rows: DatabaseResults) -> None:
        self._shelf_of = shelf_of
        self._known = shelf_of()
        self._pid = os.getpid()
        self._rows = rows

    @property
    def shelf(self) -> Shelf:
        """The store."""
        if self._pid != os.getpid():
            self._known, self._pid = self._shelf_of(), os.getpid()
        return self._known

    def open(self) -> str:
        """See ``ResultStore``."""
        return ""

    def expect(self, task_id: str, connection: BaseDatabaseWrapper) -> Ticket | None:
        """See ``ResultStore``."""
        return None

    def wait(
        self, task_id: str, timeout: float | None, *, is_recorded: bool = True, ticket: object | None = None
    ) -> Ended:
        """See ``ResultStore``."""
        if is_recorded:
            return self._rows.wait(task_id, timeout)
        if timeout is not None and timeout < LEAST:
            # The watcher may take as long to begin.
            reply = call_within(lambda: self.shelf.get(task_id), timeout)
            if reply is not None and reply.state.is_final:
                return reply
        watcher = _watcher_of(self.shelf)
        waiter = watcher.watch(task_id)
        try:
            return wait_for_answer(waiter, self._rows, task_id, timeout, trouble=watcher.describe_trouble)
        finally:
            watcher.forget(task_id, waiter)

    async def await_(
        self, task_id: str, timeout: float | None, *, is_recorded: bool = True, ticket: object | None = None
    ) -> Ended:
        """See ``ResultStore``."""
        if is_recorded:
            return await self._rows.await_(task_id, timeout)
        if timeout is not None and timeout < LEAST:
            # As above.
            reply = await await_within(lambda: self.shelf.get(task_id), timeout)
            if reply is not None and reply.state.is_final:
                return reply
        watcher = _watcher_of(self.shelf)
        waiter = watcher.watch(task_id)
        try:
            return await await_answer(waiter, self._rows, task_id, timeout, trouble=watcher.describe_trouble)
        finally:
            watcher.forget(task_id, waiter)

    def find(self, task_id: str) -> Reply | None:
        """See ``ResultStore``."""
        return self.shelf.get(task_id)

    def value_of(self, task_id: str, text: str | None) -> str | None:
        """See ``ResultStore``."""
        if text != ELSEWHERE:
            return text
        reply = self.shelf.get(task_id)
        if reply is None or reply.result is None:
            raise ResultUnavailable(
                f"Task {task_id} succeeded; its value is not in {self.shelf.name} any more: its time was over "
                "(result_ttl), or somebody deleted it."
            )
        return reply.result

    def keep(self, reply: Reply) -> bool:
        """See ``ResultStore``."""
        for attempt in range(1, _TRIES + 1):
            try:
                self.shelf.put(reply)
            except ResultStoreError:
                if attempt == _TRIES:
                    raise
                time.sleep(_PAUSE * attempt)
            else:
                break
        return True

    def forget(self, task_id: str) -> None:
        """See ``ResultStore``."""
        self.shelf.delete(task_id)

    def sweep(self, now: datetime, longest: float | None) -> int:
        """See ``ResultStore``."""
        if self.shelf.store.expires:
            return 0
        # A store that knows of each value when it is over has something to do also where others stay for ever.
        return self.shelf.sweep(now, float("inf") if longest is None else longest)


class StoreWatcher(Watcher[Reply]):
    """Waits for a store: hears of it where the server can tell, and looks less and less often elsewhere."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__("taskq-results-store", shelf.name)
        self._shelf = shelf
        self._listener: Listener | None = None
        #: since when the server owes an answer (monotonic), and seconds that the last one took
        self._asked_at: float | None = None
        self._pace = 0.0
        #: what the server tells of, by key
        self._heard: dict[str, str] = {}

    def describe_trouble(self) -> str:
        """Why nothing is known, "" when looking works."""
        trouble, asked_at = self.trouble, self._asked_at
        if trouble is not None:
            return trouble[1]
        slow = 0.0 if asked_at is None else time.monotonic() - asked_at
        return f"{self._shelf.name} has not answered for {slow:.1f} s." if slow > _SLOW else ""

    def _open(self) -> None:
        self._asked_at = time.monotonic()
        self._listener = self._shelf.listen()
        self._asked_at = None

    def _shut(self) -> None:
        listener, self._listener = self._listener, None
        self._heard.clear()
        if listener is not None:
            listener.close()

    def _look(self, task_ids: list[str]) -> None:
        self._asked_at = time.monotonic()
        if self._listener is not None:
            # Before the look: what is stored between the two is heard of.
            self._hear_of(task_ids)
        for task_id, reply in self._replies(task_ids):
            if reply is not None and reply.state.is_final:
                for waiter in self._answered(task_id):
                    waiter.set_result(reply)
        self._asked_at = None

    def _replies(self, task_ids: list[str]) -> Iterator[tuple[str, Reply | None]]:
        left = list(task_ids)
        while left:
            self._asked_at = time.monotonic()
            count = _AT_ONCE if self._pace > _FAR and len(left) > 1 else 1
            asked, left = left[:count], left[count:]
            if count == 1:
                answers = [self._shelf.get(asked[0])]
            else:
                futures = [start(partial(self._shelf.get, task_id)) for task_id in asked]
                answers = [future.result() for future in futures]
            self._pace = time.monotonic() - self._asked_at
            yield from zip(asked, answers, strict=True)

    def _hear_of(self, task_ids: list[str]) -> None:
        assert self._listener is not None
        with self._lock:
            stale = [key for key, task_id in self._heard.items() if task_id not in self._waiting]
        fresh = {key: task_id for task_id in task_ids if (key := self._shelf.key(task_id)) not in self._heard}
        if stale:
            self._listener.forget(stale)
            for key in stale:
                self._heard.pop(key)
        if fresh:
            self._listener.watch(list(fresh))
            self._heard.update(fresh)

    def _sleep(self) -> list[str]:
        now = time.monotonic()
        with self._lock:
            idle = not self._waiting
            age, unused = now - self._newest, now - self._last_used
        bell = self._bell.watched
        files: list[Any] = [bell]
        if self._listener is not None:
            files.append(self._listener)
        if idle:
            timeout = max(self.idle - unused, 0.0)
        elif self._listener is not None:
            timeout = _HINTED_LOOK
        else:
            timeout = min(max(age * _SHARE, _FIRST_LOOK), _LAST_LOOK)
        readable, _, _ = select.select(files, [], [], timeout)
        if bell in readable:
            self._bell.quieten()
        if self._listener is not None and self._listener in readable:
            keys = self._listener.drain()
            return [task_id for key in keys if (task_id := self._heard.get(key)) is not None]
        return [] if readable else self._everything()

    def _failed(self, error: Exception) -> None:
        self._asked_at = None
        if not isinstance(error, ResultStoreError):
            # The listener's.
            error = self._shelf.error(error)
            self.trouble = (self.trouble or (time.monotonic(), ""))[0], str(error)
        super()._failed(error)
        if self.trouble is not None and time.monotonic() - self.trouble[0] >= _GIVE_UP:
            for task_id in self._everything():
                for waiter in self._answered(task_id):
                    waiter.set_exception(ResultStoreError(str(error)))


#: by shelf
_watchers = PerProcess(StoreWatcher)


def _watcher_of(shelf: Shelf) -> StoreWatcher:
    watcher: StoreWatcher = _watchers.of(shelf)
    return watcher
