"""Schedules in code that cannot be are found by ``manage.py check``, with the place and the key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from django_taskq import TaskqBackend, schedule
from django_taskq.core.schedule import Missed
from django_taskq.schedule_checks import check_code_schedules
from django_taskq.schedules import registry
from tests.taskapp import tasks

ADD = "tests.taskapp.tasks.add"
GOOD = {"task": ADD, "cron": "0 3 * * *", "args": [1, 2]}


@pytest.fixture(autouse=True)
def _no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_decorated", {})


def messages(schedules: dict[str, dict[str, Any]]) -> list[str]:
    found = list(check_code_schedules([TaskqBackend("default", {"OPTIONS": {"schedules": schedules}})]))
    assert {message.id for message in found} <= {"django_taskq.E021"}
    return [message.msg for message in found]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"timezone": "Asia/Kathmandu", "missed": "all", "overlap": "queue", "jitter": 5},
        {"args": [1], "kwargs": {"right": 2}, "queue_name": "default", "priority": 5},
        {"start_at": datetime(2026, 1, 1, tzinfo=UTC), "end_at": "2026-12-31T12:00", "missed": Missed.SKIP},
    ],
)
def test_good_schedules_have_no_message(options: dict[str, Any]) -> None:
    assert messages({"nightly": {**GOOD, **options}}) == []


@pytest.mark.parametrize(
    ("options", "key", "text"),
    [
        ({"cron": "0 0 31 2 *"}, "cron", "'0 0 31 2 *' cannot be"),
        ({"cron": "61 * * * *"}, "cron", "'61 * * * *' cannot be"),
        ({"timezone": "Europe/Berln"}, "timezone", "'Europe/Berln' is no time zone"),
        ({"task": "tests.taskapp.tasks.ad"}, "task", "tests.taskapp.tasks.ad"),
        ({"args": [1, 2, 3]}, "args", "too many positional arguments"),
        ({"args": [1], "kwargs": {"wrong": 2}}, "kwargs", "'right'"),
        ({"args": [1, object()]}, "args", "object"),
        ({"start_at": "2026-05-02T00:00", "end_at": "2026-05-01T00:00"}, "end_at", "not after its start"),
        ({"missed": "some"}, "missed", "'some' cannot be"),
        ({"overlap": "wait"}, "overlap", "'wait' cannot be"),
        ({"jitter": -1}, "jitter", "-1"),
        ({"priority": 500}, "priority", "500"),
        ({"croon": "* * * * *"}, "croon", "did you mean 'cron'?"),
        ({"every": 60}, "kind", "one of cron, every, at, solar, not 2"),
    ],
)
def test_what_cannot_be_is_refused_with_its_key(options: dict[str, Any], key: str, text: str) -> None:
    (message,) = messages({"nightly": {**GOOD, **options}})
    assert message.startswith(f"TASKS['default']: OPTIONS['schedules']['nightly']: {key}: ")
    assert text in message


@pytest.mark.parametrize(
    ("timing", "key"),
    [
        ({"every": 0}, "every"),
        ({"every": "often"}, "every"),
        ({"at": "tomorrow"}, "at"),
        ({"solar": "sunsets", "latitude": 52.5, "longitude": 13.4}, "solar"),
        ({"solar": "sunset", "latitude": 91, "longitude": 13.4}, "latitude"),
        ({"solar": "sunset", "latitude": 52.5}, "longitude"),
    ],
)
def test_what_cannot_be_of_each_kind(timing: dict[str, Any], key: str) -> None:
    (message,) = messages({"often": {"task": ADD, "args": [1, 2], **timing}})
    assert f"['often']: {key}: " in message


def test_schedules_above_tasks_are_looked_into_too() -> None:
    schedule(name="twice", cron="0 3 * * *", args=[1, 2])(tasks.add)
    schedule(name="never", cron="0 0 30 2 *", args=[1, 2])(tasks.add)
    first, second = sorted(messages({"twice": GOOD}))
    assert first.startswith(f"@schedule of {ADD}: cron: ")
    assert second == (
        f"@schedule of {ADD}: name: TASKS['default']: OPTIONS['schedules']['twice'] has the name 'twice', too."
    )


def test_a_module_of_tasks_that_does_not_import_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(registry, "import_module", fail)
    found = list(check_code_schedules([TaskqBackend("default", {})]))
    assert [message.id for message in found] == ["django_taskq.W011"]
    assert "tests.taskapp.tasks" in found[0].msg
