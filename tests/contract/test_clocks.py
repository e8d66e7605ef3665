"""Moments are the same moments whatever time zone the project, its database, or nobody at all has set."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection

from django_taskq import State
from django_taskq.database import as_project_time, database_now
from django_taskq.models import KeeperRecord, WorkerRecord
from django_taskq.transitions import workers
from django_taskq.transitions.due import any_overdue, expire_overdue, promote_due, seconds_to_next
from django_taskq.transitions.finish import End, finish
from tests.contract.rows import ANNE, BERT, USING, ago, ahead, aware, now, put, put_and_take, row, take

if TYPE_CHECKING:
    from pytest_django import Settings

#: Seconds a statement may take on a busy machine; every mistake with a zone is half an hour or more.
SLACK = 20.0


def forget_time_zone() -> None:
    """Have the next query connect anew: drivers learn the zone when they do."""
    connection.close()
    for name in ("timezone", "timezone_name"):
        vars(connection).pop(name, None)


@pytest.fixture(
    params=[
        (True, "UTC", None),
        (True, "Asia/Kathmandu", None),
        (True, "UTC", "America/St_Johns"),
        (False, "UTC", None),
        (False, "Asia/Kathmandu", None),
        (False, "America/St_Johns", None),
        (False, "Australia/Lord_Howe", None),
    ],
    ids=lambda given: f"{'aware' if given[0] else 'naive'}-{given[2] or given[1]}",
)
def zone(request: pytest.FixtureRequest, settings: Settings, django_db_setup: None) -> Iterator[None]:
    """Settings of USE_TZ, of TIME_ZONE, and of TIME_ZONE in DATABASES."""
    settings.USE_TZ, settings.TIME_ZONE, connection.settings_dict["TIME_ZONE"] = request.param
    forget_time_zone()
    yield
    connection.settings_dict["TIME_ZONE"] = None
    forget_time_zone()


@pytest.fixture(autouse=True)
def _database(zone: None, db: None) -> None:
    """In this order: the transaction begins on a connection that knows its zone."""


def is_near(moment: Any, expected: datetime) -> bool:
    return abs(aware(moment) - expected) < timedelta(seconds=SLACK)


def test_what_the_database_writes_is_read_as_it_was_meant() -> None:
    message = put_and_take()
    finish(USING, [End(id=message.id, claim=message.claim, state=State.SUCCESSFUL)])
    record = row(message.id)
    for moment in (record.enqueued_at, record.started_at, record.last_attempted_at, record.finished_at):
        assert is_near(moment, now())
    assert message.enqueued_at == aware(record.enqueued_at)
    assert message.started_at == aware(record.started_at)
    assert message.last_attempted_at == aware(record.last_attempted_at)
    assert aware(record.enqueued_at) <= aware(record.started_at) <= aware(record.finished_at)
    assert is_near(database_now(USING), now())


@pytest.mark.parametrize("moment", [datetime(2026, 3, 29, 0, 59, 59, 999999, UTC), datetime(2030, 1, 1, tzinfo=UTC)])
def test_what_we_write_is_read_as_it_was_meant(moment: datetime) -> None:
    task_id = put(run_after=moment, expires_at=moment)
    record = row(task_id)
    assert aware(record.run_after) == aware(record.expires_at) == moment
    for message in take(1):
        assert message.run_after == message.expires_at == moment


@pytest.mark.parametrize("moment", [now(), now().replace(microsecond=0)], ids=["now", "without microseconds"])
def test_moments_are_written_and_found_by_the_orm(moment: datetime) -> None:
    given = as_project_time(moment)
    assert given is not None
    for seconds, name in enumerate(["a", "b", "c"]):
        heartbeat = given + timedelta(seconds=seconds)
        WorkerRecord.objects.create(
            id=name,
            name="",
            hostname="",
            pid=1,
            backends="",
            queues="",
            slots=1,
            started_at=given,
            heartbeat_at=heartbeat,
        )
    record = WorkerRecord.objects.get(heartbeat_at=given)
    assert record.pk == "a"
    assert aware(record.heartbeat_at) == moment
    found = WorkerRecord.objects.filter(heartbeat_at__gt=given).order_by("-heartbeat_at")
    assert [record.pk for record in found] == ["c", "b"]


def test_what_is_due_is_due_in_every_zone() -> None:
    due = put(state=State.SCHEDULED, run_after=ago(SLACK))
    later = put(state=State.SCHEDULED, run_after=ahead(600))
    wait = seconds_to_next(USING)
    assert wait is not None
    assert abs(wait + SLACK) < SLACK
    assert promote_due(USING) == 1
    assert (row(due).state, row(later).state) == ("READY", "SCHEDULED")
    wait = seconds_to_next(USING)
    assert wait is not None
    assert abs(wait - 600) < SLACK


def test_a_delay_is_counted_from_now_in_every_zone() -> None:
    message = put_and_take()
    finish(USING, [End(id=message.id, claim=message.claim, state=State.SCHEDULED, delay=600.0)])
    assert is_near(row(message.id).run_after, ahead(600))


def test_what_has_expired_has_expired_in_every_zone() -> None:
    overdue, alive = put(expires_at=ago(SLACK)), put(expires_at=ahead(600))
    assert [message.id for message in take(10)] == [alive]
    assert any_overdue(USING)
    assert expire_overdue(USING) == 1
    assert row(overdue).state == "EXPIRED"
    assert is_near(row(overdue).finished_at, now())


def test_workers_are_lost_by_the_same_clock() -> None:
    worker = WorkerRecord(id=ANNE, name="", hostname="", pid=1, backends="", queues="", slots=1, lease=300)
    workers.register(USING, worker)
    assert is_near(worker.started_at, now())
    assert is_near(WorkerRecord.objects.get().heartbeat_at, now())
    put_and_take()
    assert workers.remove_lost(USING) == []
    for silence, lost in ((300 - SLACK, []), (300 + SLACK, [ANNE])):
        WorkerRecord.objects.update(heartbeat_at=as_project_time(ago(silence)))
        assert workers.remove_lost(USING) == lost
    workers.register(USING, worker)
    assert workers.heartbeat(USING, ANNE)
    assert is_near(WorkerRecord.objects.get().heartbeat_at, now())


def test_keepers_are_elected_by_the_same_clock() -> None:
    assert workers.elect(USING, ANNE, 600)
    assert is_near(KeeperRecord.objects.get().expires_at, ahead(600))
    assert not workers.elect(USING, BERT, 600)
    KeeperRecord.objects.update(expires_at=as_project_time(ago(1)))
    assert workers.elect(USING, BERT, 600)


@pytest.mark.parametrize("zone", [(False, "America/St_Johns", None)], ids=["St. John's"], indirect=True)
def test_the_hour_that_comes_twice_is_two_hours() -> None:
    """Clocks go back there on 2026-11-01 at 04:30 UTC."""
    moments = [datetime(2026, 11, 1, 4, 30, tzinfo=UTC) + timedelta(minutes=minute) for minute in range(-90, 91, 30)]
    hours = [moment.astimezone(ZoneInfo("America/St_Johns")).hour for moment in moments]
    assert len(hours) > len(set(hours))
    assert [aware(row(put(run_after=moment)).run_after) for moment in moments] == moments
