"""One thread that waits for all callers of a process.

Callers wait on futures: a thousand of them cost one look at a time, and none holds a connection of its own. The thread
ends by itself when nobody has waited for a while.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import logging
import os
import select
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Generic, TypeVar
from weakref import WeakSet

from ..bell import Bell

logger = logging.getLogger("django_taskq.results")

#: seconds until the next try after an error, and between two log lines of it
_RECONNECT, _COMPLAIN_EVERY = 0.5, 10.0

#: what callers are answered with
T = TypeVar("T")


class Watcher(ABC, Generic[T]):
    """What is common to all of them: who waits for what, and the thread's life.

    ``what``: where is looked, for the log. Methods with an underscore are the thread's, but for ``_answered``.
    """

    #: seconds without a waiter until the connection is given back; longer would outlive test databases
    idle: ClassVar[float] = 4.0

    def __init__(self, name: str, what: str) -> None:
        self._name = name
        self._what = what
        self._lock = threading.Lock()
        self._waiting: dict[str, set[concurrent.futures.Future[T]]] = {}
        self._fresh: set[str] = set()
        self._newest = self._last_used = 0.0
        self._running = False
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._bell = Bell()
        self._pid = os.getpid()
        #: since when looking fails (monotonic), and why; None while it does not
        self.trouble: tuple[float, str] | None = None
        self._complained_at = float("-inf")
        _watchers.add(self)

    def watch(self, task_id: str) -> concurrent.futures.Future[T]:
        """A future for the answer, once there is one."""
        waiter: concurrent.futures.Future[T] = concurrent.futures.Future()
        with self._lock:
            self._waiting.setdefault(task_id, set()).add(waiter)
            self._fresh.add(task_id)
            self._newest = self._last_used = time.monotonic()
            start = not self._running
            self._running = True
        if start:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        else:
            self._bell.ring()
        return waiter

    def forget(self, task_id: str, waiter: concurrent.futures.Future[T]) -> None:
        """The caller does not wait any more. Harmless when it has been answered."""
        with self._lock:
            self._last_used = time.monotonic()
            waiters = self._waiting.get(task_id)
            if waiters is not None:
                waiters.discard(waiter)
                if not waiters:
                    del self._waiting[task_id]

    def stop(self) -> None:
        """End the thread and close its connection, when the process ends."""
        if self._pid != os.getpid():
            # The parent's, whose thread would hear the bell.
            return
        self._stopped = True
        self._bell.ring()
        if self._thread is not None:
            self._thread.join(1.0)

    @abstractmethod
    def _open(self) -> None:
        """Connect. Raises what looking raises."""

    @abstractmethod
    def _shut(self) -> None:
        """Give the connection back; also when there is none."""

    @abstractmethod
    def _look(self, task_ids: list[str]) -> None:
        """Answer those that have ended, by ``_answered``. Raises when it cannot be told."""

    @abstractmethod
    def _sleep(self) -> list[str]:
        """Wait for something to happen; gives what to look at."""

    def _failed(self, error: Exception) -> None:
        """Looking failed; it is tried again."""
        now = time.monotonic()
        if now - self._complained_at < _COMPLAIN_EVERY:
            return
        self._complained_at = now
        logger.warning(
            "Waiting for results: %s failed (%s); trying again.",
            self._what,
            error,
            extra={"action": "results_reconnect"},
        )

    def _run(self) -> None:
        is_open = False
        try:
            while self._go_on():
                try:
                    if not is_open:
                        self._open()
                        is_open = True
                        self._look(self._everything())
                    else:
                        self._look(self._take_fresh())
                    # Before the pause, in which a caller's time may run out: it works again.
                    self.trouble = None
                    self._look(self._sleep())
                except Exception as error:  # noqa: BLE001  # nobody would answer the callers if this thread ended
                    if self.trouble is None:
                        self.trouble = time.monotonic(), str(error)
                    self._failed(error)
                    self._shut()
                    is_open = False
                    self._pause()
        finally:
            self._shut()

    def _pause(self) -> None:
        """Wait before the next try, also while callers ring: each of them would be a try more."""
        until = time.monotonic() + _RECONNECT
        while not self._stopped and (left := until - time.monotonic()) > 0:
            select.select([self._bell.watched], [], [], left)
            self._bell.quieten()

    def _go_on(self) -> bool:
        """False once nobody has waited for a while; a waiter that comes later starts a new thread."""
        with self._lock:
            if not self._stopped and (self._waiting or time.monotonic() - self._last_used < self.idle):
                return True
            self._running = False
            return False

    def _everything(self) -> list[str]:
        with self._lock:
            self._fresh.clear()
            return list(self._waiting)

    def _take_fresh(self) -> list[str]:
        with self._lock:
            fresh, self._fresh = self._fresh, set()
            return [task_id for task_id in fresh if task_id in self._waiting]

    def _answered(self, task_id: str) -> Iterable[concurrent.futures.Future[T]]:
        """Take a task's waiters off the list; those whose caller gave up in the meantime are left out."""
        with self._lock:
            waiters = self._waiting.pop(task_id, set())
        return [waiter for waiter in waiters if waiter.set_running_or_notify_cancel()]


_watchers: WeakSet[Watcher[Any]] = WeakSet()


class PerProcess(dict[Any, Any]):
    """Things by key that belong to one process: a forked child begins with none, and leaves the parent's alone.

    ``make``: called once for each key. Kept in the child are the parent's, so that nothing of them is closed there, but
    for what ``leave`` does.
    """

    def __init__(self, make: Callable[..., Any], leave: Callable[[Any], None] | None = None) -> None:
        super().__init__()
        self._make = make
        self._leave = leave
        self._lock = threading.Lock()
        self._inherited: list[Any] = []
        os.register_at_fork(after_in_child=self._after_fork)

    def of(self, key: Any, *arguments: Any) -> Any:
        """What there is for this key, or what ``make(*arguments)`` gives, with the key as the only one by default."""
        with self._lock:
            found = self.get(key)
            if found is None:
                found = self[key] = self._make(*(arguments or (key,)))
            return found

    def _after_fork(self) -> None:
        # Another thread may have held it when this process was forked.
        self._lock = threading.Lock()
        inherited = list(self.values())
        self._inherited.extend(inherited)
        self.clear()
        if self._leave is not None:
            for one in inherited:
                self._leave(one)


def _at_exit() -> None:
    for watcher in list(_watchers):
        watcher.stop()


atexit.register(_at_exit)
