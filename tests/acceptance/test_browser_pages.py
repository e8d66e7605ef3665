"""Every page of the app as a browser has it: accessible, quiet under a strict policy, and deaf to stored scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User

from django_taskq.core.outcome import AttemptError
from django_taskq.core.states import State
from django_taskq.models import PauseRecord, ScheduleRecord, TaskRecord, WorkerRecord
from django_taskq.schedule_control import create_schedule
from django_taskq.schedules.definition import Schedule
from tests.acceptance.browsing import NARROW, TASKS, Visitor, Window
from tests.factories import make_tasks, make_worker
from tests.scripts import PAYLOADS, write_everywhere
from tests.taskapp import tasks

pytestmark = [pytest.mark.once, pytest.mark.databases("postgres")]

#: What axe finds in the admin's own templates, which are not ours to change: its rule, and what the elements' selectors
#: look like. Links stand out by colour alone in breadcrumbs and where Django asks whether to delete; the label of the
#: search field is an image.
_OF_DJANGO = (
    ("link-in-text-block", re.compile(r"\.breadcrumbs|^li > a$")),
    ("label-title-only", re.compile(r"^#searchbar$")),
)


@pytest.fixture(autouse=True)
def _rows_of_this_test_only(window: Window) -> Iterator[None]:
    yield
    for model in (TaskRecord, WorkerRecord, ScheduleRecord, PauseRecord):
        model.objects.all().delete()


def test_no_page_does_what_a_strict_policy_forbids(visitor: Visitor) -> None:
    _write_something_of_everything()

    assert len(list(visitor.crawl(asking=True))) >= 20
    # The fixture sees what the browser has said of it.


def test_every_page_is_accessible_by_day_by_night_and_on_a_phone(window: Window) -> None:
    _write_something_of_everything()

    # What axe does to find out is not what the policy allows.
    with window.visitor(policy=False) as visitor:
        found = _all_violations(visitor)
    assert not found, "\n".join(found)


def _all_violations(visitor: Visitor) -> list[str]:
    found = []
    visited = 0
    for path in visitor.crawl():
        visited += 1
        found += [f"{path}: {one}" for one in _violations(visitor)]
        visitor.look(size=NARROW)
        found += [f"{path}, on a phone: {one}" for one in _violations(visitor)]
        assert not _is_wider_than_its_window(visitor), path
        visitor.look(dark=True)
        found += [f"{path}, in the dark: {one}" for one in _violations(visitor, "color-contrast")]
        visitor.look()
    assert visited >= 12
    return found


def test_no_stored_script_runs_and_all_are_shown_as_text(window: Window) -> None:
    user = User.objects.get_or_create(username="root", is_staff=True, is_superuser=True)[0]
    records = {payload: write_everywhere(payload, user) for payload in PAYLOADS.values()}

    # Without the policy: it would hide that a script could run.
    with window.visitor(user=user, policy=False) as visitor:
        for path in visitor.crawl(asking=True):
            _assert_quiet(visitor, path)
        for payload, written in records.items():
            path = f"{TASKS}{written[0].pk}/change/"
            visitor.visit(path)
            _assert_quiet(visitor, path)
            assert payload in visitor.text()
        visitor.visit(TASKS)
        assert all(payload in visitor.text() for payload in records)
        assert not visitor.problems


def _assert_quiet(visitor: Visitor, path: str) -> None:
    """Nothing that a row says has become an element, or has run, also when all there is has been touched."""
    page = visitor.page
    page.evaluate(
        """() => document.querySelectorAll("#content *").forEach(one => {
            for (const kind of ["mouseover", "focus", "mouseenter"]) one.dispatchEvent(new Event(kind));
        })"""
    )
    assert page.evaluate("() => window.__xss") is None, path
    assert page.locator("[data-xss], iframe").count() == 0, path


def _is_wider_than_its_window(visitor: Visitor) -> bool:
    """Whether somebody with a phone has to scroll sideways; what scrolls by itself, as tables do, is no harm."""
    root = "document.documentElement"
    return bool(visitor.page.evaluate(f"() => {root}.scrollWidth > {root}.clientWidth"))


def _violations(visitor: Visitor, *rules: str) -> list[str]:
    """Return what axe finds, by these rules alone if any."""
    from axe_playwright_python.sync_playwright import Axe

    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = list(rules)
    response: dict[str, Any] = Axe().run(visitor.page, options=options).response
    return [
        f"{one['id']}: {one['help']}: {node['html'][:200]} {node['target']} {node.get('failureSummary', '')}"
        for one in response["violations"]
        for node in one["nodes"]
        if not any(one["id"] == rule and where.search(node["target"][0]) for rule, where in _OF_DJANGO)
    ]


def _write_something_of_everything() -> None:
    """Write rows of every kind, in every state, as they look when all is well and when it is not."""
    now = datetime.now(UTC)
    traceback = (
        'Traceback (most recent call last):\n  File "/site-packages/lib.py", line 3, in call\n    work()\n'
        '  File "/srv/shop/tasks.py", line 12, in send\n    raise OSError("gone")\nOSError: gone\n'
    )
    failed: dict[str, Any] = {
        "errors": "".join(
            AttemptError(
                exception_class_path="builtins.OSError", message="gone", traceback=traceback, place="shop.tasks.send"
            ).line(attempt=attempt, worker="host-4711-abcdef", at=now)
            for attempt in (1, 2)
        ),
        "attempt": 2,
        "log": "2026-11-28T20:00:00.000Z INFO shop: sending\n2026-11-28T20:00:00.100Z WARNING shop: slow\n"
        "2026-11-28T20:00:00.200Z ERROR shop: gone\n",
    }
    for state in sorted(State):
        more = failed if state is State.FAILED else {}
        make_tasks(2, state=state, name=tasks.log_lines.module_path, arguments='[["a"],{"b":[1,2]}]', **more)
    make_worker()
    make_worker(id="host-4712-abcdef", pid=4712, silent_for=300.0)
    PauseRecord.objects.create(kind="queue", name="mail", paused_at=now, paused_by="root")
    for name, kind, expression in (("nightly", "cron", "0 3 * * *"), ("often", "interval", "30")):
        create_schedule(Schedule(name=name, task=tasks.noop.module_path, kind=kind, expression=expression))  # type: ignore[arg-type]  # kinds there are
