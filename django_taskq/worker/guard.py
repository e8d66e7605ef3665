"""Interrupting a slot: an exception from outside that can only hit the task's own code.

CPython lets one thread raise an exception in another (``PyThreadState_SetAsyncExc``), and a signal's handler raise one
in the main thread. Neither asks where the other one is by then. So each slot has a guard. It is open while the task's
own code runs. Once :func:`shut` has returned nothing that was sent to this task can arrive any more, so that the slot
and the next task never see it.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import threading
import time
from collections.abc import Coroutine, Generator
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol

from ..exceptions import Interrupt, SoftTimeLimitExceeded

if TYPE_CHECKING:
    from .slots import Work

#: seconds between two looks whether an interrupt on its way is through; it takes microseconds
_SPIN = 0.0002

#: what reaches the main thread: a signal that nobody else uses. SIGALRM is what libraries use for timeouts.
SIGNAL = signal.SIGRTMIN + 8 if hasattr(signal, "SIGRTMIN") else signal.SIGVTALRM

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)
_set_async_exc.restype = ctypes.c_int


class Cause(IntEnum):
    """Why a task is interrupted; the numbers stand on the board."""

    SOFT_LIMIT = 1
    LIMIT = 2
    CANCEL = 3


class Timer(Protocol):
    """Who keeps the time of tasks; see ``limits.Watch``."""

    def begin(self, work: Work, guard: Guard, soft: float | None, hard: float | None) -> None:
        """The task's own code is about to start, and may take so many seconds."""

    def end(self, work: Work) -> None:
        """It has ended. May be called again."""


class Guard:
    """The door of one slot.

    ``open`` and ``shut`` are for the slot, ``hold`` and what may be done while it is held for one other thread. There
    is no lock, since whoever is interrupted might keep it: each side first says what it is about to do, and then looks
    what the other one has said.
    """

    def __init__(self, timer: Timer | None = None) -> None:
        self._timer = timer
        #: whose code runs; None while the guard is shut
        self.current: Work | None = None
        #: why the last task was interrupted, if it was
        self.cause: Cause | None = None
        #: its task was given up: how that ended is not the slot's to tell, and no other task is to run here
        self.is_abandoned = False
        self._work: Work | None = None
        self._is_timed = False
        self._is_held = False
        self._was_held = False

    def open(self, work: Work | None, soft: float | None = None, hard: float | None = None) -> None:
        """The task's own code runs from here on, for so many seconds; it may be interrupted before this returns."""
        self.cause = None
        self._work = work
        if work is not None and self._timer is not None and (soft is not None or hard is not None):
            self._is_timed = True
            self._timer.begin(work, self, soft, hard)
        self.current = work

    def close(self) -> None:
        """For :func:`shut` only: may be interrupted anywhere, and is called again then."""
        self.current = None
        if self._was_held:
            # Who came while the door was open may still be on the way in.
            while self._is_held:
                time.sleep(_SPIN)
            self._clear()
        if (self._is_timed or self._was_held) and self._timer is not None and self._work is not None:
            self._timer.end(self._work)
        self._was_held = self._is_timed = False

    def hold(self, work: Work) -> bool:
        """Keep the door as it is until :meth:`let_go`; False when this task's code does not run any more, or not yet."""
        # In this order: a slot that shuts it afterwards waits for us, and of one that has shut it we see that.
        self._is_held = True
        self._was_held = True
        if self.current is work:
            return True
        self._is_held = False
        return False

    def let_go(self) -> None:
        """The slot may go on."""
        self._is_held = False

    def interrupt(self, cause: Cause) -> None:
        """Raise in the task's code what the cause says; only while the guard is held."""
        self.cause = cause
        self._raise(SoftTimeLimitExceeded if cause is Cause.SOFT_LIMIT else Interrupt)

    def _raise(self, exception: type[BaseException]) -> None:
        """Have it raised in the slot, soon."""

    def _clear(self) -> None:
        """What was not raised yet is not raised any more."""


def shut(guard: Guard) -> None:
    """The task's own code has ended. Afterwards nothing is raised here that was meant for it."""
    try:
        guard.close()
    except BaseException:  # noqa: BLE001  # an interrupt that came while the door was closing; there is no second so soon
        shut(guard)


class ThreadGuard(Guard):
    """Of a slot that is a thread; made in it."""

    def __init__(self, timer: Timer | None = None) -> None:
        super().__init__(timer)
        self.ident = threading.get_ident()

    def _raise(self, exception: type[BaseException]) -> None:
        _set_async_exc(self.ident, exception)

    def _clear(self) -> None:
        _set_async_exc(self.ident, ctypes.py_object())


class MainGuard(Guard):
    """Of the slot that is the main thread; made in it. A signal also ends what waits in a system call (PEP 475)."""

    def __init__(self, timer: Timer | None = None) -> None:
        super().__init__(timer)
        self.ident = threading.get_ident()
        self._wanted: type[BaseException] | None = None
        signal.signal(SIGNAL, self._on_signal)

    def _raise(self, exception: type[BaseException]) -> None:
        self._wanted = exception
        signal.pthread_kill(self.ident, SIGNAL)

    def _clear(self) -> None:
        self._wanted = None

    def _on_signal(self, number: int, frame: object) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is not None and self.current is not None:
            raise wanted


class CoroutineGuard(Guard):
    """Of one ``async def`` task; made in it.

    Its task is cancelled, as everything in asyncio is; a soft limit becomes an exception of its own on the way in.
    """

    def __init__(self, timer: Timer | None, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
        super().__init__(timer)
        self._loop = loop
        self._task = task
        self._is_soft = False
        self._cancelled = 0

    def _raise(self, exception: type[BaseException]) -> None:
        self._loop.call_soon_threadsafe(self._cancel, exception is SoftTimeLimitExceeded)

    def _cancel(self, is_soft: bool) -> None:
        """Runs on the loop, as the task does: whether its own code still runs is certain here."""
        if self.current is not None:
            self._is_soft = is_soft
            self._cancelled += 1
            self._task.cancel()

    def _clear(self) -> None:
        while self._cancelled:
            # What comes after the task's own code is not cancelled.
            self._cancelled -= 1
            self._task.uncancel()

    def translate(self, error: BaseException) -> BaseException:
        """What the task's code gets for what asyncio throws."""
        if self._is_soft and isinstance(error, asyncio.CancelledError):
            self._is_soft = False
            self._cancelled -= 1
            self._task.uncancel()
            return SoftTimeLimitExceeded()
        return error


class Relay:
    """Awaits a coroutine, and passes on to it what is thrown in, translated."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], guard: CoroutineGuard) -> None:
        self._coroutine = coroutine
        self._guard = guard

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine = self._coroutine
        try:
            awaited = coroutine.send(None)
            while True:
                try:
                    sent = yield awaited
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001  # all of it is the coroutine's
                    awaited = coroutine.throw(self._guard.translate(error))
                else:
                    awaited = coroutine.send(sent)
        except StopIteration as stop:
            return stop.value
        finally:
            coroutine.close()
