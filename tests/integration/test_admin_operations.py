"""Operations in the admin: who may ask for one, what it is asked about, how it is watched and aborted, once."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_taskq.admin import failures
from django_taskq.bulk import carry_on, work_off
from django_taskq.core.states import State
from django_taskq.database import database_now
from django_taskq.models import KeeperRecord, OperationRecord, TaskRecord
from tests.factories import make_tasks
from tests.staff import clerk

pytestmark = pytest.mark.django_db

TASKS = "/admin/django_taskq/taskrecord/"
FAILURES = "/admin/django_taskq/failurerecord/"
OPERATIONS = "/admin/django_taskq/operationrecord/"
SCRIPT = "<script>alert(1)</script>"
GROUP = "0123456789abcdef"

OPERATOR = ("view_taskrecord", "operate_tasks")


def ask(browser: Client, action: str, query: str = "", **more: str) -> Any:
    """Choose an action for all that match, and look at the page that asks."""
    return browser.post(f"{TASKS}?{query}", {"action": action, "taskq_all": "1", "index": "0", **more})


def confirm(browser: Client, response: Any, query: str = "", **more: str) -> Any:
    """Say yes."""
    return browser.post(f"{TASKS}?{query}", {**hidden(response), **more}, follow=True)


def hidden(response: Any) -> dict[str, str]:
    """Return what a page that asks sends along."""
    text = response.content.decode().split('id="content"')[1]
    found = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text))
    found.pop("csrfmiddlewaretoken", None)
    return found


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        ("retry_tasks", State.FAILED, {"READY"}),
        ("run_tasks_now", State.SCHEDULED, {"READY"}),
        ("cancel_tasks", State.READY, {"CANCELLED"}),
        ("discard_tasks", State.FAILED, set()),
        ("delete_tasks", State.SUCCESSFUL, set()),
    ],
)
def test_something_is_done_to_all_that_match(action: str, before: State, after: set[str]) -> None:
    make_tasks(3, state=before, queue_name="mail")
    (other,) = make_tasks(state=before)
    browser = clerk(*OPERATOR, "delete_tasks")
    query = "queue=mail"
    page = ask(browser, action, query)
    text = page.content.decode()
    assert "queue:mail" in text
    assert "3 tasks match." in text
    assert not OperationRecord.objects.exists()
    response = confirm(browser, page, query)
    operation = OperationRecord.objects.get()
    assert response.redirect_chain == [(f"{OPERATIONS}{operation.pk}/change/", 302)]
    assert "No worker is alive" in response.content.decode()
    entry = LogEntry.objects.get()
    assert entry.object_id == str(operation.pk)
    assert "queue:mail" in entry.change_message
    # The same page sent twice asks once.
    assert "This was asked for before" in confirm(browser, page, query).content.decode()
    assert OperationRecord.objects.count() == 1
    work_off("default")
    assert set(TaskRecord.objects.exclude(pk=other.pk).values_list("state", flat=True)) == after
    other.refresh_from_db()
    assert other.state == before
    text = browser.get(f"{OPERATIONS}{operation.pk}/change/").content.decode()
    assert 'data-taskq-progress="over"' in text
    assert 'value="100"' in text
    assert "3 changed of 3" in text


def test_all_are_put_into_another_queue() -> None:
    make_tasks(2, state=State.READY)
    browser = clerk(*OPERATOR)
    page = ask(browser, "requeue_tasks")
    again = confirm(browser, page)
    assert "Give a queue, a priority, or both." in again.content.decode()
    response = confirm(browser, again, queue=SCRIPT, priority="4")
    assert SCRIPT not in response.content.decode()
    assert "Requeue, to queue &lt;script&gt;" in response.content.decode()
    work_off("default")
    assert set(TaskRecord.objects.values_list("queue_name", "priority")) == {(SCRIPT, 4)}
    assert SCRIPT not in browser.get(f"{OPERATIONS}{OperationRecord.objects.get().pk}/change/").content.decode()
    assert SCRIPT not in browser.get(OPERATIONS).content.decode()


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("q=args.order_id:1", "cannot be acted on as a whole"),
        ("q=state:running", "Nothing can be done here to tasks in this state."),
        ("q=queue:a&queue=b", "No task can be meant"),
        ("q=nonsense:1", "is not known here"),
    ],
)
def test_what_cannot_be_meant_is_said(query: str, problem: str) -> None:
    browser = clerk(*OPERATOR, "view_payload")
    response = browser.post(f"{TASKS}?{query}", {"action": "retry_tasks", "taskq_all": "1", "index": "0"}, follow=True)
    assert problem in response.content.decode()
    assert not OperationRecord.objects.exists()


def test_an_operator_who_may_not_see_errors_does_not_act_by_them() -> None:
    response = clerk(*OPERATOR).post(
        f"{TASKS}?q=error:x", {"action": "retry_tasks", "taskq_all": "1", "index": "0", "post": "yes"}, follow=True
    )
    assert "only for those who may see them" in response.content.decode()
    assert not OperationRecord.objects.exists()


@pytest.mark.parametrize(
    ("codenames", "action", "status"),
    [
        (("view_taskrecord",), "retry_tasks", 403),
        (("view_taskrecord", "delete_tasks"), "discard_tasks", 403),
        (OPERATOR, "delete_tasks", 403),
        (("operate_tasks",), "retry_tasks", 403),
        (OPERATOR, "duplicate_tasks", 302),
        (OPERATOR, "nonsense", 302),
        (OPERATOR, "", 302),
    ],
)
def test_who_may_not_asks_for_nothing(codenames: tuple[str, ...], action: str, status: int) -> None:
    make_tasks(state=State.FAILED)
    browser = clerk(*codenames)
    for more in ({}, {"post": "yes", "token": "0" * 32}):
        assert ask(browser, action, **more).status_code == status
    assert not OperationRecord.objects.exists()
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("token", ["", "x", "0" * 33])
def test_without_a_page_that_asks_nothing_is_done(token: str) -> None:
    browser = clerk(*OPERATOR)
    response = browser.post(
        TASKS, {"action": "retry_tasks", "taskq_all": "1", "post": "yes", "token": token}, follow=True
    )
    assert "This page is too old" in response.content.decode()
    assert not OperationRecord.objects.exists()


def begun(browser: Client, count: int = 3) -> OperationRecord:
    make_tasks(count, state=State.FAILED)
    confirm(browser, ask(browser, "retry_tasks"))
    return OperationRecord.objects.get()


def test_it_is_aborted_by_post_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_taskq.bulk.SLICE", 2)
    browser = clerk(*OPERATOR)
    operation = begun(browser, 5)
    assert carry_on("default", operation.pk)
    url = f"{OPERATIONS}{operation.pk}/"
    text = browser.get(f"{url}change/").content.decode()
    assert f'action="{url}abort/"' in text
    assert 'data-taskq-progress="moving"' in text
    assert browser.get(f"{url}abort/").status_code == 405
    assert "What was done stays done." in browser.post(f"{url}abort/", follow=True).content.decode()
    assert "was over before" in browser.post(f"{url}abort/", follow=True).content.decode()
    assert "abort/" not in browser.get(f"{url}change/").content.decode()
    work_off("default")
    assert TaskRecord.objects.filter(state="READY").count() == 2


def test_it_is_aborted_by_who_may_do_what_it_does_alone() -> None:
    operation = begun(clerk(*OPERATOR))
    url = f"{OPERATIONS}{operation.pk}/"
    for names in (("delete_tasks",), ("view_operationrecord",), ("view_taskrecord",)):
        browser = clerk_named(*names)
        expected = 403 if names == ("view_taskrecord",) else 200
        assert browser.get(f"{url}change/").status_code == expected
        assert browser.get(OPERATIONS).status_code == expected
        assert browser.post(f"{url}abort/").status_code == 403
    strict = clerk_named("operate_tasks", enforce_csrf_checks=True)
    assert strict.post(f"{url}abort/").status_code == 403
    operation.refresh_from_db()
    assert operation.state == "WAITING"
    assert Client().get(f"{url}change/").status_code == 302


def clerk_named(*codenames: str, **options: Any) -> Client:
    from django.contrib.auth.models import Permission, User

    user = User.objects.create_user(f"clerk {codenames} {options}"[:150], is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client(**options)
    client.force_login(user)
    return client


def test_its_pages_take_few_queries_and_no_scripts_of_their_own() -> None:
    browser = clerk(*OPERATOR)
    operation = begun(browser)
    KeeperRecord.objects.create(name="keeper", holder="w", expires_at=database_now("default").replace(year=2999))
    text = ""
    for url in (OPERATIONS, f"{OPERATIONS}{operation.pk}/change/"):
        with CaptureQueriesContext(connection) as queries:
            text = browser.get(url).content.decode()
        assert len(queries) <= 8
        assert "No worker is alive" not in text
        own = text.split('id="content"')[1]
        assert "style=" not in own.split("</div>\n</div>")[0]
        assert "<script" not in own.split('id="footer"')[0]
    assert "django_taskq/progress.js" in text
    assert browser.get(f"{OPERATIONS}4711/change/").status_code == 404


def test_a_spoilt_row_is_shown_as_it_is() -> None:
    browser = clerk(*OPERATOR)
    operation = begun(browser)
    OperationRecord.objects.filter(pk=operation.pk).update(search="[1", verb="dance", error=SCRIPT)
    text = browser.get(f"{OPERATIONS}{operation.pk}/change/").content.decode()
    assert "[1" in text
    assert SCRIPT not in text
    assert browser.get(OPERATIONS).status_code == 200
    assert browser.post(f"{OPERATIONS}{operation.pk}/abort/").status_code == 403


# --- failures


def test_a_small_group_is_discarded_at_once_after_a_question() -> None:
    make_tasks(3, state=State.FAILED)
    make_tasks(2, state=State.FAILED, fingerprint="aa")
    browser = clerk(*OPERATOR)
    data = {"group": GROUP, "verb": "discard"}
    page = browser.post(FAILURES, data)
    assert "<li>3 tasks</li>" in page.content.decode()
    assert TaskRecord.objects.count() == 5
    response = browser.post(FAILURES, hidden(page), follow=True)
    assert "3 tasks were discarded." in response.content.decode()
    assert set(TaskRecord.objects.values_list("fingerprint", flat=True)) == {"aa"}
    assert LogEntry.objects.count() == 3
    # Twice is once.
    assert "0 tasks were discarded." in browser.post(FAILURES, hidden(page), follow=True).content.decode()


@pytest.mark.parametrize("verb", ["retry", "discard"])
def test_a_large_group_is_an_operation(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_AT_ONCE", 2)
    make_tasks(3, state=State.FAILED)
    make_tasks(1, state=State.FAILED, fingerprint="aa")
    browser = clerk(*OPERATOR)
    listed = browser.get(FAILURES).content.decode()
    token = re.search(rf'value="{GROUP}"><input type="hidden" name="token" value="(\w+)"', listed)
    assert token is not None
    data = {"group": GROUP, "verb": verb, "token": token[1]}
    if verb == "discard":
        page = browser.post(FAILURES, data)
        assert "More than 2 tasks" in page.content.decode()
        data = hidden(page)
    asked = [browser.post(FAILURES, data, follow=True) for _ in range(2)]
    operation = OperationRecord.objects.get()
    for response in asked:
        assert response.redirect_chain == [(f"{OPERATIONS}{operation.pk}/change/", 302)]
    work_off("default")
    left = {("aa", "FAILED")} | ({(None, "READY")} if verb == "retry" else set())
    assert set(TaskRecord.objects.values_list("fingerprint", "state")) == left
    operation.refresh_from_db()
    assert operation.changed == 3


@pytest.mark.parametrize("verb", ["retry", "discard"])
def test_a_group_is_left_alone_by_who_may_only_look(verb: str) -> None:
    make_tasks(2, state=State.FAILED)
    data = {"group": GROUP, "verb": verb, "post": "yes", "token": "0" * 32}
    assert clerk("view_taskrecord", "delete_tasks").post(FAILURES, data).status_code == 403
    assert TaskRecord.objects.filter(state="FAILED").count() == 2
