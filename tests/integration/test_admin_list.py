"""The admin: what it shows, what it hides, who may look, and what a page costs."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_taskq import TaskContext, task
from django_taskq.admin.display import MAX_SHOWN
from django_taskq.core.outcome import AttemptError
from django_taskq.core.sensitive import HIDDEN
from django_taskq.core.states import State
from django_taskq.finding import pages
from django_taskq.models import TaskRecord
from tests.factories import WORKER, make_tasks, make_worker
from tests.staff import clerk

pytestmark = pytest.mark.django_db

TASKS = "/admin/django_taskq/taskrecord/"
WORKERS = "/admin/django_taskq/workerrecord/"

#: What must never reach a browser as it is.
SCRIPT = "<script>alert(1)</script>"


@task(sensitive=["password"])
def login(user: str, password: str, **more: str) -> None:
    """A task that has a secret."""


@task(takes_context=True, sensitive=["token"])
def fetch(context: TaskContext, url: str, token: str) -> None:
    """A task that has a secret, after the context."""


@task
def plain(*values: object, **named: object) -> None:
    """A task that has none."""


LOGIN, FETCH, PLAIN = (f"tests.integration.test_admin_list.{name}" for name in ("login", "fetch", "plain"))


@pytest.fixture
def superuser() -> User:
    return User.objects.create_superuser("root")


@pytest.fixture
def browser(superuser: User) -> Client:
    client = Client()
    client.force_login(superuser)
    return client


def listed(response: Any) -> list[str]:
    """Return the links' texts in the list."""
    rows = re.findall(r'<th class="field-name"><a [^>]*>(.*?)</a>', response.content.decode())
    return [html.unescape(row) for row in rows]


def page_of(record: TaskRecord) -> str:
    return f"{TASKS}{record.pk}/change/"


