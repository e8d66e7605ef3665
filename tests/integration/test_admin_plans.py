"""What the admin's pages cost where there are many tasks: by the database's own plans.

As many as TASKQ_TEST_ROWS says; the figures in the docs are those of a million.
"""

from __future__ import annotations

import os
import re

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_taskq.admin import TaskRecordAdmin
from tests.many import make_history
from tests.pages import FAILURES, PURGE, addresses

pytestmark = [pytest.mark.django_db, pytest.mark.once]

#: Enough for the planner to be tempted: a scan of these costs more than any page may.
ROWS = int(os.environ.get("TASKQ_TEST_ROWS", "100000"))

#: What reads a table from one end to the other.
SCANS = re.compile(r"Seq Scan on django_taskq_task|SCAN (?:t|task|django_taskq_task)(?! USING)")


def plan_of(statement: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"{'EXPLAIN' if connection.vendor == 'postgresql' else 'EXPLAIN QUERY PLAN'} {statement}")
        return "\n".join(" ".join(map(str, row)) for row in cursor.fetchall())


@pytest.mark.databases("postgres", "sqlite")
def test_no_page_reads_all_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    # What a page renders takes most of its time, and is not what is looked at here.
    monkeypatch.setattr(TaskRecordAdmin, "list_per_page", 3)
    make_history(ROWS)
    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))
    seen: set[str] = set()
    for url, query in addresses(ROWS):
        with CaptureQueriesContext(connection) as queries:
            assert browser.get(url, query).status_code == 200
        assert len(queries) <= 8, (url, query)
        look_at(queries, seen)
    with CaptureQueriesContext(connection) as queries:
        assert browser.post(FAILURES, {"group": "f00d000000000003"}).status_code == 302
    look_at(queries, seen)
    with CaptureQueriesContext(connection) as queries:
        assert browser.post(PURGE, {"queue": "queue1", "backend": "default", "typed": "queue1"}).status_code == 302
    look_at(queries, seen)
    assert len(seen) > 10


def look_at(queries: CaptureQueriesContext, seen: set[str]) -> None:
    """Fail for a statement that reads all tasks; `seen` are those that were looked at before."""
    for statement in (one["sql"] for one in queries if "django_taskq_task" in one["sql"]):
        shape = re.sub(r"'[^']*'|\d+", "?", statement)
        if shape not in seen and statement.startswith(("SELECT", "WITH", "UPDATE")):
            seen.add(shape)
            plan = plan_of(statement)
            assert not SCANS.search(plan), f"{statement}\n{plan}"
            # In the order of ids alone it would go on until it has found enough, or all is read.
            is_kind = statement.endswith(" LIMIT 500") and '"fingerprint" =' in statement
            assert not is_kind or "taskq_unsuccessful" in plan, f"{statement}\n{plan}"
