"""How a database stands, in two statements: the same as many statements say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_taskq.aliases import backends_on
from django_taskq.core.states import State
from django_taskq.database import as_project_time, database_now
from django_taskq.finding.groups import failure_groups, newest_failures
from django_taskq.models import PauseRecord, ScheduleRecord
from django_taskq.overview import Overview, overview
from django_taskq.standing import Standing, standing
from tests.factories import make_tasks, make_worker

pytestmark = pytest.mark.django_db


def stands(**asked: int) -> Standing:
    return standing("default", backends_on("default"), **asked)


def rounded(found: Overview) -> list[Any]:
    """What is the same a moment later."""
    queues = [
        (one.backend, one.queue, one.ready, one.running, one.is_paused, one.oldest_wait and round(one.oldest_wait / 10))
        for one in found.queues
    ]
    workers = [
        (
            one.id,
            one.name,
            one.host,
            one.pid,
            one.queues,
            one.slots,
            one.running,
            one.is_alive,
            round(one.silent_for / 10),
        )
        for one in found.workers
    ]
    due = None if found.next_due is None else round(found.next_due / 10)
    return [queues, workers, found.scheduled, due, found.paused]


def ago(seconds: float) -> Any:
    return as_project_time(database_now("default") - timedelta(seconds=seconds))


def test_it_is_what_the_overview_says() -> None:
    make_worker(silent_for=3.0)
    make_worker(id="lost", name="lost", silent_for=300.0, slots=4)
    make_tasks(3, state=State.RUNNING, name="shop.send")
    make_tasks(state=State.RUNNING, name="shop.close", worker_id="lost", queue_name="slow")
    make_tasks(4, state=State.READY, enqueued_at=ago(20), queue_name="mail")
    make_tasks(2, state=State.READY, enqueued_at=ago(400), run_after=ago(200), queue_name="mail", priority=-5)
    make_tasks(2, state=State.READY, enqueued_at=ago(100), queue_name="a b", priority=50)
    make_tasks(5, state=State.SCHEDULED, run_after=ago(-1000))
    make_tasks(5)
    make_tasks(2, state=State.READY, backend="elsewhere", queue_name="theirs")
    PauseRecord.objects.bulk_create(
        PauseRecord(kind=kind, name=name, paused_at=ago(5))
        for kind, name in (("queue", "mail"), ("queue", "none"), ("task", "shop.x"))
    )
    found = stands()
    assert rounded(found.overview) == rounded(overview("default", backends_on("default")))
    assert {one.queue: one.ready for one in found.overview.queues} == {
        "a b": 2,
        "default": 0,
        "mail": 6,
        "none": 0,
        "slow": 0,
    }
    assert found.current == {"host-4711-abcdef": {"shop.send": 3}, "lost": {"shop.close": 1}}
    assert found.has_tasks
    assert abs((found.now - database_now("default")).total_seconds()) < 5


def test_nothing_is_nothing() -> None:
    found = stands(schedules=5, kinds=5)
    assert (found.overview.queues, found.overview.workers, found.overview.scheduled) == ([], [], 0)
    assert (found.has_tasks, found.current, found.due, found.kinds) == (False, {}, [], [])
    assert found.overview.next_due is None


def test_schedules_are_the_next_first() -> None:
    moments = {"late": -9000.0, "soon": -10.0, "never": None, "later": -600.0}
    ScheduleRecord.objects.bulk_create(
        ScheduleRecord(
            name=name,
            task="shop.close",
            backend="default",
            kind="cron",
            expression="* * * * *",
            timezone="UTC",
            changed_at=ago(0),
            next_at=None if seconds is None else ago(seconds),
            problem="gone" if name == "later" else "",
        )
        for name, seconds in moments.items()
    )
    first, second = stands(schedules=2).due
    assert (first.name, second.name, second.problem, first.task) == ("soon", "later", "gone", "shop.close")
    assert ScheduleRecord.objects.get(pk=first.id).name == "soon"
    assert 5 < (first.at - database_now("default")).total_seconds() <= 10


def test_kinds_of_failures_are_those_that_the_failures_page_shows() -> None:
    for kind in range(7):
        make_tasks(kind + 1, state=State.FAILED, fingerprint=f"{kind:016x}", ended_ago=100.0 * (7 - kind % 4))
    make_tasks(2, state=State.CANCELLED)
    shown = failure_groups("default", limit=3).groups
    found = newest_failures("default", stands(kinds=3).kinds)
    assert [(one.fingerprint, one.count, one.last_at, one.newest.pk) for one in found] == [
        (one.fingerprint, one.count, one.last_at, one.newest.pk) for one in shown
    ]


def test_it_takes_two_statements_however_many_queues_there_are() -> None:
    for number in range(30):
        make_tasks(2, state=State.READY, queue_name=f"queue{number:02}", priority=number % 3)
    with CaptureQueriesContext(connection) as queries:
        found = stands(schedules=5, kinds=5)
    assert len(queries) == 2
    assert [one.queue for one in found.overview.queues] == [f"queue{number:02}" for number in range(30)]
    assert all(one.ready == 2 and one.oldest_wait is not None for one in found.overview.queues)


def test_names_are_read_as_they_are() -> None:
    name = "queue % 'ä' \\ 😀"
    make_tasks(state=State.READY, queue_name=name)
    make_tasks(state=State.RUNNING, queue_name=name, name=name)
    (one,) = stands().overview.queues
    assert (one.queue, one.ready, one.running) == (name, 1, 1)
