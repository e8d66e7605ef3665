"""The page of queues: what it says, what people do there, and what it costs."""

from __future__ import annotations

import re
import time
from typing import Any
from uuid import UUID

import kombu
import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_taskq import control, pace, purging
from django_taskq.admin import queues
from django_taskq.core.states import State
from django_taskq.database import database_now
from django_taskq.models import PauseRecord, TaskRecord
from django_taskq.pace import Pace, paces
from django_taskq.purging import purge_waiting
from django_taskq.transitions.operate import delete_waiting
from tests.factories import make_tasks
from tests.staff import clerk

pytestmark = pytest.mark.django_db

QUEUES = "/admin/django_taskq/queuerecord/"
PURGE = f"{QUEUES}purge/"
SCRIPT = '"><script>alert(1)</script>'

CONTROL = ("view_taskrecord", "control_queues")


@pytest.fixture
def browser() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def row(page: str, queue: str) -> str:
    """The cells of a queue, as text."""
    (found,) = [part for part in re.findall(r"<tr>.*?</tr>", page, re.DOTALL) if f">{queue}</a></th>" in part]
    return " ".join(re.sub(r"<[^>]+>", " ", found).split())


def said(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def test_queues_of_rows_and_of_settings_are_listed(browser: Client) -> None:
    make_tasks(3, state=State.READY, queue_name="mail", ended_ago=65)
    make_tasks(2, state=State.RUNNING, queue_name="slow")
    control.pause("default", "queue", "slow", by="anne")
    control.pause("default", "task", "shop.send", by="bert")
    page = browser.get(QUEUES).content.decode()
    assert re.match(r"mail 3 0 6\d\.\d{3} s|mail 3 0 0:01:0\d", row(page, "mail"))
    assert re.search(r"slow 0 2 .*Paused .* anne", row(page, "slow"))
    # Nothing is there, but tasks name it.
    assert row(page, "default").startswith("default 0 0 - ")
    assert re.search(r"shop\.send.*bert", page, re.DOTALL)


def test_names_are_escaped_and_no_script_is_on_the_page(browser: Client) -> None:
    make_tasks(1, state=State.READY, queue_name=SCRIPT)
    control.pause("default", "task", SCRIPT, by=SCRIPT)
    for url, query in ((QUEUES, {}), (PURGE, {"queue": SCRIPT, "backend": "default"})):
        page = browser.get(url, query).content.decode()
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page
        assert not re.search(r"<[^>]+\s(style|on\w+)=|<style", page)


def test_a_queue_is_paused_and_goes_on() -> None:
    browser = clerk(*CONTROL)
    done = browser.post(QUEUES, {"verb": "pause", "name": "mail"}, follow=True)
    assert said(done) == ["“mail” is paused."]
    assert PauseRecord.objects.get().paused_by == "clerk"
    assert said(browser.post(QUEUES, {"verb": "pause", "name": "mail"}, follow=True)) == ["“mail” was paused before."]
    assert said(browser.post(QUEUES, {"verb": "resume", "name": "mail"}, follow=True)) == ["“mail” goes on."]
    assert said(browser.post(QUEUES, {"verb": "resume", "name": "mail"}, follow=True)) == ["“mail” was not paused."]
    assert not PauseRecord.objects.exists()
    entries = LogEntry.objects.order_by("pk")
    assert {entry.object_repr for entry in entries} == {"mail"}
    assert [entry.change_message for entry in entries] == ["Asked for: Pause"] * 2 + ["Asked for: Resume"] * 2


def test_a_task_paused_by_its_name_goes_on() -> None:
    control.pause("default", "task", "shop.send")
    browser = clerk(*CONTROL)
    browser.post(QUEUES, {"verb": "resume", "kind": "task", "name": "shop.send"})
    assert not PauseRecord.objects.exists()


@pytest.mark.parametrize("fields", [{}, {"verb": "drop", "name": "mail"}, {"verb": "pause", "name": "m" * 129}])
def test_what_makes_no_sense_is_refused(fields: dict[str, str]) -> None:
    done = clerk(*CONTROL).post(QUEUES, fields, follow=True)
    assert said(done) == ["There is no such queue."]
    assert not PauseRecord.objects.exists()
    assert not LogEntry.objects.exists()


def test_who_may_not_control_queues_only_looks() -> None:
    make_tasks(1, state=State.READY, queue_name="mail")
    browser = clerk("view_taskrecord", "operate_tasks", "control_workers", "delete_tasks")
    page = browser.get(QUEUES)
    assert page.status_code == 200
    assert b'name="verb"' not in page.content
    assert b"purge/" not in page.content
    assert browser.post(QUEUES, {"verb": "pause", "name": "mail"}).status_code == 403
    fields = {"queue": "mail", "backend": "default", "typed": "mail"}
    assert browser.get(PURGE, fields).status_code == browser.post(PURGE, fields).status_code == 403
    assert TaskRecord.objects.count() == 1


def test_who_may_not_see_tasks_sees_no_queues() -> None:
    browser = clerk("control_queues")
    assert browser.get(QUEUES).status_code == browser.get(PURGE).status_code == 403
    assert browser.post(QUEUES, {"verb": "pause", "name": "mail"}).status_code == 403


@pytest.mark.parametrize("url", [QUEUES, PURGE])
def test_no_other_site_has_somebody_do_it(url: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("root"))
    assert client.post(url, {"verb": "pause", "name": "mail"}).status_code == 403


def test_what_waits_is_deleted_once_the_name_was_typed() -> None:
    make_tasks(3, state=State.READY, queue_name="mail")
    make_tasks(2, state=State.SCHEDULED, queue_name="mail", run_after=database_now("default"))
    kept = [
        *make_tasks(1, state=State.RUNNING, queue_name="mail"),
        *make_tasks(1, state=State.FAILED, queue_name="mail"),
        *make_tasks(1, state=State.READY, queue_name="Mail"),
        *make_tasks(1, state=State.READY, queue_name="mail", backend="other"),
    ]
    browser = clerk(*CONTROL)
    asked = browser.get(PURGE, {"queue": "mail", "backend": "default"})
    assert b"(3)" in asked.content
    assert TaskRecord.objects.count() == 9
    for typed in ("", "Mail", "mai"):
        wrong = browser.post(PURGE, {"queue": "mail", "backend": "default", "typed": typed})
        assert b"Nothing was deleted." in wrong.content
    assert TaskRecord.objects.count() == 9
    assert not LogEntry.objects.exists()
    done = browser.post(PURGE, {"queue": "mail", "backend": "default", "typed": "mail "}, follow=True)
    assert said(done) == ["5 tasks that waited in “mail” were deleted."]
    assert set(TaskRecord.objects.values_list("pk", flat=True)) == {one.pk for one in kept}
    entry = LogEntry.objects.get()
    assert (entry.object_repr, entry.change_message) == ("mail", "Asked for: Delete what waits")


def test_a_long_queue_takes_more_than_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "_AT_ONCE", 3)
    make_tasks(4, state=State.READY, queue_name="mail")
    browser = clerk(*CONTROL)
    fields = {"queue": "mail", "backend": "default", "typed": "mail"}
    assert "There may be more" in said(browser.post(PURGE, fields, follow=True))[0]
    assert said(browser.post(PURGE, fields, follow=True)) == ["1 task that waited in “mail” was deleted."]


