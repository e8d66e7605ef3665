"""The figures: what each is called, its unit, which way it is to go, and the goals the project has set itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.benchmarks.figures import Better


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table. ``goals``: by place; for 2 cores, 2 processes, 10,000 tasks and 30 s of idleness.

    ``celery``: what Celery did on the machine that the goals were set on.
    """

    title: str
    unit: str
    better: Better
    goals: Mapping[str, float] = field(default_factory=dict)
    celery: float | None = None

    def ratio_goal(self, place: str) -> float | None:
        """Return the goal as a multiple of Celery's figure, which holds on any machine; None without either."""
        goal = self.goals.get(place)
        return None if goal is None or self.celery is None else goal / self.celery


_DATABASES = ("sqlite", "postgres", "mariadb")


def _everywhere(goal: float, *, broker: str = "") -> dict[str, float]:
    """The same goal on each database; where no row is written, none of them matters."""
    return dict.fromkeys((f"{database}{broker}" for database in _DATABASES), goal)


_DRAIN = {
    "rate": Figure(title="drain", unit="tasks/s", better="more"),
    "rate_from_start": Figure(title="drain, from the start of the worker", unit="tasks/s", better="more"),
    "worker_cpu": Figure(title="drain: CPU of the worker", unit="µs/task", better="less"),
    "server_cpu": Figure(title="drain: CPU of the server", unit="µs/task", better="less"),
    "broker_cpu": Figure(title="drain: CPU of the broker", unit="µs/task", better="less"),
    "transactions": Figure(title="drain: transactions", unit="per 1,000 tasks", better="less"),
    "statements": Figure(title="drain: statements", unit="per 1,000 tasks", better="less"),
}

#: By the key under which a run reports it, in the order of the table.
FIGURES: Mapping[str, Figure] = {
    "enqueue.rate": Figure(
        title="enqueue, one by one",
        unit="tasks/s",
        better="more",
        goals={"postgres": 1_700, "sqlite": 3_500, "postgres+amqp": 600},
    ),
    "enqueue-many.rate": Figure(
        title="enqueue_many", unit="tasks/s", better="more", goals={"postgres": 20_000, "postgres+amqp": 8_000}
    ),
    **{f"drain.{key}": figure for key, figure in _DRAIN.items()},
    "drain.rate": Figure(
        title="drain",
        unit="tasks/s",
        better="more",
        goals={
            "postgres": 5_000,
            "sqlite": 2_500,
            "mariadb": 2_500,
            "postgres+amqp": 4_000,
            "postgres+redis": 3_000,
        },
    ),
    **{
        f"history.{key}": Figure(title=f"with history: {figure.title}", unit=figure.unit, better=figure.better)
        for key, figure in _DRAIN.items()
    },
    "history.share": Figure(
        title="with history: share of the drain without", unit="%", better="more", goals=_everywhere(80)
    ),
    "round-trip.p50": Figure(title="round trip, p50", unit="ms", better="less", goals={"postgres": 4, "sqlite": 10}),
    "round-trip.p95": Figure(title="round trip, p95", unit="ms", better="less"),
    "round-trip.rested_p50": Figure(
        title="round trip after 1 s of idleness, p50", unit="ms", better="less", goals={"postgres": 8, "sqlite": 20}
    ),
    "round-trip.rested_p95": Figure(title="round trip after 1 s of idleness, p95", unit="ms", better="less"),
    "in-flight.rate": Figure(title="32 in flight", unit="round trips/s", better="more"),
    "in-flight.p50": Figure(title="32 in flight, p50", unit="ms", better="less"),
    "in-flight.p95": Figure(title="32 in flight, p95", unit="ms", better="less"),
    "idle.transactions": Figure(title="idle: transactions", unit="per second", better="less", goals={"postgres": 2}),
    "idle.statements": Figure(title="idle: statements", unit="per second", better="less"),
    "idle.cpu": Figure(title="idle: CPU of all processes", unit="s in 30 s", better="less", goals=_everywhere(0.1)),
    "idle.broker_cpu": Figure(title="idle: CPU of the broker", unit="s in 30 s", better="less"),
    "idle.pss": Figure(title="idle: PSS of all processes", unit="MiB", better="less", goals=_everywhere(85)),
    "idle.anonymous": Figure(title="idle: anonymous part of it", unit="MiB", better="less"),
    "unrecorded-enqueue.rate": Figure(
        title="unrecorded: enqueue, one by one",
        unit="tasks/s",
        better="more",
        goals=_everywhere(1_500, broker="+amqp"),
    ),
    "unrecorded-unconfirmed.rate": Figure(
        title="unrecorded: enqueue, one by one, unconfirmed",
        unit="tasks/s",
        better="more",
        goals=_everywhere(8_000, broker="+amqp"),
    ),
    "unrecorded-enqueue-many.rate": Figure(
        title="unrecorded: enqueue_many", unit="tasks/s", better="more", goals=_everywhere(8_000, broker="+amqp")
    ),
    "unrecorded-drain.rate": Figure(
        title="unrecorded: drain", unit="tasks/s", better="more", goals=_everywhere(5_000, broker="+amqp")
    ),
    **{
        f"unrecorded-drain.{key}": Figure(title=f"unrecorded: {figure.title}", unit=figure.unit, better=figure.better)
        for key, figure in _DRAIN.items()
        if key in ("rate_from_start", "worker_cpu", "broker_cpu")
    },
    "rpc-round-trip.p50": Figure(
        title="rpc: round trip, p50", unit="ms", better="less", goals=_everywhere(1.0, broker="+amqp"), celery=1.95
    ),
    "rpc-round-trip.p95": Figure(title="rpc: round trip, p95", unit="ms", better="less"),
    "rpc-round-trip.rested_p50": Figure(
        title="rpc: round trip after 1 s of idleness, p50",
        unit="ms",
        better="less",
        goals=_everywhere(2.0, broker="+amqp"),
        celery=3.8,
    ),
    "rpc-round-trip.rested_p95": Figure(title="rpc: round trip after 1 s of idleness, p95", unit="ms", better="less"),
    "rpc-in-flight.rate": Figure(
        title="rpc: 32 in flight",
        unit="round trips/s",
        better="more",
        goals=_everywhere(2_500, broker="+amqp"),
        celery=844,
    ),
    "rpc-threads.rate": Figure(
        title="rpc: 16 threads",
        unit="round trips/s",
        better="more",
        goals=_everywhere(1_500, broker="+amqp"),
        celery=438,
    ),
    "rpc-threads.p50": Figure(title="rpc: 16 threads, p50", unit="ms", better="less"),
    "rpc-threads.p95": Figure(title="rpc: 16 threads, p95", unit="ms", better="less"),
    "rpc-threads.lost": Figure(title="rpc: 16 threads, lost calls", unit="per 1,000 calls", better="less"),
    "rpc-drain.rate": Figure(
        title="rpc: drain with replies", unit="tasks/s", better="more", goals=_everywhere(4_000, broker="+amqp")
    ),
    **{
        f"rpc-drain.{key}": Figure(title=f"rpc: {figure.title}", unit=figure.unit, better=figure.better)
        for key, figure in _DRAIN.items()
        if key in ("worker_cpu", "broker_cpu")
    },
    "rpc-recorded.p50": Figure(
        title="rpc: round trip with a row, p50", unit="ms", better="less", goals=_everywhere(3.0, broker="+amqp")
    ),
    "rpc-recorded.p95": Figure(title="rpc: round trip with a row, p95", unit="ms", better="less"),
}
