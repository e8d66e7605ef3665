"""Signals about what was written in bulk, or by a thread that must not wait for anybody.

Receivers are the project's code: they may block, and use the database. So they run in a thread of their own; and rows
are read for them only where there are any.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from queue import SimpleQueue
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections
from django.dispatch import Signal

from .compat import InvalidTaskBackend, TaskResultDoesNotExist, task_backends
from .exceptions import TaskqError
from .signals import task_cancelled, task_lost
from .transitions.workers import LostTask

logger = logging.getLogger("django_taskq.worker")

#: of attempts that were lost with their worker, for the I/O thread to count
uncounted: deque[LostTask] = deque(maxlen=10_000)

_Send = Callable[[], None]
_waiting: SimpleQueue[tuple[_Send | None, threading.Event | None]] = SimpleQueue()
_thread: threading.Thread | None = None
_starting = threading.Lock()


def announce(signal: Signal, sender: object, **named: Any) -> None:
    """Send a signal from another thread; returns at once."""
    if signal.has_listeners(sender):
        _later(lambda: _send(signal, sender, named))


def announce_lost(lost: Iterable[LostTask]) -> None:
    """Tell of tasks that were taken back from a lost worker."""
    for one in lost:
        uncounted.append(one)
        if task_lost.has_listeners():
            _later(
                lambda one=one: _send_result(  # type: ignore[misc]  # mypy takes the default for an argument
                    task_lost, one.backend, one.id, {"worker_id": one.worker_id, "runs_again": one.runs_again}
                )
            )


def announce_cancelled(tasks: Iterable[tuple[str, str]]) -> None:
    """Tell of tasks that waited and were cancelled, by their backends and ids, from another thread; returns at once."""
    for backend, task_id in tasks:
        _later(partial(send_cancelled, backend, task_id))


def send_cancelled(backend: str, task_id: str) -> None:
    """Tell of a task that waited and was cancelled, from this thread; for ``transaction.on_commit``."""
    if task_cancelled.has_listeners():
        _send_result(task_cancelled, backend, task_id, {})


def finish_announcing(seconds: float) -> None:
    """Let what was announced be sent, for so long: the process is about to end."""
    if _thread is not None:
        sent = threading.Event()
        _waiting.put((None, sent))
        sent.wait(seconds)


def _later(send: _Send) -> None:
    global _thread  # noqa: PLW0603  # one per process, started when there is something to tell
    with _starting:
        if _thread is None:
            _thread = threading.Thread(target=_serve, name="taskq-signals", daemon=True)
            _thread.start()
    _waiting.put((send, None))


def _serve() -> None:
    while True:
        send, sent = _waiting.get()
        if send is not None:
            try:
                send()
            except BaseException:
                logger.exception("A signal could not be sent.", extra={"action": "signal_failed"})
        if _waiting.empty():
            connections.close_all()
        if sent is not None:
            sent.set()


def _send(signal: Signal, sender: object, named: Mapping[str, Any]) -> None:
    signal.send_robust(sender, **named)


def _send_result(signal: Signal, alias: str, task_id: str, named: Mapping[str, Any]) -> None:
    try:
        backend = task_backends[alias]
        result = backend.get_result(task_id)
    except (TaskResultDoesNotExist, TaskqError, InvalidTaskBackend, ImproperlyConfigured, Error) as error:
        logger.warning(
            "Task id=%s: nobody is told what happened to it (%s).",
            task_id,
            error,
            extra={"action": "signal_failed", "task_id": task_id},
        )
        return
    _send(signal, type(backend), {"task_result": result, **named})