def field(response: Any, name: str) -> str:
    """Return one field of a page as the reader sees it, without mark-up."""
    found = re.search(rf'field-{name}">(.*?)</div>\s*</div>\s*</div>', response.content.decode(), re.DOTALL)
    assert found is not None, f"no field {name}"
    text = re.sub(r"<label>.*?</label>", "", found[1], flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", "", text)).strip()


def shown(browser: Client, record: TaskRecord, name: str) -> str:
    response = browser.get(page_of(record))
    assert response.status_code == 200
    assert SCRIPT not in response.content.decode()
    return field(response, name)


# ---- the list --------------------------------------------------------------------------------------------------


def test_the_list_shows_the_newest_first_whatever_the_query_string_says(browser: Client) -> None:
    for name in ("first", "second", "third"):
        make_tasks(name=name)

    assert listed(browser.get(TASKS)) == ["third", "second", "first"]
    assert listed(browser.get(TASKS, {"o": "1"})) == ["third", "second", "first"]


def test_the_list_shows_where_each_task_stands(browser: Client) -> None:
    moment = datetime(2026, 11, 20, 9, 8, 7, 123456, tzinfo=UTC)
    make_tasks(state=State.FAILED, queue_name="mail", enqueued_at=moment, finished_at=moment, duration=1.25, attempt=4)

    text = re.sub(r"<[^>]*>", " ", browser.get(TASKS).content.decode())
    for value in ("Failed", "mail", "4", "2026-11-20 09:08:07", "1.250 s", WORKER):
        assert value in text


@pytest.mark.parametrize("count", [0, 3, 250])
def test_the_list_takes_the_same_few_queries_however_many_rows_there_are(browser: Client, count: int) -> None:
    make_tasks(count, arguments='[["x"],{}]')
    with CaptureQueriesContext(connection) as queries:
        assert len(listed(browser.get(TASKS))) == min(count, 50)
    statements = [query["sql"] for query in queries if "django_taskq_task" in query["sql"]]
    # The names and the queues for the filters, the ids of the page, their rows; of none nothing is read.
    assert len(statements) == (3 if count else 2)
    assert len(queries) <= 6
    for statement in statements:
        assert "LIMIT" in statement or " IN (" in statement
        assert not re.search(r"DISTINCT|COUNT", statement)
        assert not re.search(
            r"\W(arguments|result|errors|log|headers|metadata|options|progress|worker_ids)\W", statement
        ), statement


def test_a_filter_by_state_lists_all_states_and_finds_one(browser: Client) -> None:
    for state in sorted(State):
        make_tasks(state=state, name=state.value)

    assert listed(browser.get(TASKS, {"state": "FAILED"})) == ["FAILED"]
    text = browser.get(TASKS).content.decode()
    for state in State:
        assert f"?state={state}" in text


def test_filters_by_queue_and_task_offer_what_is_known(browser: Client, settings: Any) -> None:
    settings.TASKS = {"default": {"BACKEND": "django_taskq.TaskqBackend", "QUEUES": ["configured"]}}
    make_tasks(queue_name="mail", name="shop.send")
    make_tasks(queue_name="slow", name="shop.report")

    text = browser.get(TASKS).content.decode()
    for offered in ("?queue=configured", "?queue=mail", "?queue=slow", "?task=shop.send", "?task=shop.report"):
        assert offered in text
    assert listed(browser.get(TASKS, {"queue": "mail"})) == ["shop.send"]
    assert listed(browser.get(TASKS, {"task": "shop.report"})) == ["shop.report"]
    assert listed(browser.get(TASKS, {"task": "shop.report", "queue": "mail"})) == []
    rare = browser.get(TASKS, {"queue": "rare"})
    assert listed(rare) == []
    assert "?queue=rare" in rare.content.decode()


@pytest.mark.parametrize(
    "lookup",
    ["arguments__startswith", "arguments__contains", "result", "name__icontains", "state__in", "worker_ids__regex"],
)
def test_other_lookups_are_refused_so_that_nobody_guesses_what_is_hidden(browser: Client, lookup: str) -> None:
    make_tasks(arguments='[["secret"],{}]')

    assert browser.get(TASKS, {lookup: "s"}).status_code == 400


def test_names_are_escaped_in_the_list_and_the_filters(browser: Client) -> None:
    make_tasks(name=SCRIPT, queue_name=SCRIPT, worker_id=SCRIPT)

    response = browser.get(TASKS)
    assert listed(response) == [SCRIPT]
    assert SCRIPT not in response.content.decode()


# ---- a task's page ---------------------------------------------------------------------------------------------


def test_a_page_shows_arguments_result_and_the_rest_as_indented_json(browser: Client) -> None:
    (record,) = make_tasks(
        name=PLAIN,
        arguments=json.dumps([[1, SCRIPT], {"é": None}]),
        result=json.dumps({"ok": [SCRIPT]}),
        metadata='{"step":3}',
        progress='{"done":1,"total":2,"message":""}',
        options='{"max_attempts":3}',
    )

    assert json.loads(shown(browser, record, "arguments_text")) == {"args": [1, SCRIPT], "kwargs": {"é": None}}
    assert shown(browser, record, "result_text") == json.dumps({"ok": [SCRIPT]}, indent=2)
    assert json.loads(shown(browser, record, "metadata_text")) == {"step": 3}
    assert json.loads(shown(browser, record, "progress_text"))["done"] == 1
    assert json.loads(shown(browser, record, "options_text")) == {"max_attempts": 3}


def test_a_result_of_none_is_not_no_result(browser: Client) -> None:
    (none,) = make_tasks(result="null")
    (nothing,) = make_tasks(state=State.READY)

    assert shown(browser, none, "result_text") == "null"
    assert shown(browser, nothing, "result_text") == "-"


def test_a_page_shows_every_error_the_newest_first(browser: Client) -> None:
    errors = [
        AttemptError(exception_class_path="shop.Broken", message=f"no {n} {SCRIPT}", traceback=traceback).line(
            attempt=n, worker=WORKER, at=datetime(2026, 11, 20, 9, n, 7, 123456, tzinfo=UTC)
        )
        for n, traceback in enumerate([f"Traceback\n  of 1 {SCRIPT}", ""], start=1)
    ]
    (record,) = make_tasks(state=State.FAILED, errors="".join(errors))

    text = shown(browser, record, "errors_text")
    assert text.index("Attempt 2, 2026-11-20 09:02:07.123") < text.index("Attempt 1, 2026-11-20 09:01:07.123")
    assert f"Traceback\n  of 1 {SCRIPT}" in text
    assert f"shop.Broken: no 2 {SCRIPT}" in text
    assert WORKER in text


def test_a_page_shows_what_the_task_logged_as_it_is(browser: Client) -> None:
    log = f"2026-11-28T20:00:00.000Z INFO shop: one {SCRIPT}\n2026-11-28T20:00:00.001Z INFO shop: two\n"
    logged, silent = make_tasks(name=PLAIN, log=log), make_tasks(name=PLAIN)

    assert shown(browser, logged[0], "log_text").strip() == log.strip()
    assert shown(browser, silent[0], "log_text") == "-"


@pytest.mark.parametrize("column", ["arguments", "options", "metadata", "result", "errors", "progress"])
@pytest.mark.parametrize("text", ["not JSON", "[1", "7", "[]", '"text"', "NaN", "[" * 100_000])
def test_a_row_that_somebody_spoilt_still_has_a_page(browser: Client, column: str, text: str) -> None:
    fields: dict[str, Any] = {column: text}
    (record,) = make_tasks(name=PLAIN, **fields)

    assert browser.get(page_of(record)).status_code == 200
    assert browser.get(TASKS).status_code == 200


def test_long_texts_are_cut(browser: Client) -> None:
    long = "x" * (3 * MAX_SHOWN)
    (record,) = make_tasks(name=PLAIN, result=json.dumps(long), arguments=json.dumps([[long], {}]))

    for name in ("result_text", "arguments_text"):
        text = shown(browser, record, name)
        assert len(text) <= MAX_SHOWN
        assert "characters left out" in text


def test_moments_are_in_the_project_s_time_zone(browser: Client, settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Kolkata"
    (record,) = make_tasks(enqueued_at=datetime(2026, 11, 20, 9, 8, 7, 123456, tzinfo=UTC))

    assert shown(browser, record, "enqueued_exactly") == "2026-11-20 14:38:07.123"


def ended_badly(name: str, arguments: object, **fields: Any) -> TaskRecord:
    errors = AttemptError(
        exception_class_path="shop.Broken",
        message="no s3cret",
        traceback='Traceback\n  File "/srv/app/shop.py", line 3, in pay\n    own(line)\n  File "/usr/lib/python3.11/json/'
        'decoder.py", line 4, in decode\n    theirs(line)\nshop.Broken: no s3cret',
    ).line(attempt=1, worker=WORKER, at=datetime(2026, 11, 20, 9, 1, 7, tzinfo=UTC))
    values: dict[str, Any] = {"state": State.FAILED, "errors": errors, "arguments": json.dumps(arguments), **fields}
    return make_tasks(name=name, **values)[0]


def test_the_frames_of_libraries_stand_back(browser: Client) -> None:
    record = ended_badly(PLAIN, [[], {}])
    text = browser.get(page_of(record)).content.decode()
    (dimmed,) = re.findall(r'<span class="taskq-library">(.*?)</span>', text, re.DOTALL)
    assert "theirs(line)" in dimmed
    assert "own(line)" not in dimmed
    assert "shop.Broken" not in dimmed


def test_a_page_has_a_timeline_from_the_enqueue_to_the_end(browser: Client) -> None:
    moments = [datetime(2026, 11, 20, 9, minute, 0, tzinfo=UTC) for minute in range(4)]
    record = ended_badly(
        PLAIN,
        [[], {}],
        enqueued_at=moments[0],
        started_at=moments[0],
        last_attempted_at=moments[2],
        finished_at=moments[3],
        attempt=2,
    )
    text = shown(browser, record, "timeline_text")
    places = [
        text.index(one)
        for one in ("Enqueued", "Attempt 1 started", f"Attempt 1 failed on {WORKER}: shop.Broken", "Attempt 2 started")
    ]
    assert places == sorted(places)
    assert text.rstrip().endswith("Failed")
    assert "+60.000 s" in text or "+0:01:00" in text


@pytest.mark.parametrize("state", sorted(State))
def test_each_state_has_a_page_with_a_timeline(browser: Client, state: State) -> None:
    (record,) = make_tasks(state=state, name=PLAIN)
    assert "Enqueued" in shown(browser, record, "timeline_text")


def test_a_page_lists_the_newest_runs_of_its_task(browser: Client) -> None:
    (old,) = make_tasks(name=PLAIN)
    others = make_tasks(24, name=PLAIN)
    make_tasks(3, name="shop.other")
    text = browser.get(page_of(others[-1])).content.decode()
    runs = text.split('class="taskq-runs"')[1].split("</table>")[0]
    assert runs.count("<tr>") == 1 + 20
    assert str(others[-2].pk) in runs
    assert str(old.pk) not in runs


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        {"sentry-trace": "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1"},
    ],
)
def test_a_page_names_the_trace_and_the_headers(browser: Client, headers: dict[str, str]) -> None:
    (record,) = make_tasks(name=PLAIN, headers=json.dumps(headers))
    assert shown(browser, record, "trace_text") == "0af7651916cd43dd8448eb211c80319c"
    assert json.loads(shown(browser, record, "headers_text")) == headers


