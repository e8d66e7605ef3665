"""The clock of tests with a database: schedules that stand there, and tasks that run."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from django_taskq import Schedule
from django_taskq.models import TaskRecord
from django_taskq.schedule_control import create_schedule, set_schedule_enabled
from django_taskq.testing import run_tasks, schedule_clock

pytestmark = pytest.mark.django_db

EVENING = datetime(2026, 5, 1, 18, tzinfo=UTC)
ADD = "tests.taskapp.tasks.add"


def test_schedules_of_the_database_are_there_if_asked_and_their_tasks_run() -> None:
    create_schedule(Schedule(name="hourly", task=ADD, kind="interval", expression="3600", args=(1, 2)))
    create_schedule(Schedule(name="never", task=ADD, kind="interval", expression="3600", args=(3, 4)))
    set_schedule_enabled("never", False)
    assert schedule_clock(EVENING, schedules=[]).forward(hours=3) == []

    clock = schedule_clock(EVENING, schedules=[], database=True)
    runs = clock.forward(hours=3, enqueue=True)
    assert [(run.schedule, run.at.hour, run.task, run.args) for run in runs] == [
        ("hourly", hour, ADD, (1, 2)) for hour in (19, 20, 21)
    ]
    assert run_tasks() == 3
    assert [record.result for record in TaskRecord.objects.all()] == ["3"] * 3


def test_a_clock_alone_enqueues_nothing() -> None:
    one = Schedule(name="hourly", task=ADD, kind="interval", expression="3600", args=(1, 2))
    assert len(schedule_clock(EVENING, schedules=[one]).forward(hours=5)) == 5
    assert not TaskRecord.objects.exists()
