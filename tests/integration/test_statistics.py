"""What workers have counted: written once, added up once, rolled up, read in one question."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import DatabaseError, connection, connections
from django.test.utils import CaptureQueriesContext

from django_taskq import statistics
from django_taskq.core.counts import Counts, Series, load_counts, sum_of
from django_taskq.keeper.statistics import add_up
from django_taskq.models import StatisticsRecord
from django_taskq.transitions import statistics as rows
from django_taskq.transitions.statistics import DAY, HOUR, MINUTE
from django_taskq.transitions.workers import LostTask
from django_taskq.worker.gauges import Sheet
from django_taskq.worker.statistics import Statistics
from django_taskq.worker.tally import Tally

pytestmark = pytest.mark.django_db

USING = "default"


def series(succeeded: int = 0, failed: int = 0, *, name: str = "shop.pay", queue: str = "default") -> Series:
    counts = Counts()
    for _ in range(succeeded):
        counts.ended("succeeded", seconds=0.2, waited=0.01)
    for _ in range(failed):
        counts.ended("failed", seconds=3.0, waited=0.5)
    return {(name, queue): counts}


def store(
    starts: int, succeeded: int = 1, failed: int = 0, *, period: int = MINUTE, source: str = "", **more: str
) -> None:
    """Write a bucket of any age, which `put` would refuse."""
    rows._write(USING, period, starts, source, series(succeeded, failed, **more))


def found(period: int = MINUTE) -> list[tuple[int, str, int]]:
    there = StatisticsRecord.objects.filter(period=period).order_by("starts", "source")
    return [(one.starts, one.source, load_counts(one.totals)["succeeded"]) for one in there]


def now() -> int:
    return rows.minute_of(USING)


def test_writing_the_same_twice_counts_once() -> None:
    minute = now()
    assert rows.put(USING, minute, "a", series(3))
    assert rows.put(USING, minute, "a", series(3))
    assert rows.put(USING, minute, "b", series(1))
    assert rows.put(USING, minute, "a", series(5))
    assert found() == [(minute, "a", 5), (minute, "b", 1)]


def test_a_minute_that_is_long_over_is_left_alone() -> None:
    minute = now() - 8 * MINUTE
    assert not rows.put(USING, minute, "frozen", series(3))
    assert found() == []


def test_minutes_that_are_over_are_added_up_and_later_ones_wait() -> None:
    old, young = now() - 20 * MINUTE, now() - MINUTE
    store(old, 2, source="a")
    store(old, 3, 1, source="b")
    store(young, 4, source="a")
    assert rows.merge(USING) == 2
    assert found() == [(old, "", 5), (young, "a", 4)]
    store(old, 1, source="late")
    assert rows.merge(USING) == 1
    assert rows.merge(USING) == 0
    assert found() == [(old, "", 6), (young, "a", 4)]
    total = load_counts(StatisticsRecord.objects.get(starts=old).totals)
    assert (total["failed"], total.runs.count) == (1, 7)


@pytest.mark.django_db(transaction=True)
def test_nobody_waits_for_another_that_adds_up_and_may_be_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    store(now() - 20 * MINUTE, 2, source="a")
    is_frozen, goes_on = threading.Event(), threading.Event()
    true = rows._sum

    def freeze(records: object) -> Series:
        is_frozen.set()
        assert goes_on.wait(60)
        return true(records)  # type: ignore[arg-type]

    def run() -> None:
        try:
            rows.merge(USING)
        finally:
            connections.close_all()

    monkeypatch.setattr(rows, "_sum", freeze)
    frozen = threading.Thread(target=run)
    frozen.start()
    try:
        assert is_frozen.wait(60)
        if connection.features.has_select_for_update_skip_locked:
            began = time.monotonic()
            assert rows.merge(USING) == 0
            assert time.monotonic() - began < 10
    finally:
        goes_on.set()
        frozen.join(60)
    assert [count for _, _, count in found()] == [2]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("attempt", range(8))  # making the row of the lock, several deadlock on MariaDB in one of six
def test_several_that_add_up_at_once_count_everything_once(attempt: int) -> None:
    begin = now() - 60 * MINUTE
    for number in range(20):
        for source in "abcd":
            store(begin + number * MINUTE, 1, source=source)
    start = threading.Barrier(8)

    def run(_: int) -> int:
        try:
            start.wait(60)
            return rows.merge(USING)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(run, range(8), timeout=120))
    # One of them, or several in turn: where locks are waited for, those find that nothing is left.
    assert sum(done) == 80
    assert found() == [(begin + number * MINUTE, "", 4) for number in range(20)]


def test_hours_and_days_are_written_once_they_are_over_and_again_for_what_came_late() -> None:
    hour = now() // HOUR * HOUR - 3 * HOUR
    store(hour, 1)
    store(hour + 59 * MINUTE, 2)
    store(hour + HOUR, 4)
    store(now() // HOUR * HOUR, 9)
    rows.roll_up(USING, MINUTE, HOUR)
    assert found(HOUR) == [(hour, "", 3), (hour + HOUR, "", 4)]
    store(hour + HOUR + MINUTE, 5)
    rows.roll_up(USING, MINUTE, HOUR)
    assert found(HOUR) == [(hour, "", 3), (hour + HOUR, "", 9)]


def test_an_old_hour_is_not_written_anew_from_what_is_left_of_its_minutes() -> None:
    hour = now() // HOUR * HOUR - 24 * HOUR
    store(hour, 7, period=HOUR)
    store(hour + 59 * MINUTE, 1)
    rows.roll_up(USING, MINUTE, HOUR)
    assert found(HOUR) == [(hour, "", 7)]


def test_what_is_too_old_is_deleted_once_it_is_added_up() -> None:
    day = now() // DAY * DAY
    store(day - 2 * DAY, 3)
    store(day - 40 * DAY, 5, period=HOUR)
    store(day - 500 * DAY, 7, period=DAY)
    add_up(USING)(time.monotonic())
    assert found(MINUTE) == []
    assert found(HOUR) == [(day - 2 * DAY, "", 3)]
    assert found(DAY) == [(day - 40 * DAY, "", 5), (day - 2 * DAY, "", 3)]


def test_a_look_when_there_is_nothing_to_add_up_is_cheap() -> None:
    duty = add_up(USING)
    duty(time.monotonic())
    store(now(), 1, source="a")
    with CaptureQueriesContext(connection) as queries:
        assert duty(time.monotonic()) == 60.0
    # PostgreSQL and MySQL are asked for their time as well.
    assert len(queries) <= 2


# ---- a process counts -------------------------------------------------------------------------------------------


def note(one: Statistics, count: int = 1, *, name: str = "shop.pay") -> None:
    for _ in range(count):
        one.ended("default", name, "default", "succeeded", seconds=0.1, waited=0.0)


def test_a_process_writes_what_it_counted_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    minute = now()
    monkeypatch.setattr(rows, "minute_of", lambda using: minute)
    one = Statistics({}, USING)
    assert one.due_in(0.0) is None
    note(one, 2)
    one.write_due(100.0)
    assert found()[0][2] == 2
    note(one, 3)
    assert one.due_in(101.0) == 4.0
    one.write_due(101.0)
    assert found()[0][2] == 2
    one.write_due(105.0)
    assert [count for _, _, count in found()] == [5]
    monkeypatch.setattr(rows, "minute_of", lambda using: minute + MINUTE)
    note(one, 4)
    one.write_all()
    assert [count for _, _, count in found()] == [5, 4]
    with CaptureQueriesContext(connection) as queries:
        one.write_all()
    assert len(queries) == 0


def test_lost_attempts_are_counted_also_those_of_an_alias_that_is_no_more() -> None:
    sheet = Sheet()
    tally = Tally(sheet, Statistics({}, USING))
    for runs_again in (True, False):
        tally.lost(LostTask("id", "shop.pay", "default", "gone", "host-1", runs_again))
    tally.statistics.write_all()
    sheet.close()
    total = load_counts(StatisticsRecord.objects.get().totals)
    assert (total["lost"], total["failed"]) == (2, 1)


def test_a_process_that_was_frozen_counts_into_another_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    true = rows.minute_of
    one = Statistics({}, USING)
    note(one, 3)
    with monkeypatch.context() as patch:
        patch.setattr(rows, "minute_of", lambda using: true(using) - 10 * MINUTE)
        one.write_all()
    assert found() == []
    one.write_all()
    assert [count for _, _, count in found()] == [3]


def test_a_database_that_refuses_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = Statistics({}, USING)
    note(one)

    def refuse(*_: object, **__: object) -> None:
        raise DatabaseError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(rows, "put", refuse)
        one.write_due(50.0)
    assert "no room" in caplog.text
    assert one.due_in(50.0) == 30.0
    one.write_due(80.0)
    assert [count for _, _, count in found()] == [1]


# ---- reading ----------------------------------------------------------------------------------------------------


def test_history_has_as_many_stretches_as_asked_for_and_everything_once() -> None:
    this = now()
    store(this, 1, source="a")
    store(this, 2, source="b")
    store(this - 30 * MINUTE, 4, 1)
    store(this - 61 * MINUTE, 8)
    with CaptureQueriesContext(connection) as queries:
        buckets = statistics.history(USING, seconds=HOUR, buckets=60)
    assert len(queries) == 1
    assert len(buckets) == 60
    assert {one.seconds for one in buckets} == {60.0}
    assert [one.at.timestamp() for one in buckets] == sorted(one.at.timestamp() for one in buckets)
    assert sum(one.succeeded for one in buckets) == 7
    assert sum(one.failed for one in buckets) == 1
    assert max(buckets, key=lambda one: one.failed).runs.quantile(0.95) == pytest.approx(3.0, rel=0.26)


def test_history_of_a_month_reads_hours_and_of_what_is_not_added_up_minutes() -> None:
    hour = now() // HOUR * HOUR
    store(hour - 2 * HOUR, 5, period=HOUR)
    store(hour - 2 * HOUR + MINUTE, 5)
    store(hour - HOUR + MINUTE, 3)
    store(hour - 29 * DAY, 7, period=HOUR)
    store(hour - 31 * DAY, 100, period=HOUR)
    for seconds, expected in ((30 * DAY, 15), (7 * DAY, 8)):
        buckets = statistics.history(USING, seconds=seconds, buckets=60)
        assert sum(one.succeeded for one in buckets) == expected


def test_a_year_reads_days() -> None:
    day = now() // DAY * DAY
    store(day - 100 * DAY, 5, period=DAY)
    store(day - DAY, 3, period=DAY)
    store(day - DAY, 3, period=HOUR)
    store(day, 1, period=HOUR)
    store(day, 1)
    assert sum(one.succeeded for one in statistics.history(USING, seconds=365 * DAY, buckets=73)) == 9


@pytest.mark.parametrize("seconds", [HOUR, DAY, 30 * DAY])
def test_by_task_and_by_queue(seconds: float) -> None:
    this = now()
    store(this, 3, 1, source="a")
    store(this, 10, source="b", name="shop.mail", queue="mail")
    with CaptureQueriesContext(connection) as queries:
        tasks = statistics.by_task(USING, seconds=seconds)
        queues = statistics.by_queue(USING, seconds=seconds)
    assert len(queries) == 2
    assert [(one.name, one.succeeded, one.failed) for one in tasks] == [("shop.pay", 3, 1), ("shop.mail", 10, 0)]
    assert tasks[0].seconds == pytest.approx(3.6)
    assert {name: one.ended for name, one in queues.items()} == {"default": 4, "mail": 10}


@pytest.mark.parametrize("seconds", [HOUR, 6 * HOUR, DAY, 7 * DAY, 30 * DAY])
def test_a_report_is_one_question_for_all_of_them(seconds: float) -> None:
    minute = now()
    store(minute, 3, 1, source="a")
    store(minute - 5 * MINUTE, 2, 1, queue="mail", name="shop.send")
    store(minute - 40 * MINUTE, 5)
    # In hours already, and by minutes at the edge of a day.
    store((minute - 5 * HOUR) // HOUR * HOUR, 7, period=HOUR)
    store((minute - 5 * HOUR) // HOUR * HOUR, 7)
    hours: Counter[int] = Counter()
    for moment, succeeded in ((minute - DAY, 11), (minute - DAY - 2 * MINUTE, 1000)):
        store(moment, succeeded)
        # Of one hour, or of two.
        hours[moment // HOUR * HOUR] += succeeded
    for hour, succeeded in hours.items():
        store(hour, succeeded, period=HOUR)
    with CaptureQueriesContext(connection) as queries:
        report = statistics.report(USING, seconds=seconds, buckets=12, lately=600.0)
    assert len(queries) == 1
    assert report.history == statistics.history(USING, seconds=seconds, buckets=12)
    assert report.tasks == statistics.by_task(USING, seconds=seconds)
    assert report.queues == statistics.by_queue(USING, seconds=600.0)
    assert {queue: one.ended for queue, one in report.queues.items()} == {"default": 4, "mail": 3}
    assert (report.day.succeeded, report.day.failed) == (3 + 2 + 5 + 7 + 11, 2)


def test_the_sum_of_series_is_what_totals_say() -> None:
    store(now(), 3, 2)
    record = StatisticsRecord.objects.get()
    assert load_counts(record.totals).dump() == sum_of(series(3, 2)).dump()
