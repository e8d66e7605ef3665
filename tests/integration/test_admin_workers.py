"""Workers in the admin: who works, on what, and what their processes say when they are asked."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_taskq import task
from django_taskq.admin import stacks, workers
from django_taskq.core.sensitive import HIDDEN
from django_taskq.core.states import State
from django_taskq.database import as_project_time, database_now
from django_taskq.models import OrderRecord
from django_taskq.transitions.control import answer_order
from tests.factories import WORKER, make_tasks, make_worker
from tests.staff import clerk

pytestmark = pytest.mark.django_db

WORKERS = "/admin/django_taskq/workerrecord/"
PAGE = f"{WORKERS}{WORKER.replace('_', '_5F')}/change/"
STACKS = f"{WORKERS}{WORKER}/stacks/"
SCRIPT = "<script>alert(1)</script>"
SEES = ("view_workerrecord", "view_taskrecord")
ASKS = (*SEES, "control_workers", "view_payload")


@task(sensitive=["code"])
def unlock(code: str) -> None:
    """A task that has a secret."""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "_PATIENCE", 0.05)


def text_of(browser: Client, url: str, **query: Any) -> str:
    response = browser.get(url, query)
    assert response.status_code == 200
    return response.content.decode()


def column(page: str, name: str) -> list[str]:
    return [
        re.sub(r"<[^>]+>", " ", cell).strip()
        for cell in re.findall(rf'<td class="field-{name}[^"]*">(.*?)</td>', page, re.DOTALL)
    ]


# ---- the list ------------------------------------------------------------------------------------------------------


def test_the_list_says_who_works_on_what() -> None:
    make_worker(slots=8, silent_for=4)
    make_worker(id="other", name="zeta", slots=2, silent_for=100)
    running = make_tasks(5, state=State.RUNNING, name=SCRIPT)
    page = text_of(clerk(*SEES), WORKERS)
    assert column(page, "slots_text") == ["5 / 8", "0 / 2"]
    first, second = column(page, "heartbeat_text")
    assert re.fullmatch(r"[45] s ago", first)
    assert second.startswith("lost, 0:01:4")
    shown = column(page, "tasks_text")
    assert shown[1] == "-"
    assert shown[0].endswith("and 2 more")
    assert SCRIPT not in page
    assert page.count("&lt;script&gt;") == 3
    assert sum(f"/taskrecord/{task.pk}/change/" in page for task in running) == 3


def test_the_list_counts_where_it_does_not_read_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_READ", 4)
    make_worker(slots=8)
    make_worker(id="other", name="zeta", slots=8)
    make_tasks(3, state=State.RUNNING)
    make_tasks(3, state=State.RUNNING, worker_id="other")
    page = text_of(clerk(*SEES), WORKERS)
    assert column(page, "slots_text") == ["3 / 8", "3 / 8"]
    assert [shown.endswith("more") for shown in column(page, "tasks_text")] == [False, True]


def test_names_of_tasks_are_for_those_who_may_see_tasks() -> None:
    make_worker()
    make_tasks(state=State.RUNNING, name="shop.secret_plan")
    browser = clerk("view_workerrecord")
    page = text_of(browser, WORKERS)
    assert column(page, "slots_text") == ["1 / 1"]
    assert "secret_plan" not in page + text_of(browser, PAGE)


def test_pages_take_few_queries_however_many_workers_there_are() -> None:
    for number in range(30):
        make_worker(id=f"w{number}", slots=4)
        make_tasks(4, state=State.RUNNING, worker_id=f"w{number}")
    make_tasks(50, worker_id="w7")
    browser = clerk(*ASKS)
    for url in (WORKERS, f"{WORKERS}w7/change/"):
        text_of(browser, url)  # Django remembers its content types
        with CaptureQueriesContext(connection) as queries:
            text_of(browser, url)
        assert len(queries) <= 8, [one["sql"] for one in queries]


# ---- a worker's page -----------------------------------------------------------------------------------------------


def test_a_page_shows_what_runs_and_what_ended() -> None:
    make_worker()
    since = as_project_time(database_now("default") - timedelta(seconds=90))
    [now] = make_tasks(state=State.RUNNING, name="shop.now", last_attempted_at=since)
    [done] = make_tasks(state=State.FAILED, name="shop.done")
    [other] = make_tasks(state=State.FAILED, worker_id="other", name="shop.other")
    page = text_of(clerk(*SEES), PAGE)
    assert all(f"/taskrecord/{row.pk}/change/" in page for row in (now, done))
    assert str(other.pk) not in page
    assert "0:01:3" in page
    assert f"?q=worker%3A{WORKER}" in page
    assert "drain_workers" not in page
    assert "stacks/" not in page


def test_a_page_offers_what_who_asks_may_do() -> None:
    make_worker()
    page = text_of(clerk(*SEES, "control_workers"), PAGE)
    assert [name in page for name in ("drain_workers", "resume_workers", "stop_workers")] == [True] * 3
    assert "stacks/" not in page


def test_a_lost_worker_is_offered_nothing() -> None:
    make_worker(silent_for=100)
    browser = clerk(*ASKS)
    page = text_of(browser, PAGE)
    assert "drain_workers" not in page
    assert "stacks/" not in page
    response = browser.post(STACKS, follow=True)
    assert "is lost: it does not answer" in response.content.decode()
    assert not OrderRecord.objects.exists()
    assert not LogEntry.objects.exists()


def test_the_button_on_a_page_drains() -> None:
    make_worker()
    browser = clerk(*SEES, "control_workers")
    browser.post(WORKERS, {"action": "drain_workers", "_selected_action": WORKER}, follow=True)
    assert list(OrderRecord.objects.values_list("worker_id", "verb")) == [(WORKER, "drain")]


# ---- stacks --------------------------------------------------------------------------------------------------------


def ask(browser: Client) -> str:
    response = browser.post(STACKS)
    assert response.status_code == 302
    return str(response["Location"])


def say(verb: str, answer: str) -> None:
    assert answer_order("default", OrderRecord.objects.get(verb=verb).pk, answer)


@pytest.mark.django_db(transaction=True)
def test_stacks_are_asked_for_once_and_shown_when_they_come() -> None:
    make_worker()
    browser = clerk(*ASKS)
    assert "stacks/" in text_of(browser, PAGE)
    address = ask(browser)
    assert "No answer yet" in text_of(browser, address)
    say("ping", json.dumps({"quiet": True, "memory": 52_428_800, "version": "1.2", "running": [{"id": "x"}]}))
    say("stacks", f"Thread main:\n  {SCRIPT}\n  connect(password='s3cret')")
    page = text_of(browser, address)
    assert "No answer yet" not in page
    assert SCRIPT not in page
    assert "&lt;script&gt;" in page
    assert "s3cret" not in page
    assert re.search(r"It drains; tasks that run: 1\.\s+Memory: 50.0.MB\.\s+Version: 1\.2\.", page)
    # To look again is not to ask again.
    assert OrderRecord.objects.count() == 2
    assert [entry.object_id for entry in LogEntry.objects.all()] == [WORKER]


def test_what_a_running_task_calls_sensitive_is_hidden() -> None:
    make_worker()
    arguments = json.dumps([["open-sesame"], {}])
    make_tasks(state=State.RUNNING, name=f"{__name__}.unlock", arguments=arguments)
    browser = clerk(*ASKS)
    address = ask(browser)
    say("stacks", "  unlock('open-sesame')")
    page = text_of(browser, address)
    assert "open-sesame" not in page
    assert HIDDEN in page


@pytest.mark.parametrize(
    "answer", ["", "[1]", "not JSON", '{"running": 3, "memory": "<b>"}', "A worker knows no ping."]
)
def test_an_answer_that_is_no_answer_breaks_nothing(answer: str) -> None:
    make_worker()
    browser = clerk(*ASKS)
    address = ask(browser)
    say("ping", answer)
    say("stacks", "Thread main:")
    assert "Thread main:" in text_of(browser, address)


@pytest.mark.parametrize("missing", ["view_workerrecord", "control_workers", "view_payload"])
def test_stacks_take_all_permissions(missing: str) -> None:
    make_worker()
    browser = clerk(*(name for name in ASKS if name != missing))
    assert browser.post(STACKS).status_code == 403
    assert browser.get(STACKS).status_code == 403
    assert not OrderRecord.objects.exists()


def test_stacks_take_a_post_with_a_token() -> None:
    make_worker()
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(User.objects.create_superuser("root"))
    assert browser.post(STACKS).status_code == 403
    assert "Nothing is known of this question" in text_of(browser, STACKS)
    assert not OrderRecord.objects.exists()


def test_answers_of_other_workers_and_to_other_questions_are_not_shown() -> None:
    make_worker()
    made_at = make_worker(id="other").started_at
    others = [
        OrderRecord.objects.create(
            worker_id=worker_id, verb=verb, made_at=made_at, answered_at=made_at, answer="s3cret"
        )
        for worker_id, verb in (("other", "stacks"), (WORKER, "drain"))
    ]
    page = text_of(clerk(*ASKS), STACKS, of=[*(one.pk for one in others)])
    assert "s3cret" not in page
    text_of(clerk_again(), STACKS, of=["9" * 30, "x"])


def clerk_again() -> Client:
    client = Client()
    client.force_login(User.objects.get(username="clerk"))
    return client


def test_a_worker_that_has_ended_is_said() -> None:
    worker = make_worker()
    browser = clerk(*ASKS)
    address = ask(browser)
    worker.delete()
    assert "has ended meanwhile" in text_of(browser, address)
    assert browser.post(STACKS).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_nobody_waits_inside_a_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    make_worker()
    browser = clerk(*ASKS)
    address = ask(browser)

    def wait(*arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(stacks, "_wait", wait)
    with pytest.raises(AssertionError):
        browser.get(address)
    with transaction.atomic():  # as ``ATOMIC_REQUESTS`` has it
        assert "No answer yet" in text_of(browser, address)