def test_a_page_takes_few_queries(browser: Client) -> None:
    record = ended_badly(PLAIN, [[], {}])
    make_tasks(30, name=PLAIN)
    with CaptureQueriesContext(connection) as queries:
        browser.get(page_of(record))
    assert len(queries) <= 8


def test_levels_of_log_lines_can_be_told_apart(browser: Client) -> None:
    (record,) = make_tasks(name=PLAIN, log="2026-11-28T20:00:00.000Z WARNING shop: slow\nplain text\n")
    assert '<span class="taskq-level-warning">WARNING</span> shop: slow' in browser.get(
        page_of(record)
    ).content.decode().replace("\n", " ")


# ---- pages and searches ----------------------------------------------------------------------------------------


def links(response: Any) -> dict[str, str]:
    found = re.search(r'<nav class="paginator.*?</nav>', response.content.decode(), re.DOTALL)
    assert found is not None
    pairs = re.findall(r'<a href="([^"]*)"[^>]*>(.*?)</a>', found[0])
    return {re.sub(r"[^A-Za-z ]", "", re.sub(r"&\w+;", "", text)).strip(): html.unescape(url) for url, text in pairs}


def test_pages_go_back_and_forth(browser: Client) -> None:
    make_tasks(60, name="old")
    make_tasks(60, name="new")
    first = browser.get(TASKS)
    assert (listed(first), list(links(first))) == (["new"] * 50, ["Older"])
    second = browser.get(TASKS + links(first)["Older"])
    assert (listed(second), list(links(second))) == (["new"] * 10 + ["old"] * 40, ["Newest", "Newer", "Older"])
    third = browser.get(TASKS + links(second)["Older"])
    assert (listed(third), list(links(third))) == (["old"] * 20, ["Newest", "Newer"])
    back = browser.get(TASKS + links(third)["Newer"])
    assert listed(back) == listed(second)
    assert listed(browser.get(TASKS + links(third)["Newest"])) == listed(first)


