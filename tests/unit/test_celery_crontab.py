"""Celery's crontabs as cron lines: read by cronsim they are due on the days and at the times that Celery means."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta

import pytest
from celery.schedules import crontab
from cronsim import CronSim

from django_taskq.core.celery_crontab import cron_line
from django_taskq.schedules import cron as schedules

EVERY = {"minute": "*", "hour": "*", "day_of_month": "*", "month_of_year": "*", "day_of_week": "*"}
DAYS = [date(2026, 1, 1) + timedelta(days=days) for days in range(366)]


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "* * * * *"),
        ({"minute": "0", "hour": "*/4"}, "0 */4 * * *"),
        ({"minute": "0, 30", "hour": "8-17/3"}, "0,30 8,11,14,17 * * *"),
        ({"minute": "0", "hour": "22-2"}, "0 0-2,22-23 * * *"),
        ({"day_of_week": "mon-fri"}, "* * * * 1-5"),
        ({"day_of_week": "fri-mon"}, "* * * * 0-1,5-6"),
        ({"day_of_week": "5-7"}, "* * * * 0,5-6"),
        ({"day_of_week": "7"}, "* * * * 0"),
        ({"day_of_week": "0-6", "day_of_month": "13"}, "* * 13 * *"),
        ({"day_of_week": "sunday", "month_of_year": "jan,dec"}, "* * * 1,12 0"),
        # Both have to match.
        ({"day_of_week": "mon", "day_of_month": "1-7"}, "* * * * 1#1"),
        ({"day_of_week": "mon,fri", "day_of_month": "8-14,22-28"}, "* * * * 1#2,5#2,1#4,5#4"),
        ({"day_of_week": "mon", "day_of_month": "1,15"}, "* * */31,15 * 1"),
        ({"day_of_week": "sun", "day_of_month": "13"}, "* * 13 * */7"),
    ],
)
def test_a_crontab_becomes_a_line(fields: dict[str, str], line: str) -> None:
    assert cron_line(**EVERY | fields) == line


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"minute": "60"}, "minute '60': '60' is not one of 0 to 59"),
        ({"hour": "5/15"}, "hour '5/15': '5/15' is not understood"),
        ({"hour": "*/0"}, "a step of 0"),
        ({"day_of_month": ""}, "day of month '': '' is not understood"),
        ({"month_of_year": "13"}, "month '13'"),
        ({"day_of_week": "funday"}, "'funday' is not one of 0 to 6"),
        ({"day_of_week": "fri", "day_of_month": "13"}, "Celery wants both to match"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(fields: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("*", r"\*")):
        cron_line(**EVERY | fields)


def test_any_crontab_that_celery_takes_means_the_same_as_its_line() -> None:
    seed = random.randrange(10**9)
    print(f"seed {seed}")  # noqa: T201  # of a failure
    chance = random.Random(seed)
    compared = 0
    for _ in range(300):
        fields = {
            "minute": _field(chance, 0, 59),
            "hour": _field(chance, 0, 23),
            "day_of_month": chance.choice(["*", _field(chance, 1, 31)]),
            "month_of_year": chance.choice(["*", _field(chance, 1, 12, ["jan", "jun", "dec"])]),
            "day_of_week": chance.choice(["*", _field(chance, 0, 6, ["mon", "sun", "fri"])]),
        }
        try:
            line = cron_line(**fields)
        except ValueError as error:
            assert "both" in str(error), fields  # noqa: PT017  # nothing else is refused
            continue
        try:
            theirs = crontab(**fields)
        except ValueError as error:
            assert "never occurs" in str(error), fields  # noqa: PT017  # such as 31 September
            _assert_never_comes(line)
            continue
        ours = CronSim(line, datetime(2026, 1, 1, tzinfo=UTC))
        assert (ours.minutes, ours.hours, ours.months) == (theirs.minute, theirs.hour, theirs.month_of_year), fields
        for day in DAYS:
            is_theirs = day.day in theirs.day_of_month and day.isoweekday() % 7 in theirs.day_of_week
            assert ours.match_day(day) == is_theirs, (fields, line, day)
        compared += 1
    assert compared > 200


@pytest.mark.parametrize(("day", "month"), [("31", "9"), ("30-31", "feb"), ("31", "4,6,sep,nov")])
def test_a_date_that_never_occurs_is_no_schedule_of_either(day: str, month: str) -> None:
    fields = EVERY | {"day_of_month": day, "month_of_year": month}
    with pytest.raises(ValueError, match="never occurs"):
        crontab(**fields)
    _assert_never_comes(cron_line(**fields))


def _assert_never_comes(line: str) -> None:
    with pytest.raises(ValueError, match=r"day-of-month.* is not possible|never come"):
        schedules.cron_line(line)


def _field(chance: random.Random, low: int, high: int, names: list[str] | None = None) -> str:
    def number() -> str:
        return chance.choice([str(chance.randint(low, high)), *(names or [])])

    def part() -> str:
        kinds = ["*", f"*/{chance.randint(1, high)}", number(), f"{number()}-{number()}"]
        return chance.choice([*kinds, f"{number()}-{number()}/{chance.randint(1, 5)}"])

    return ",".join(part() for _ in range(chance.choice([1, 1, 2, 3])))
