"""What 10,000 schedules cost the process that fires them, and how late it is.

``python -c "import django; django.setup(); from tests.benchmarks.schedules import main; main()" --help``, with
``DJANGO_SETTINGS_MODULE=tests.settings``, inside ``python -m tests.servers run --``; in a database of its own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import psutil

from django_taskq.core.schedule import Missed
from django_taskq.database import database_now
from django_taskq.models import KeeperRecord, ScheduleRecord, TaskRecord, TickRecord
from django_taskq.schedules.definition import Schedule, rule_of
from django_taskq.transitions.schedules import columns_of
from tests.acceptance.project import Project
from tests.databases import chosen
from tests.servers import shared
from tests.waiting import wait_until

#: The settings that a user would have.
_TASKS = {"default": {"BACKEND": "django_taskq.TaskqBackend"}}


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=600, help="seconds between two ticks of a schedule")
    parser.add_argument("--together", action="store_true", help="all of them at the same moments")
    parser.add_argument("--seconds", type=float, default=60.0)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        project = Project(shared(chosen()), f"taskq_schedules_{time.time_ns()}", Path(directory), tasks=_TASKS)
        project.create()
        try:
            with project.attached():
                print(_measure(project, told))
        finally:
            project.close()


def _measure(project: Project, told: argparse.Namespace) -> str:
    now = database_now("default")
    records = []
    for number in range(told.schedules):
        shift = 0 if told.together else number % told.every
        one = Schedule(
            name=f"schedule-{number}",
            task="tests.taskapp.tasks.noop",
            kind="interval",
            expression=str(told.every),
            start_at=now.replace(microsecond=0) + timedelta(seconds=shift - told.every),
            missed=Missed.ALL,
        )
        records.append(
            ScheduleRecord(**columns_of(one), source="database", changed_at=now, next_at=rule_of(one).next_after(now))
        )
    ScheduleRecord.objects.bulk_create(records, batch_size=500)
    process = project.start(*project.command("runscheduler"))
    wait_until(lambda: KeeperRecord.objects.exclude(holder="").exists(), 60, what="a keeper")
    time.sleep(5.0)
    seen = psutil.Process(process.pid)
    before, started, fired = seen.cpu_times(), time.monotonic(), TickRecord.objects.count()
    since = database_now("default")
    time.sleep(told.seconds)
    after, took = seen.cpu_times(), time.monotonic() - started
    cpu = after.user + after.system - before.user - before.system
    ticks = TickRecord.objects.count() - fired
    tick_of = dict(TickRecord.objects.values_list("task_id", "tick_at"))
    enqueued = TaskRecord.objects.filter(enqueued_at__gte=since).values_list("pk", "enqueued_at")
    late = sorted((at - tick_of[pk]).total_seconds() for pk, at in enqueued)
    return (
        f"{told.schedules} schedules, {ticks / took:.1f} ticks/s: {cpu / took:.2%} of a core, "
        f"{1e6 * cpu / max(ticks, 1):.0f} µs of CPU per tick; late by {late[len(late) // 2]:.3f} s at the median, "
        f"{late[-1]:.3f} s at most"
        if late
        else f"{told.schedules} schedules, no tick: {cpu / took:.2%} of a core"
    )
