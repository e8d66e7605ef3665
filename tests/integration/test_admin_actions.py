"""What people do in the admin: who may, to which states, once, and on the record."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from django_taskq import task
from django_taskq.admin import actions
from django_taskq.core.sensitive import HIDDEN
from django_taskq.core.states import FINAL, UNSUCCESSFUL, State
from django_taskq.models import OrderRecord, PauseRecord, TaskRecord
from django_taskq.testing import run_tasks
from tests.factories import make_tasks, make_worker

pytestmark = pytest.mark.django_db


@task(sensitive=["password"])
def login(user: str, password: str = "") -> str:
    """A task that has a secret."""
    return f"{user} {password}"


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


def seed_of(response: Any) -> str:
    """Read what a page that asks sends along."""
    found = re.search(r'name="seed" value="([^"]+)"', response.content.decode())
    assert found is not None
    return found[1]


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
        ("requeue_tasks", State.SCHEDULED, State.READY),
        ("requeue_tasks", State.CANCELLED, State.CANCELLED),
        *[("discard_tasks", one, None if one in UNSUCCESSFUL else one) for one in State],
        *[("delete_tasks", one, None if one in FINAL else one) for one in State],
    ],
)
def test_only_legal_moves_happen(action: str, before: State, after: State | None) -> None:
    [record], [other] = make_tasks(state=before), make_tasks(state=before)
    act(browser_of("operate_tasks", "delete_tasks"), action, record, post="yes", queue="slow")
    assert list(TaskRecord.objects.filter(pk=record.pk).values_list("state", flat=True)) == ([after] if after else [])
    assert state(other) == before


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
    assert "1 Successful: left alone" in text
    entries = LogEntry.objects.all()
    assert {entry.object_id for entry in entries} == {str(row.pk) for row in (*failed, *done)}
    assert {entry.change_message for entry in entries} == {"Asked for: Retry"}


def test_twice_at_once_happens_once() -> None:
    [record] = make_tasks(state=State.FAILED)
    browser = browser_of("operate_tasks")
    act(browser, "retry_tasks", record)
    response = act(browser, "retry_tasks", record)
    assert "1 Ready: left alone" in response.content.decode()
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
    act(browser, action, *rows, post="yes", queue="slow")
    assert [state(row) for row in rows] == [State.FAILED, State.SCHEDULED, State.READY]
    assert browser.get(f"{TASKS}{rows[0].pk}/duplicate/").status_code == 403
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


@pytest.mark.parametrize("action", ["discard_tasks", "delete_tasks", "requeue_tasks"])
def test_what_cannot_be_taken_back_is_asked_first(action: str) -> None:
    rows = [*make_tasks(2, state=State.FAILED), *make_tasks(state=State.READY)]
    response = act(browser_of("operate_tasks", "delete_tasks"), action, *rows)
    text = response.content.decode()
    failed, ready = "<li>2: Failed", "<li>1: Ready"
    if action == "requeue_tasks":
        assert f"{failed} – left alone</li>" in text
        assert f"{ready}</li>" in text
    else:
        assert f"{failed}</li>" in text
        assert f"{ready} – left alone</li>" in text
    assert all(f'name="_selected_action" value="{row.pk}"' in text for row in rows)
    assert TaskRecord.objects.count() == 3
    assert not LogEntry.objects.exists()


def test_to_delete_history_takes_another_permission_than_to_discard_failures() -> None:
    [record] = make_tasks(state=State.FAILED)
    operator = browser_of("operate_tasks")
    assert "delete_tasks" not in operator.get(f"{TASKS}{record.pk}/change/").content.decode()
    act(operator, "delete_tasks", record, post="yes")
    assert state(record) == State.FAILED
    response = act(operator, "discard_tasks", record, post="yes")
    assert "Discard: 1 deleted." in response.content.decode()
    assert not TaskRecord.objects.exists()
    # Twice is once.
    assert "None of these tasks" in act(operator, "discard_tasks", record, post="yes").content.decode()


def test_who_may_delete_may_not_operate() -> None:
    [record] = make_tasks(state=State.FAILED)
    cleaner = browser_of("delete_tasks")
    act(cleaner, "discard_tasks", record, post="yes")
    act(cleaner, "retry_tasks", record)
    assert state(record) == State.FAILED
    act(cleaner, "delete_tasks", record, post="yes")
    assert not TaskRecord.objects.exists()


@pytest.mark.parametrize(
    ("given", "queue", "priority", "said"),
    [
        ({"queue": "slow"}, "slow", 0, "1 moved to slow, 1 Failed: left alone"),
        ({"priority": "7"}, "default", 7, "1 given priority 7, 1 Failed: left alone"),
        ({"queue": SCRIPT, "priority": "-100"}, SCRIPT, -100, "and given priority -100"),
    ],
)
def test_tasks_go_to_another_queue_or_priority(given: dict[str, str], queue: str, priority: int, said: str) -> None:
    [record], [failed] = make_tasks(state=State.READY), make_tasks(state=State.FAILED)
    response = act(browser_of("operate_tasks"), "requeue_tasks", record, failed, post="yes", **given)
    text = response.content.decode()
    assert SCRIPT not in text
    assert all(part in text for part in said.split(", "))
    record.refresh_from_db()
    assert (record.state, record.queue_name, record.priority) == ("READY", queue, priority)
    failed.refresh_from_db()
    assert (failed.state, failed.queue_name, failed.priority) == ("FAILED", "default", 0)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "Give a queue, a priority, or both."),
        ({"priority": "101"}, "less than or equal to 100"),
        ({"priority": "x"}, "Enter a whole number."),
        ({"queue": "q" * 129}, "at most 128 characters"),
        ({"queue": "a\0b"}, "Null characters are not allowed."),
    ],
)
def test_a_queue_that_cannot_be_is_said_at_its_field(given: dict[str, str], problem: str) -> None:
    [record] = make_tasks(state=State.READY)
    response = act(browser_of("operate_tasks"), "requeue_tasks", record, post="yes", **given)
    assert problem in response.content.decode()
    record.refresh_from_db()
    assert (record.queue_name, record.priority) == ("default", 0)
    assert not LogEntry.objects.exists()


# --- duplicates


def test_a_duplicate_has_other_arguments_and_is_there_once() -> None:
    [record] = make_tasks(name=f"{__name__}.login", arguments='[["ann"],{}]', priority=3, metadata='{"a":1}')
    browser = browser_of("operate_tasks", "view_payload")
    response = act(browser, "duplicate_tasks", record)
    assert response.redirect_chain == [(f"{TASKS}{record.pk}/duplicate/", 302)]
    seed = seed_of(response)
    assert "&quot;ann&quot;" in response.content.decode()
    data = {"args": '["bob"]', "kwargs": '{"password": "x"}', "queue": "default", "priority": "5", "seed": seed}
    url = f"{TASKS}{record.pk}/duplicate/"
    response = browser.post(url, data, follow=True)
    assert "This task was enqueued." in response.content.decode()
    [copy] = TaskRecord.objects.exclude(pk=record.pk)
    assert response.redirect_chain == [(f"{TASKS}{copy.pk}/change/", 302)]
    assert (copy.name, copy.state, copy.queue_name, copy.priority) == (record.name, "READY", "default", 5)
    assert (copy.arguments, copy.metadata, copy.attempt) == ('[["bob"],{"password":"x"}]', '{"a":1}', 0)
    # The same page sent twice.
    response = browser.post(url, data, follow=True)
    assert "enqueued before: it is there once" in response.content.decode()
    assert TaskRecord.objects.count() == 2
    assert LogEntry.objects.filter(object_id=str(record.pk), change_message="Asked for: Duplicate").count() == 2
    assert run_tasks() == 1
    copy.refresh_from_db()
    assert copy.result == '"bob x"'


def test_what_is_hidden_is_taken_over_as_it_is_or_written_anew_but_not_shown() -> None:
    [record] = make_tasks(name=f"{__name__}.login", arguments='[["ann","hunter22"],{}]')
    browser = browser_of("operate_tasks", "view_payload")
    url = f"{TASKS}{record.pk}/duplicate/"
    response = browser.get(url)
    assert "hunter22" not in response.content.decode()
    assert "leave both fields empty" in response.content.decode()
    data = {"queue": "default", "priority": "0", "seed": seed_of(response)}
    # Nobody gets at the secret by sending it elsewhere.
    response = browser.post(url, {**data, "args": f'["eve", "{HIDDEN}"]', "kwargs": "{}"})
    assert "Write what is hidden anew" in response.content.decode()
    assert TaskRecord.objects.count() == 1
    browser.post(url, {**data, "args": "", "kwargs": ""})
    [copy] = TaskRecord.objects.exclude(pk=record.pk)
    assert copy.arguments == record.arguments


def test_who_may_not_see_arguments_copies_them_unseen() -> None:
    [record] = make_tasks(name=f"{__name__}.login", arguments='[["ann"],{}]')
    browser = browser_of("operate_tasks")
    url = f"{TASKS}{record.pk}/duplicate/"
    response = browser.get(url)
    text = response.content.decode()
    assert "ann&quot;" not in text
    assert 'name="args"' not in text
    browser.post(url, {"args": '["eve"]', "queue": "default", "priority": "0", "seed": seed_of(response)})
    [copy] = TaskRecord.objects.exclude(pk=record.pk)
    assert copy.arguments == '[["ann"],{}]'


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"args": "{"}, "This is not a JSON list."),
        ({"args": "{}"}, "This is not a JSON list."),
        ({"kwargs": "[]"}, "This is not a JSON object."),
        ({"args": "[1, 2, 3]"}, "too many positional arguments"),
        ({"kwargs": '{"nobody": 1}'}, "unexpected keyword argument"),
        ({"args": '["\\u0000"]'}, "This is not a JSON list."),
        ({"queue": ""}, "This field is required."),
        ({"queue": "nowhere"}, "is not valid for backend"),
        ({"priority": "1000"}, "less than or equal to 100"),
        ({"seed": "0"}, "This page is too old"),
    ],
)
def test_a_duplicate_that_cannot_run_is_refused(changes: dict[str, str], problem: str) -> None:
    [record] = make_tasks(name=f"{__name__}.login", arguments='[["ann"],{}]')
    browser = browser_of("operate_tasks", "view_payload")
    url = f"{TASKS}{record.pk}/duplicate/"
    data = {"args": '["bob"]', "kwargs": "{}", "queue": "default", "priority": "5", "seed": seed_of(browser.get(url))}
    text = browser.post(url, {**data, **changes}).content.decode()
    assert problem in text
    assert TaskRecord.objects.count() == 1
    assert not LogEntry.objects.exists()


def test_a_task_that_nobody_knows_is_not_duplicated() -> None:
    rows = make_tasks(2, name="shop.gone")
    browser = browser_of("operate_tasks", "view_payload")
    url = f"{TASKS}{rows[0].pk}/duplicate/"
    data = {"args": "", "kwargs": "", "queue": "default", "priority": "5", "seed": seed_of(browser.get(url))}
    assert "No task is named" in browser.post(url, data).content.decode()
    seed = seed_of(act(browser, "duplicate_tasks", *rows))
    assert "No task is named" in act(browser, "duplicate_tasks", *rows, post="yes", seed=seed).content.decode()
    assert TaskRecord.objects.count() == 2


def test_many_are_duplicated_as_they_are_and_once() -> None:
    rows = make_tasks(3, state=State.FAILED, arguments="[[],{}]", options='{"max_attempts":4}')
    browser = browser_of("operate_tasks")
    response = act(browser, "duplicate_tasks", *rows)
    assert "3 tasks" in response.content.decode()
    assert TaskRecord.objects.count() == 3
    seed = seed_of(response)
    assert "3 tasks were enqueued." in act(browser, "duplicate_tasks", *rows, post="yes", seed=seed).content.decode()
    again = act(browser, "duplicate_tasks", *rows, post="yes", seed=seed)
    assert "0 tasks were enqueued. The others were enqueued before." in again.content.decode()
    assert TaskRecord.objects.count() == 6
    assert set(TaskRecord.objects.filter(state="READY").values_list("options", flat=True)) == {'{"max_attempts":4}'}
    assert [state(row) for row in rows] == [State.FAILED] * 3


def test_a_duplicate_takes_a_token_and_a_post() -> None:
    [record] = make_tasks()
    browser = browser_of("operate_tasks", enforce_csrf_checks=True)
    url = f"{TASKS}{record.pk}/duplicate/"
    data = {"queue": "default", "priority": "5", "seed": seed_of(browser.get(url))}
    assert browser.post(url, data).status_code == 403
    browser.get(url, data)
    assert TaskRecord.objects.count() == 1


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