@pytest.mark.parametrize("fields", [{"queue": "mail", "backend": "nobody"}, {"queue": "", "backend": "default"}])
def test_nothing_is_deleted_where_there_is_no_such_queue(fields: dict[str, str]) -> None:
    make_tasks(1, state=State.READY, queue_name="mail")
    browser = clerk(*CONTROL)
    assert said(browser.get(PURGE, fields, follow=True)) == ["There is no such queue."]
    browser.post(PURGE, fields | {"typed": fields["queue"]})
    assert TaskRecord.objects.count() == 1


def test_a_task_that_was_taken_meanwhile_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = make_tasks(2, state=State.READY, queue_name="mail")

    def claimed_first(using: str, ids: Any) -> int:
        TaskRecord.objects.filter(pk=first.pk).update(state=State.RUNNING)
        return delete_waiting(using, ids)

    monkeypatch.setattr(purging, "delete_waiting", claimed_first)
    assert purge_waiting("default", "default", "mail", limit=10).deleted == 1
    assert not TaskRecord.objects.filter(pk=second.pk).exists()


def test_tasks_that_came_are_counted_by_the_minute(browser: Client) -> None:
    make_tasks(20, state=State.READY, queue_name="mail")
    hour_ago = UUID(int=int((time.time() - 3600) * 1000) << 80)
    (old,) = make_tasks(1, state=State.READY, queue_name="old")
    TaskRecord.objects.filter(pk=old.pk).update(id=hour_ago)
    found = paces("default")
    assert found["mail"].coming == pytest.approx(20 / 600)
    assert "old" not in found
    assert re.match(r"mail 20 0 \d+\.\d+ s 2\.0 ", row(browser.get(QUEUES).content.decode(), "mail"))


