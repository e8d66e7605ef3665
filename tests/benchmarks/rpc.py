"""Our calls whose callers wait for replies. See ``scope.RPC`` for their settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from django.db import connection

from tests.benchmarks import rows
from tests.benchmarks.calls import Caller, Reply, measures_of, milliseconds, percentiles, warm_up
from tests.benchmarks.plan import Plan
from tests.benchmarks.tasks import noop, tick
from tests.benchmarks.worker import Worker

_call = noop.using(record=False)


class TaskqCaller(Caller):
    """Calls of tasks without rows."""

    def clear(self, plan: Plan) -> None:
        """Also remove the rows."""
        rows.clear()
        super().clear(plan)

    def worker(self, plan: Plan) -> Worker:
        """Return ``runworker``."""
        return Worker(plan)

    def noop(self) -> Reply:
        """See ``Caller``."""
        return _call.enqueue()

    def ticks(self, count: int) -> Sequence[Reply]:
        """See ``Caller``."""
        return tick.enqueue_many([()] * count)

    def leave_thread(self) -> None:
        """Close Django's connection."""
        connection.close()


_caller = TaskqCaller()


def recorded(plan: Plan) -> dict[str, float]:
    """One call after the other, of a task with a row."""
    _caller.clear(plan)
    with _caller.worker(plan) as worker:
        worker.wait_until_ready()
        warm_up(noop.enqueue, _caller.patience)
        return percentiles([milliseconds(noop.enqueue, _caller.patience) for _ in range(plan.round_trips)])


#: By the name that ``--only`` takes.
MEASURES: Mapping[str, Callable[[Plan], dict[str, float]]] = {**measures_of(_caller), "rpc-recorded": recorded}
