"""Tasks of every kind a test needs."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from django.db import DatabaseError, connection, transaction
from django.utils import timezone, translation

from django_taskq import Reject, Retry, SoftTimeLimitExceeded, TaskContext, task
from tests.taskapp.models import Note

#: Seconds after which a task that waits for its test gives up: the test is gone, or has failed.
_PATIENCE = 120.0
#: Seconds between two looks for the test's word.
_LOOK = 0.01


class Unprintable(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Unreadable(Exception):
    """An exception of which hardly anything can be asked."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(f"no {name}")

    def __str__(self) -> str:
        raise SystemExit("no text")

    __repr__ = __str__


_HOARD: list[bytes] = []


def leave(path: str, line: str) -> None:
    """Append a line to a file: a trace that no rollback and no lost database takes away."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


@task
def noop() -> None:
    """Do nothing: all that is measured is the queue."""


@task
def add(left: int, right: int) -> int:
    """Return the sum."""
    return left + right


@task
def fail(message: str = "as asked") -> None:
    """Fail."""
    raise ValueError(message)


@task
def sleep(seconds: float) -> float:
    """Block a thread."""
    time.sleep(seconds)
    return seconds


@task
async def asleep(seconds: float) -> float:
    """Wait in the event loop."""
    await asyncio.sleep(seconds)
    return seconds


@task
def crash(code: int = 1) -> None:
    """End the process that runs this, without any clean-up."""
    os._exit(code)


@task
def note(text: str) -> int:
    """Write a row; return its id."""
    return Note.objects.create(text=text).pk


# Traces, and waiting for the test


@task
def mark(path: str, line: str = "") -> float:
    """Append a line to a file; return when, by this machine's clock."""
    now = time.time()
    leave(path, line)
    return now


@task
async def amark(path: str, line: str = "") -> None:
    """Append a line to a file."""
    leave(path, line)


@task
def mark_slowly(path: str, line: str, seconds: float) -> None:
    """Append a line to a file, then take some time to end."""
    leave(path, line)
    time.sleep(seconds)


@task
def hold(directory: str, name: str = "") -> str:
    """Tell in `directory`/started that `name` runs, and in which process; wait for the file `directory`/go."""
    leave(f"{directory}/started", f"{name} {os.getpid()}")
    end = time.monotonic() + _PATIENCE
    while not Path(directory, "go").exists():
        if time.monotonic() > end:
            raise TimeoutError("The test never said go.")
        time.sleep(_LOOK)
    leave(f"{directory}/ended", f"{name} {os.getpid()}")
    return name


@task
def hold_and_fail(directory: str) -> None:
    """Wait as `hold` does, then fail."""
    hold.func(directory, "fail")
    raise ValueError("after all")


@task
async def ahold(directory: str, name: str = "") -> str:
    """Wait as `hold` does, in the event loop."""
    leave(f"{directory}/started", f"{name} {os.getpid()}")
    async with asyncio.timeout(_PATIENCE):
        while not Path(directory, "go").exists():  # noqa: ASYNC110, ASYNC240  # another process makes this file
            await asyncio.sleep(_LOOK)
    leave(f"{directory}/ended", f"{name} {os.getpid()}")
    return name


@task
async def ablock(directory: str, name: str = "") -> str:
    """Wait as `hold` does and let no other coroutine of the process run: what an `async def` should never do."""
    return hold.func(directory, name)  # type: ignore[no-any-return]  # untyped upstream


@task
def hoard(path: str, line: str, size: int) -> int:
    """Take memory and keep it for as long as the process lives."""
    _HOARD.append(b"x" * size)
    leave(path, f"{line} {os.getpid()}")
    return os.getpid()


@task
def debugged() -> int:
    """Stop in the debugger."""
    answer = 0
    breakpoint()  # noqa: T100  # what the test is about
    return answer


@task
def hog(directory: str) -> None:
    """Hold the interpreter's lock for longer than anybody waits."""
    leave(f"{directory}/started", f"hog {os.getpid()}")
    re.match(r"(a+)+$", "a" * 60 + "b")


def _never_end(kind: str) -> None:
    if kind == "sleep":
        time.sleep(1e9)
    while kind == "loop":
        pass
    while kind == "stubborn":
        with contextlib.suppress(BaseException):
            while True:
                time.sleep(_LOOK)
    if kind == "segfault":
        # As a fault in a C extension does.
        ctypes.string_at(0)
    if kind == "SystemExit":
        raise SystemExit(3)
    # Holds the interpreter's lock: no other thread of this process runs.
    re.match(r"(a+)+$", "a" * 60 + "b")


@task
def never_end(directory: str, kind: str) -> None:
    """Do something of which there is no end; leave word once it is over all the same."""
    leave(f"{directory}/started", f"{kind} {os.getpid()}")
    try:
        _never_end(kind)
    finally:
        leave(f"{directory}/ended", kind)


