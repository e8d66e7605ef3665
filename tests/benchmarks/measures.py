"""The measurements. Each runs in a process of its own, see ``client``, and gives its figures by key."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Count, Max, Min

from django_taskq import ResultTimeout
from django_taskq.database import database_now
from django_taskq.models import TaskRecord
from tests.benchmarks import messages, rows, rpc, unrecorded
from tests.benchmarks.counters import Counter
from tests.benchmarks.figures import percentile, rate
from tests.benchmarks.plan import WARM_UP, Plan
from tests.benchmarks.processes import cpu_seconds, memory, server_cpu_seconds
from tests.benchmarks.tasks import noop
from tests.benchmarks.worker import Worker

#: Seconds one round trip may take.
_PATIENCE = 60.0
#: Seconds after the last task until a worker counts as idle: the client's own waiting thread is gone, and PostgreSQL's
#: processes have handed in what they counted before (every 10 s while they are idle, PGSTAT_IDLE_INTERVAL).
_CALM_DOWN = 12.0
#: Seconds of idleness before a round trip.
_REST = 1.0

_MIB = 1024 * 1024


def _clear(plan: Plan) -> None:
    rows.clear()
    messages.clear(plan)


def enqueue(plan: Plan) -> dict[str, float]:
    """One by one."""
    _clear(plan)
    for _ in range(WARM_UP):
        noop.enqueue()
    started = time.perf_counter()
    for _ in range(plan.tasks):
        noop.enqueue()
    return {"rate": rate(plan.tasks, time.perf_counter() - started)}


def enqueue_many(plan: Plan) -> dict[str, float]:
    """All in one call."""
    _clear(plan)
    noop.enqueue_many([()] * WARM_UP)
    calls: list[tuple[()]] = [()] * plan.tasks
    started = time.perf_counter()
    noop.enqueue_many(calls)
    return {"rate": rate(plan.tasks, time.perf_counter() - started)}


def drain(plan: Plan) -> dict[str, float]:
    """From a full queue to an empty one."""
    _clear(plan)
    results = noop.enqueue_many([()] * plan.tasks)
    first, last = results[0].id, results[-1].id
    counter = Counter()
    with counter.running():
        counted = counter.read()
        servers = {"server_cpu": plan.server, "broker_cpu": plan.broker_server}
        before = {key: server_cpu_seconds(pid) for key, pid in servers.items() if pid}
        released_at = database_now("default")
        with Worker(plan) as worker:
            began_at, ended_at = _wait_for_the_end(worker, first, last, plan.tasks)
            _supervisor, *processes = worker.pids()
            worker_cpu = cpu_seconds(processes)
            used = {key: server_cpu_seconds(servers[key]) - before[key] for key in before}
        # After the worker's end: only then PostgreSQL's statistics are complete.
        counted = counter.read() - counted
    figures = {
        "rate": rate(plan.tasks, (ended_at - began_at).total_seconds()),
        "rate_from_start": rate(plan.tasks, (ended_at - released_at).total_seconds()),
        "worker_cpu": worker_cpu / plan.tasks * 1e6,
        **{key: seconds / plan.tasks * 1e6 for key, seconds in used.items()},
    }
    if counter.key is not None:
        figures[counter.key] = counted / plan.tasks * 1_000
    return figures


def _wait_for_the_end(worker: Worker, first: str, last: str, tasks: int) -> tuple[datetime, datetime]:
    """Return when the first task was claimed and the last one ended, once all have succeeded."""
    final = TaskRecord.objects.filter(pk=last, finished_at__isnull=False)
    # The last row by its key, which costs the same beside any history; the others end within a batch of it.
    worker.wait(final.exists, what="the last task")
    drained = TaskRecord.objects.filter(pk__gte=first, state="SUCCESSFUL")
    question = {"ended": Count("pk"), "began_at": Min("started_at"), "ended_at": Max("finished_at")}
    answer: dict[str, Any] = {}

    def all_ended() -> bool:
        answer.update(drained.aggregate(**question))
        return bool(answer["ended"] == tasks)

    worker.wait(all_ended, what=f"{tasks} tasks")
    return answer["began_at"], answer["ended_at"]


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
    """Many callers at once, each waiting for its own result."""
    _clear(plan)
    share = max(plan.in_flight_tasks // plan.in_flight, 1)
    line = threading.Barrier(plan.in_flight + 1)

    def call() -> list[float]:
        try:
            # The connection is there before the start.
            _milliseconds()
            line.wait(_PATIENCE)
            return [_milliseconds() for _ in range(share)]
        finally:
            connection.close()

    with Worker(plan) as worker, ThreadPoolExecutor(plan.in_flight) as callers:
        worker.wait_until_ready()
        calls = [callers.submit(call) for _ in range(plan.in_flight)]
        line.wait(_PATIENCE)
        started = time.perf_counter()
        times = [time for call in calls for time in call.result()]
        elapsed = time.perf_counter() - started
    return {"rate": rate(len(times), elapsed), **_percentiles(times)}


def idle(plan: Plan) -> dict[str, float]:
    """What a worker costs that has nothing to do."""
    _clear(plan)
    counter = Counter()
    with Worker(plan) as worker:
        worker.wait_until_ready()
        for _ in range(WARM_UP):
            _milliseconds()
        time.sleep(_CALM_DOWN)
        with counter.running():
            pids = worker.pids()
            counted, cpu, started = counter.read(), cpu_seconds(pids), time.perf_counter()
            broker_cpu = server_cpu_seconds(plan.broker_server) if plan.broker_server else 0.0
            time.sleep(plan.idle)
            cpu, elapsed = cpu_seconds(pids) - cpu, time.perf_counter() - started
            broker_cpu = server_cpu_seconds(plan.broker_server) - broker_cpu if plan.broker_server else 0.0
            counted = counter.read() - counted
            used = memory(pids)
            worker.check()
            if worker.pids() != pids:
                raise RuntimeError("A process of the worker died while it had nothing to do.")
    figures = {"cpu": cpu * 30 / elapsed, "pss": used.pss / _MIB, "anonymous": used.anonymous / _MIB}
    if plan.broker_server:
        figures["broker_cpu"] = broker_cpu * 30 / elapsed
    if counter.key is not None:
        figures[counter.key] = counted / elapsed
    return figures


def _milliseconds() -> float:
    started = time.perf_counter()
    result = noop.enqueue()
    try:
        result.get(timeout=_PATIENCE)
    except ResultTimeout as error:
        row = TaskRecord.objects.filter(pk=result.id).values().first()
        raise RuntimeError(f"No result after {_PATIENCE} s; the row: {row}") from error
    return (time.perf_counter() - started) * 1e3


def _percentiles(times: list[float]) -> dict[str, float]:
    return {"p50": percentile(times, 0.5), "p95": percentile(times, 0.95)}


#: By the name that ``--only`` takes.
MEASURES: Mapping[str, Callable[[Plan], dict[str, float]]] = {
    "enqueue": enqueue,
    "enqueue-many": enqueue_many,
    "drain": drain,
    "round-trip": round_trip,
    "in-flight": in_flight,
    "idle": idle,
    **unrecorded.MEASURES,
    **rpc.MEASURES,
}
