"""How the queues stand, for Prometheus' client library.

In a registry of your own: ``REGISTRY.register(TaskqCollector())``; or as a page, see ``views``.
"""

from __future__ import annotations

from collections.abc import Iterator

try:
    from prometheus_client import CollectorRegistry, Metric, generate_latest
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        "The metrics page needs Prometheus' client: pip install 'django-taskq-kombu[prometheus]'"
    ) from error

from .figures import read_figures

__all__ = ["TaskqCollector", "exposition"]


class TaskqCollector(Collector):
    """Reads the rows each time it is asked; raises the databases' errors."""

    def describe(self) -> list[Metric]:
        """None: registering must not touch the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The gauges."""
        figures = read_figures()
        tasks = GaugeMetricFamily(
            "taskq_tasks", "Tasks that have not ended, up to 100,000 each.", labels=["backend", "queue", "state"]
        )
        for (backend, queue_name, state), count in sorted(figures.depths.items()):
            tasks.add_metric([backend, queue_name, state.value], count)
        yield tasks
        waits = GaugeMetricFamily(
            "taskq_oldest_wait_seconds", "How long the oldest READY task has been due.", labels=["backend", "queue"]
        )
        for (backend, queue_name), seconds in sorted(figures.waits.items()):
            waits.add_metric([backend, queue_name], seconds)
        yield waits
        for name, text, attribute in (
            ("taskq_workers", "Workers that are alive.", "names"),
            ("taskq_worker_processes", "Their processes.", "processes"),
            ("taskq_slots", "Tasks that these can run at once.", "slots"),
        ):
            family = GaugeMetricFamily(name, text, labels=["database"])
            for workers in figures.workers:
                family.add_metric([workers.database], getattr(workers, attribute))
            yield family


def exposition() -> bytes:
    """All of it in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(TaskqCollector())
    return generate_latest(registry)
