"""A year of awkward cron lines in awkward time zones, computed twice more: by cronsim, and by brute force."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, product
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from django_taskq.core.schedule import upcoming
from django_taskq.schedules.cron import NICKNAMES, Cron

ZONES = {
    "Europe/Berlin": 2026,
    "America/New_York": 2026,
    "Australia/Lord_Howe": 2026,  # half an hour
    "America/Sao_Paulo": 2018,  # at midnight
    "Africa/Casablanca": 2026,  # back for Ramadan
    "Asia/Kathmandu": 2026,  # UTC+5:45
}

# No more often than each ten minutes: a year of them all is 600,000 ticks.
FIXED = [
    "0 0 * * *",
    "30 2 * * *",
    "30 1 * * *",
    "15,45 1,2,3 * * *",
    "0 2 * * *",
    "0 3 * * *",
    "59 23 * * *",
    "30 0 * * *",
    "5 0-3 * * *",
    "10-50/20 2 * * *",
    "0 12 31 * *",
    "0 12 L * *",
    "0 12 LW * *",
    "30 2 L 3,10 *",
    "0 8 * * MON#1",
    "0 8 * * 5L",
    "30 2 * * SUN#5",
    "30 2 * * 7L",
    "0 6 13 * FRI",
    "0 6 */2 * MON",
    "0 6 29 2 *",
    "0 6 1,15 JAN-MAR mon-fri",
    "0 4 * NOV sun",
    "30 1 1-7 11 *",
    "20 22/1 * * *",
    "0 0 1 1 0",
    "45 1 5 4 *",
    "0 23 28-31 * 0,6",
]
EVERY = [
    "30 * * * *",
    "*/15 1,2 * * *",
    "*/20 0-3 * * SUN",
    "59 */2 * * *",
    "7 */5 * * *",
    "*/10 2 L * *",
    "15 * L 3,10 *",
]
SECONDS = [
    "30 30 2 * * *",
    "0 0 0 * * *",
    "*/20 30 1 * * SUN",
    "10,50 59 23 L * *",
    "15 */30 2 * * *",
    "0 0 */6 * * *",
]
LINES = [*FIXED, *EVERY, *SECONDS, "@yearly", "@weekly"]


#: Line, those that are ours alone and those that are cronsim's alone, where the two differ.
#:
#: cronsim takes six fields always as "every …" (a time of day that comes twice is due twice, one that is skipped never);
#: and where a change is of half an hour, or at midnight, it goes on at the next hour or day that it can make out.
DIFFERENCES: dict[str, dict[str, tuple[list[str], list[str]]]] = {
    "Europe/Berlin": {"30 30 2 * * *": (["2026-03-29 03:00:00+02:00"], ["2026-10-25 02:30:30+01:00"])},
    "America/New_York": {
        "30 30 2 * * *": (["2026-03-08 03:00:00-04:00"], []),
        "*/20 30 1 * * SUN": (
            [],
            ["2026-11-01 01:30:00-05:00", "2026-11-01 01:30:20-05:00", "2026-11-01 01:30:40-05:00"],
        ),
    },
    "Australia/Lord_Howe": {
        "30 * * * *": (["2026-04-05 01:30:00+10:30", "2026-10-04 02:30:00+11:00"], []),
        "7 */5 * * *": (["2026-04-05 05:07:00+10:30", "2026-10-04 05:07:00+11:00"], []),
        "0 0 0 * * *": (["2026-04-06 00:00:00+10:30", "2026-10-05 00:00:00+11:00"], []),
        "15 */30 2 * * *": (["2026-04-05 02:00:15+10:30"], []),
        "0 0 */6 * * *": (["2026-04-05 06:00:00+10:30", "2026-10-04 06:00:00+11:00"], []),
    },
    "America/Sao_Paulo": {
        "0 0 0 * * *": (["2018-11-04 01:00:00-02:00"], []),
        "*/20 30 1 * * SUN": (
            ["2018-11-04 01:30:00-02:00", "2018-11-04 01:30:20-02:00", "2018-11-04 01:30:40-02:00"],
            [],
        ),
    },
    "Africa/Casablanca": {"30 30 2 * * *": (["2026-03-22 03:00:00+01:00"], ["2026-02-15 02:30:30+00:00"])},
    "Asia/Kathmandu": {},
}


@cache
def minutes_of(zone_name: str) -> dict[datetime, tuple[datetime, ...]]:
    """What clocks show at each real minute of the year and the days around it, and when they do."""
    zone, year = ZoneInfo(zone_name), ZONES[zone_name]
    shown: dict[datetime, tuple[datetime, ...]] = {}
    moment = datetime(year - 1, 12, 30, tzinfo=zone).astimezone(UTC)
    while moment < datetime(year + 1, 1, 3, tzinfo=zone):
        # Clocks are changed at quarters of an hour.
        wall = moment.astimezone(zone).replace(tzinfo=None, fold=0)
        for minute in range(15):
            since = timedelta(minutes=minute)
            shown[wall + since] = (*shown.get(wall + since, ()), moment + since)
        moment += timedelta(minutes=15)
    return shown


def brute_force(line: str, zone_name: str, *, both: bool = False) -> list[datetime]:
    """Look at each minute that clocks show, and each that they skip, on the days that match."""
    shown = minutes_of(zone_name)
    sim = CronSim(NICKNAMES.get(line, line), datetime(ZONES[zone_name], 1, 1))  # noqa: DTZ001  # read, not run
    is_every = any(part.startswith("*") for part in sim.parts[1:3])
    ticks = set()
    day, last = min(shown), max(shown)
    while day <= last:
        matches = day.month in sim.months and sim.match_day(day.date())
        for hour, minute in product(sim.hours, sim.minutes) if matches else ():
            wall = day.replace(hour=hour, minute=minute)
            moments = shown.get(wall, ())
            if moments:
                used = moments if is_every or both else moments[:1]
                ticks |= {moment + timedelta(seconds=second) for moment in used for second in sim.seconds}
            elif not is_every:
                ticks |= {after_gap(wall, shown)}
        day += timedelta(days=1)
    start, end = bounds(zone_name)
    return sorted(tick for tick in ticks if start < tick < end)


def after_gap(wall: datetime, shown: dict[datetime, tuple[datetime, ...]]) -> datetime:
    """When clocks have skipped what they do not show."""
    while wall not in shown:
        wall -= timedelta(minutes=1)
    return shown[wall][-1] + timedelta(minutes=1)


def bounds(zone_name: str) -> tuple[datetime, datetime]:
    year = ZONES[zone_name]
    return datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)


@cache
def ours(line: str, zone_name: str, *, both: bool = False) -> list[datetime]:
    start, end = bounds(zone_name)
    ticks = []
    for tick in upcoming(Cron(line, ZoneInfo(zone_name), repeat_ambiguous=both), start):
        if tick >= end:
            break
        ticks.append(tick)
    return ticks


def of_cronsim(line: str, zone_name: str) -> list[datetime]:
    """In order, and each once: cronsim repeats the moment at which a gap ends for each time in it."""
    start, end = bounds(zone_name)
    ticks = set()
    for tick in CronSim(NICKNAMES.get(line, line), start.astimezone(ZoneInfo(zone_name))):
        moment = tick.astimezone(UTC)
        if moment >= end:
            break
        ticks.add(moment)
    return sorted(tick for tick in ticks if tick > start)


@pytest.mark.once
@pytest.mark.parametrize("zone_name", ZONES)
def test_a_year_of_ticks_is_what_brute_force_finds(zone_name: str) -> None:
    wrong = [line for line in LINES if ours(line, zone_name) != brute_force(line, zone_name)]
    assert wrong == []


@pytest.mark.once
@pytest.mark.parametrize("zone_name", ZONES)
def test_a_year_of_ticks_is_what_cronsim_finds(zone_name: str) -> None:
    zone = ZoneInfo(zone_name)
    differences = {}
    for line in LINES:
        our, other = set(ours(line, zone_name)), set(of_cronsim(line, zone_name))
        if our != other:
            alone = (our - other, other - our)
            differences[line] = tuple([str(tick.astimezone(zone)) for tick in sorted(ticks)] for ticks in alone)
    assert differences == DIFFERENCES[zone_name]


@pytest.mark.once
@pytest.mark.parametrize(("line", "both"), [("* * * * * *", False), ("0-59 0-59 0-23 * * *", True)])
@pytest.mark.parametrize("change", [datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)])
def test_each_second_of_the_hours_about_a_change_is_found_at_once(line: str, both: bool, change: datetime) -> None:
    # It would take minutes if each tick were looked for in all the seconds that clocks skip or repeat.
    start = change - timedelta(minutes=70)
    ticks = islice(upcoming(Cron(line, ZoneInfo("Europe/Berlin"), repeat_ambiguous=both), start), 8400)
    assert list(ticks) == [start + timedelta(seconds=second) for second in range(1, 8401)]
