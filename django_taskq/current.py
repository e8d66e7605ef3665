"""The task that runs here, for whoever cannot be told of it: log records, tracing.

Each run has a ``contextvars`` context of its own, in which this is set. It follows coroutines,
``asyncio.to_thread`` and asgiref's ``sync_to_async``; a bare ``threading.Thread`` begins with an empty context.
"""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING

from .core import codec
from .core.message import Message
from .core.outcome import Outcome

if TYPE_CHECKING:
    from .compat import UpstreamResult

#: characters of the log that one attempt leaves behind, and of one line in it
MAX_LOG, MAX_LINE = 16_384, 2_000


class Running:
    """One attempt while it runs.

    ``task_result``: its picture, once its task was found. ``exception``: what the task raised, kept only while
    somebody watches. ``outcome``: how it ended. ``sensitive``: names of arguments that nobody is shown.
    ``keeps_log``: whether lines are kept with the row.
    """

    __slots__ = ("_length", "_lines", "exception", "keeps_log", "message", "outcome", "sensitive", "task_result")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.task_result: UpstreamResult | None = None
        self.exception: BaseException | None = None
        self.outcome: Outcome | None = None
        self.sensitive: frozenset[str] = frozenset()
        self.keeps_log = False
        self._lines: deque[str] | None = None
        self._length = 0

    def add_line(self, line: str) -> None:
        """Keep a line; the oldest go when there are too many. Lines may come from several threads."""
        line = codec.shorten(line, MAX_LINE) + "\n"
        if self._lines is None:
            self._lines = deque()
        self._lines.append(line)
        self._length += len(line)
        while self._length > MAX_LOG:
            try:
                self._length -= len(self._lines.popleft())
            except IndexError:
                # Another thread was quicker, and its count got lost.
                self._length = 0

    def ended(self, outcome: Outcome) -> Outcome:
        """The outcome with what was logged."""
        if self._lines:
            outcome = replace(outcome, log=codec.clean("".join(self._lines)))
        self.outcome = outcome
        return outcome


running: ContextVar[Running | None] = ContextVar("django_taskq_running", default=None)


def begin(one: Running) -> Running:
    """From here on this context runs that task."""
    running.set(one)
    return one