def test_where_very_many_came_the_newest_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_MOST", 10)
    make_tasks(20, ended_ago=100.0)
    assert paces("default")["default"].coming == pytest.approx(10 / 100, rel=0.2)


def test_the_time_to_drain_is_that_of_the_difference() -> None:
    assert Pace(coming=1.0, leaving=3.0).seconds_to_drain(100) == 50
    assert Pace(coming=3.0, leaving=3.0).seconds_to_drain(100) is None
    assert Pace().seconds_to_drain(0) == 0


def test_the_page_asks_few_questions_whatever_there_is(browser: Client) -> None:
    make_tasks(1, state=State.READY)
    browser.get(QUEUES)
    with CaptureQueriesContext(connection) as few:
        browser.get(QUEUES)
    make_tasks(500, state=State.READY)
    make_tasks(500)
    for number in range(40 if connection.vendor != "mysql" else 0):
        make_tasks(1, state=State.READY, queue_name=f"queue{number}")
    with CaptureQueriesContext(connection) as many:
        browser.get(QUEUES)
    assert len(few) == len(many), [query["sql"][:80] for query in many]
    assert len(many) <= (8 if connection.vendor != "mysql" else 11), [query["sql"][:80] for query in many]


def broker(url: str) -> dict[str, Any]:
    return {"default": {"BACKEND": "django_taskq.TaskqBackend", "QUEUES": [], "OPTIONS": {"broker": url}}}


@pytest.mark.databases("sqlite")
def test_what_waits_at_the_broker_is_counted_and_deleted_when_asked_for(settings: Any, redis_url: str) -> None:
    settings.TASKS = broker(redis_url)
    make_tasks(1, state=State.READY, queue_name="mail")
    with kombu.Connection(redis_url) as connected:
        for _ in range(3):
            connected.Producer(auto_declare=False).publish("x", routing_key="mail", serializer="json")
    browser = clerk(*CONTROL)
    assert " - 3 Open" in row(browser.get(QUEUES).content.decode(), "mail")
    fields = {"queue": "mail", "backend": "default", "typed": "mail"}
    done = said(browser.post(PURGE, fields, follow=True))
    assert done == ["1 task that waited in “mail” was deleted."]
    done = said(browser.post(PURGE, fields | {"broker": "1"}, follow=True))
    assert done == ["0 tasks that waited in “mail” were deleted.", "3 messages at the broker were deleted."]


@pytest.mark.databases("sqlite")
def test_a_broker_that_is_away_is_left_out(settings: Any) -> None:
    settings.TASKS = broker("redis://:secret@127.0.0.1:1/0")
    make_tasks(1, state=State.READY, queue_name="mail")
    browser = clerk(*CONTROL)
    begun = time.monotonic()
    page = browser.get(QUEUES)
    assert time.monotonic() - begun < 10
    assert " - - Open" in row(page.content.decode(), "mail")
    fields = {"queue": "mail", "backend": "default", "typed": "mail", "broker": "1"}
    first, second = said(browser.post(PURGE, fields, follow=True))
    assert first == "1 task that waited in “mail” was deleted."
    assert second.startswith("The broker could not be asked")
    assert "secret" not in second
