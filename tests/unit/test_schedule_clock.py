"""The clock of tests that moves schedules forward."""

from datetime import UTC, datetime, timedelta

import pytest

from django_taskq.exceptions import ScheduleError
from django_taskq.schedules.definition import Schedule
from django_taskq.testing import schedule_clock
from django_taskq.testing.schedules import ScheduleClock

NIGHTLY = Schedule(name="nightly", task="shop.close", kind="cron", expression="30 2 * * *", timezone="Europe/Berlin")
HOURLY = Schedule(name="hourly", task="shop.look", kind="interval", expression="3600", jitter=60)


def test_ticks_come_in_order_and_the_end_belongs_to_them() -> None:
    clock = ScheduleClock(datetime(2026, 3, 28, 0, 0, tzinfo=UTC), [NIGHTLY, HOURLY])
    runs = clock.forward(hours=2)
    assert [(run.at.hour, run.at.minute, run.schedule) for run in runs] == [
        (1, 0, "hourly"),
        (1, 30, "nightly"),
        (2, 0, "hourly"),
    ]
    assert all(run.at <= run.run_after <= run.at + timedelta(seconds=60) for run in runs)
    assert clock.now == datetime(2026, 3, 28, 2, 0, tzinfo=UTC)
    assert clock.forward(timedelta(minutes=59)) == []


def test_a_nightly_job_runs_once_in_the_night_clocks_change() -> None:
    clock = ScheduleClock(datetime(2026, 3, 28, 12, 0, tzinfo=UTC), [NIGHTLY])
    assert [run.at for run in clock.forward(hours=24)] == [datetime(2026, 3, 29, 1, 0, tzinfo=UTC)]


def test_what_is_broken_is_said() -> None:
    with pytest.raises(ScheduleError):
        schedule_clock(datetime(2026, 3, 28, tzinfo=UTC), timezone="Europe/Nowhere", schedules=[])


def test_it_never_goes_back() -> None:
    with pytest.raises(ValueError, match="forward"):
        ScheduleClock(datetime(2026, 3, 28, tzinfo=UTC), []).forward(hours=-1)
