"""Stores that do not delete by themselves what is over: the duty to do it for them now and then.

An object store is paid by the request, and to find out what is over it has to be listed. Nobody reads what is over in any
case, so once a day is enough (``OPTIONS["result_sweep"]``). When that was is kept in the store itself: workers come and
go, and several databases may share one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import connections

from ..aliases import taskq_backends
from ..backend import TaskqBackend
from ..conf import OptionsError
from ..exceptions import ResultStoreError
from ..result_url import store_type
from ..results.kept import KeptResults
from ..results.keyvalue import StoreConfigError
from ..retention import longest_ttl

logger = logging.getLogger("django_taskq.keeper")

#: seconds between two looks whether it is time
_LOOK = 600.0

#: why an alias has no store, in words without secrets
Trouble = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoreSweep:
    """What is over in one store.

    ``longest``: seconds for which results are kept there at most; None: some for ever. ``pause``: seconds until a worker
    does it again; None: workers leave it alone.
    """

    results: KeptResults
    longest: float | None
    pause: float | None

    @property
    def name(self) -> str:
        """What messages call the store."""
        return self.results.shelf.name

    def is_due(self) -> bool:
        """Whether a worker should do it now, which it then has to. Raises ``ResultStoreError``."""
        return self.pause is not None and self.results.shelf.may_sweep(datetime.now(UTC), self.pause)

    def carry_out(self) -> int:
        """Delete; gives how many results, -1 when nobody knows. Raises ``ResultStoreError``."""
        return self.results.sweep(datetime.now(UTC), self.longest)


def store_sweeps(backends: Iterable[TaskqBackend]) -> tuple[list[StoreSweep], list[Trouble]]:
    """The stores of these aliases that do not delete by themselves, each once; and aliases whose store cannot be had.

    A store that several aliases share goes by the one that keeps its results longest, whichever was asked for.
    """
    wanted: dict[KeptResults, None] = {}
    troubles = []
    for backend in backends:
        try:
            results = _results_of(backend)
        except (StoreConfigError, OptionsError, ResultStoreError, ImportError) as error:
            troubles.append((backend.alias, str(error)))
            continue
        if results is not None and not results.shelf.store.expires:
            wanted[results] = None
    shelves = {results.shelf: results for results in wanted}
    sharing: dict[object, list[TaskqBackend]] = {shelf: [] for shelf in shelves}
    for backend in taskq_backends(skip_broken=True) if shelves else ():
        try:
            results = _results_of(backend)
        except (StoreConfigError, OptionsError, ResultStoreError, ImportError):
            # It shares none of these.
            continue
        if results is not None and results.shelf in sharing:
            sharing[results.shelf].append(backend)
    sweeps = []
    for shelf, results in shelves.items():
        pauses = [one.config.result_sweep for one in sharing[shelf] if one.config.result_sweep is not None]
        sweeps.append(StoreSweep(results=results, longest=longest_ttl(sharing[shelf]), pause=min(pauses, default=None)))
    return sweeps, troubles


def sweep_stores(backends: Sequence[TaskqBackend]) -> Callable[[float], float]:
    """Delete what is over from stores, where workers are to do that; see ``Duty``.

    In a thread of its own, which may take its time.
    """
    concerned = [backend for backend in backends if backend.config.result_sweep is not None and _has_store(backend)]
    threads: list[threading.Thread] = []

    def duty(now: float) -> float:
        if concerned and not any(thread.is_alive() for thread in threads):
            threads[:] = [threading.Thread(target=_sweep, args=(concerned,), name="taskq-sweeper", daemon=True)]
            threads[0].start()
        return _LOOK

    return duty


def _sweep(backends: Sequence[TaskqBackend]) -> None:
    try:
        # Who has no store is told by the checks.
        for sweep in store_sweeps(backends)[0]:
            _sweep_one(sweep)
    except Exception:  # it is tried again; without a word nobody would notice
        logger.exception("Deleting old results failed; trying again.", extra={"action": "sweep_failed"})
    finally:
        connections.close_all()


def _sweep_one(sweep: StoreSweep) -> None:
    try:
        if not sweep.is_due():
            return
        deleted = sweep.carry_out()
    except ResultStoreError as error:
        logger.warning("Old results stay where they are: %s", error, extra={"action": "sweep_failed"})
        return
    if deleted:
        logger.info(
            "Deleted %s old results from %s.",
            deleted if deleted > 0 else "the",
            sweep.name,
            extra={"action": "swept"},
        )


def _has_store(backend: TaskqBackend) -> bool:
    """Whether results are in a store of keys and values; makes none, which may import a client."""
    return store_type(backend.config.results, backend.config.result_stores) is not None


def _results_of(backend: TaskqBackend) -> KeptResults | None:
    if not _has_store(backend):
        return None
    results = backend.result_store
    return results if isinstance(results, KeptResults) else None