def test_pages_keep_filters_and_search_and_filters_go_back_to_the_first_page(browser: Client) -> None:
    make_tasks(60, name="shop.send", queue_name="mail")
    make_tasks(60, name="shop.send", queue_name="slow")
    first = browser.get(TASKS, {"queue": "mail", "q": "shop"})
    second = browser.get(TASKS + links(first)["Older"])
    assert listed(second) == ["shop.send"] * 10
    assert "queue=mail" in links(first)["Older"]
    assert "q=shop" in links(first)["Older"]
    filters = second.content.decode().split('id="changelist-filter"')[1]
    assert "p=b" not in filters


@pytest.mark.parametrize("cursor", ["7", "b7", "x" * 40, "b" + "z" * 32, "-1"])
def test_a_page_that_is_none_leads_to_the_first(browser: Client, cursor: str) -> None:
    make_tasks(name="shop.send")
    answer = browser.get(TASKS, {"p": cursor}, follow=True)
    assert (answer.status_code, listed(answer)) == (200, ["shop.send"])


def test_search_finds_by_id_beginning_and_qualifier(browser: Client) -> None:
    (wanted,) = make_tasks(name="shop.send", queue_name="mail")
    make_tasks(name="shop.send_all", arguments='[["shop.send"],{}]')

    assert listed(browser.get(TASKS, {"q": str(wanted.pk)})) == ["shop.send"]
    assert listed(browser.get(TASKS, {"q": f" {wanted.pk.hex.upper()} "})) == ["shop.send"]
    assert listed(browser.get(TASKS, {"q": "shop.send"})) == ["shop.send_all", "shop.send"]
    assert listed(browser.get(TASKS, {"q": "task:shop.send"})) == ["shop.send"]
    assert listed(browser.get(TASKS, {"q": "queue:mail", "state": "SUCCESSFUL"})) == ["shop.send"]
    assert listed(browser.get(TASKS, {"q": "queue:mail", "state": "FAILED"})) == []
    assert len(listed(browser.get(TASKS, {"q": " "}))) == 2


@pytest.mark.parametrize("text", ["colour:red", "id:7", "state:lost", "args:1"])
def test_a_search_that_cannot_be_meant_is_explained(browser: Client, text: str) -> None:
    make_tasks()
    answer = browser.get(TASKS, {"q": text})
    assert (answer.status_code, listed(answer)) == (200, [])
    assert 'class="warning"' in answer.content.decode()


