"""Schedules and those who fire them: killed, frozen, cut off, misled by clocks. Each tick comes once, and none is missing."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest
from django.db import OperationalError, connection

from django_taskq.core.schedule import Missed
from django_taskq.database import database_now
from django_taskq.models import KeeperRecord, ScheduleRecord, TaskRecord, TickRecord, WorkerRecord
from django_taskq.schedule_control import change_schedule, create_schedule, set_schedule_enabled
from django_taskq.schedules.definition import Schedule
from tests.acceptance.clock import Clock
from tests.acceptance.process import Process
from tests.acceptance.project import Project
from tests.acceptance.workers import frozen, start_worker
from tests.servers import PostgresServer
from tests.waiting import let_pass, wait_until

#: Seconds of kills. The issue's two minutes show the same.
LONG = float(os.environ.get("TASKQ_TEST_FAULT_SECONDS", "10"))
#: Seconds; the least there is.
LEASE = 3.0
TASKS = {"default": {"BACKEND": "django_taskq.TaskqBackend", "OPTIONS": {"lease": LEASE}}}
SECOND = timedelta(seconds=1)
PATIENCE = 90.0

SECONDLY = Schedule(
    name="secondly", task="tests.taskapp.tasks.noop", kind="interval", expression="1", missed=Missed.ALL
)


def schedule(count: int) -> None:
    """Make so many schedules of each second."""
    for number in range(count):
        create_schedule(replace(SECONDLY, name=f"secondly-{number}", args=(), priority=number % 10))


def start_schedulers(project: Project, count: int) -> list[Process]:
    """Start so many and wait until one of them is at work."""
    schedulers = [project.start(*project.command("runscheduler", f"--name=keeper-{n}")) for n in range(count)]
    wait_until(lambda: KeeperRecord.objects.exclude(holder="").exists(), PATIENCE, what="a keeper")
    return schedulers


def wait_for_ticks(until: datetime) -> None:
    """Wait until every schedule is past a moment."""
    behind = ScheduleRecord.objects.filter(next_at__lte=until)
    wait_until(lambda: not behind.exists(), PATIENCE, what=f"the ticks until {until}")


def check_ticks() -> int:
    """Each second of every schedule has come once, with one task; return how many have."""
    tasks = set(TaskRecord.objects.values_list("pk", flat=True))
    total = 0
    for record in ScheduleRecord.objects.all():
        ticks = list(TickRecord.objects.filter(schedule=record).order_by("tick_at"))
        moments = [tick.tick_at for tick in ticks]
        assert moments == [moments[0] + number * SECOND for number in range(len(moments))], "without a gap"
        assert {tick.outcome for tick in ticks} == {"fired"}
        assert {tick.task_id for tick in ticks} <= tasks
        assert len({tick.task_id for tick in ticks}) == len(ticks) == record.ticks
        assert moments[-1] == record.last_tick_at
        total += len(ticks)
    assert len(tasks) == total, "and no task without a tick"
    return total


def holder() -> str:
    """Return the name of who keeps house."""
    row = KeeperRecord.objects.filter(pk="keeper").first()
    return row.holder if row else ""


@pytest.mark.databases("sqlite", "postgres")
def test_keepers_that_are_killed_lose_no_tick_and_fire_none_twice(
    make_project: Callable[..., Project], rng: random.Random
) -> None:
    project = make_project(tasks=TASKS)
    schedule(100)
    schedulers = start_schedulers(project, 5)
    end = time.monotonic() + LONG
    kills = 0
    while time.monotonic() < end:
        pause = time.monotonic() + rng.uniform(0.2, 2.0)
        wait_until(lambda: time.monotonic() >= pause, what="the next kill")  # noqa: B023  # used now
        at = rng.randrange(len(schedulers))
        # The one at work rather than the others.
        for index, one in enumerate(schedulers):
            if rng.random() < 0.7 and holder().startswith(f"keeper-{index}-") and one.returncode is None:
                at = index
        schedulers[at].send(rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
        schedulers[at].wait(PATIENCE)
        schedulers[at] = project.start(*project.command("runscheduler", f"--name=keeper-{at}"))
        kills += 1
    wait_for_ticks(database_now("default"))
    for one in schedulers:
        one.end()
    print(f"{check_ticks()} ticks, {kills} kills")  # noqa: T201  # a figure of the run
    assert check_ticks() >= 100 * (LONG - 1)


def test_a_keeper_that_was_frozen_fires_nothing_a_second_time(make_project: Callable[..., Project]) -> None:
    project = make_project(tasks=TASKS)
    schedule(10)
    schedulers = start_schedulers(project, 2)
    wait_for_ticks(database_now("default") + SECOND)
    first = holder()
    index = int(first.split("-")[1])
    with frozen(psutil.Process(schedulers[index].pid)):
        wait_until(lambda: holder() not in {first, ""}, PATIENCE, what="another keeper")
        wait_for_ticks(database_now("default") + SECOND)
    wait_for_ticks(database_now("default") + 3 * SECOND)
    assert schedulers[index].returncode is None
    for one in schedulers:
        one.end()
    check_ticks()


@pytest.mark.databases("postgres")
def test_a_restart_of_the_database_loses_no_tick(
    private_postgres: PostgresServer, make_project: Callable[..., Project]
) -> None:
    project = make_project(tasks=TASKS, databases=private_postgres)
    schedule(10)
    schedulers = start_schedulers(project, 2)
    for break_down in (private_postgres.stop, private_postgres.kill):
        wait_for_ticks(database_now("default") + SECOND)
        connection.close()
        break_down()
        private_postgres.start()
        wait_until(is_back, PATIENCE, what="the database")
    wait_for_ticks(database_now("default") + SECOND)
    for one in schedulers:
        assert one.returncode is None
        one.end()
    check_ticks()


def is_back() -> bool:
    try:
        connection.ensure_connection()
    except OperationalError:
        return False
    return True


@pytest.mark.databases("postgres")
def test_the_clock_of_a_keepers_host_decides_nothing(make_project: Callable[..., Project], tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    project = make_project(tasks=TASKS, environment=clock.environment)
    schedule(5)
    (scheduler,) = start_schedulers(project, 1)
    for offset in ("+1h", "-1h", "+0"):
        clock.set(offset)
        wait_for_ticks(database_now("default") + 2 * SECOND)
    scheduler.end()
    check_ticks()
    late = [tick.fired_at - tick.tick_at for tick in TickRecord.objects.all()]
    assert timedelta(0) <= min(late)
    assert max(late) < timedelta(seconds=30), "by the database's clock"


@pytest.mark.databases("sqlite")
def test_ticks_that_a_jump_of_the_clock_passes_are_missed_and_none_comes_twice(
    make_project: Callable[..., Project], tmp_path: Path
) -> None:
    clock = Clock(tmp_path)
    project = make_project(tasks=TASKS, environment=clock.environment)
    create_schedule(replace(SECONDLY, missed=Missed.LAST))
    (scheduler,) = start_schedulers(project, 1)
    start = database_now("default")
    wait_for_ticks(start + SECOND)
    clock.set("+1h")
    wait_for_ticks(start + timedelta(hours=1))
    clock.set("+0")
    ahead = ScheduleRecord.objects.get().next_at
    assert ahead is not None
    let_pass(3)
    scheduler.end()
    moments = [tick.tick_at for tick in TickRecord.objects.order_by("pk")]
    assert moments == sorted(set(moments))
    assert not [at for at in moments if start + timedelta(minutes=1) < at < start + timedelta(minutes=59)]
    assert moments[-1] > start + timedelta(minutes=59)
    assert ScheduleRecord.objects.get().next_at >= ahead, "it waits for the clock"


def test_what_is_changed_is_obeyed_within_two_seconds(make_project: Callable[..., Project]) -> None:
    project = make_project(tasks=TASKS)
    create_schedule(replace(SECONDLY, expression="86400"))
    worker = start_worker(project)
    for round_ in range(2):
        before = TaskRecord.objects.count()
        change_schedule("secondly", replace(SECONDLY, priority=round_))
        changed = time.monotonic()
        wait_until(lambda: TaskRecord.objects.count() > before, what="a task")  # noqa: B023  # used now
        # Up to a second to the tick itself.
        assert time.monotonic() - changed < 3.0
        set_schedule_enabled("secondly", False)
        after = TaskRecord.objects.count()
        let_pass(2)
        assert TaskRecord.objects.count() == after
        set_schedule_enabled("secondly", True)
        change_schedule("secondly", replace(SECONDLY, expression="86400"))
    worker.end()


def test_a_worker_without_scheduler_leaves_schedules_to_others(make_project: Callable[..., Project]) -> None:
    project = make_project(tasks=TASKS)
    create_schedule(SECONDLY)
    worker = start_worker(project, "--no-scheduler")
    let_pass(3)
    assert not KeeperRecord.objects.exclude(holder="").exists()
    assert not TaskRecord.objects.exists()
    (scheduler,) = start_schedulers(project, 1)
    wait_until(lambda: TaskRecord.objects.finished().exists(), PATIENCE, what="a task to run")
    scheduler.send(signal.SIGTERM)
    assert scheduler.wait() == 0, scheduler.text()
    assert holder() == ""
    assert WorkerRecord.objects.count() == 1
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0, worker.text()
