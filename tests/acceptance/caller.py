"""A program that calls tasks and waits for their values, in every way a process can; prints what came of it.

``python -m tests.acceptance.caller SCENARIO JSON``: the scenario is a function of this module, the JSON its keyword
arguments. It writes its report into ``reports/PID`` in the current directory and stays until there is a file ``leave``,
so that a test can look at what the process holds.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import django
import kombu
import psutil
from django.db import connections
from django.db.backends.signals import connection_created

django.setup()

from django_taskq import ResultTimeout, TaskqBackend, TaskResult, request_scope  # noqa: E402  # needs the project's apps
from django_taskq.compat import task_backends, task_enqueued  # noqa: E402  # as above
from django_taskq.results import rpc  # noqa: E402  # as above
from tests.taskapp import tasks  # noqa: E402  # as above
from tests.waiting import wait_until  # noqa: E402  # as above

#: Seconds that a call may take which nobody disturbs.
PATIENCE = 30.0
#: Seconds that the test may take with what it looks at.
STAY = 240.0

add = tasks.add.using(record=False)


class Tally:
    """What came of many calls. ``late``: the most seconds by which one outlasted its timeout; negative for before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.right = 0
        self.wrong = 0
        self.late = float("-inf")
        self.errors: Counter[str] = Counter()
        self.words: list[str] = []

    def call(self, number: int, timeout: float = PATIENCE) -> None:
        """Make a call."""
        enqueued = add.enqueue(number, 1)
        began = time.monotonic()
        try:
            self.take(number, enqueued.get(timeout))
        except Exception as error:  # noqa: BLE001  # whatever it is, the test is told
            self.fail(error)
        self.took(time.monotonic() - began - timeout)

    async def acall(self, number: int, timeout: float = PATIENCE) -> None:
        """Make a call from a coroutine."""
        enqueued = await add.aenqueue(number, 1)
        try:
            self.take(number, await enqueued.aget(timeout))
        except Exception as error:  # noqa: BLE001  # as above
            self.fail(error)

    def take(self, number: int, value: object) -> None:
        """This is what came."""
        with self._lock:
            if value == number + 1:
                self.right += 1
            else:
                self.wrong += 1

    def fail(self, error: BaseException) -> None:
        """This came instead."""
        with self._lock:
            self.errors[type(error).__name__] += 1
            if len(self.words) < 10:
                self.words.append(str(error))

    def took(self, late: float) -> None:
        """A call ended so much later than its timeout."""
        with self._lock:
            self.late = max(self.late, late)

    def report(self, **more: Any) -> dict[str, Any]:
        """Return everything."""
        return {
            "right": self.right,
            "wrong": self.wrong,
            "late": self.late,
            "errors": dict(self.errors),
            "words": self.words,
            **more,
        }


def report(found: Any) -> None:
    """Tell the test, all at once."""
    directory = Path("reports")
    directory.mkdir(exist_ok=True)
    draft = directory / f".{os.getpid()}"
    draft.write_text(json.dumps(found))
    draft.rename(directory / str(os.getpid()))


def wait_for(name: str) -> None:
    """Wait for the test's word, which is a file."""
    wait_until(Path(name).exists, STAY, what=name)


def _in_threads(threads: int, work: Callable[[int], None]) -> None:
    """Do it in so many threads at once, which leave no connections behind."""

    def run(number: int) -> None:
        try:
            work(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, range(threads)))


# Scenarios


def short_threads(*, number: int, at_once: int) -> dict[str, Any]:
    """A thread for each call, so that thread ids come again and again."""
    tally, free = Tally(), threading.Semaphore(at_once)

    def run(one: int) -> None:
        try:
            tally.call(one)
        finally:
            connections.close_all()
            free.release()

    started = []
    for one in range(number):
        free.acquire()
        thread = threading.Thread(target=run, args=(one,))
        thread.start()
        started.append(thread)
    for thread in started:
        thread.join()
    return tally.report(idents=len({thread.ident for thread in started}))


def threads(*, threads: int, calls: int) -> dict[str, Any]:
    """Long-lived threads that all call at once."""
    tally = Tally()

    def work(number: int) -> None:
        for one in range(calls):
            tally.call(number * calls + one)

    _in_threads(threads, work)
    return tally.report()


def gather(*, number: int) -> dict[str, Any]:
    """Coroutines at once; each third is cancelled while it waits, and nobody else is to notice."""
    tally = Tally()

    async def main() -> tuple[int, float]:
        calls = [asyncio.ensure_future(tally.acall(one)) for one in range(number)]
        longest, is_over = 0.0, asyncio.Event()

        async def beat() -> None:
            nonlocal longest
            while not is_over.is_set():
                before = time.monotonic()
                await asyncio.sleep(0.01)
                longest = max(longest, time.monotonic() - before)

        heart = asyncio.ensure_future(beat())
        await asyncio.sleep(0)
        victims = calls[::3]
        for position, victim in enumerate(victims):
            victim.cancel()
            if position % 50 == 0:
                # Others go on meanwhile, so that some are cancelled before they enqueue and some while they wait.
                await asyncio.sleep(0.01)
        await asyncio.gather(*calls, return_exceptions=True)
        is_over.set()
        await heart
        return sum(call.cancelled() for call in calls), longest

    cancelled, longest = asyncio.run(main())
    return tally.report(cancelled=cancelled, longest=longest)


