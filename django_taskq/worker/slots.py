"""Where tasks run: threads for ``def``, an event loop for ``async def``.

Each task gets a fresh ``contextvars`` context, so that what it activates (time zone, language) is gone
with it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from asgiref.sync import sync_to_async
from django.db.backends.signals import connection_created

from ..core.message import Message
from ..core.outcome import Outcome
from .cleanup import Room, clean_connections, free_log_handlers, has_connected, note_connections
from .guard import CoroutineGuard, Guard, MainGuard, ThreadGuard, Timer
from .runner import Attempt

logger = logging.getLogger("django_taskq.worker")


@dataclass(slots=True, eq=False)
class Work:
    """A task in a worker process.

    ``place``: its note on the board. ``started``: monotonic, 0 before. ``is_answered`` and ``is_told``: see ``Replies``.
    ``on_told``: called, in any thread, when it is told; None: the I/O thread asks.
    ``guard``: its slot's, once it has one. ``is_cancelled``: the watch knows that somebody asked it to stop.
    ``is_overdue``: it was given up, and its slot is lost.
    """

    message: Message
    attempt: Attempt
    place: int
    is_async: bool
    started: float = 0.0
    is_answered: bool | None = None
    is_told: bool = False
    on_told: Callable[[Work], None] | None = None
    guard: Guard | None = None
    is_cancelled: bool = False
    is_overdue: bool = False


class ThreadSlots:
    """Threads that run one task at a time each.

    ``on_start`` and ``on_end`` are called in the slot's thread and must not raise.
    """

    def __init__(
        self,
        count: int,
        home: str,
        on_start: Callable[[Work], None],
        on_end: Callable[[Work, Outcome], None],
        timer: Timer | None = None,
    ) -> None:
        self.count = count
        #: when a task last was submitted or started (monotonic): how long the others have waited since
        self.moved_at = 0.0
        self._home = home
        self._on_start = on_start
        self._on_end = on_end
        self._timer = timer
        self._waiting: SimpleQueue[Work | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads; with a single slot the caller's own thread serves (see :meth:`serve`)."""
        if self.count > 1:
            for index in range(self.count):
                thread = threading.Thread(target=self.serve, name=f"taskq-slot-{index}", daemon=True)
                thread.start()
                self._threads.append(thread)

    def submit(self, work: Work) -> None:
        """Have it run by the next free slot, in the order of submission."""
        self.moved_at = time.monotonic()
        self._waiting.put(work)

    def is_empty(self) -> bool:
        """Whether nothing waits for a slot."""
        return self._waiting.empty()

    def take_back(self) -> list[Work]:
        """What waits and has not been started; no slot will run it now."""
        taken = []
        try:
            while True:
                work = self._waiting.get_nowait()
                if work is not None:
                    taken.append(work)
        except Empty:
            return taken

    def stop(self) -> None:
        """Let the threads end once they have run what they run."""
        for _ in range(self.count):
            self._waiting.put(None)

    def serve(self) -> None:
        """Run tasks in this thread until :meth:`stop`."""
        note_connections()
        is_main = threading.current_thread() is threading.main_thread()
        guard = (MainGuard if is_main else ThreadGuard)(self._timer)
        room = Room(self._home, is_main=is_main)
        while (work := self._waiting.get()) is not None:
            self.moved_at = work.started = time.monotonic()
            work.guard = guard
            guard.cause = None
            self._on_start(work)
            outcome = Context().run(work.attempt.run, guard, work)
            if guard.is_abandoned:
                # The process ends.
                return
            # What was interrupted may have been in the middle of anything.
            if has_connected():
                clean_connections(are_suspect=guard.cause is not None)
            if guard.cause is not None:
                free_log_handlers()
            room.tidy()
            self._on_end(work, outcome)


class CoroutineSlots:
    """An event loop in a thread of its own, on which up to ``count`` ``async def`` tasks run together.

    ``on_start`` and ``on_end`` are called in that thread and must not raise.
    """

    def __init__(
        self,
        count: int,
        home: str,
        on_start: Callable[[Work], None],
        on_end: Callable[[Work, Outcome], None],
        timer: Timer | None = None,
    ) -> None:
        self.count = count
        #: as in :class:`ThreadSlots`
        self.moved_at = 0.0
        self._on_start = on_start
        self._on_end = on_end
        self._timer = timer
        self._room = Room(home, is_main=False)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[Work] = deque()
        #: a task does not let the loop go on: nothing given to it would start
        self.is_blocked = False
        self._uses_database = False
        self._cleaning: asyncio.Task[None] | None = None
        # Connections of ``async def`` tasks belong to asgiref's thread, which is the same for all of them.
        connection_created.connect(self._note_connection)
        #: the loop itself holds tasks only weakly
        self._running: set[asyncio.Task[None]] = set()

    def submit(self, work: Work) -> None:
        """Have it run by the next free slot; the first task starts the loop."""
        self.moved_at = time.monotonic()
        self._waiting.append(work)
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._serve, args=[self._loop], name="taskq-loop", daemon=True).start()
        self._loop.call_soon_threadsafe(self._fill)

    def is_empty(self) -> bool:
        """Whether nothing waits for a slot."""
        return not self._waiting

    def take_back(self) -> list[Work]:
        """What waits and has not been started; no slot will run it now."""
        taken = []
        if self._loop is not None and len(self._running) < self.count:
            self.is_blocked = True
            # As soon as the loop goes on, it says so there.
            self._loop.call_soon_threadsafe(self._fill)
        try:
            while True:
                taken.append(self._waiting.popleft())
        except IndexError:
            return taken

    def tasks(self) -> list[asyncio.Task[None]]:
        """What runs on the loop; for somebody who looks on, from any thread."""
        return list(self._running.copy())

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        while True:
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                # Raised by a coroutine beside a task, these end a loop; the tasks on it have done nothing wrong.
                logger.warning("A coroutine raised %r; the event loop goes on.", error, extra={"action": "loop_left"})
            else:
                logger.warning("A task stopped the event loop; it goes on.", extra={"action": "loop_stopped"})

    def _fill(self) -> None:
        assert self._loop is not None
        self.is_blocked = False
        while len(self._running) < self.count:
            try:
                work = self._waiting.popleft()
            except IndexError:
                return
            self.moved_at = time.monotonic()
            task = self._loop.create_task(self._run(work), context=Context())
            self._running.add(task)
            task.add_done_callback(self._left)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._fill()

    async def _run(self, work: Work) -> None:
        assert self._loop is not None
        task = asyncio.current_task()
        assert task is not None  # this one
        work.started = time.monotonic()
        guard = work.guard = CoroutineGuard(self._timer, self._loop, task)
        self._on_start(work)
        outcome = await work.attempt.arun(guard, work)
        if guard.is_abandoned:
            # The process ends.
            return
        self._room.tidy()
        self._on_end(work, outcome)
        # One at a time is enough: tasks that end meanwhile leave the same connection.
        if self._uses_database and self._cleaning is None:
            self._cleaning = asyncio.create_task(self._clean(in_use=len(self._running) > 1))

    async def _clean(self, *, in_use: bool) -> None:
        try:
            await sync_to_async(clean_connections)(in_use=in_use)
        finally:
            self._cleaning = None

    def _note_connection(self, **kwargs: object) -> None:
        current = threading.current_thread()
        if current is not threading.main_thread() and not current.name.startswith("taskq-"):
            self._uses_database = True