@task
async def anever_end(directory: str, kind: str) -> None:
    """Do the same in the event loop, which other coroutines share; "wait" leaves it to them."""
    leave(f"{directory}/started", f"{kind} {os.getpid()}")
    try:
        if kind == "wait":
            await asyncio.sleep(1e9)
        while kind == "stubborn":
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1e9)
        _never_end(kind)
    finally:
        leave(f"{directory}/ended", kind)


@task
def hear_of_limit(directory: str) -> str:
    """Work until the soft limit, then tidy up."""
    leave(f"{directory}/started", f"soft {os.getpid()}")
    try:
        while True:
            time.sleep(_LOOK)
    except SoftTimeLimitExceeded:
        return "tidied up"


@task
async def ahear_of_limit(directory: str) -> str:
    """Do the same in the event loop."""
    leave(f"{directory}/started", f"soft {os.getpid()}")
    try:
        await asyncio.sleep(1e9)
    except SoftTimeLimitExceeded:
        await asyncio.sleep(0.01)
        return "tidied up"
    return "overslept"


@task
def mark_and_enqueue(path: str, more: int) -> None:
    """Append a line to a file and enqueue the same with one less, down to none."""
    leave(path, str(more))
    if more:
        mark_and_enqueue.enqueue(path, more - 1)


# Ends of every kind


@task
def leave_by(kind: str) -> None:
    """Raise what asks a program to end."""
    ends = {"SystemExit": SystemExit(3), "KeyboardInterrupt": KeyboardInterrupt(), "GeneratorExit": GeneratorExit()}
    raise ends[kind]


@task
async def aleave_by(kind: str) -> None:
    """Raise what asks a program to end, in the event loop."""
    raise {
        "SystemExit": SystemExit(3),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "CancelledError": asyncio.CancelledError(),
    }[kind]


@task
async def leave_by_child(kind: str) -> None:
    """Let a coroutine beside this one raise what asks a program to end."""

    async def child() -> None:
        raise {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}[kind]

    await asyncio.gather(child())


@task
def die(path: str, kind: str) -> None:
    """Leave a trace and take the whole process along."""
    leave(path, kind)
    if kind == "exit":
        os._exit(9)
    if kind == "kill":
        os.kill(os.getpid(), 9)
    # As a fault in a C extension does.
    ctypes.string_at(0)


@task
def recurse(depth: int = 0) -> int:
    """Never come to an end."""
    return recurse.func(depth + 1)  # type: ignore[no-any-return]  # untyped upstream


@task
def raise_badly(kind: str) -> None:
    """Raise something that is hard to store, or to look at."""
    if kind == "unprintable":
        raise Unprintable
    if kind == "unreadable":
        raise Unreadable
    if kind == "long":
        raise ValueError("x" * 2_000_000)
    raise ValueError({"nul": "before\x00after", "surrogate": "before\ud800after"}[kind])


@task
def return_badly(kind: str) -> Any:
    """Return something that is no JSON, or that a database cannot hold."""
    if kind == "circular":
        circle: list[Any] = []
        circle.append(circle)
        return circle
    if kind == "deep":
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        return deep
    return {
        "object": object(),
        "set": {1},
        "nan": float("nan"),
        "nul": "before\x00after",
        "surrogate": "before\ud800after",
        "huge": 10**400,
    }[kind]


@task
def large(size: int) -> str:
    """Return a long text."""
    return "x" * size


@task
def length(text: str) -> int:
    """Take a long text."""
    return len(text)


# Traces in the process


@task
def misuse_database(kind: str) -> None:
    """Leave the slot's connection in a state that the next task must not find."""
    if kind == "broken transaction":
        atomic = transaction.atomic()
        atomic.__enter__()
        Note.objects.create(text="left open")
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT nothing FROM nowhere")
        except DatabaseError:
            return
    elif kind == "open block":
        transaction.atomic().__enter__()
        Note.objects.create(text="left open")
    elif kind == "no autocommit":
        transaction.set_autocommit(False)
        Note.objects.create(text="left open")
    elif kind == "closed":
        connection.close()
    elif kind == "closed below":
        connection.ensure_connection()
        connection.connection.close()
    else:
        raise KeyError(kind)


@task
async def anote(text: str) -> int:
    """Write a row from the event loop; return its id."""
    return (await Note.objects.acreate(text=text)).pk


@task
def backend_pid() -> int:
    """Return the database server's number for this slot's connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()" if connection.vendor == "postgresql" else "SELECT CONNECTION_ID()")
        return int(cursor.fetchone()[0])


@task
async def abackend_pid() -> int:
    """Return the database server's number for the connection that `async def` tasks use."""
    from asgiref.sync import sync_to_async

    return await sync_to_async(backend_pid.func)()  # type: ignore[no-any-return]  # untyped upstream


@task
def change_surroundings(directory: str) -> None:
    """Change all that a task can change around itself."""
    timezone.activate("Asia/Tokyo")
    translation.activate("de")
    os.chdir(directory)


@task
def change_process() -> None:
    """Change all that a task can change about its process."""
    os.umask(0)
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        # Ends the process unless somebody takes it back.
        signal.setitimer(signal.ITIMER_REAL, 0.3)


