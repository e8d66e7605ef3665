"""What stands in the tables of django-celery-beat, read without that package: it may be gone from the project already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from typing import Any

from django.apps.registry import Apps
from django.db import connections, models

from .database import as_utc

TABLE = "django_celery_beat_periodictask"
#: how a task says when it is due, in the order in which celery beat looks at them -> table
WAYS = {
    "interval": "django_celery_beat_intervalschedule",
    "crontab": "django_celery_beat_crontabschedule",
    "solar": "django_celery_beat_solarschedule",
    "clocked": "django_celery_beat_clockedschedule",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatTask:
    """One row of ``PeriodicTask``, as its columns are called there; moments are aware ones in UTC.

    ``ways``: those of ``WAYS`` that it names -> the columns of their rows; None for a row that is not there.
    A column that an older version does not have has the value it has by default.
    """

    name: str
    task: str
    args: str
    kwargs: str
    queue: str
    exchange: str
    routing_key: str
    headers: str
    priority: int | None
    expires: datetime | None
    expire_seconds: int | None
    one_off: bool
    start_time: datetime | None
    enabled: bool
    last_run_at: datetime | None
    total_run_count: int
    date_changed: datetime | None
    description: str
    ways: dict[str, dict[str, Any] | None]


def has_tables(using: str) -> bool:
    """Whether there is anything of django-celery-beat's in a database."""
    with connections[using].cursor() as cursor:
        return TABLE in connections[using].introspection.table_names(cursor)


def beat_tasks(using: str) -> list[BeatTask]:
    """All periodic tasks, by name. Raises the database's errors."""
    ways = {way: {row["id"]: row for row in _rows(using, table)} for way, table in WAYS.items()}
    return [_task(row, ways) for row in sorted(_rows(using, TABLE), key=lambda row: str(row["name"]))]


def _task(row: dict[str, Any], ways: dict[str, dict[int, dict[str, Any]]]) -> BeatTask:
    named = {way: rows.get(row[f"{way}_id"]) for way, rows in ways.items() if row.get(f"{way}_id") is not None}
    return BeatTask(
        name=row["name"],
        task=row["task"],
        args=row.get("args") or "[]",
        kwargs=row.get("kwargs") or "{}",
        queue=row.get("queue") or "",
        exchange=row.get("exchange") or "",
        routing_key=row.get("routing_key") or "",
        headers=row.get("headers") or "{}",
        priority=row.get("priority"),
        expires=row.get("expires"),
        expire_seconds=row.get("expire_seconds"),
        one_off=bool(row.get("one_off")),
        start_time=row.get("start_time"),
        enabled=bool(row.get("enabled", True)),
        last_run_at=row.get("last_run_at"),
        total_run_count=row.get("total_run_count") or 0,
        date_changed=row.get("date_changed"),
        description=row.get("description") or "",
        ways=named,
    )


def _rows(using: str, table: str) -> Iterator[dict[str, Any]]:
    """The rows of a table, by those of our columns that it has; none where there is no such table."""
    connection = connections[using]
    with connection.cursor() as cursor:
        if table not in connection.introspection.table_names(cursor):
            return
        there = {column.name for column in connection.introspection.get_table_description(cursor, table)}
    model = _models()[table]
    wanted = [column.name for column in model._meta.concrete_fields if column.name in there]  # noqa: SLF001  # documented
    for row in models.QuerySet(model, using=using).values(*wanted):
        yield {name: as_utc(value) if isinstance(value, datetime) else value for name, value in row.items()}


@cache
def _models() -> dict[str, type[models.Model]]:
    """Models in a registry of their own: Django reads each database's types, and no migration hears of them."""
    # Of their constraints none matters to who reads.
    text, number, moment = models.TextField, models.IntegerField, models.DateTimeField
    degrees = partial(models.DecimalField, max_digits=9, decimal_places=6)
    types: dict[str, dict[Callable[..., models.Field[Any, Any]], str]] = {
        TABLE: {
            text: "name task args kwargs queue exchange routing_key headers description",
            number: "interval_id crontab_id solar_id clocked_id priority expire_seconds total_run_count",
            models.BooleanField: "one_off enabled",
            moment: "expires start_time last_run_at date_changed",
        },
        WAYS["interval"]: {number: "every", text: "period"},
        WAYS["crontab"]: {text: "minute hour day_of_month month_of_year day_of_week timezone"},
        WAYS["solar"]: {text: "event", degrees: "latitude longitude"},
        WAYS["clocked"]: {moment: "clocked_time"},
    }
    return {
        table: _model(table, {name: kind(null=True) for kind, names in kinds.items() for name in names.split()})
        for table, kinds in types.items()
    }


def _model(table: str, fields: dict[str, models.Field[Any, Any]]) -> type[models.Model]:
    meta = type("Meta", (), {"apps": Apps(), "app_label": "beat_tables", "db_table": table, "managed": False})
    name = table.rpartition("_")[2].capitalize()
    return type(
        name,
        (models.Model,),
        {"__module__": __name__, "Meta": meta, "id": models.BigAutoField(primary_key=True), **fields},
    )
