"""Which ears a worker process needs: one per database whose rows it reads, one per message broker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ..backend import TaskqBackend
from ..brokers.base import Consumer, Lane
from ..brokers.database import DatabaseConsumer
from ..publication import known_queues
from .rows import BrokerRows
from .settings import WorkerSettings


def open_consumers(
    backends: Sequence[TaskqBackend],
    settings: WorkerSettings,
    worker_id: Callable[[], str],
    lane: Lane | None = None,
    called: Callable[[float], None] = lambda settles_in: None,
) -> list[Consumer]:
    """The consumers of these backends, not connected yet. ``called``: see ``DatabaseConsumer``."""
    by_database: dict[str, list[str]] = {}
    by_broker: dict[tuple[object, str], list[TaskqBackend]] = {}
    for backend in backends:
        if backend.config.is_kombu:
            # Aliases that share a broker share its queues.
            by_broker.setdefault((backend.config, backend.database), []).append(backend)
        else:
            by_database.setdefault(backend.database, []).append(backend.alias)
    consumers: list[Consumer] = [
        DatabaseConsumer(using, aliases, settings.queues, worker_id(), called=called)
        for using, aliases in by_database.items()
    ]
    return consumers + [_kombu_consumer(group, settings, worker_id, lane) for group in by_broker.values()]


def _kombu_consumer(
    backends: Sequence[TaskqBackend], settings: WorkerSettings, worker_id: Callable[[], str], lane: Lane | None
) -> Consumer:
    # Who has no message broker does not load kombu.
    from ..brokers.kombu.consumer import KombuConsumer  # noqa: PLC0415

    first = backends[0]
    return KombuConsumer(
        first.config,
        first.database,
        first.alias,
        settings.queues,
        worker_id(),
        rows=BrokerRows(first, [backend.alias for backend in backends], worker_id),
        known=partial(known_queues, backends),
        prefetch=settings.prefetch,
        lane=lane,
    )
