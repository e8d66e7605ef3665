"""Which ticks come, which of them still count, and when their tasks run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from django_taskq import Schedule, ScheduleError
from django_taskq.core.schedule import EPOCH, GRACE, MAX_COUNTED, Interval, Missed, jittered, ticks_due, upcoming
from django_taskq.schedules.definition import next_runs, rule_of

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
MINUTE = Interval(every=timedelta(minutes=1), anchor=NOON)


def at(*minutes: float) -> tuple[datetime, ...]:
    return tuple(NOON + timedelta(minutes=minute) for minute in minutes)


def due(after: float, now: float, missed: Missed, window: float = 86400.0, limit: int = 1000) -> tuple[object, ...]:
    found = ticks_due(MINUTE, after=at(after)[0], now=at(now)[0], missed=missed, window=window, limit=limit)
    return found.ticks, found.given_up, found.next_at


# ---- ticks that are due --------------------------------------------------------------------------------------


@pytest.mark.parametrize("missed", Missed)
def test_one_that_comes_in_time_is_fired_whatever_is_said_of_missed_ones(missed: Missed) -> None:
    assert due(0.5, 0.9, missed) == ((), 0, *at(1))
    assert due(0.5, 1.0, missed) == (at(1), 0, *at(2))
    assert due(0.5, 1.9, missed) == (at(1), 0, *at(2))


def test_all_are_made_up_for_so_many_at_a_time() -> None:
    assert due(0.5, 5.5, Missed.ALL) == (at(1, 2, 3, 4, 5), 0, *at(6))
    assert due(0.5, 5.5, Missed.ALL, limit=2) == (at(1, 2), 0, *at(3))


def test_all_of_the_window() -> None:
    assert due(0.5, 10.0, Missed.ALL, window=180) == (at(7, 8, 9, 10), 6, *at(11))


def test_the_last_of_many_is_made_up_for() -> None:
    assert due(0.5, 5.5, Missed.LAST) == (at(5), 4, *at(6))
    # One is looked for by halves, where there were 10,000.
    ticks, given_up, next_at = due(0.5, 10_000.5, Missed.LAST)
    assert (ticks, given_up, next_at) == (at(10_000), MAX_COUNTED, *at(10_001))


def test_none_is_made_up_for_that_is_older_than_the_window() -> None:
    daily = Interval(every=timedelta(days=1), anchor=NOON)
    hour = timedelta(hours=1)
    found = ticks_due(daily, after=NOON - hour, now=NOON + 2 * hour, missed=Missed.LAST, window=3600)
    assert (found.ticks, found.given_up, found.next_at) == ((), 1, NOON + timedelta(days=1))


def test_who_skips_missed_ones_still_fires_one_that_is_a_little_late() -> None:
    daily = Interval(every=timedelta(days=1), anchor=NOON)
    for late, ticks in ((GRACE, (NOON,)), (GRACE + 1, ())):
        found = ticks_due(
            daily,
            after=NOON - timedelta(hours=1),
            now=NOON + timedelta(seconds=late),
            missed=Missed.SKIP,
            window=86400,
        )
        assert found.ticks == ticks
        assert found.given_up == 1 - len(ticks)


def test_a_clock_that_was_put_back_makes_nothing_due() -> None:
    assert due(5.0, 2.0, Missed.ALL) == ((), 0, *at(6))


# ---- jitter --------------------------------------------------------------------------------------------------


def test_jitter_is_the_same_for_everybody_and_another_one_for_each_tick() -> None:
    moments = [jittered("nightly", tick, 60.0) for tick in at(*range(200))]
    assert moments == [jittered("nightly", tick.astimezone(), 60.0) for tick in at(*range(200))]
    late = [(moment - tick).total_seconds() for moment, tick in zip(moments, at(*range(200)), strict=True)]
    assert all(0 <= seconds < 60 for seconds in late)
    assert min(late) < 10
    assert max(late) > 50
    assert jittered("other", NOON, 60.0) != jittered("nightly", NOON, 60.0)
    assert jittered("nightly", NOON, 0.0) == NOON


# ---- kinds ---------------------------------------------------------------------------------------------------


def schedule(**options: object) -> Schedule:
    return Schedule(name="one", task="tests.taskapp.tasks.add", **options)  # type: ignore[arg-type]  # as given


def test_intervals_are_counted_from_their_start_else_from_1970() -> None:
    after = NOON + timedelta(seconds=5)
    assert next_runs(schedule(kind="interval", expression="3600"), after, 2) == list(at(60, 120))
    assert (next_runs(schedule(kind="interval", expression="7"), after, 1)[0] - EPOCH) % timedelta(seconds=7) == (
        timedelta()
    )
    started = schedule(kind="interval", expression="3600", start_at=NOON + timedelta(minutes=30))
    assert next_runs(started, after, 2) == list(at(30, 90))


def test_nothing_comes_before_the_start_or_after_the_end() -> None:
    bounded = schedule(
        kind="cron", expression="0 * * * *", timezone="UTC", start_at=NOON, end_at=NOON + timedelta(hours=2)
    )
    assert next_runs(bounded, NOON - timedelta(days=1)) == list(at(0, 60, 120))


def test_once_is_once() -> None:
    one = schedule(kind="once", expression="2026-05-01T14:00", timezone="Europe/Berlin")
    assert next_runs(one, NOON - timedelta(seconds=1)) == [NOON]
    assert next_runs(one, NOON) == []
    skipped = schedule(kind="once", expression="2026-03-29T02:30", timezone="Europe/Berlin")
    assert next_runs(skipped, EPOCH) == [datetime(2026, 3, 29, 1, tzinfo=UTC)]


def test_the_sun_sets_each_day_and_where_it_does_not_on_the_next_day_it_does() -> None:
    berlin = schedule(kind="solar", expression="sunset", latitude=52.5, longitude=13.4)
    ticks = list(islice(upcoming(rule_of(berlin), datetime(2026, 1, 1, tzinfo=UTC)), 365))
    assert [tick.date() for tick in ticks] == [
        datetime(2026, 1, 1, tzinfo=UTC).date() + timedelta(days=day) for day in range(365)
    ]
    # Almanacs say 15:54 for the winter solstice, in Central European Time.
    assert abs(ticks[354] - datetime(2026, 12, 21, 14, 54, tzinfo=UTC)) < timedelta(minutes=3)
    tromso = schedule(kind="solar", expression="sunrise", latitude=69.65, longitude=18.96)
    (first,) = next_runs(tromso, datetime(2026, 12, 1, tzinfo=UTC), 1)
    assert datetime(2027, 1, 10, tzinfo=UTC) < first < datetime(2027, 1, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"kind": "cron", "expression": "0 0 31 2 *"}, "expression"),
        ({"kind": "cron", "expression": "0 0 * * *", "timezone": "Mars/Olympus"}, "timezone"),
        ({"kind": "interval", "expression": "0.5"}, "expression"),
        ({"kind": "once", "expression": "soon"}, "expression"),
        ({"kind": "weekly", "expression": "1"}, "kind"),
    ],
)
def test_what_has_no_rule_says_which_field_is_to_blame(options: dict[str, str], field: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        rule_of(schedule(**options))
    assert [problem.field for problem in caught.value.problems] == [field]