@task
def process_state() -> list[Any]:
    """Return umask, time zone, handlers of signals, and whether an alarm is set."""
    umask = os.umask(0)
    os.umask(umask)
    handlers = [repr(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM)]
    return [umask, time.tzname, os.environ.get("TZ"), handlers, signal.getitimer(signal.ITIMER_REAL)]


@task
def go_and_remove(directory: str) -> None:
    """Remove the working directory."""
    os.chdir(directory)
    Path(directory).rmdir()


@task
def surroundings() -> list[str]:
    """Return time zone, language, working directory."""
    return [timezone.get_current_timezone_name(), translation.get_language(), str(Path.cwd())]


@task
def close_output() -> None:
    """Close standard output and error, as careless code does."""
    sys.stdout.close()
    sys.stderr.close()


# Attempts


@task
def fail_until(path: str, attempts: int) -> int:
    """Fail until this is the given attempt, by the lines of a file; return the attempt."""
    leave(path, f"{time.time()}")
    attempt = len(Path(path).read_text().splitlines())
    if attempt < attempts:
        raise ValueError(f"attempt {attempt}")
    return attempt


@task
def ask_again(path: str, attempts: int, delay: float | None) -> int:
    """Ask for another attempt, until this is the given one."""
    leave(path, f"{time.time()}")
    attempt = len(Path(path).read_text().splitlines())
    if attempt < attempts:
        raise Retry("once more", delay=delay)
    return attempt


@task(max_attempts=5, backoff=0)
def reject(path: str) -> None:
    """Give up at once."""
    leave(path, "")
    raise Reject("no use")


@task(max_attempts=5, backoff=lambda exception, task_result: None if "attempt 2" in str(exception) else 0.0)
def fail_until_backoff_gives_up(path: str) -> None:
    """Fail; the backoff function gives up after the second attempt."""
    leave(path, "")
    raise ValueError(f"attempt {len(Path(path).read_text().splitlines())}")


# Context


@task(takes_context=True)
def report(context: TaskContext, directory: str) -> None:
    """Report progress, as `hold` waits."""
    context.progress(3, 10, "three of ten")
    hold.func(directory, "report")


@task(takes_context=True, max_attempts=3, backoff=0)
def remember(context: TaskContext) -> list[Any]:
    """Return what each attempt found in the metadata."""
    seen = list(context.metadata.get("seen", []))  # type: ignore[arg-type]  # JSON that this task wrote
    context.metadata["seen"] = [*seen, context.attempt]
    if context.attempt < 3:
        raise ValueError("again")
    return seen


@task(takes_context=True)
def until_cancelled(context: TaskContext, directory: str) -> str:
    """Run until somebody cancels."""
    leave(f"{directory}/started", f"until_cancelled {os.getpid()}")
    end = time.monotonic() + _PATIENCE
    while not context.cancelled:
        if time.monotonic() > end:
            raise TimeoutError("Nobody cancelled.")
        time.sleep(_LOOK)
    return "stopped"


@task(takes_context=True)
async def auntil_cancelled(context: TaskContext, directory: str) -> str:
    """Run in the event loop until somebody cancels."""
    leave(f"{directory}/started", f"auntil_cancelled {os.getpid()}")
    async with asyncio.timeout(_PATIENCE):
        while not context.cancelled:  # noqa: ASYNC110  # what a task has to ask is this flag
            await asyncio.sleep(_LOOK)
    return "stopped"


@task(takes_context=True)
def chronicle(context: TaskContext, path: str, attempts: int, more: int = 0) -> None:
    """Write down what each attempt finds, fail before the given one, and leave so much more metadata to the next."""
    context.progress(context.attempt, attempts)
    seen = list(context.metadata.get("seen", []))  # type: ignore[arg-type]  # JSON that this task wrote
    found = {
        "attempt": context.attempt,
        "seen": seen,
        "errors": [error.message for error in context.task_result.attempt_errors],  # type: ignore[attr-defined]  # ours
        "workers": len(context.task_result.worker_ids),
        "at": time.time(),
    }
    leave(path, json.dumps(found))
    context.metadata["seen"] = [*seen, context.attempt]
    if more:
        context.metadata["more"] = "x" * more
    if context.attempt < attempts:
        raise ValueError(f"attempt {context.attempt}")


# Log lines


@task
def log_lines(*lines: str) -> None:
    """Log each line, as a library and as a thread of its own would, too."""
    logger = logging.getLogger("shop.orders")
    for line in lines:
        logger.info("%s", line)


@task
async def alog_lines(*lines: str) -> None:
    """Log each line from a coroutine, and from the thread it hands work to."""
    logger = logging.getLogger("shop.orders")
    for line in lines:
        await asyncio.sleep(0)
        logger.info("%s", line)
    await asyncio.to_thread(logger.warning, "from a thread", extra={"task_id": "not ours", "answer": 42})


@task(sensitive=["password"])
def log_secret(password: str) -> None:
    """Log what should not stand in a row."""
    logging.getLogger("shop.orders").warning("the password is %s", password)
