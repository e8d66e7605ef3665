"""What a process is doing right now: the tasks that run, and the stacks of its threads and coroutines."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Collection, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..core import codec
from .slots import Work

logger = logging.getLogger("django_taskq.worker")


def show_stacks(held: Collection[Work], coroutines: Collection[asyncio.Task[None]]) -> None:
    """Log them in one record. It was asked for, so it is shown whatever is logged otherwise."""
    logger.warning("%s", stacks_text(held, coroutines), extra={"action": "stacks"})


def stacks_text(held: Collection[Work], coroutines: Collection[asyncio.Task[None]]) -> str:
    """All of it."""
    return "\n".join(_lines(list(held), coroutines))


def facts_text(held: Collection[Work], **facts: str | bool | int) -> str:
    """What this process is, and what it runs, as a JSON object."""
    now = time.monotonic()
    running = [
        {
            "id": work.message.id,
            "name": work.message.name,
            "queue": work.message.queue_name,
            "seconds": round(now - work.started, 3),
        }
        for work in list(held)
        if work.started
    ]
    return codec.encode(
        {"host": socket.gethostname(), "pid": os.getpid(), "version": _version(), **facts, "running": running}
    )


def _version() -> str:
    try:
        return version("django-taskq-kombu")
    except PackageNotFoundError:
        # Run from its source.
        return ""


def _lines(held: Collection[Work], coroutines: Collection[asyncio.Task[None]]) -> Iterator[str]:
    now = time.monotonic()
    running = [work for work in held if work.started]
    yield f"Running tasks: {len(running)}; claimed beside: {len(held) - len(running)}."
    for work in running:
        yield f"  {work.message.name} id={work.message.id} for {now - work.started:.1f} s"
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001  # the only way, and documented
        yield f"Thread {names.get(ident, ident)}:"
        yield "".join(traceback.format_stack(frame)).rstrip()
    for task in coroutines:
        yield f"Coroutine {_label(task)}:"
        coroutine: Any = task.get_coro()
        # A suspended coroutine has no stack of its own but the chain of those that it awaits.
        while (suspended := getattr(coroutine, "cr_frame", None)) is not None:
            yield "".join(traceback.format_stack(suspended, limit=1)).rstrip()
            coroutine = coroutine.cr_await


def _label(task: asyncio.Task[None]) -> str:
    frame = getattr(task.get_coro(), "cr_frame", None)
    work = None if frame is None else frame.f_locals.get("work")
    return f"of {work.message.name} id={work.message.id}" if isinstance(work, Work) else task.get_name()