def fork(*, children: int, calls: int) -> dict[str, Any]:
    """Children of a process that has called, and calls, before, while and after it forks."""
    tally, is_over = Tally(), threading.Event()

    def go_on(number: int) -> None:
        for one in count(number * 1_000_000):
            if is_over.is_set():
                return
            tally.call(one)

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(go_on, number) for number in range(4)]
        wait_until(lambda: tally.right >= 50, what="the parent's first calls")
        pids = []
        for number in range(children):
            before = tally.right
            with _busy() if number % 2 else nullcontext():
                pid = os.fork()
                if pid == 0:
                    _end_child(calls)
            pids.append(pid)
            wait_until(lambda: tally.right > before, what="calls between two forks")  # noqa: B023  # called at once
        is_over.set()
        for call in running:
            call.result()
    tally.call(1)
    return tally.report(children=pids)


@contextmanager
def _busy() -> Iterator[None]:
    """Let another thread hold what threads that call hold for moments: its child finds it so, without that thread."""
    is_held, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as stack:
            for lock in _momentary_locks():
                stack.enter_context(lock)
            is_held.set()
            is_over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    is_held.wait()
    yield
    is_over.set()
    thread.join()


def _momentary_locks() -> Iterator[Any]:
    """Held while a reply is taken, signals are sent, a backend is looked up, a property is computed."""
    yield from (rpc._tickets_lock, task_enqueued.lock, connection_created.lock)
    backends: Any = task_backends
    yield from (value for value in vars(backends._connections).values() if hasattr(value, "acquire"))
    for cls in (TaskqBackend, kombu.Connection):
        for value in vars(cls).values():
            # Python 3.12 and later: kombu's only.
            if isinstance(value, cached_property) and hasattr(value, "lock"):
                yield value.lock


def _end_child(calls: int) -> None:
    code = 1
    try:
        tally = Tally()

        def work(number: int) -> None:
            for one in range(calls):
                tally.call(number * calls + one)

        _in_threads(4, work)
        report(tally.report())
        wait_for("leave")
        code = 0
    finally:
        # The rest of this program is the parent's.
        os._exit(code)


def load(*, threads: int, timeout: float, pause: float = 0.0) -> dict[str, Any]:
    """Call until there is a file ``stop``."""
    tally, stop = Tally(), Path("stop")
    numbers = count()

    def work(_: int) -> None:
        while not stop.exists():
            tally.call(next(numbers), timeout)
            time.sleep(pause)

    _in_threads(threads, work)
    return tally.report()


def unread(*, number: int, how: str) -> dict[str, Any]:
    """Calls that nobody asks about. ``how``: their ``TaskResult``s are "dropped" at once, "held", or in a "scope".

    ``grown``: MiB by which this process has grown when all answers have come, which the test knows (file ``come``).
    ``answered``: the held results that have their value.
    """
    text = tasks.large.using(record=False)
    process = psutil.Process()
    for one in range(200):
        add.enqueue(one, 1).get(PATIENCE)
    text.enqueue_many([(10,)] * 200)
    before = process.memory_info().rss
    held: list[TaskResult] = []
    with request_scope() if how == "scope" else nullcontext():
        for _ in range(number // 100):
            results = text.enqueue_many([(10,)] * 100)
            if how == "held":
                held += results
        Path("sent").touch()
        wait_for("come")
        grown = (process.memory_info().rss - before) / 2**20
    answered = 0
    for result in held:
        # A broker that is behind by seconds may have cost some their replies.
        with suppress(ResultTimeout):
            answered += result.get(0) == "x" * 10
    tally = Tally()
    for one in range(100):
        tally.call(one)
    return tally.report(grown=grown, answered=answered)


def calls(*, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Different calls: ``{"task", "options", "args", "timeout", "is_async", "is_patient"}``; that is who asks again.

    All are enqueued, which ``enqueued`` tells with a JSON list of their ids, and then waited for at once.
    """
    results = [getattr(tasks, call["task"]).using(**call.get("options", {})).enqueue(*call["args"]) for call in calls]
    draft = Path(".enqueued")
    draft.write_text(json.dumps([result.id for result in results]))
    draft.rename("enqueued")
    return _answers(results, calls)


def _answers(results: list[TaskResult], calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    outcomes: list[dict[str, Any]] = [{} for _ in calls]

    def wait(number: int) -> None:
        result, call = results[number], calls[number]
        outcome, timeout = outcomes[number], call.get("timeout", PATIENCE)
        began = time.monotonic()

        def get() -> Any:
            return asyncio.run(result.aget(timeout)) if call.get("is_async", False) else result.get(timeout)

        try:
            while call.get("is_patient", False) and time.monotonic() - began < PATIENCE:
                with suppress(ResultTimeout):
                    outcome["value"] = get()
                    break
            else:
                outcome["value"] = get()
        except Exception as error:  # noqa: BLE001  # the test is told
            outcome |= {"error": type(error).__name__, "words": str(error)}
        outcome |= {"seconds": time.monotonic() - began, "state": str(result.state)}

    _in_threads(len(calls), wait)
    return outcomes


def elsewhere(*, ids: dict[str, str]) -> dict[str, Any]:
    """What a process hears of tasks that another one enqueued, by name: ``get_result(id)``, then ``get``."""
    found: dict[str, Any] = {}
    for name, task_id in ids.items():
        began = time.monotonic()
        try:
            found[name] = tasks.add.get_result(task_id).get(PATIENCE)
        except Exception as error:  # noqa: BLE001  # the test is told
            found[name] = type(error).__name__
        found[f"{name} seconds"] = time.monotonic() - began
    return found


def main() -> None:
    """Play the scenario."""
    found = globals()[sys.argv[1]](**json.loads(sys.argv[2]))
    connections.close_all()
    report(found)
    wait_for("leave")


if __name__ == "__main__":
    main()
