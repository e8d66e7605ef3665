"""Secrets: whatever column they stand in, no page, no answer to an action, no log and no command shows them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from django_taskq import task
from django_taskq.core.outcome import AttemptError
from django_taskq.core.states import State
from django_taskq.models import TaskRecord
from tests.deeds import DEEDS, PAGES, Deed, address, make_schedule, undone
from tests.factories import make_tasks
from tests.staff import clerk

pytestmark = pytest.mark.django_db

TASKS = "/admin/django_taskq/taskrecord/"
#: Three ways to be secret: by what the task says, by an argument's name, by a key within one.
SECRETS = ("s3cret-pin", "s3cret-token", "s3cret-key")


@task(sensitive=["pin"])
def pay(order: int, pin: str, token: str, options: dict[str, Any]) -> None:
    """A task that has three secrets."""


NAME = f"{__name__}.pay"
CALL: tuple[Any, ...] = (7, SECRETS[0], SECRETS[1], {"api_key": SECRETS[2], "city": "x"})


def failed(before: int = 490) -> TaskRecord:
    """Write a task that has told all its secrets to everybody; in its message after so many characters."""
    told = " ".join(SECRETS)
    message = f"{'x' * before} {told}"
    error = AttemptError(
        exception_class_path="shop.Broken", message=message, traceback=f"Traceback\nshop.Broken: {told}", place="shop"
    )
    return make_tasks(
        name=NAME,
        state=State.FAILED,
        arguments=json.dumps([CALL, {}]),
        result=json.dumps({"said": told, "password": "s3cret"}),
        metadata=json.dumps({"said": told, "password": "s3cret"}),
        options=json.dumps({"metadata": {"password": "s3cret"}, "said": told}),
        headers=json.dumps({"baggage": told, "x-api-key": "s3cret"}),
        progress=json.dumps({"done": 1, "total": 2, "message": told}),
        log=f"2026-11-28T20:00:00.000Z INFO shop: {told}\n",
        errors=error.line(attempt=1, worker="w", at=datetime.now(UTC)),
    )[0]


def row_of(page: str, make: Callable[[], Any] | None) -> Any:
    """Write a row with secrets for this page; one without where there is none for it."""
    if page.startswith("schedulerecord"):
        return make_schedule(task=NAME, args=CALL)
    record = failed()
    return record if make is None or page.startswith(("taskrecord", "failurerecord")) else make()


def check(text: str) -> None:
    # Also not a part of one, where a text is cut.
    assert "s3cr" not in text


@pytest.fixture
def browser() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def test_no_page_shows_a_secret(browser: Client) -> None:
    for page in PAGES:
        with undone():
            check(browser.get(address(page, row_of(page, PAGES[page].make))).content.decode())
    page = address("taskrecord_change", failed())
    assert "shop.Broken" in browser.get(page).content.decode()


@pytest.mark.parametrize(("page", "most"), [("dashboardrecord", 160), ("failurerecord", 500)])
def test_a_secret_that_a_message_is_cut_in_is_hidden(browser: Client, page: str, most: int) -> None:
    failed(before=most - 5)
    text = browser.get(address(f"{page}_changelist", None)).content.decode()
    assert "xxxx" in text
    check(text)


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS)
def test_no_answer_to_an_action_and_no_log_shows_a_secret(browser: Client, deed: Deed) -> None:
    row = row_of(deed.page, deed.make)
    check(browser.post(address(deed.page, row), deed.data(row), follow=True).content.decode())
    for entry in LogEntry.objects.all():
        check(f"{entry.object_repr} {entry.change_message}")


def test_a_search_neither_finds_nor_changes_what_is_hidden_from_who_asks(browser: Client) -> None:
    record = failed()
    chosen = {"action": "retry_tasks", "_selected_action": str(record.pk), "index": "0"}
    across = {**chosen, "select_across": "1"}
    for query in ("error:s3cret-pin", "error:s3cret-token", "args.pin:s3cret-pin", "args.options.api_key:s3cret-key"):
        assert str(record.pk) not in browser.get(TASKS, {"q": query}).content.decode()
        for data in (chosen, across):
            browser.post(f"{TASKS}?q={query}", data)
            record.refresh_from_db()
            assert record.state == State.FAILED, query
    viewer = clerk("view_taskrecord", "operate_tasks")
    for data in (chosen, across):
        viewer.post(f"{TASKS}?q=error:Traceback", data)
        record.refresh_from_db()
        assert record.state == State.FAILED


@pytest.mark.parametrize("query", ["error:Traceback", "args.order:7", "args.options.city:x"])
def test_what_a_search_finds_can_be_acted_on(browser: Client, query: str) -> None:
    record = failed()
    assert str(record.pk) in browser.get(TASKS, {"q": query}).content.decode()
    browser.post(f"{TASKS}?q={query}", {"action": "retry_tasks", "_selected_action": str(record.pk), "index": "0"})
    record.refresh_from_db()
    assert record.state == State.READY


@pytest.mark.parametrize("kind", ["table", "json", "jsonl"])
def test_no_command_shows_a_secret(kind: str) -> None:
    record = failed()
    make_schedule(task=NAME, args=CALL)
    for command in (["show", str(record.pk)], ["list"], ["schedules"]):
        out = io.StringIO()
        call_command("taskq", *command, f"--format={kind}", stdout=out)
        assert out.getvalue()
        check(out.getvalue())
