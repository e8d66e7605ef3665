"""Measurements of calls whose callers wait for replies. See ``scope.RPC`` for their settings."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from django.db import connection

from django_taskq import Task
from tests.benchmarks import messages, rows, tally
from tests.benchmarks.figures import percentile, rate
from tests.benchmarks.plan import Plan
from tests.benchmarks.processes import cpu_seconds, server_cpu_seconds
from tests.benchmarks.tasks import WARM_UP, noop, tick
from tests.benchmarks.worker import Worker

#: Seconds one call may take.
_PATIENCE = 60.0
#: Seconds between two calls of a client that has time.
_REST = 1.0
#: Threads that call at once.
_THREADS = 16

_call = noop.using(record=False)


def _clear(plan: Plan) -> None:
    rows.clear()
    messages.clear(plan)
    tally.clear(Path(plan.directory))


def _milliseconds(task: Task = _call) -> float:
    started = time.perf_counter()
    task.enqueue().get(_PATIENCE)
    return (time.perf_counter() - started) * 1e3


def _percentiles(times: list[float]) -> dict[str, float]:
    return {"p50": percentile(times, 0.5), "p95": percentile(times, 0.95)}


def round_trip(plan: Plan) -> dict[str, float]:
    """One call after the other, then with a pause before each."""
    _clear(plan)
    with Worker(plan) as worker:
        worker.wait_until_ready()
        for _ in range(WARM_UP):
            _milliseconds()
        busy = [_milliseconds() for _ in range(plan.round_trips)]
        rested = []
        for _ in range(plan.rested_round_trips):
            time.sleep(_REST)
            rested.append(_milliseconds())
    return {
        **_percentiles(busy),
        **{f"rested_{key}": value for key, value in _percentiles(rested).items()},
    }


def in_flight(plan: Plan) -> dict[str, float]:
    """Many calls under way, all of one thread."""
    _clear(plan)
    with Worker(plan) as worker:
        worker.wait_until_ready()
        for _ in range(WARM_UP):
            _milliseconds()
        started = time.perf_counter()
        under_way = deque(_call.enqueue() for _ in range(plan.in_flight))
        for _ in range(plan.in_flight_tasks - plan.in_flight):
            under_way.popleft().get(_PATIENCE)
            under_way.append(_call.enqueue())
        for result in under_way:
            result.get(_PATIENCE)
        elapsed = time.perf_counter() - started
    return {"rate": rate(plan.in_flight_tasks, elapsed)}


def threads(plan: Plan) -> dict[str, float]:
    """Many callers at once, each waiting for its own result."""
    _clear(plan)
    share = max(plan.in_flight_tasks // _THREADS, 1)
    line = threading.Barrier(_THREADS + 1)

    def call() -> list[float]:
        try:
            _milliseconds()
            line.wait(_PATIENCE)
            return [_milliseconds() for _ in range(share)]
        finally:
            connection.close()

    with Worker(plan) as worker, ThreadPoolExecutor(_THREADS) as callers:
        worker.wait_until_ready()
        calls = [callers.submit(call) for _ in range(_THREADS)]
        line.wait(_PATIENCE)
        started = time.perf_counter()
        times = [time for call in calls for time in call.result()]
        elapsed = time.perf_counter() - started
    return {"rate": rate(len(times), elapsed), **_percentiles(times)}


def drain(plan: Plan) -> dict[str, float]:
    """From a full queue to the last reply."""
    _clear(plan)
    directory = Path(plan.directory)
    results = tick.enqueue_many([()] * plan.tasks)
    messages.wait_for(plan, plan.tasks)
    broker_before = server_cpu_seconds(plan.broker_server)
    with Worker(plan) as worker:
        for result in results:
            result.get(_PATIENCE)
        ended_at = time.monotonic()
        _supervisor, *processes = worker.pids()
        worker_cpu = cpu_seconds(processes)
        broker_cpu = server_cpu_seconds(plan.broker_server) - broker_before
    ran = tally.read(directory)
    if ran.count != plan.tasks:
        raise RuntimeError(f"{ran.count} tasks ran, instead of {plan.tasks}.")
    messages.wait_for(plan, 0)
    return {
        "rate": rate(plan.tasks, ended_at - ran.began_at),
        "worker_cpu": worker_cpu / plan.tasks * 1e6,
        "broker_cpu": broker_cpu / plan.tasks * 1e6,
    }


def recorded(plan: Plan) -> dict[str, float]:
    """One call after the other, of a task with a row."""
    _clear(plan)
    with Worker(plan) as worker:
        worker.wait_until_ready()
        for _ in range(WARM_UP):
            _milliseconds(noop)
        return _percentiles([_milliseconds(noop) for _ in range(plan.round_trips)])


#: By the name that ``--only`` takes.
MEASURES: Mapping[str, Callable[[Plan], dict[str, float]]] = {
    "rpc-round-trip": round_trip,
    "rpc-in-flight": in_flight,
    "rpc-threads": threads,
    "rpc-drain": drain,
    "rpc-recorded": recorded,
}
