"""How calls are measured whose callers wait for replies, whoever makes and answers them: ours and its peers alike."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from tests.benchmarks import messages, tally
from tests.benchmarks.figures import percentile, rate
from tests.benchmarks.plan import WARM_UP, Plan
from tests.benchmarks.processes import cpu_seconds, server_cpu_seconds
from tests.benchmarks.worker_process import WorkerProcess

#: Seconds between two calls of a client that has time.
_REST = 1.0
#: Threads that call at once.
_THREADS = 16
#: Seconds until all threads are ready to start.
_START = 60.0
#: Lost calls after which a thread gives up: each costs the patience of one call.
_ENOUGH_LOST = 3


class Reply(Protocol):
    """What a call gives at once."""

    def get(self, timeout: float) -> Any:
        """Wait for the reply."""


class Caller(ABC):
    """A program's way to make calls, and the worker that answers them."""

    #: Seconds a call may take.
    patience = 60.0
    #: What is raised for a call of many threads' that is not answered in time, where that may happen at all.
    lost: tuple[type[Exception], ...] = ()

    def clear(self, plan: Plan) -> None:
        """Begin anew; nothing may be running."""
        messages.clear(plan)
        tally.clear(Path(plan.directory))

    @abstractmethod
    def worker(self, plan: Plan) -> WorkerProcess:
        """Return a worker that has not been started."""

    @abstractmethod
    def noop(self) -> Reply:
        """Call the task that does nothing."""

    @abstractmethod
    def ticks(self, count: int) -> Sequence[Reply]:
        """Call the task that says that it ran, as often as that, in the quickest way there is."""

    @abstractmethod
    def leave_thread(self) -> None:
        """Close what a thread has opened for itself."""


def milliseconds(call: Callable[[], Reply], patience: float) -> float:
    """Return what one call takes until its reply is there."""
    started = time.perf_counter()
    call().get(timeout=patience)
    return (time.perf_counter() - started) * 1e3


def warm_up(call: Callable[[], Reply], patience: float) -> None:
    """Have done what happens once: connections, plans, imports."""
    for _ in range(WARM_UP):
        milliseconds(call, patience)


def percentiles(times: Sequence[float]) -> dict[str, float]:
    """Return the figures of many calls."""
    return {"p50": percentile(times, 0.5), "p95": percentile(times, 0.95)}


def round_trip(caller: Caller, plan: Plan) -> dict[str, float]:
    """One call after the other, then with a pause before each."""
    caller.clear(plan)
    with caller.worker(plan) as worker:
        worker.wait_until_ready()
        warm_up(caller.noop, caller.patience)
        busy = [milliseconds(caller.noop, caller.patience) for _ in range(plan.round_trips)]
        rested = []
        for _ in range(plan.rested_round_trips):
            time.sleep(_REST)
            rested.append(milliseconds(caller.noop, caller.patience))
    return {
        **percentiles(busy),
        **{f"rested_{key}": value for key, value in percentiles(rested).items()},
    }


def in_flight(caller: Caller, plan: Plan) -> dict[str, float]:
    """Many calls under way, all of one thread."""
    caller.clear(plan)
    with caller.worker(plan) as worker:
        worker.wait_until_ready()
        warm_up(caller.noop, caller.patience)
        started = time.perf_counter()
        under_way = deque(caller.noop() for _ in range(plan.in_flight))
        for _ in range(plan.in_flight_tasks - plan.in_flight):
            under_way.popleft().get(timeout=caller.patience)
            under_way.append(caller.noop())
        for reply in under_way:
            reply.get(timeout=caller.patience)
        elapsed = time.perf_counter() - started
    return {"rate": rate(plan.in_flight_tasks, elapsed)}


def threads(caller: Caller, plan: Plan) -> dict[str, float]:
    """Many callers at once, each waiting for its own result."""
    caller.clear(plan)
    share = max(plan.in_flight_tasks // _THREADS, 1)
    line = threading.Barrier(_THREADS + 1)

    def call() -> tuple[list[float], int]:
        try:
            answered(caller, 1)
            line.wait(_START)
            return answered(caller, share)
        finally:
            caller.leave_thread()

    with caller.worker(plan) as worker, ThreadPoolExecutor(_THREADS) as callers:
        worker.wait_until_ready()
        calls = [callers.submit(call) for _ in range(_THREADS)]
        line.wait(_START)
        results = [call.result() for call in calls]
    return of_threads(results)


def answered(caller: Caller, count: int) -> tuple[list[float], int]:
    """Call one after the other; return the milliseconds of those that were answered, and how many were lost."""
    times: list[float] = []
    lost = 0
    while len(times) + lost < count and lost < _ENOUGH_LOST:
        try:
            times.append(milliseconds(caller.noop, caller.patience))
        except caller.lost:
            lost += 1
    return times, lost


def of_threads(results: Sequence[tuple[list[float], int]]) -> dict[str, float]:
    """Return the figures of what each thread has from `answered`.

    The rate is that of the answered calls through the time of the thread that was longest at them. Waits for what was
    lost are left out: a few would be all that the rate tells of.
    """
    times = [time for answered, _ in results for time in answered]
    lost = sum(lost for _, lost in results)
    longest = max(sum(answered) for answered, _ in results)
    return {
        "rate": rate(len(times), longest / 1e3),
        **percentiles(times),
        "lost": lost / (len(times) + lost) * 1_000,
    }


def drain(caller: Caller, plan: Plan) -> dict[str, float]:
    """From a full queue to the last reply."""
    caller.clear(plan)
    directory = Path(plan.directory)
    replies = caller.ticks(plan.tasks)
    messages.wait_for(plan, plan.tasks)
    broker_before = server_cpu_seconds(plan.broker_server)
    with caller.worker(plan) as worker:
        for reply in replies:
            reply.get(timeout=caller.patience)
        ended_at = time.monotonic()
        used = {"worker_cpu": cpu_seconds(worker.pids()[1:])} if worker.has_supervisor else {}
        used["broker_cpu"] = server_cpu_seconds(plan.broker_server) - broker_before
    ran = tally.read(directory)
    if ran.count != plan.tasks:
        raise RuntimeError(f"{ran.count} tasks ran, instead of {plan.tasks}.")
    messages.wait_for(plan, 0)
    return {
        "rate": rate(plan.tasks, ended_at - ran.began_at),
        **{key: seconds / plan.tasks * 1e6 for key, seconds in used.items()},
    }


def measures_of(caller: Caller) -> Mapping[str, Callable[[Plan], dict[str, float]]]:
    """Return the measurements of a program's calls, by the name that ``--only`` takes."""
    return {
        "rpc-round-trip": partial(round_trip, caller),
        "rpc-in-flight": partial(in_flight, caller),
        "rpc-threads": partial(threads, caller),
        "rpc-drain": partial(drain, caller),
    }
