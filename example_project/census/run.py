"""A census from its enqueue to its end: what the command `demo` shows."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Max, Min, QuerySet, Sum

from django_taskq import State, TaskResult
from django_taskq.models import TaskRecord
from example_project.census.files import Sources
from example_project.census.summary import Summary
from example_project.census.tasks import QUEUE, describe_python, measure_file, stumble, summarise
from example_project.census.worker import Worker

#: Attempts that `stumble` is told to fail at.
FAILURES = 2
#: Seconds between two looks at how far the tasks are.
LOOK_INTERVAL = 0.2
#: Seconds without any task ending after which we no longer believe that one will.
STALL_LIMIT = 60.0
#: Ids in one query; SQLite takes 999 parameters in its oldest supported versions.
CHUNK = 500


class CensusError(Exception):
    """The census cannot go on; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Census:
    """The enqueued tasks of one census."""

    directory: str
    files: Sequence[TaskResult]
    stumble: TaskResult
    python: TaskResult

    @property
    def results(self) -> list[TaskResult]:
        """All of them."""
        return [*self.files, self.stumble, self.python]

    @property
    def ids(self) -> list[str]:
        """Their ids."""
        return [result.id for result in self.results]


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Tasks per second from the first start to the last end, and the seconds a task itself took on average."""

    per_second: float
    work: float


def enqueue(sources: Sources) -> Census:
    """Enqueue a task per file, and the two that show retries and `async def`.

    In one transaction: whatever interrupts it, either all of them will run or none.
    """
    with transaction.atomic():
        return Census(
            directory=str(sources.directory),
            stumble=stumble.enqueue(FAILURES),
            python=describe_python.enqueue(),
            files=measure_file.enqueue_many([(path,) for path in sources.paths]),
        )


def drain(results: Sequence[TaskResult], *, processes: int, on_progress: Callable[[int], None] | None = None) -> None:
    """Run workers until these tasks have ended; `on_progress` hears how many have.

    A burst worker ends when nothing is due, which may be before a retry falls due: then another one is started.
    Raises CensusError when a worker fails, or when nothing ends for `STALL_LIMIT` seconds.
    """
    waiting = [result.id for result in results]
    changed_at = time.monotonic()
    while waiting:
        with Worker(processes=processes) as worker:
            ended = False
            while waiting and not ended:
                ended = worker.ended(within=LOOK_INTERVAL)
                before, waiting = len(waiting), _unfinished(waiting)
                if on_progress:
                    on_progress(len(results) - len(waiting))
                if len(waiting) < before:
                    changed_at = time.monotonic()
                elif time.monotonic() - changed_at > STALL_LIMIT:
                    raise CensusError(
                        f"No task has ended for {STALL_LIMIT:.0f} s, and {len(waiting):,} are waiting. "
                        f"The worker's last lines:\n{worker.log}"
                    )
            worker.stop()
            if worker.failed:
                raise CensusError(f"The worker failed. Its last lines:\n{worker.log}")


def summary_of(census: Census, *, processes: int) -> Summary:
    """Let a task read back what the file tasks returned, and read back what it made of that."""
    result = summarise.enqueue(census.directory, [each.id for each in census.files])
    drain([result], processes=processes)
    return Summary(**value_of(result))


def value_of(result: TaskResult) -> Any:
    """What a task that has ended returned; raises TaskFailed when it failed."""
    result.refresh()
    return result.get()


def stumbling(census: Census) -> tuple[list[str], int]:
    """What each failed attempt of `stumble` said, and the number of the one that succeeded."""
    attempt = value_of(census.stumble)
    errors = [f"{error.exception_class_path}: {error.message}" for error in census.stumble.attempt_errors]
    return errors, attempt


def pace(census: Census) -> Pace:
    """How fast the file tasks were run; `stumble` is left out, for it waits on purpose."""
    chunks = [
        rows.aggregate(start=Min("started_at"), end=Max("finished_at"), work=Sum("duration"))
        for rows in _rows([result.id for result in census.files])
    ]
    span: timedelta = max(chunk["end"] for chunk in chunks) - min(chunk["start"] for chunk in chunks)
    return Pace(
        per_second=len(census.files) / span.total_seconds(),
        work=sum(chunk["work"] for chunk in chunks) / len(census.files),
    )


def left_behind() -> int:
    """Tasks of earlier censuses that were killed before they could cancel them; they are run first."""
    return TaskRecord.objects.filter(queue_name=QUEUE, finished_at__isnull=True).count()


def abandon(census: Census) -> int:
    """Cancel what has not ended, so that no later worker counts for nobody; returns how many tasks that were."""
    waiting = set(_unfinished(census.ids))
    return sum(result.cancel() for result in census.results if result.id in waiting)


def check(census: Census) -> None:
    """Raise CensusError, with what one of them said, when tasks did not succeed."""
    failed = [record for rows in _rows(census.ids) for record in rows.exclude(state=State.SUCCESSFUL)]
    if failed:
        first = failed[0]
        reason = first.attempt_errors[-1].message if first.attempt_errors else "no error was stored"
        raise CensusError(f"{len(failed):,} tasks did not succeed. {first} is {first.state}: {reason}")


def _unfinished(ids: Sequence[str]) -> list[str]:
    return [str(pk) for rows in _rows(ids) for pk in rows.filter(finished_at__isnull=True).values_list("pk", flat=True)]


def _rows(ids: Sequence[str]) -> Iterator[QuerySet[TaskRecord]]:
    for start in range(0, len(ids), CHUNK):
        yield TaskRecord.objects.filter(pk__in=ids[start : start + CHUNK])
