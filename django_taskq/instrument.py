"""Who watches tasks being sent and run: tracing, error reports.

A watcher registers itself with :func:`watch`. While there is none, each place that could be watched costs the
look at one global. What a watcher raises is logged and disturbs neither the caller nor the task.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from .core import codec
from .core.wire import MAX_CARRIED
from .current import Running

logger = logging.getLogger("django_taskq.task")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """Calls of one task on their way into rows and messages.

    ``headers``: what the watcher wants to find at the run in ``Message.headers``; str to str, up to 8,192 characters
    each. ``broker``: the kind, such as ``database`` or ``amqp``. ``recorded``: whether they have rows.
    """

    name: str
    queue_name: str
    backend: str
    broker: str
    ids: Sequence[str]
    recorded: bool
    headers: dict[str, str] = field(default_factory=dict)


class Watcher(Protocol):
    """What tracing and error reports implement."""

    def sending(self, sending: Sending) -> AbstractContextManager[None]:
        """Around the write; may add to ``sending.headers`` when it is entered."""
        ...

    def running(self, running: Running) -> AbstractContextManager[None]:
        """Around one attempt, in its own context; ``running.outcome`` and ``exception`` are there when it is left."""
        ...

    def flush(self, seconds: float) -> None:
        """Send what waits, for so long: the process is about to end."""
        ...


_watchers: tuple[Watcher, ...] = ()
_NO_HEADERS: AbstractContextManager[str] = nullcontext("")
_FAILED = "A watcher of tasks failed; the task goes on."
_NOBODY: AbstractContextManager[None] = nullcontext()


def watch(watcher: Watcher) -> None:
    """Let it watch, as the innermost, what is sent and run from now on."""
    global _watchers  # noqa: PLW0603  # one per process, as those who watch are
    _watchers = (*_watchers, watcher)


def unwatch(watcher: Watcher) -> None:
    """Let it watch no more."""
    global _watchers  # noqa: PLW0603  # as above
    _watchers = tuple(one for one in _watchers if one is not watcher)


def is_watched() -> bool:
    """Whether anybody watches."""
    return bool(_watchers)


def flush(seconds: float) -> None:
    """Let all send what they have; for a process that ends without Python's own clean-up."""
    for watcher in _watchers:
        try:
            watcher.flush(seconds)
        except Exception:
            logger.exception(_FAILED, extra={"action": "watcher_failed"})


def sending(
    *, name: str, queue_name: str, backend: str, broker: str, ids: Sequence[str], recorded: bool
) -> AbstractContextManager[str]:
    """Around the write of tasks; gives the headers they are to carry as JSON text, "" for none."""
    if not _watchers:
        return _NO_HEADERS
    return _sending(
        Sending(name=name, queue_name=queue_name, backend=backend, broker=broker, ids=ids, recorded=recorded)
    )


@contextmanager
def _sending(one: Sending) -> Iterator[str]:
    with ExitStack() as stack:
        for watcher in _watchers:
            stack.enter_context(_Guarded(watcher.sending, one))
        yield _encode(one.headers)


def attempting(running: Running) -> AbstractContextManager[None]:
    """Around one attempt."""
    return _attempting(running) if _watchers else _NOBODY


@contextmanager
def _attempting(running: Running) -> Iterator[None]:
    try:
        with ExitStack() as stack:
            for watcher in _watchers:
                stack.enter_context(_Guarded(watcher.running, running))
            yield
    finally:
        # It holds the frames of the task, and they hold the attempt.
        running.exception = None


def _encode(headers: dict[str, str]) -> str:
    kept = {name: value for name, value in headers.items() if len(value) <= MAX_CARRIED and codec.clean(value) == value}
    return codec.encode(kept) if kept else ""


class _Guarded:
    """A watcher's context manager that neither raises nor swallows anything."""

    def __init__(self, watcher: Callable[..., AbstractContextManager[None]], watched: Sending | Running) -> None:
        self._watcher = watcher
        self._watched = watched
        self._context: AbstractContextManager[None] | None = None

    def __enter__(self) -> None:
        try:
            context = self._watcher(self._watched)
            context.__enter__()
        except Exception:
            logger.exception(_FAILED, extra={"action": "watcher_failed"})
        else:
            self._context = context

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._context is not None:
            try:
                self._context.__exit__(kind, error, traceback)
            except Exception:
                logger.exception(_FAILED, extra={"action": "watcher_failed"})
