"""Measurements of tasks without rows: the message is all there is. See ``scope.UNRECORDED`` for their settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.benchmarks import messages, rows, tally
from tests.benchmarks.figures import rate
from tests.benchmarks.plan import WARM_UP, Plan
from tests.benchmarks.processes import cpu_seconds, server_cpu_seconds
from tests.benchmarks.tasks import tick
from tests.benchmarks.worker import Worker


def _clear(plan: Plan) -> None:
    # Rows there may be: of what a broker has not taken.
    rows.clear()
    messages.clear(plan)
    tally.clear(Path(plan.directory))


def enqueue(plan: Plan) -> dict[str, float]:
    """One by one."""
    _clear(plan)
    for _ in range(WARM_UP):
        tick.enqueue()
    started = time.perf_counter()
    for _ in range(plan.tasks):
        tick.enqueue()
    elapsed = time.perf_counter() - started
    messages.wait_for(plan, WARM_UP + plan.tasks)
    return {"rate": rate(plan.tasks, elapsed)}


def enqueue_many(plan: Plan) -> dict[str, float]:
    """All in one call."""
    _clear(plan)
    tick.enqueue_many([()] * WARM_UP)
    calls: list[tuple[()]] = [()] * plan.tasks
    started = time.perf_counter()
    tick.enqueue_many(calls)
    elapsed = time.perf_counter() - started
    messages.wait_for(plan, WARM_UP + plan.tasks)
    return {"rate": rate(plan.tasks, elapsed)}


def drain(plan: Plan) -> dict[str, float]:
    """From a full queue to an empty one."""
    _clear(plan)
    directory = Path(plan.directory)
    tick.enqueue_many([()] * plan.tasks)
    messages.wait_for(plan, plan.tasks)
    broker_before = server_cpu_seconds(plan.broker_server)
    released_at = time.monotonic()
    with Worker(plan) as worker:
        worker.wait(lambda: tally.read(directory).count >= plan.tasks, what=f"{plan.tasks} tasks")
        _supervisor, *processes = worker.pids()
        worker_cpu = cpu_seconds(processes)
        broker_cpu = server_cpu_seconds(plan.broker_server) - broker_before
    # Nothing ran twice, and nothing is left that was not acked.
    ran = tally.read(directory)
    if ran.count != plan.tasks:
        raise RuntimeError(f"{ran.count} tasks ran, instead of {plan.tasks}.")
    messages.wait_for(plan, 0)
    return {
        "rate": rate(plan.tasks, ran.ended_at - ran.began_at),
        "rate_from_start": rate(plan.tasks, ran.ended_at - released_at),
        "worker_cpu": worker_cpu / plan.tasks * 1e6,
        "broker_cpu": broker_cpu / plan.tasks * 1e6,
    }


#: By the name that ``--only`` takes.
MEASURES: Mapping[str, Callable[[Plan], dict[str, float]]] = {
    "unrecorded-enqueue": enqueue,
    "unrecorded-unconfirmed": enqueue,
    "unrecorded-enqueue-many": enqueue_many,
    "unrecorded-drain": drain,
}