def test_the_list_says_how_far_it_looked(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "WINDOW", 20)
    make_tasks(name="shop.rare", queue_name="rare")
    make_tasks(25)
    answer = browser.get(TASKS, {"q": "queue:rare"})
    assert "No more among the 20 tasks" in answer.content.decode()
    assert listed(browser.get(TASKS + links(answer)["Look further back"])) == ["shop.rare"]


# ---- who may see content ---------------------------------------------------------------------------------------


def test_content_is_masked_for_who_may_not_see_it() -> None:
    record = ended_badly(
        PLAIN, [["s3cret"], {}], result='"s3cret"', metadata='{"a":"s3cret"}', log="s3cret\n", progress='{"m":"s3cret"}'
    )
    viewer = clerk("view_taskrecord")
    text = viewer.get(page_of(record)).content.decode()
    assert "s3cret" not in text
    assert "Only for those who may see" in text
    assert "shop.Broken" in text
    for query in ("error:s3cret", "args.0:s3cret"):
        answer = viewer.get(TASKS, {"q": query})
        assert listed(answer) == []
        assert "only for those who may see them" in answer.content.decode()
    with CaptureQueriesContext(connection) as queries:
        viewer.get(TASKS)
    assert len(queries) <= 8


def test_content_is_shown_to_who_may_see_it() -> None:
    record = ended_badly(PLAIN, [["s3cret"], {}])
    reader = clerk("view_taskrecord", "view_payload")
    assert "s3cret" in reader.get(page_of(record)).content.decode()
    for query in ("error:s3cret", "args.0:s3cret"):
        assert listed(reader.get(TASKS, {"q": query})) == [PLAIN]


def test_what_is_sensitive_is_hidden_in_errors_logs_and_results_too(browser: Client) -> None:
    record = ended_badly(
        LOGIN,
        [["ann", "s3cret"], {}],
        result=json.dumps({"said": "s3cret", "token": "abc", "nested": [{"api_key": "xyz"}]}),
        log="2026-11-28T20:00:00.000Z INFO shop: took s3cret\n",
        metadata='{"a":"s3cret"}',
    )
    text = browser.get(page_of(record)).content.decode()
    for secret in ("s3cret", "&quot;abc&quot;", "&quot;xyz&quot;"):
        assert secret not in text
    assert "shop: took " + HIDDEN in re.sub(r"<[^>]*>", "", text)
    assert "ann" in text


def test_what_django_hides_by_its_name_is_hidden(browser: Client) -> None:
    shown_arguments = arguments(browser, {"api_key": "k", "city": "x"}, name=PLAIN, secret="s", user="ann")
    assert shown_arguments == {"args": [{"api_key": HIDDEN, "city": "x"}], "kwargs": {"secret": HIDDEN, "user": "ann"}}


# ---- what is sensitive -----------------------------------------------------------------------------------------


def arguments(browser: Client, *args: object, name: str, options: str = "", **kwargs: object) -> Any:
    """Return what the page of such a call shows."""
    (record,) = make_tasks(name=name, arguments=json.dumps([args, kwargs]), options=options)
    text = shown(browser, record, "arguments_text")
    return json.loads(text[: text.rindex("}") + 1])


def test_sensitive_arguments_are_hidden_by_position_and_by_name(browser: Client) -> None:
    assert arguments(browser, "ann", "1234", name=LOGIN, pin="1") == {"args": ["ann", HIDDEN], "kwargs": {"pin": "1"}}
    assert arguments(browser, "ann", password="1234", name=LOGIN) == {"args": ["ann"], "kwargs": {"password": HIDDEN}}


def test_the_context_takes_no_position(browser: Client) -> None:
    assert arguments(browser, "http://host", "t0ken", name=FETCH)["args"] == ["http://host", HIDDEN]


def test_a_single_call_can_name_more(browser: Client) -> None:
    options = '{"sensitive":["pin"]}'
    assert arguments(browser, "ann", "1234", pin="1", name=LOGIN, options=options) == {
        "args": ["ann", HIDDEN],
        "kwargs": {"pin": HIDDEN},
    }
    assert arguments(browser, pin="1", name=PLAIN, options=options)["kwargs"] == {"pin": HIDDEN}


