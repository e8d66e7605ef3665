"""Schedules in the admin: what the form refuses and where, who may do what, and that names stay text."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client

from django_taskq import task
from django_taskq.core.sensitive import HIDDEN
from django_taskq.models import ScheduleRecord, TaskRecord
from django_taskq.schedule_control import create_schedule, find_schedule
from django_taskq.schedules.definition import Schedule
from tests.deeds import form_of_schedule
from tests.staff import clerk

pytestmark = pytest.mark.django_db

LIST = "/admin/django_taskq/schedulerecord/"
SCRIPT = "<script>alert(1)</script>"


@task
def clean(days: int = 1, *, hard: bool = False) -> None:
    """A task with arguments."""


@task(sensitive=["password"])
def login(user: str, password: str) -> None:
    """A task that has a secret."""


@task
def call(token: str, hooks: list[Any] | None = None) -> None:
    """A task that has a secret by its name alone."""


CLEAN, LOGIN, CALL = f"{__name__}.clean", f"{__name__}.login", f"{__name__}.call"
#: What a browser sends of a form that somebody has filled in.
FORM = form_of_schedule(None) | {
    "name": "nightly",
    "expression": "0 3 * * *",
    "timezone": "Europe/Berlin",
    "task": CLEAN,
    "args": "[7]",
    "kwargs": '{"hard": true}',
}


@pytest.fixture
def editor(db: None) -> Client:
    return clerk("change_schedules", "view_taskrecord", "view_schedulerecord")


def make(**changes: Any) -> ScheduleRecord:
    given = {"name": "nightly", "task": CLEAN, "kind": "cron", "expression": "0 3 * * *", "timezone": "Europe/Berlin"}
    return create_schedule(Schedule(**{**given, **changes}))


def of_code(**changes: Any) -> ScheduleRecord:
    record = make(**changes)
    ScheduleRecord.objects.filter(pk=record.pk).update(source="code")
    return find_schedule(record.name)


def page_of(record: ScheduleRecord, verb: str = "change") -> str:
    return f"{LIST}{record.pk}/{verb}/"


def errors(response: Any) -> dict[str, str]:
    """Return what is said at each field."""
    assert response.status_code == 200
    return {name: " ".join(map(str, found)) for name, found in response.context["adminform"].form.errors.items()}


def text_of(response: Any) -> str:
    return html.unescape(re.sub(r"<[^>]*>", " ", response.content.decode()))


def test_a_schedule_is_made_changed_and_deleted(editor: Client) -> None:
    assert editor.get(f"{LIST}add/").status_code == 200
    assert editor.post(f"{LIST}add/", FORM).status_code == 302
    record = find_schedule("nightly")
    made = record.schedule
    assert (made.args, made.kwargs, made.kind, made.expression) == ((7,), {"hard": True}, "cron", "0 3 * * *")
    assert (made.timezone, record.source, record.is_enabled) == ("Europe/Berlin", "database", True)

    changed = {**FORM, "name": "nightlier", "expression": "0 4 * * *", "read_version": str(record.version)}
    assert editor.post(page_of(record), changed).status_code == 302
    assert find_schedule("nightlier").expression == "0 4 * * *"
    assert editor.get(page_of(record, "delete")).status_code == 200
    assert editor.post(page_of(record, "delete"), {"post": "yes"}).status_code == 302
    assert not ScheduleRecord.objects.exists()
    assert list(LogEntry.objects.order_by("pk").values_list("action_flag", flat=True)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"expression": "0 0 31 2 *"}, "expression"),
        ({"expression": "every day"}, "expression"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"task": "shop.tasks.gone"}, "task"),
        ({"task": ""}, "task"),
        ({"args": "[1, 2, 3]"}, "args"),
        ({"args": "{}"}, "args"),
        ({"args": "[NaN]"}, "args"),
        ({"kwargs": "[]"}, "kwargs"),
        ({"kwargs": "{"}, "kwargs"),
        ({"name": ""}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"kind": "sundial"}, "kind"),
        ({"priority": "x"}, "priority"),
        ({"backend": "other"}, "backend"),
        (
            {
                "start_at_0": "2027-01-02",
                "start_at_1": "00:00:00",
                "end_at_0": "2027-01-01",
                "end_at_1": "00:00:00",
            },
            "end_at",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_its_field(editor: Client, changes: dict[str, str], field: str) -> None:
    found = errors(editor.post(f"{LIST}add/", {**FORM, **changes}))
    assert field in found or (field == "end_at" and "start_at" in found), found
    assert not ScheduleRecord.objects.exists()


def test_a_name_that_is_taken_is_refused(editor: Client) -> None:
    make()
    assert "name" in errors(editor.post(f"{LIST}add/", FORM))


def test_who_saves_what_somebody_else_has_changed_meanwhile_is_told(editor: Client) -> None:
    record = make()
    old = {**FORM, "read_version": str(record.version)}
    assert editor.post(page_of(record), {**old, "expression": "0 5 * * *"}).status_code == 302
    assert "meanwhile" in str(errors(editor.post(page_of(record), {**old, "expression": "0 6 * * *"})))
    assert find_schedule("nightly").expression == "0 5 * * *"


def test_the_next_five_runs_are_shown_in_its_zone_and_in_the_reader_s(editor: Client) -> None:
    page = text_of(editor.get(page_of(make())))
    assert len(re.findall(r"\d\d\d\d-\d\d-\d\d 03:00:00\+0[12]:00 · ", page)) == 5


def test_next_runs_of_a_form_are_shown_and_nothing_is_saved(editor: Client) -> None:
    page = text_of(editor.post(f"{LIST}preview/", {**FORM, "expression": "0 9 * * *"}))
    assert page.count(" 09:00:00+0") == 5
    assert "Expression" in text_of(editor.post(f"{LIST}preview/", {**FORM, "expression": "0 0 31 2 *"}))
    assert not ScheduleRecord.objects.exists()
    record = make()
    own = text_of(editor.post(f"{LIST}preview/?of={record.pk}", {**FORM, "expression": "0 9 * * *"}))
    assert own.count(" 09:00:00+0") == 5
    assert find_schedule("nightly").expression == "0 3 * * *"


def test_a_button_runs_it_now_and_the_page_leads_to_the_task(editor: Client) -> None:
    record = make(args=(7,))
    assert editor.post(page_of(record, "run")).status_code == 302
    (enqueued,) = TaskRecord.objects.all()
    assert enqueued.name == CLEAN
    for url in (LIST, page_of(record)):
        assert f"/admin/django_taskq/taskrecord/{enqueued.pk}/change/" in editor.get(url).content.decode()
    assert str(enqueued.pk) in LogEntry.objects.get().change_message


def test_a_page_runs_it_once_however_often_it_is_sent(editor: Client) -> None:
    record = make(args=(7,))
    page = editor.get(page_of(record)).content.decode()
    (moment,) = re.findall(r'name="asked_at" value="([^"]*)"', page)
    first, second = (editor.post(page_of(record, "run"), {"asked_at": moment}, follow=True) for _ in range(2))
    assert "was run already" not in text_of(first)
    assert "was run already" in text_of(second)
    assert TaskRecord.objects.count() == 1
    again = re.findall(r'name="asked_at" value="([^"]*)"', editor.get(LIST).content.decode())[0]
    chosen = {"action": "run_now", "_selected_action": [str(record.pk)], "asked_at": again}
    for _ in range(2):
        editor.post(LIST, chosen)
    assert TaskRecord.objects.count() == 2
    old = {"asked_at": "2026-01-01T00:00:00.000001+00:00"}
    assert "too old" in text_of(editor.post(page_of(record, "run"), old, follow=True))
    assert TaskRecord.objects.count() == 2


def test_buttons_and_actions_enable_and_disable(editor: Client) -> None:
    record, other = make(), of_code(name="other")
    assert editor.post(page_of(record, "disable")).status_code == 302
    assert find_schedule("nightly").is_enabled is False
    assert "Disabled" in text_of(editor.get(page_of(record)))
    assert editor.post(page_of(record, "enable")).status_code == 302
    assert find_schedule("nightly").is_enabled is True

    chosen = {"action": "disable", "_selected_action": [str(record.pk), str(other.pk)]}
    assert "2 schedules were disabled" in text_of(editor.post(LIST, chosen, follow=True))
    assert "2 left as they are" in text_of(editor.post(LIST, chosen, follow=True))
    assert [find_schedule(name).is_enabled for name in ("nightly", "other")] == [False, False]
    assert LogEntry.objects.count() == 4


def test_a_schedule_of_the_code_is_only_looked_at(editor: Client) -> None:
    record = of_code()
    page = editor.get(page_of(record)).content.decode()
    assert "args" in page
    assert "_save" not in page
    assert 'name="expression"' not in page
    assert editor.post(page_of(record), {**FORM, "expression": "* * * * *"}).status_code == 403
    assert editor.post(page_of(record, "delete"), {"post": "yes"}).status_code == 403
    assert find_schedule("nightly").expression == "0 3 * * *"


def test_who_may_only_look_changes_nothing() -> None:
    viewer = clerk("view_schedulerecord")
    record = make(kwargs={"hard": "s3cret"})
    page = viewer.get(page_of(record)).content.decode()
    assert "s3cret" not in page
    assert "_save" not in page
    assert "Run now" not in page
    assert viewer.get(f"{LIST}add/").status_code == 403
    assert viewer.post(f"{LIST}preview/", FORM).status_code == 403
    for verb in ("run", "enable", "disable"):
        assert viewer.post(page_of(record, verb)).status_code == 403
        viewer.post(LIST, {"action": "run_now" if verb == "run" else verb, "_selected_action": [str(record.pk)]})
    assert viewer.post(page_of(record), FORM).status_code == 403
    assert viewer.post(page_of(record, "delete"), {"post": "yes"}).status_code == 403
    assert (find_schedule("nightly").version, TaskRecord.objects.count()) == (record.version, 0)


def test_others_see_nothing() -> None:
    stranger = clerk("view_taskrecord")
    record = make()
    for url in (LIST, page_of(record), f"{LIST}add/"):
        assert stranger.get(url).status_code == 403


@pytest.mark.parametrize("verb", ["run", "enable", "disable"])
def test_buttons_take_post_with_a_token_only(editor: Client, verb: str) -> None:
    record = make()
    assert editor.get(page_of(record, verb)).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get())
    assert strict.post(page_of(record, verb)).status_code == 403
    assert (find_schedule("nightly").version, TaskRecord.objects.count()) == (record.version, 0)


def test_what_people_write_is_text(editor: Client) -> None:
    record = make(name=SCRIPT, description=SCRIPT, kwargs={"hard": SCRIPT})
    ScheduleRecord.objects.filter(pk=record.pk).update(problem=SCRIPT)
    posted = {**FORM, "name": f"{SCRIPT}2", "description": SCRIPT}
    for response in (
        editor.get(LIST),
        editor.get(page_of(record)),
        editor.get(page_of(record, "delete")),
        editor.post(f"{LIST}preview/", posted),
        editor.post(page_of(record, "run"), follow=True),
        editor.post(LIST, {"action": "disable", "_selected_action": [str(record.pk)]}, follow=True),
    ):
        assert response.status_code == 200
        page = response.content.decode()
        assert SCRIPT not in page
        assert html.escape(SCRIPT) in page
        for inline in (" style=", "<style", " onclick=", " onchange="):
            assert inline not in page.split('id="content"')[1]


def test_what_is_sensitive_is_hidden_and_kept(editor: Client) -> None:
    record = make(task=LOGIN, args=("ann", "s3cret"))
    page = editor.get(page_of(record))
    assert "s3cret" not in page.content.decode()
    shown = json.loads(page.context["adminform"].form.initial["args"])
    assert shown == ["ann", HIDDEN]

    posted = {**FORM, "task": LOGIN, "args": json.dumps(["bob", HIDDEN]), "kwargs": "{}"}
    assert "task" in errors(editor.post(page_of(record), {**posted, "task": CLEAN}))
    assert editor.post(page_of(record), posted).status_code == 302
    assert find_schedule("nightly").schedule.args == ("bob", "s3cret")
    assert "s3cret" not in editor.get(page_of(of_code(name="x", task=LOGIN, args=("ann", "s3cret")))).content.decode()


def test_what_is_hidden_by_its_name_is_hidden_and_kept(editor: Client) -> None:
    given = {"hooks": [{"api_key": "s3cret", "url": "a"}]}
    record = make(task=CALL, args=("t0ken",), kwargs=given)
    page = editor.get(page_of(record))
    assert not {"s3cret", "t0ken"} & set(re.findall(r"\w+", page.content.decode()))
    initial = page.context["adminform"].form.initial
    assert (json.loads(initial["args"]), json.loads(initial["kwargs"])) == (
        [HIDDEN],
        {"hooks": [{"api_key": HIDDEN, "url": "a"}]},
    )
    posted = {**FORM, "task": CALL, "args": initial["args"], "kwargs": initial["kwargs"].replace('"a"', '"b"')}
    assert editor.post(page_of(record), posted).status_code == 302
    schedule = find_schedule("nightly").schedule
    assert schedule.args == ("t0ken",)
    assert schedule.kwargs == {"hooks": [{"api_key": "s3cret", "url": "b"}]}

    moved = json.dumps({"hooks": [{"url": "c"}, {"api_key": HIDDEN, "url": "b"}]})
    assert "kwargs" in errors(editor.post(page_of(record), {**posted, "kwargs": moved}))
    assert "args" in errors(editor.post(page_of(record), {**posted, "args": json.dumps([HIDDEN, HIDDEN])}))
    code = of_code(name="x", task=CALL, args=("t0ken",), kwargs=given)
    assert not {"s3cret", "t0ken"} & set(re.findall(r"\w+", editor.get(page_of(code)).content.decode()))


@pytest.mark.parametrize("lookup", ["arguments__startswith", "name__regex", "problem"])
def test_other_lookups_are_refused(editor: Client, lookup: str) -> None:
    assert editor.get(LIST, {lookup: "s"}).status_code == 400


def test_filters_find_what_is_disabled_or_broken(editor: Client) -> None:
    make(name="on")
    make(name="off", enabled=False)
    broken = make(name="broken")
    ScheduleRecord.objects.filter(pk=broken.pk).update(problem="gone")
    for value, names in (("yes", {"on", "broken"}), ("no", {"off"}), ("problem", {"broken"})):
        found = {record.name for record in editor.get(LIST, {"enabled": value}).context["cl"].result_list}
        assert found == names
