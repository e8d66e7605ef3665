"""``taskq import-celery-beat``: what becomes of the periodic tasks of django-celery-beat."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from django_taskq import task
from django_taskq.beat_tables import TABLE, WAYS, _models
from django_taskq.database import database_now
from django_taskq.models import ScheduleRecord
from django_taskq.schedule_control import create_schedule, find_schedule, set_schedule_enabled
from django_taskq.schedules.definition import Schedule

# Elsewhere a table that is made ends the transaction.
pytestmark = pytest.mark.databases("sqlite", "postgres")

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
#: What a row of PeriodicTask says unless told otherwise.
ROW: dict[str, Any] = {
    **dict.fromkeys(["queue", "exchange", "routing_key", "priority", "expires", "expire_seconds"]),
    **dict.fromkeys(["start_time", "last_run_at", *(f"{way}_id" for way in WAYS)]),
    "args": "[]",
    "kwargs": "{}",
    "headers": "{}",
    "description": "",
    "one_off": False,
    "enabled": True,
    "total_run_count": 0,
    "date_changed": NOW,
}


@task(queue_name="default")
def clean(days: int = 1, *, hard: bool = False) -> None:
    """A task with arguments."""


CLEAN = f"{__name__}.clean"


@pytest.fixture
def beat(db: None) -> None:
    """The tables, as the package leaves them behind."""
    editor = connection.SchemaEditorClass(connection)
    with connection.cursor() as cursor:
        for model in _models().values():
            statement, parameters = editor.table_sql(model)
            cursor.execute(statement, parameters or None)


def add(name: str, task_name: str = CLEAN, *, way: str = "", of: dict[str, Any] | None = None, **columns: Any) -> None:
    if way:
        columns[f"{way}_id"] = _models()[WAYS[way]].objects.create(**of or {}).pk  # type: ignore[attr-defined]
    _models()[TABLE].objects.create(**{**ROW, "name": name, "task": task_name, **columns})  # type: ignore[attr-defined]


def every(count: int, period: str = "minutes") -> dict[str, Any]:
    return {"way": "interval", "of": {"every": count, "period": period}}


def crontab(line: str, timezone: str = "UTC") -> dict[str, Any]:
    names = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    return {"way": "crontab", "of": {**dict(zip(names, line.split(), strict=True)), "timezone": timezone}}


def run(*arguments: str, status: int = 0) -> dict[str, tuple[str, str]]:
    """Import; gives what came of each, and the notes."""
    out = io.StringIO()
    try:
        call_command("taskq", "import-celery-beat", "--format=json", *arguments, stdout=out)
    except SystemExit as exited:
        assert exited.code == status  # noqa: PT017  # 0 raises nothing
    else:
        assert status == 0
    return {row["name"]: (row["outcome"], row["notes"]) for row in json.loads(out.getvalue())}


def made(name: str) -> Schedule:
    return find_schedule(name).schedule


def test_each_kind_becomes_a_schedule_of_ours(beat: None) -> None:
    at = NOW + timedelta(days=4000)
    add("minutely", **every(5))
    add("tiny", **every(1_500_000, "microseconds"))
    add("nightly", **crontab("30 3 * * mon-fri", "Europe/Berlin"))
    add("once", way="clocked", of={"clocked_time": at}, one_off=True)
    add("dusk", way="solar", of={"event": "dusk_civil", "latitude": 52.5, "longitude": 13.25})

    assert {outcome for outcome, _ in run().values()} == {"imported"}
    found = {name: made(name) for name in ("minutely", "tiny", "nightly", "once", "dusk")}
    assert {name: (one.kind, one.expression) for name, one in found.items()} == {
        "minutely": ("interval", "300"),
        "tiny": ("interval", "1.5"),
        "nightly": ("cron", "30 3 * * 1-5"),
        "once": ("once", at.isoformat()),
        "dusk": ("solar", "dusk_civil"),
    }
    assert found["nightly"].timezone == "Europe/Berlin"
    assert (found["dusk"].latitude, found["dusk"].longitude) == (52.5, 13.25)
    assert {one.task for one in found.values()} == {CLEAN}


def test_what_else_it_says_is_kept(beat: None) -> None:
    start, end = NOW - timedelta(days=9), NOW + timedelta(days=4000)
    add(
        "nightly",
        **crontab("0 3 * * *"),
        args="[7]",
        kwargs='{"hard": true}',
        queue="default",
        priority=9,
        expires=end,
        start_time=start,
        enabled=False,
        description="Every <night>.",
    )
    add("hourly", **every(1, "hours"), expire_seconds=90)

    run()
    nightly, hourly = made("nightly"), made("hourly")
    assert (nightly.args, nightly.kwargs, nightly.queue_name, nightly.priority) == ((7,), {"hard": True}, "default", 9)
    assert (nightly.start_at, nightly.end_at, nightly.enabled) == (start, end, False)
    assert nightly.description == "Every <night>."
    assert (hourly.expires, hourly.queue_name, hourly.priority, hourly.enabled) == (90.0, None, None, True)


def test_on_redis_zero_was_the_highest_priority(beat: None, settings: Any) -> None:
    settings.CELERY_BROKER_URL = "redis://localhost/0"
    add("hourly", **every(1, "hours"), priority=6)

    run()
    assert made("hourly").priority == -6


def test_nothing_runs_twice_at_the_switch_nor_is_anything_passed_over_in_silence(beat: None) -> None:
    now = database_now("default")
    last = now - timedelta(minutes=20)
    add("half-hourly", **every(30), last_run_at=last)
    add("daily", **every(1, "days"), last_run_at=now - timedelta(days=1, hours=2))

    notes = run()
    record = find_schedule("half-hourly")
    assert record.next_at == last + timedelta(minutes=30)
    assert notes["half-hourly"] == ("imported", "")
    assert "and has not run" in notes["daily"][1]
    assert find_schedule("daily").next_at == now + timedelta(hours=22)


def test_what_runs_once_runs_once(beat: None) -> None:
    soon = database_now("default") + timedelta(days=3)
    add("later", **every(1, "days"), one_off=True, start_time=soon, date_changed=soon - timedelta(days=9))
    add("done", **every(1, "days"), one_off=True, total_run_count=1)

    notes = run()
    assert (made("later").kind, made("later").enabled) == ("once", True)
    assert "it runs once" in notes["later"][1]
    assert made("done").enabled is False
    assert "it has run" in notes["done"][1]


def test_what_is_lost_is_said(beat: None) -> None:
    add(
        "nightly",
        **crontab("0 3 * * *"),
        exchange="x",
        routing_key="a.b",
        priority=200,
        headers='{"tenant": 1, "periodic_task_name": "nightly"}',
    )
    (outcome, notes) = run()["nightly"]
    assert outcome == "imported"
    for part in ("exchange 'x'", "routing_key 'a.b'", "headers are left out: tenant", "priority 200: 100 is the most"):
        assert part in notes


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"task_name": "shop.tasks.gone", **every(1)}, "task: "),
        ({"args": "[1, 2, 3]", **every(1)}, "args"),
        ({"kwargs": '{"other": 1}', **every(1)}, "args"),
        ({"args": "{", **every(1)}, "args '{' is not a JSON list"),
        ({"args": "[NaN]", **every(1)}, "args '[NaN]' is not a JSON list"),
        ({"args": "{}", **every(1)}, "args '{}' is not a JSON list"),
        ({"kwargs": "[]", **every(1)}, "kwargs '[]' is not a JSON object"),
        (crontab("0 0 31 2 *"), "expression: "),
        (crontab("0 0 13 * fri"), "Celery wants both to match"),
        (crontab("61 0 * * *"), "minute '61'"),
        (crontab("0 0 * * *", "Mars/Olympus"), "timezone: "),
        ({"start_time": NOW, "expires": NOW - timedelta(days=1), **crontab("0 0 * * *")}, "_at: "),
        ({}, "neither interval nor crontab"),
        ({"interval_id": 4711}, "its row of interval is gone"),
        (every(1, "fortnights"), "is no time"),
    ],
)
def test_what_cannot_be_is_left_out_with_the_reason(beat: None, columns: dict[str, Any], reason: str) -> None:
    add("bad", **columns)
    add("good", **every(1))

    done = run(status=1)
    assert done["bad"][0] == "left out"
    assert reason in done["bad"][1]
    assert done["good"] == ("imported", "")
    assert list(ScheduleRecord.objects.values_list("name", flat=True)) == ["good"]


def test_the_cleanup_of_results_is_not_needed(beat: None) -> None:
    add("celery.backend_cleanup", "celery.backend_cleanup", **crontab("0 4 * * *"))

    ((outcome, notes),) = run().values()
    assert outcome == "not needed"
    assert "workers delete old results" in notes


def test_a_second_time_nothing_changes_unless_told_to(beat: None) -> None:
    add("hourly", **every(1, "hours"), last_run_at=database_now("default"), kwargs='{"days": 2}', expire_seconds=30)
    add("nightly", **crontab("0 3 * * *", "Europe/Berlin"), args="[1]", start_time=NOW)
    run()
    before = list(ScheduleRecord.objects.order_by("name").values())
    tasks = _models()[TABLE].objects  # type: ignore[attr-defined]
    # As beat leaves it after one more run.
    tasks.filter(name="hourly").update(last_run_at=database_now("default"))

    assert {outcome for outcome, _ in run().values()} == {"unchanged"}
    assert list(ScheduleRecord.objects.order_by("name").values()) == before

    tasks.filter(name="nightly").update(args="[5]", description="new")
    outcome, notes = run(status=1)["nightly"]
    assert (outcome, "args, description" in notes) == ("differs", True)
    assert made("nightly").args == (1,)
    assert run("--update")["nightly"] == ("updated", "")
    assert (made("nightly").args, made("nightly").description) == ((5,), "new")
    assert run("--update")["nightly"] == ("unchanged", "")


def test_a_trial_changes_nothing_and_says_what_would_be(beat: None) -> None:
    add("hourly", **every(1, "hours"))
    add("bad", **crontab("0 0 31 2 *"))

    done = run("--dry-run", status=1)
    assert (done["hourly"][0], done["bad"][0]) == ("would be imported", "left out")
    assert not ScheduleRecord.objects.exists()


def test_a_schedule_of_ours_of_that_name_stays(beat: None) -> None:
    create_schedule(Schedule(name="hourly", task=CLEAN, kind="interval", expression="60"))
    set_schedule_enabled("hourly", False)
    add("hourly", **every(1, "hours"))

    outcome, notes = run(status=1)["hourly"]
    assert outcome == "differs"
    assert "expression" in notes
    assert made("hourly").expression == "60"


def test_people_get_a_table_and_a_sum(beat: None) -> None:
    add("hourly", **every(1, "hours"))

    out = io.StringIO()
    call_command("taskq", "import-celery-beat", "--dry-run", stdout=out)
    assert "every hour" in out.getvalue()
    assert "1 periodic task: 1 would be imported." in out.getvalue()


@pytest.mark.django_db
def test_a_database_without_those_tables_is_told() -> None:
    with pytest.raises(CommandError, match="has no table django_celery_beat"):
        call_command("taskq", "import-celery-beat")
    with pytest.raises(CommandError, match=r"no alias of DATABASES.*default"):
        call_command("taskq", "import-celery-beat", "--database=defualt")


#: A project that has the package, with rows made by its own models.
PROGRAM = """
from datetime import datetime, timedelta, timezone
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django_celery_beat", "django_taskq", "tests.taskapp"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    TASKS={"default": {"BACKEND": "django_taskq.TaskqBackend", "QUEUES": []}},
    MIGRATION_MODULES=dict.fromkeys(["contenttypes", "django_celery_beat", "django_taskq", "taskapp"]),
    USE_TZ=True, TIME_ZONE="Europe/Berlin", DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0, run_syncdb=True)
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
noop = "tests.taskapp.tasks.noop"
at = datetime(2040, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
interval = IntervalSchedule.objects.create(every=2, period="days")
crontab = CrontabSchedule.objects.create(minute="*/5", hour="8-17", day_of_week="mon-fri", timezone="America/New_York")
solar = SolarSchedule.objects.create(event="sunset", latitude="52.520008", longitude="13.404954")
PeriodicTask.objects.create(name="a", task=noop, interval=interval, last_run_at=at - timedelta(days=9999))
PeriodicTask.objects.create(name="b", task=noop, crontab=crontab, queue="mail", priority=3)
PeriodicTask.objects.create(name="c", task=noop, solar=solar, expire_seconds=60)
PeriodicTask.objects.create(
    name="d", task=noop, clocked=ClockedSchedule.objects.create(clocked_time=at), one_off=True
)
call_command("taskq", "import-celery-beat", format="jsonl")
call_command("taskq", "import-celery-beat", format="jsonl")
"""


@pytest.mark.once
def test_rows_that_the_package_itself_has_made() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=90,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["name"], row["outcome"]) for row in rows] == [
        *((name, "imported") for name in "abcd"),
        *((name, "unchanged") for name in "abcd"),
    ]
    assert [(row["kind"], row["expression"]) for row in rows[:4]] == [
        ("interval", "172800"),
        ("cron", "*/5 8-17 * * 1-5"),
        ("solar", "sunset"),
        ("once", "2040-01-02T03:04:05+00:00"),
    ]
