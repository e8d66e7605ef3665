"""Failures by kind: which are one, how many, since when; and that one kind can run again."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_taskq import task
from django_taskq.core.outcome import AttemptError
from django_taskq.core.states import State
from django_taskq.database import database_now
from django_taskq.finding import groups
from django_taskq.finding.groups import failure_groups
from django_taskq.models import TaskRecord
from django_taskq.testing import run_tasks
from tests.factories import make_tasks
from tests.staff import clerk

pytestmark = pytest.mark.django_db

FAILURES = "/admin/django_taskq/failurerecord/"
SCRIPT = "<script>alert(1)</script>"


@task(sensitive=["password"])
def login(user: str, password: str) -> None:
    """A task that has a secret."""


def fail(kind: int, count: int = 1, *, message: str = "no", **fields: Any) -> list[TaskRecord]:
    error = AttemptError(
        exception_class_path=f"shop.Broken{kind}", message=message, traceback="", place="shop.charge"
    ).line(attempt=1, worker="w", at=database_now("default"))
    return make_tasks(count, state=State.FAILED, fingerprint=f"{kind:016x}", errors=error, **fields)


@task
def charge(order_id: int) -> None:
    """A task that fails."""
    raise LookupError(f"order {order_id} is gone")


@pytest.fixture
def browser() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def test_failures_of_a_kind_are_one_group_the_newest_first() -> None:
    fail(7, 3, ended_ago=300.0)
    (last,) = fail(7, ended_ago=100.0, name="shop.other")
    fail(8, 2, ended_ago=200.0)
    make_tasks(2, state=State.CANCELLED)
    make_tasks(2)

    found = failure_groups("default", limit=10)
    assert found.total == 2
    assert [(one.fingerprint, one.count, one.is_more) for one in found.groups] == [
        (f"{7:016x}", 4, False),
        (f"{8:016x}", 2, False),
    ]
    (first, _) = found.groups
    assert (first.newest.pk, first.newest.name, first.last_at) == (last.pk, "shop.other", last.finished_at)
    assert first.error is not None
    assert first.error.exception_class_path == "shop.Broken7"
    assert first.first_at is not None
    assert first.last_at is not None
    assert 190 < (first.last_at - first.first_at).total_seconds() < 210


def test_what_ran_and_failed_in_the_same_way_is_one_group() -> None:
    for order_id in (7, 4711):
        charge.enqueue(order_id)
    assert run_tasks() == 2
    (group,) = failure_groups("default", limit=10).groups
    assert (group.count, group.fingerprint) == (2, group.newest.fingerprint)
    assert group.error is not None
    assert (group.error.place, group.error.message) == (f"{__name__}.charge", "order 4711 is gone")


def test_counts_and_kinds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "MOST_TASKS", 3)
    monkeypatch.setattr(groups, "MOST_GROUPS", 4)
    fail(1, 5)
    for kind in range(2, 7):
        fail(kind)
    found = failure_groups("default", limit=10)
    assert found.total == 4
    (many,) = [one for one in found.groups if one.fingerprint == f"{1:016x}"]
    assert many.is_more
    assert len(failure_groups("default", limit=2).groups) == 2


def test_without_failures_the_page_says_so(browser: Client) -> None:
    make_tasks(3)
    assert "No task has failed" in browser.get(FAILURES).content.decode()


def test_the_page_takes_few_queries_however_many_failures_there_are(browser: Client) -> None:
    for kind in range(20):
        fail(kind, 5)
    with CaptureQueriesContext(connection) as queries:
        text = browser.get(FAILURES).content.decode()
    assert text.count("shop.Broken") == 20
    assert len(queries) <= 8


def test_the_page_shows_what_went_wrong_as_text(browser: Client) -> None:
    (record,) = fail(3, message=f"{SCRIPT} of ann", name=SCRIPT)
    text = browser.get(FAILURES).content.decode()
    assert SCRIPT not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; of ann" in text
    assert "shop.charge" in text
    assert f"/admin/django_taskq/taskrecord/{record.pk}/change/" in text
    assert f"?q=group:{3:016x}" in text
    listed = browser.get("/admin/django_taskq/taskrecord/", {"q": f"group:{3:016x}"}).content.decode()
    assert str(record.pk) in listed


def test_a_message_does_not_give_away_what_is_sensitive(browser: Client) -> None:
    arguments = json.dumps([["ann", "hunter22"], {}])
    fail(1, message="bad password hunter22", name=f"{__name__}.login", arguments=arguments)
    text = browser.get(FAILURES).content.decode()
    assert "bad password" in text
    assert "hunter22" not in text


def test_who_may_not_see_errors_sees_their_classes() -> None:
    fail(1, message="secret words")
    text = clerk("view_taskrecord").get(FAILURES).content.decode()
    assert "shop.Broken1" in text
    assert "secret words" not in text
    assert "<button" not in text.split('id="content-main"')[1]


def test_who_may_not_see_tasks_sees_no_failures() -> None:
    fail(1)
    assert clerk("view_workerrecord").get(FAILURES).status_code == 403


def test_a_group_runs_again(browser: Client) -> None:
    ids = [record.pk for record in fail(1, 3)]
    (other,) = fail(2)
    answer = browser.post(FAILURES, {"group": f"{1:016x}"}, follow=True)
    assert "3 tasks run again" in answer.content.decode()
    assert set(TaskRecord.objects.filter(pk__in=ids).values_list("state", "fingerprint")) == {("READY", None)}
    assert TaskRecord.objects.get(pk=other.pk).state == "FAILED"
    # Twice is once.
    assert "0 tasks run again" in browser.post(FAILURES, {"group": f"{1:016x}"}, follow=True).content.decode()


@pytest.mark.parametrize("group", ["", "x", "' OR 1=1 --", "f" * 17])
def test_a_group_that_is_none_changes_nothing(browser: Client, group: str) -> None:
    fail(1)
    assert "no such group" in browser.post(FAILURES, {"group": group}, follow=True).content.decode()
    assert TaskRecord.objects.get().state == "FAILED"


def test_a_group_runs_again_by_post_with_a_token_and_the_permission_alone() -> None:
    fail(1)
    assert clerk("view_taskrecord", "view_payload").post(FAILURES, {"group": f"{1:016x}"}).status_code == 403
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.create_superuser("root"))
    assert strict.post(FAILURES, {"group": f"{1:016x}"}).status_code == 403
    assert strict.get(FAILURES, {"group": f"{1:016x}"}).status_code == 200
    assert TaskRecord.objects.get().state == "FAILED"
    page = strict.get(FAILURES).content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.split('id="content-main"')[1])
    assert token is not None
    assert strict.post(FAILURES, {"group": f"{1:016x}", "csrfmiddlewaretoken": token[1]}).status_code == 302
    assert TaskRecord.objects.get().state == "READY"
