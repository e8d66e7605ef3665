"""Rows of schedules and their ticks: fired once, whoever fires, and never in the way of each other."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction

from django_taskq import State
from django_taskq.aliases import backends_on
from django_taskq.compat import task_enqueued
from django_taskq.core.schedule import Missed, Overlap
from django_taskq.exceptions import ScheduleError, UnknownSchedule
from django_taskq.keeper import deployed
from django_taskq.keeper.deployed import deploy_schedules
from django_taskq.keeper.firing import Firing
from django_taskq.models import ScheduleRecord, TaskRecord, TickRecord
from django_taskq.schedule_control import (
    change_schedule,
    create_schedule,
    delete_schedule,
    find_schedule,
    run_schedule_now,
    set_schedule_enabled,
)
from django_taskq.schedules.definition import Schedule
from django_taskq.transitions import schedules, ticks
from django_taskq.transitions.finish import End, finish
from tests.contract.rows import USING, ago, aware, now, take_one
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db

NOOP = "tests.taskapp.tasks.noop"
SECONDLY = Schedule(name="secondly", task=NOOP, kind="interval", expression="1", missed=Missed.ALL)
HOURLY = Schedule(name="hourly", task=NOOP, kind="interval", expression="3600")


def make(schedule: Schedule, *, due_ago: float = 0.0) -> ScheduleRecord:
    """Make a schedule whose next tick is the last one of so many seconds ago."""
    record = create_schedule(schedule)
    every = int(schedule.expression)
    next_at = datetime.fromtimestamp(ago(due_ago).timestamp() // every * every, UTC)
    assert ScheduleRecord.objects.filter(pk=record.pk).update(next_at=next_at)
    return find_schedule(schedule.name)


def firing() -> Firing:
    return Firing(USING, {backend.alias: backend for backend in backends_on(USING)})


def outcomes(name: str = "secondly") -> list[str]:
    return list(TickRecord.objects.filter(schedule__name=name).order_by("tick_at").values_list("outcome", flat=True))


def test_a_tick_and_its_task_are_written_at_once() -> None:
    record = make(HOURLY, due_ago=1)
    assert firing().fire_due() == (1, 1)
    (task,) = TaskRecord.objects.all()
    (tick,) = TickRecord.objects.all()
    after = find_schedule("hourly")
    assert (task.name, task.state, task.queue_name) == (NOOP, "READY", "default")
    assert tick.task_id == after.last_task_id == task.pk
    assert aware(tick.tick_at) == aware(after.last_tick_at) == aware(record.next_at)
    assert aware(after.next_at) > now()
    assert (after.ticks, after.problem, after.version) == (1, "", record.version)


def test_nothing_is_due_before_its_time() -> None:
    create_schedule(HOURLY)
    assert firing().fire_due() == (0, 0)
    wait = ticks.seconds_to_tick(USING)
    assert wait is not None
    assert 0 < wait <= 3600


def test_two_keepers_fire_a_tick_once() -> None:
    make(SECONDLY, due_ago=3)
    one, other = firing(), firing()
    found, moment = ticks.due(USING, 10)
    assert moment is not None
    for keeper in (one, other):
        keeper._learn((pk, version) for pk, version, _ in found)
    ids = [pk for pk, _, _ in found]
    assert one._fire(ids, moment, "") == 1
    assert other._fire(ids, moment, "") == 0, "it has moved on"
    assert TaskRecord.objects.count() == TickRecord.objects.count() >= 3


def test_a_tick_that_has_a_row_is_not_fired_again() -> None:
    record = make(SECONDLY, due_ago=3)
    firing().fire_due()
    fired = TaskRecord.objects.count()
    ScheduleRecord.objects.update(next_at=record.next_at)
    firing().fire_due()
    assert TaskRecord.objects.count() - fired <= 1, "only what has come since"
    assert TaskRecord.objects.count() == TickRecord.objects.count()


def test_of_a_transaction_that_is_undone_nothing_is_left() -> None:
    record = make(HOURLY, due_ago=1)
    with transaction.atomic():
        firing().fire_due()
        transaction.set_rollback(True)
    assert not TaskRecord.objects.exists()
    assert not TickRecord.objects.exists()
    assert find_schedule("hourly").next_at == record.next_at


def test_many_ticks_are_caught_up_in_turns() -> None:
    make(SECONDLY, due_ago=250)
    keeper = firing()
    while keeper.fire_due()[0]:
        pass
    assert 250 <= TaskRecord.objects.count() <= 270
    assert set(outcomes()) == {"fired"}


@pytest.mark.parametrize(
    ("missed", "window", "expected"),
    [
        (Missed.SKIP, 86400.0, 0),
        (Missed.LAST, 86400.0, 1),
        (Missed.LAST, 60.0, 0),
        (Missed.ALL, 86400.0, 5),
        (Missed.ALL, 9000.0, 3),
    ],
)
def test_what_becomes_of_missed_ticks(missed: Missed, window: float, expected: int) -> None:
    # Ticks 1,000 s ago and every hour before that.
    anchor = ago(1000 + 4 * 3600)
    make(replace(HOURLY, missed=missed, window=window, start_at=anchor))
    ScheduleRecord.objects.update(next_at=anchor)
    assert firing().fire_due() == (1, 1)
    assert TaskRecord.objects.count() == expected
    assert outcomes("hourly").count("fired") == expected
    assert aware(find_schedule("hourly").next_at) == anchor + timedelta(hours=5)


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        (Overlap.ALLOW, ["fired", "fired", "fired"]),
        (Overlap.SKIP, ["fired", "overlapped", "overlapped"]),
        (Overlap.QUEUE, ["fired", "waiting", "overlapped"]),
        (Overlap.CANCEL, ["overlapped", "overlapped", "fired"]),
    ],
)
def test_ticks_that_come_while_the_task_before_goes_on(overlap: Overlap, expected: list[str]) -> None:
    last = now().replace(microsecond=0)
    make(replace(SECONDLY, overlap=overlap, end_at=last))
    ScheduleRecord.objects.update(next_at=last - timedelta(seconds=2))
    firing().fire_due()
    assert outcomes() == expected


def test_a_tick_that_waits_is_fired_once_the_task_before_has_ended() -> None:
    make(replace(SECONDLY, overlap=Overlap.QUEUE), due_ago=1)
    keeper = firing()
    keeper.fire_due()
    assert keeper.may_wait
    keeper.fire_waiting()
    assert (outcomes().count("waiting"), TaskRecord.objects.count()) == (1, 1)
    message = take_one()
    keeper.fire_waiting()
    assert TaskRecord.objects.count() == 1
    finish(USING, [End(id=message.id, claim=message.claim, state=State.SUCCESSFUL)])
    keeper.fire_waiting()
    assert (outcomes().count("waiting"), outcomes().count("fired"), TaskRecord.objects.count()) == (0, 2, 2)
    record = find_schedule("secondly")
    assert (record.waiting_tick_at, record.ticks) == (None, 2)
    keeper.fire_waiting()
    assert not keeper.may_wait


def test_a_tick_cancels_the_task_before() -> None:
    make(replace(SECONDLY, overlap=Overlap.CANCEL))
    keeper = firing()
    keeper.fire_due()
    message = take_one()
    ScheduleRecord.objects.update(next_at=datetime.fromtimestamp(now().timestamp() // 1, UTC) + timedelta(seconds=1))
    wait_until(lambda: keeper.fire_due()[1])
    first = TaskRecord.objects.get(pk=message.id)
    assert (first.state, first.cancel_requested) == ("RUNNING", True)
    assert TaskRecord.objects.filter(state="READY").count() == 1


def test_what_is_wrong_with_one_schedule_does_not_keep_the_others(caplog: pytest.LogCaptureFixture) -> None:
    make(replace(HOURLY, name="fine"))
    for name, change in {
        "gone": {"task": "tests.taskapp.tasks.no_such_task"},
        "unfit": {"arguments": '[[1,2,3],{"nothing":"fits"}]'},
        "elsewhere": {"timezone": "Mars/Olympus_Mons", "kind": "cron", "expression": "* * * * *"},
    }.items():
        record = make(replace(HOURLY, name=name))
        ScheduleRecord.objects.filter(pk=record.pk).update(**change)
    keeper = firing()
    with caplog.at_level("INFO", "django_taskq"):
        keeper.fire_due()
    assert [task.name for task in TaskRecord.objects.all()] == [NOOP]
    for name in ("gone", "unfit", "elsewhere"):
        record = find_schedule(name)
        assert record.problem
        assert aware(record.next_at) > now()
        assert caplog.text.count(f"Schedule {name} cannot run") == 1
    assert outcomes("gone") == outcomes("unfit") == ["broken"]
    assert keeper.fire_due() == (0, 0)
    # What is changed is looked at anew.
    change_schedule("gone", replace(HOURLY, name="gone"))
    assert find_schedule("gone").problem == ""


def test_a_receiver_that_fails_costs_its_own_schedule_a_tick_only() -> None:
    make(replace(HOURLY, name="fine"))
    make(replace(HOURLY, name="bad", priority=7))

    def refuse(sender: Any, task_result: Any, **kwargs: Any) -> None:
        if task_result.task.priority == 7:
            raise RuntimeError("not this one")

    task_enqueued.connect(refuse)
    try:
        assert firing().fire_due() == (2, 2)
    finally:
        task_enqueued.disconnect(refuse)
    assert list(TaskRecord.objects.values_list("priority", flat=True)) == [0]
    assert "not this one" in find_schedule("bad").problem
    assert (outcomes("bad"), outcomes("fine")) == (["broken"], ["fired"])


def test_options_of_a_schedule_are_those_of_its_tasks(settings: Settings) -> None:
    settings.TASKS = {"default": {"BACKEND": "django_taskq.TaskqBackend", "QUEUES": []}}
    make(replace(HOURLY, task="tests.taskapp.tasks.add", args=(1,), kwargs={"right": 2}, queue_name="slow", priority=9))
    # So long that the task is still to come, whatever was drawn and however slow this machine is.
    make(replace(SECONDLY, jitter=5e7, expires=1e8))
    firing().fire_due()
    plain, late = TaskRecord.objects.order_by("-priority")
    assert (plain.queue_name, plain.priority, plain.arguments) == ("slow", 9, '[[1],{"right":2}]')
    tick = TickRecord.objects.get(schedule__name="secondly")
    assert aware(late.expires_at) == aware(tick.tick_at) + timedelta(seconds=1e8)
    assert late.state == "SCHEDULED"
    assert timedelta(0) < aware(late.run_after) - aware(tick.tick_at) <= timedelta(seconds=5e7)


def test_a_tick_that_has_expired_is_not_fired() -> None:
    make(replace(SECONDLY, expires=0.001))
    firing().fire_due()
    assert (TaskRecord.objects.count(), set(outcomes())) == (0, {"missed"})


def test_a_change_of_what_is_called_leaves_the_next_tick() -> None:
    before = make(HOURLY)
    after = change_schedule("hourly", replace(HOURLY, name="renamed", priority=3))
    assert (after.next_at, after.version, after.pk) == (before.next_at, before.version + 1, before.pk)
    again = change_schedule("renamed", replace(HOURLY, expression="60"))
    assert aware(again.next_at) > now()


def test_disabled_ticks_do_not_come_later() -> None:
    make(SECONDLY, due_ago=30)
    assert set_schedule_enabled("secondly", False)
    assert not set_schedule_enabled("secondly", False)
    assert find_schedule("secondly").next_at is None
    assert firing().fire_due() == (0, 0)
    assert set_schedule_enabled("secondly", True)
    assert aware(find_schedule("secondly").next_at) > ago(1)


def test_of_two_changes_at_once_one_looks_again() -> None:
    record = make(HOURLY)
    assert set_schedule_enabled("hourly", False)
    assert not schedules.rewrite_schedule(USING, record, HOURLY)
    assert not schedules.switch_schedule(USING, record, enabled=False)


def test_names_are_taken_once() -> None:
    create_schedule(HOURLY)
    create_schedule(SECONDLY)
    with pytest.raises(ScheduleError) as made:
        create_schedule(HOURLY)
    with pytest.raises(ScheduleError) as changed:
        change_schedule("secondly", HOURLY)
    assert [problem.field for problem in (*made.value.problems, *changed.value.problems)] == ["name", "name"]
    assert not schedules.insert_schedule(USING, HOURLY, "database")


def test_a_new_schedule_of_an_old_name_has_its_own_ticks() -> None:
    make(SECONDLY)
    firing().fire_due()
    fired = TaskRecord.objects.count()
    delete_schedule("secondly")
    with pytest.raises(UnknownSchedule):
        find_schedule("secondly")
    create_schedule(SECONDLY)
    keeper = firing()
    wait_until(lambda: keeper.fire_due()[1])
    assert TaskRecord.objects.count() == fired + 1
    assert TickRecord.objects.values("tick_at").distinct().count() == TickRecord.objects.count(), "none came twice"


def test_run_now_leaves_the_ticks_alone() -> None:
    before = make(replace(HOURLY, enabled=False))
    ScheduleRecord.objects.update(next_at=None)
    result = run_schedule_now("hourly")
    after = find_schedule("hourly")
    assert str(after.last_task_id) == result.id
    assert (after.next_at, after.last_tick_at) == (None, before.last_tick_at)
    assert outcomes("hourly") == ["by hand"]


def test_old_ticks_are_pruned() -> None:
    make(SECONDLY, due_ago=5)
    firing().fire_due()
    count = TickRecord.objects.count()
    assert ticks.prune_ticks(USING, 3600.0, 2) == 0
    TickRecord.objects.update(fired_at=ago(4000))
    assert [ticks.prune_ticks(USING, 3600.0, count - 1) for _ in range(3)] == [count - 1, 1, 0]


def deploy(monkeypatch: pytest.MonkeyPatch, loaded_ago: float, *code: Schedule) -> bool:
    """Be a process that has loaded its code so long ago, and begins to keep house."""
    monkeypatch.setattr(deployed, "_LOADED", time.monotonic() - loaded_ago)
    monkeypatch.setattr(deployed, "code_schedules", lambda backends: {schedule.name: schedule for schedule in code})
    return deploy_schedules(USING, backends_on(USING))


def test_schedules_of_the_code_come_and_go_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    create_schedule(SECONDLY)
    daily, weekly = replace(HOURLY, name="daily", expression="86400"), replace(HOURLY, name="weekly")
    assert deploy(monkeypatch, 50, daily, weekly)
    before = find_schedule("daily")
    assert (before.source, before.task, aware(before.next_at) > now()) == ("code", NOOP, True)
    set_schedule_enabled("daily", False)
    # Again, as another process with the same code; then with other code.
    assert deploy(monkeypatch, 60, daily, weekly)
    assert find_schedule("daily").version == before.version + 1, "nothing but the switch"
    assert deploy(monkeypatch, 10, replace(daily, priority=4))
    after = find_schedule("daily")
    assert (after.priority, after.is_enabled, after.enabled, after.next_at) == (4, False, True, None)
    assert set(ScheduleRecord.objects.values_list("name", flat=True)) == {"daily", "secondly"}
    with pytest.raises(ScheduleError):
        delete_schedule("daily")


def test_the_code_that_was_loaded_last_has_its_say(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = replace(HOURLY, name="one"), replace(HOURLY, name="two")
    assert deploy(monkeypatch, 100, one, two)
    assert deploy(monkeypatch, 50, replace(one, priority=5))
    assert not deploy(monkeypatch, 100, one, two), "a keeper of the old code"
    assert list(ScheduleRecord.objects.values_list("name", "priority")) == [("one", 5)]
    assert deploy(monkeypatch, 60, replace(one, priority=5)), "another of the new"
    assert deploy(monkeypatch, 1, one, two), "rolled back"
    assert ScheduleRecord.objects.count() == 2


def test_a_name_that_the_database_has_is_left_out_of_the_code(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    create_schedule(HOURLY)
    assert deploy(monkeypatch, 5, replace(HOURLY, priority=1))
    assert (find_schedule("hourly").source, find_schedule("hourly").priority) == ("database", None)
    assert "has its name" in caplog.text
