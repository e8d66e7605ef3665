"""What people do in the admin: who may, to which states, once, and on the record."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from django_taskq.admin import actions
from django_taskq.core.states import State
from django_taskq.models import OrderRecord, PauseRecord, TaskRecord
from tests.factories import make_tasks, make_worker

pytestmark = pytest.mark.django_db

TASKS = "/admin/django_taskq/taskrecord/"
WORKERS = "/admin/django_taskq/workerrecord/"
PAUSES = "/admin/django_taskq/pauserecord/"
SCRIPT = "<script>alert(1)</script>"


def browser_of(*codenames: str, **options: Any) -> Client:
    """Return the browser of somebody with these permissions; by default of a viewer."""
    names = ("view_taskrecord", "view_workerrecord", "view_pauserecord", *codenames)
    user = User.objects.create_user("ann", is_staff=True)
    permissions = Permission.objects.filter(content_type__app_label="django_taskq", codename__in=names)
    assert len(permissions) == len(names)
    user.user_permissions.set(permissions)
    client = Client(**options)
    client.force_login(user)
    return client


def act(browser: Client, action: str, *rows: Any, page: str = TASKS, **more: Any) -> Any:
    """Choose an action for these rows in the list."""
    data = {"action": action, "_selected_action": [str(row.pk) for row in rows], "index": "0", **more}
    return browser.post(page, data, follow=True)


def state(record: TaskRecord) -> str:
    return TaskRecord.objects.values_list("state", flat=True).get(pk=record.pk)


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        ("retry_tasks", State.FAILED, State.READY),
        ("retry_tasks", State.CANCELLED, State.READY),
        ("retry_tasks", State.SUCCESSFUL, State.SUCCESSFUL),
        ("run_tasks_now", State.SCHEDULED, State.READY),
        ("run_tasks_now", State.FAILED, State.FAILED),
        ("cancel_tasks", State.READY, State.CANCELLED),
        ("cancel_tasks", State.FAILED, State.FAILED),
    ],
)
def test_only_legal_moves_happen(action: str, before: State, after: State) -> None:
    [record] = make_tasks(state=before)
    act(browser_of("operate_tasks"), action, record)
    assert state(record) == after


def test_a_running_task_is_asked_to_stop() -> None:
    [record] = make_tasks(state=State.RUNNING)
    response = act(browser_of("operate_tasks"), "cancel_tasks", record)
    assert "Cancel: 1 asked to stop." in response.content.decode()
    record.refresh_from_db()
    assert (record.state, record.cancel_requested) == (State.RUNNING, True)


def test_what_was_left_alone_is_counted_and_what_was_asked_is_logged() -> None:
    failed, done = make_tasks(2, state=State.FAILED), make_tasks(state=State.SUCCESSFUL)
    response = act(browser_of("operate_tasks"), "retry_tasks", *failed, *done)
    text = response.content.decode()
    assert "2 ready again" in text
    assert "1 SUCCESSFUL: left alone" in text
    entries = LogEntry.objects.all()
    assert {entry.object_id for entry in entries} == {str(row.pk) for row in (*failed, *done)}
    assert {entry.change_message for entry in entries} == {"Asked for: Retry"}


def test_twice_at_once_happens_once() -> None:
    [record] = make_tasks(state=State.FAILED)
    browser = browser_of("operate_tasks")
    act(browser, "retry_tasks", record)
    response = act(browser, "retry_tasks", record)
    assert "1 READY: left alone" in response.content.decode()
    assert state(record) == State.READY


def test_a_task_that_is_gone_means_no_other_one() -> None:
    gone, other = make_tasks(2, state=State.FAILED)
    TaskRecord.objects.filter(pk=gone.pk).delete()
    act(browser_of("operate_tasks"), "retry_tasks", gone)
    assert state(other) == State.FAILED


def test_one_request_changes_a_bounded_number_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "MAX_TASKS", 2)
    rows = make_tasks(3, state=State.FAILED)
    response = act(browser_of("operate_tasks"), "retry_tasks", *rows)
    assert "These were the first 2; there are more." in response.content.decode()
    assert [state(row) for row in rows] == [State.READY, State.READY, State.FAILED]


@pytest.mark.parametrize("action", actions.TaskActions.actions)
def test_who_may_only_look_changes_nothing(action: str) -> None:
    rows = [make_tasks(state=one)[0] for one in (State.FAILED, State.SCHEDULED, State.READY)]
    browser = browser_of("control_queues", "control_workers")
    assert action not in browser.get(TASKS).content.decode()
    act(browser, action, *rows)
    assert [state(row) for row in rows] == [State.FAILED, State.SCHEDULED, State.READY]
    assert not LogEntry.objects.exists()


def test_get_and_a_missing_token_change_nothing() -> None:
    [record] = make_tasks(state=State.FAILED)
    browser = browser_of("operate_tasks", enforce_csrf_checks=True)
    data = {"action": "retry_tasks", "_selected_action": str(record.pk), "index": "0"}
    browser.get(TASKS, data)
    assert browser.post(TASKS, data).status_code == 403
    assert state(record) == State.FAILED


def test_a_page_offers_what_its_state_allows_and_does_it() -> None:
    [record] = make_tasks(state=State.FAILED, name=SCRIPT)
    browser = browser_of("operate_tasks")
    text = browser.get(f"{TASKS}{record.pk}/change/").content.decode()
    assert 'value="retry_tasks"' in text
    assert "cancel_tasks" not in text
    assert f'formaction="{TASKS}?q={record.pk}"' in text
    # What the button on the page sends.
    data = {"action": "retry_tasks", "_selected_action": str(record.pk)}
    response = browser.post(f"{TASKS}?q={record.pk}", data, follow=True)
    assert state(record) == State.READY
    assert SCRIPT not in response.content.decode()


def test_a_viewers_page_offers_nothing() -> None:
    [record] = make_tasks(state=State.FAILED)
    assert "retry_tasks" not in browser_of().get(f"{TASKS}{record.pk}/change/").content.decode()


@pytest.mark.parametrize(
    ("action", "verb"), [("drain_workers", "drain"), ("resume_workers", "resume"), ("stop_workers", "stop")]
)
def test_workers_are_told(action: str, verb: str) -> None:
    worker = make_worker()
    response = act(browser_of("control_workers"), action, worker, page=WORKERS)
    assert "1 process is asked to." in response.content.decode()
    assert list(OrderRecord.objects.values_list("worker_id", "verb")) == [(worker.pk, verb)]
    assert LogEntry.objects.get().object_id == worker.pk


def test_workers_are_not_told_by_others() -> None:
    act(browser_of("operate_tasks", "control_queues"), "stop_workers", make_worker(), page=WORKERS)
    assert not OrderRecord.objects.exists()


def test_a_queue_is_paused_and_resumed() -> None:
    browser = browser_of("control_queues")
    text = browser.post(f"{PAUSES}add/", {"kind": "queue", "name": SCRIPT}, follow=True).content.decode()
    assert SCRIPT not in text
    pause = PauseRecord.objects.get()
    assert (pause.kind, pause.name, pause.paused_by) == ("queue", SCRIPT, "ann")
    assert SCRIPT not in browser.get(f"{PAUSES}{pause.pk}/change/").content.decode()
    assert PauseRecord.objects.count() == 1
    browser.post(f"{PAUSES}{pause.pk}/delete/", {"post": "yes"})
    assert not PauseRecord.objects.exists()
    assert LogEntry.objects.count() == 2


def test_what_is_paused_already_is_said() -> None:
    browser = browser_of("control_queues")
    browser.post(f"{PAUSES}add/", {"kind": "queue", "name": "mail"})
    response = browser.post(f"{PAUSES}add/", {"kind": "queue", "name": "mail"})
    assert response.status_code == 200
    assert "already exists" in response.content.decode()
    assert PauseRecord.objects.count() == 1


def test_queues_are_not_paused_nor_resumed_by_others() -> None:
    browser = browser_of("operate_tasks", "control_workers")
    assert browser.post(f"{PAUSES}add/", {"kind": "queue", "name": "mail"}).status_code == 403
    pause = PauseRecord.objects.create(kind="queue", name="slow", paused_at=make_worker().started_at)
    assert browser.post(f"{PAUSES}{pause.pk}/delete/", {"post": "yes"}).status_code == 403
    assert list(PauseRecord.objects.values_list("name", flat=True)) == ["slow"]
