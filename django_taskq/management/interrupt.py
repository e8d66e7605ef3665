"""Ctrl-C for commands that work in steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def noted_interrupt() -> Iterator[Callable[[], bool]]:
    """Let the step at hand end when somebody presses Ctrl-C; what comes out tells whether they did.

    Cut off in the middle, a statement may or may not have been committed, and nobody could say how
    far it came. A second Ctrl-C raises ``KeyboardInterrupt``. Does nothing outside the main thread,
    where Python delivers no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    pressed = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, before)

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
