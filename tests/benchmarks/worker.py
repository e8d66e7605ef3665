"""Our worker under measurement: ``manage.py runworker`` as users start it."""

from __future__ import annotations

from typing import Self

from django_taskq.models import WorkerRecord
from tests.benchmarks.plan import Plan
from tests.benchmarks.worker_process import WorkerProcess
from tests.waiting import wait_until


class Worker(WorkerProcess):
    """See ``WorkerProcess``; the first process is the supervisor."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, "django", ["runworker", f"--processes={plan.processes}", *plan.worker_options])

    def __enter__(self) -> Self:
        # What a killed run has left: nobody would ever beat for it again.
        WorkerRecord.objects.all()._raw_delete("default")
        return super().__enter__()

    def wait_until_ready(self) -> None:
        """Wait until every process has registered."""

        def ready() -> bool:
            self.check()
            return WorkerRecord.objects.count() == self.plan.processes

        wait_until(ready, 60.0, what="the worker's processes")