def test_a_single_call_cannot_uncover_what_the_task_hides(browser: Client) -> None:
    assert arguments(browser, "ann", "1234", name=LOGIN, options='{"sensitive":[]}')["args"] == ["ann", HIDDEN]


@pytest.mark.parametrize("name", ["shop.tasks.gone", "os.system", "tests.taskapp.tasks.nothing"])
def test_of_a_task_that_is_not_here_everything_is_hidden(browser: Client, name: str) -> None:
    (record,) = make_tasks(name=name, arguments='[["s3cret"],{"key":"s3cret"}]')

    text = shown(browser, record, "arguments_text")
    assert "s3cret" not in text
    assert "nobody knows what is sensitive" in text


@pytest.mark.parametrize(
    "text", ["s3cret", '["s3cret"]', '{"password":"s3cret"}', json.dumps([["ann", "s3cret" + "x" * MAX_SHOWN], {}])]
)
def test_what_cannot_be_told_apart_is_hidden(browser: Client, text: str) -> None:
    (record,) = make_tasks(name=LOGIN, arguments=text)

    assert "s3cret" not in browser.get(page_of(record)).content.decode()


# ---- who may do what -------------------------------------------------------------------------------------------


def test_the_permissions_are_to_view_and_those_of_ours() -> None:
    permissions = Permission.objects.filter(content_type__app_label="django_taskq")
    assert sorted(permissions.values_list("codename", flat=True)) == [
        "change_schedules",
        "control_queues",
        "control_workers",
        "delete_tasks",
        "operate_tasks",
        "view_dashboard",
        "view_keeperrecord",
        "view_operationrecord",
        "view_orderrecord",
        "view_pauserecord",
        "view_payload",
        "view_schedulerecord",
        "view_taskrecord",
        "view_tickrecord",
        "view_workerrecord",
    ]


@pytest.mark.parametrize("url", [TASKS, WORKERS])
def test_staff_with_the_permission_may_look_and_others_may_not(url: str) -> None:
    clerk = User.objects.create_user("clerk", is_staff=True)
    client = Client()
    client.force_login(clerk)
    assert client.get(url).status_code == 403

    clerk.user_permissions.set(Permission.objects.filter(content_type__app_label="django_taskq"))
    assert client.get(url).status_code == 200


def test_nobody_adds_changes_or_deletes(browser: Client) -> None:
    (record,) = make_tasks(state=State.READY)
    worker = make_worker()

    for base, pk in ((TASKS, record.pk), (WORKERS, worker.pk)):
        assert browser.get(f"{base}add/").status_code == 403
        assert browser.post(f"{base}add/", {"name": "x"}).status_code == 403
        assert browser.post(f"{base}{pk}/change/", {"state": "FAILED", "name": "x"}).status_code == 403
        assert browser.post(f"{base}{pk}/delete/", {"post": "yes"}).status_code == 403
        browser.post(base, {"action": "delete_selected", "_selected_action": [str(pk)], "post": "yes"})
        page = browser.get(base).content.decode()
        assert "Add " not in page.split('id="content"')[1]
        assert "delete_selected" not in page
        for button in ("_save", "_addanother", "deletelink"):
            assert button not in browser.get(f"{base}{pk}/change/").content.decode()
    record.refresh_from_db()
    assert record.state == State.READY
    worker.refresh_from_db()


# ---- workers ---------------------------------------------------------------------------------------------------


def test_workers_are_alive_as_long_as_their_lease(browser: Client) -> None:
    make_worker(id="quick", lease=30.0, silent_for=5)
    make_worker(id="slow", lease=300.0, silent_for=60)
    make_worker(id="lost", lease=30.0, silent_for=60)

    page = browser.get(WORKERS).content.decode()
    assert (page.count('alt="True"'), page.count('alt="False"')) == (2, 1)
    for worker_id, alive in (("quick", "True"), ("slow", "True"), ("lost", "False")):
        assert f'alt="{alive}"' in browser.get(f"{WORKERS}{worker_id}/change/").content.decode()


# ---- without it ------------------------------------------------------------------------------------------------


def test_a_project_without_the_admin_does_not_load_it() -> None:
    program = """
import django, sys
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_taskq"],
    TASKS={"default": {"BACKEND": "django_taskq.TaskqBackend"}},
)
django.setup()
print([name for name in sys.modules if name.startswith(("django.contrib.admin", "django_taskq.admin"))])
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, text=True)
    assert done.stdout == "[]\n"
