"""What signals ask of a worker."""

from __future__ import annotations

import faulthandler
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from ..bell import Bell

#: the descriptor of standard error, to which a process writes that can do nothing else any more
_STDERR = 2

#: the ways to ask for a stop, and how often it is asked for: twice means at once
_STOPS = {signal.SIGTERM: 1, signal.SIGINT: 1, signal.SIGQUIT: 2}


@dataclass(slots=True)
class Orders:
    """What the signals that came until now say; a handler writes it, the supervisor reads it.

    ``stops``: how often a stop was asked for. ``reloads``: how often new code was, and ``is_reloading``:
    that it is begun with. ``is_quiet``: start nothing. ``stacks``: how often the stacks were asked for.
    """

    stops: int = 0
    reloads: int = 0
    is_reloading: bool = False
    is_quiet: bool = False
    stacks: int = 0

    @property
    def is_stopping(self) -> bool:
        """Whether processes are to end, and none is started."""
        return self.stops > 0 or self.is_reloading

    def take(self, number: int) -> None:
        """A signal came."""
        match number:
            case signal.SIGTERM | signal.SIGINT | signal.SIGQUIT:
                self.stops += _STOPS[signal.Signals(number)]
            case signal.SIGHUP:
                self.reloads += 1
            case signal.SIGTSTP | signal.SIGUSR2:
                self.is_quiet = True
            case signal.SIGCONT:
                self.is_quiet = False
            case signal.SIGUSR1:
                self.stacks += 1

    @contextmanager
    def heard(self, bell: Bell, *, hang_up_stops: bool) -> Iterator[None]:
        """Listen to signals within the block; each rings the bell.

        ``hang_up_stops``: SIGHUP says that the terminal is gone, and the worker goes with it.
        """

        def take(number: int, frame: FrameType | None) -> None:
            self.take(number)

        def hang_up(number: int, frame: FrameType | None) -> None:
            self.take(signal.SIGTERM)

        handlers: dict[signal.Signals, Callable[[int, FrameType | None], Any]] = dict.fromkeys(
            (*_STOPS, signal.SIGTSTP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT), take
        )
        handlers[signal.SIGHUP] = hang_up if hang_up_stops else take
        # Rings, as all of them do, and says no more.
        handlers[signal.SIGCHLD] = lambda number, frame: None
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            # nohup
            del handlers[signal.SIGHUP]
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        wakeup = signal.set_wakeup_fd(bell.rung, warn_on_full_buffer=False)
        # Held back by the program that was here before it began anew; see `runworker`.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)


def leave_to_supervisor() -> None:
    """In a worker process: what a terminal sends to the whole group is the supervisor's to understand.

    SIGUSR1 shows the stacks even of a process whose interpreter does not turn any more.
    """
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTSTP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGCHLD, signal.SIGCONT):
        signal.signal(number, signal.SIG_DFL)
    faulthandler.register(signal.SIGUSR1, file=_STDERR, all_threads=True)
