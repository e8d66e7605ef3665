"""How things stand, in a number of statements that grows neither with tasks nor with queues."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_taskq.aliases import taskq_backends
from django_taskq.backlog import backlogs
from django_taskq.core.states import State
from django_taskq.database import as_project_time, database_now
from django_taskq.overview import overview
from tests.factories import make_tasks

pytestmark = pytest.mark.django_db


def test_depths_and_waits_of_many_queues_and_priorities() -> None:
    make_tasks(3, state=State.READY, queue_name="mail", ended_ago=60)
    make_tasks(1, state=State.READY, queue_name="mail", ended_ago=500, priority=-100)
    make_tasks(2, state=State.READY, queue_name="Mail", priority=100, ended_ago=5)
    make_tasks(1, state=State.READY, queue_name="it's 100 % ünique", backend="other", ended_ago=30)
    make_tasks(1, state=State.SCHEDULED, queue_name="later", run_after=database_now("default"))
    found = backlogs("default", ["default", "other", "nobody"], 100)
    assert {place: one.ready for place, one in found.items()} == {
        ("default", "mail"): 4,
        ("default", "Mail"): 2,
        ("other", "it's 100 % ünique"): 1,
    }
    waits = {place[1]: one.oldest_wait or 0.0 for place, one in found.items()}
    assert 500 <= waits["mail"] < 530
    assert 5 <= waits["Mail"] < 30
    assert 30 <= waits["it's 100 % ünique"] < 60
    assert backlogs("default", ["nobody"], 100) == backlogs("default", [], 100) == {}


def test_a_task_waits_since_it_could_run_last() -> None:
    now = database_now("default")
    for field in ("run_after", "last_attempted_at"):
        moments: dict[str, Any] = {field: as_project_time(now - timedelta(seconds=40))}
        make_tasks(1, state=State.READY, queue_name=field, ended_ago=900, **moments)
    for one in backlogs("default", ["default"], 100).values():
        assert one.oldest_wait is not None
        assert 40 <= one.oldest_wait < 80


def test_what_is_counted_has_an_end() -> None:
    make_tasks(7, state=State.READY)
    assert backlogs("default", ["default"], 5)["default", "default"].ready == 5


def test_more_queues_do_not_take_more_statements() -> None:
    make_tasks(1, state=State.READY)
    with CaptureQueriesContext(connection) as few:
        overview("default", taskq_backends())
    for number in range(45):
        make_tasks(1, state=State.READY, queue_name=f"queue{number}")
    with CaptureQueriesContext(connection) as many:
        found = overview("default", taskq_backends())
    assert len(found.queues) == 46
    if connection.vendor == "mysql":
        # It goes from one name that nobody knows of to the next.
        assert len(many) <= len(few) + 46
        return
    assert len(many) == len(few) <= 13
    for number in range(45, 145):
        make_tasks(1, state=State.READY, queue_name=f"queue{number}")
    with CaptureQueriesContext(connection) as more:
        found = overview("default", taskq_backends())
    assert sum(one.ready for one in found.queues) == 146
    assert all(one.oldest_wait is not None for one in found.queues)
    assert len(more) == len(few) + 2


@pytest.mark.databases("postgres", "sqlite")
def test_only_the_index_over_what_is_ready_is_read() -> None:
    make_tasks(3000, state=State.SUCCESSFUL)
    make_tasks(300, state=State.READY, queue_name="a")
    make_tasks(300, state=State.READY, queue_name="b", priority=3)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE django_taskq_task" if connection.vendor == "postgresql" else "ANALYZE")
    with CaptureQueriesContext(connection) as queries:
        backlogs("default", ["default"], 1000)
    assert len(queries) == 2
    for query in queries:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {'QUERY PLAN ' if connection.vendor == 'sqlite' else ''}{query['sql']}")
            plan = "\n".join(" ".join(map(str, row)) for row in cursor.fetchall())
        assert "taskq_ready" in plan
        assert "Seq Scan on django_taskq_task" not in plan
        assert "SCAN django_taskq_task\n" not in f"{plan}\n"


@pytest.mark.databases("mariadb")
def test_queues_that_are_likely_are_asked_for_at_once() -> None:
    names = [f"queue{number}" for number in range(30)]
    for name in names:
        make_tasks(1, state=State.READY, queue_name=name)
    with CaptureQueriesContext(connection) as queries:
        found = backlogs("default", ["default"], 100, likely=[*names, "empty"])
    assert sorted(name for _, name in found) == sorted(names)
    assert len(queries) == 4


@pytest.mark.databases("mariadb")
def test_a_full_index_is_not_read_from_end_to_end() -> None:
    make_tasks(3000, state=State.READY, queue_name="a")
    make_tasks(10, state=State.READY, queue_name="b", priority=3)
    before = rows_read()
    backlogs("default", ["default"], 100)
    # Of 3,010 tasks: 110 are counted, 60 are heads.
    assert rows_read() - before < 800


def rows_read() -> int:
    """By this connection, until now; no FLUSH, which would commit."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
        return sum(int(value) for _, value in cursor.fetchall())
