"""``taskq schedules``: what it shows, and what it does to schedules."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_taskq.database import database_now
from django_taskq.models import ScheduleRecord, TaskRecord
from django_taskq.schedule_control import create_schedule, find_schedule
from django_taskq.schedules.definition import Schedule

pytestmark = pytest.mark.django_db

NOOP = "tests.taskapp.tasks.noop"


@pytest.fixture(autouse=True)
def nightly() -> ScheduleRecord:
    return create_schedule(
        Schedule(name="nightly", task=NOOP, kind="cron", expression="0 3 * * *", timezone="Europe/Berlin")
    )


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("taskq", "schedules", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def read(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--format=json"))


def fails(*arguments: str) -> str:
    with pytest.raises(CommandError) as error:
        run(*arguments)
    return str(error.value)


def test_the_list_says_when_each_comes_and_how_the_last_one_went() -> None:
    create_schedule(Schedule(name="quick", task=NOOP, kind="interval", expression="90", enabled=False))
    run("run", "nightly")
    ScheduleRecord.objects.filter(name="quick").update(problem="no such task")

    nightly, quick = read()
    assert (nightly["name"], nightly["kind"], nightly["expression"]) == ("nightly", "cron", "0 3 * * *")
    assert (nightly["enabled"], nightly["last_state"], nightly["problem"]) == (True, "READY", "")
    assert nightly["next"] is not None
    assert nightly["last_task"] == str(TaskRecord.objects.get().pk)
    assert (quick["enabled"], quick["next"], quick["problem"]) == (False, None, "no such task")
    text = run()
    for part in ("nightly", "(Europe/Berlin)", "every 90 seconds", "(in ", "no such task", "READY"):
        assert part in text


def test_next_shows_its_coming_ticks_in_its_own_zone() -> None:
    rows = read("next", "nightly", "-n", "3")
    assert [row["schedule"] for row in rows] == ["nightly"] * 3
    assert all(row["in"] > 0 for row in rows)
    assert run("next", "nightly").count(" 03:00:00+0") == 5


def test_next_says_when_nothing_will_run() -> None:
    run("disable", "nightly")
    assert "is disabled: none of them will run" in run("next", "nightly")
    at = database_now("default") + timedelta(hours=1)
    record = create_schedule(Schedule(name="once", task=NOOP, kind="once", expression=at.isoformat()))
    past = (at - timedelta(days=9)).isoformat()
    ScheduleRecord.objects.filter(pk=record.pk).update(expression=past, version=2)
    assert "does not run any more" in run("next", "once")


def test_run_enqueues_the_task_and_prints_its_id() -> None:
    task_id = run("run", "nightly").strip()
    assert str(TaskRecord.objects.get().pk) == task_id
    assert find_schedule("nightly").next_at is not None


def test_enable_and_disable_say_whether_it_was_so() -> None:
    assert run("disable", "nightly") == "The schedule nightly is disabled.\n"
    assert find_schedule("nightly").is_enabled is False
    assert run("disable", "nightly") == "The schedule nightly was disabled.\n"
    assert run("enable", "nightly", "nightly") == "The schedule nightly is enabled.\n"
    assert find_schedule("nightly").is_enabled is True


def test_a_schedule_that_cannot_run_says_why() -> None:
    ScheduleRecord.objects.filter(name="nightly").update(task="shop.tasks.gone", version=2)
    assert "No task is named 'shop.tasks.gone'" in fails("run", "nightly")
    assert not TaskRecord.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "nightly"], "list takes no names"),
        (["run"], "Say which schedule to run"),
        (["run", "nightly", "other"], "There is no schedule 'other'"),
        (["next", "nightli"], "There is no schedule 'nightli'; did you mean 'nightly'"),
        (["disable", "nightly", "gone"], "There is no schedule 'gone'"),
        (["next", "nightly", "-n", "0"], "-n 0: give a whole number from 1 to 1000"),
    ],
)
def test_wrong_arguments_change_nothing(arguments: list[str], message: str) -> None:
    assert message in fails(*arguments)
    assert find_schedule("nightly").is_enabled is True
    assert not TaskRecord.objects.exists()
