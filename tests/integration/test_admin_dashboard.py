"""The dashboard: what it says, to whom, at what cost."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext

import django_taskq.admin as pages
from django_taskq.admin import dashboard, register
from django_taskq.core.counts import Counts
from django_taskq.core.outcome import AttemptError
from django_taskq.core.states import State
from django_taskq.database import as_project_time, database_now
from django_taskq.models import DashboardRecord, PauseRecord, ScheduleRecord
from django_taskq.transitions import statistics
from django_taskq.transitions.statistics import DAY, HOUR, MINUTE, minute_of
from tests.factories import make_tasks, make_worker
from tests.staff import clerk
from tests.urls import operations

pytestmark = pytest.mark.django_db

HERE = "/admin/django_taskq/dashboardrecord/"
#: What may see all of the page and nothing else.
VIEWER = ("view_dashboard", "view_taskrecord", "view_workerrecord", "view_schedulerecord")
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def browser() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def read(client: Client, url: str = HERE, **query: str) -> str:
    answer = client.get(url, query)
    assert answer.status_code == 200
    return answer.content.decode()


def text_of(page: str) -> str:
    """What of a page is to be read, as one line."""
    body = page.rsplit('id="content-main"', maxsplit=1)[-1]
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", body)))


def part(page: str, name: str) -> str:
    """One part of the page."""
    found = page.split(f'data-part="{name}"')
    assert len(found) == 2, name
    return "<p " + re.split("data-part=", found[1])[0]


def ahead(seconds: float) -> Any:
    return as_project_time(database_now("default") + timedelta(seconds=seconds))


def make_error(**changes: str) -> str:
    values: Any = {
        "exception_class_path": "shop.Refused",
        "message": "no card",
        "traceback": "",
        "place": "shop.pay.charge",
    }
    return AttemptError(**(values | changes)).line(attempt=1, worker="w", at=database_now("default"))


def make_schedule(name: str = "nightly", **changes: Any) -> ScheduleRecord:
    values = {
        "name": name,
        "task": "shop.close_day",
        "backend": "default",
        "kind": "cron",
        "expression": "0 3 * * *",
        "timezone": "UTC",
        "changed_at": ahead(0),
        "next_at": ahead(90),
    }
    return ScheduleRecord.objects.bulk_create([ScheduleRecord(**(values | changes))])[0]


def make_everything(text: str = "") -> None:
    """Something for each part of the page."""
    make_worker(slots=4)
    make_worker(id="lost", name="lost", silent_for=300.0, hostname=f"host{text}")
    make_tasks(2, state=State.RUNNING, name=f"shop.send{text}")
    make_tasks(3, state=State.READY, queue_name=f"mail{text}")
    make_tasks(2, state=State.SCHEDULED, run_after=ahead(600))
    count(succeeded=3, failed=1)
    for kind in range(3):
        error = make_error(exception_class_path=f"shop.Broken{kind}{text}", message=f"no card{text}")
        make_tasks(kind + 1, state=State.FAILED, fingerprint=f"{kind:016x}", errors=error)
    make_schedule(name=f"nightly{text}", problem=text, task=f"shop.close_day{text}")
    PauseRecord.objects.bulk_create([PauseRecord(kind="queue", name=f"mail{text}", paused_at=ahead(0))])


# ---- what it says ------------------------------------------------------------------------------------------------


def test_it_stands_in_the_index_and_opens(browser: Client) -> None:
    assert f'href="{HERE}"' in read(browser, "/admin/")
    assert f'href="{HERE}"' in read(browser, "/admin/django_taskq/")
    assert "<h1>Dashboard</h1>" in read(browser)


def test_it_shows_how_things_stand(browser: Client) -> None:
    make_everything()
    page = read(browser)
    text = text_of(page)
    assert "Warning: Queue mail is paused with 3 tasks." in text
    assert "1 worker process was lost" in text
    for card in ("Waiting 3", "Running 2", "Scheduled 2", "Failed in 24 h", "Succeeded in 24 h", "Oldest wait"):
        assert card in text_of(part(page, "cards"))
    queues = text_of(part(page, "queues"))
    assert re.search("default 0 – 2 – – open", queues)
    assert re.search(r"mail 3 .* 0 0\.4 – ‖ paused", queues)
    workers = text_of(part(page, "workers"))
    assert re.search(r"host-4711-abcdef host \* ✓ \S+ \w+ ago 2 / 4 shop.send × 2", workers)
    assert "✗ lost, 5 min ago" in workers
    failures = text_of(part(page, "failures"))
    assert re.search(r"✗ shop.Broken2 no card shop.pay.charge 3 × ", failures)
    schedules = text_of(part(page, "schedules"))
    assert re.search(r"nightly shop.close_day in 1 min \d+ s", schedules)
    assert "As of 20" in text_of(part(page, "as-of"))


def test_it_leads_to_what_it_shows(browser: Client) -> None:
    make_everything()
    page = html.unescape(read(browser))
    tasks = "/admin/django_taskq/taskrecord/?"
    for query in ("state=READY", "state=RUNNING", "state=FAILED", "state=SUCCESSFUL", "queue=mail"):
        assert f'href="{tasks}{query}"' in page
    assert f'href="{tasks}q=group%3A{2:016x}"' in page
    for link in set(re.findall(r'href="(/admin/django_taskq/[^"]*)"', page)):
        assert browser.get(link).status_code == 200, link


def test_without_any_task_it_says_what_to_do(browser: Client) -> None:
    text = text_of(read(browser))
    assert "Note: Nothing waits, and no worker is alive." in text
    assert "No task has been enqueued yet" in text
    assert "No worker has written its row" in text
    assert "No task has failed" in text
    assert "No schedule is due." in text


def test_without_figures_it_says_so(browser: Client) -> None:
    make_tasks()
    page = read(browser)
    assert "No task has been enqueued yet" not in page
    assert "No task has ended within 1 hour, as far as workers have told" in text_of(page)
    assert "<svg class" not in part(page, "trends")


def count(ago: float = 0.0, *, period: int = MINUTE, **ends: int) -> None:
    """Write what a worker would have counted so many seconds ago, of a task that takes a quarter of a second."""
    counts = Counts()
    for end, times in ends.items():
        for number in range(times):
            counts.ended(end, seconds=0.25 + number / 1000, waited=0.02)
    starts = int(minute_of("default") - ago) // period * period
    statistics._write("default", period, starts, "", {("shop.send", "mail"): counts})


@pytest.mark.parametrize(("name", "ago"), [("1h", 1800), ("6h", 5 * 3600), ("24h", 80_000), ("7d", 5e5), ("30d", 2e6)])
def test_it_draws_what_was_counted(browser: Client, name: str, ago: float) -> None:
    make_tasks(2, state=State.READY, queue_name="mail")
    count(succeeded=40, failed=8, retried=3, lost=1)
    # As it is kept: minutes for a day, then hours, and days beside them.
    for period, since in ((MINUTE, 0), (HOUR, HOUR), (DAY, 3 * DAY)):
        if since <= ago and not (period == MINUTE and ago > DAY):
            count(ago, period=period, succeeded=100)
    page = read(browser, range=name)
    assert "140 succeeded, 3 retried, 8 failed" in text_of(part(page, "trends"))
    assert re.search(r"half within \d+ ms, 95 of 100 within \d+ ms", text_of(part(page, "trends")))
    assert page.count('<svg class="taskq-drawing"') == 3
    assert page.count("taskq-look-successful") == page.count("taskq-look-failed") == 2
    table = page.split('id="taskq-figures"')[1].split("</details>")[0]
    assert table.count('<th scope="row">') == 2
    assert re.search(r"<td>40</td><td>3</td><td>8</td><td>\d+ ms</td>", table)
    assert re.search(r"shop\.send [\d.]+ \w+.* 100 % 148 8 ", text_of(part(page, "tasks")))
    day = 140 if ago < DAY else 40
    assert f"Succeeded in 24 h {day}" in text_of(part(page, "cards"))
    assert "Failed in 24 h 8" in text_of(part(page, "cards"))
    # Of the last ten minutes: 48 tasks, of which 8 failed, and 2 that wait.
    assert re.search(r"mail 2 .* 0 4\.8 25 s open", text_of(part(page, "queues")))
    assert "Many tasks fail: 8 of the 48 that ended in the last 10 min." in text_of(part(page, "health"))


# ---- ranges, databases, fragments --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["1h", "6h", "24h", "7d", "30d"])
def test_each_stretch_of_time_opens(browser: Client, name: str) -> None:
    make_tasks()
    page = read(browser, range=name)
    assert f'<a href="?range={name}" aria-current="true">' in page
    assert page.count("aria-current=") == 2  # the other is the sidebar's


@pytest.mark.parametrize("query", [{"range": "1y"}, {"range": SCRIPT}, {"database": "none"}, {"database": SCRIPT}])
def test_what_there_is_not_is_the_usual(browser: Client, query: dict[str, str]) -> None:
    page = read(browser, **query)
    assert '<a href="?range=1h" aria-current="true">' in page
    assert "alert(1)" not in page


def test_the_fragment_is_the_page_without_its_frame(browser: Client) -> None:
    make_everything()
    page, fragment = read(browser, range="6h"), read(browser, range="6h", fragment="1")
    parts = re.findall(r'data-part="([\w-]+)"', page)
    assert len(parts) == len(set(parts)) >= 8
    assert re.findall(r'data-part="([\w-]+)"', fragment) == parts
    assert "<html" not in fragment
    assert 'data-url="?range=6h&amp;fragment=1"' in page
    assert part(fragment, "schedules").splitlines()[0] == part(page, "schedules").splitlines()[0]


def test_nobody_keeps_it(browser: Client) -> None:
    for query in ({}, {"fragment": "1"}):
        assert "no-store" in browser.get(HERE, query).headers["Cache-Control"]


def test_others_of_several_databases_are_offered_and_have_no_links(
    browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_everything()
    # Lists are of the first, which is not the one that is looked at.
    monkeypatch.setattr(dashboard, "taskq_databases", lambda: ["archive", "default"])
    page = read(browser, database="default", range="6h")
    assert '<a href="?range=6h&amp;database=default" aria-current="true">default</a>' in page
    assert '<a href="?range=6h&amp;database=archive">archive</a>' in page
    assert '<a href="?range=24h&amp;database=default">' in page
    assert 'data-url="?range=6h&amp;database=default&amp;fragment=1"' in page
    assert "shop.Broken2" in page
    assert "/taskrecord/" not in page.split('id="taskq-region"')[1]


# ---- who sees what -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [{}, {"fragment": "1"}])
def test_it_takes_a_permission_of_its_own(query: dict[str, str]) -> None:
    other = clerk("view_taskrecord", "view_payload", "operate_tasks", "view_workerrecord")
    assert other.get(HERE, query).status_code == 403
    assert HERE not in read(other, "/admin/")
    nobody = Client().get(HERE, query)
    assert nobody.status_code == 302
    assert nobody.headers["Location"].startswith("/admin/login/")


def test_who_may_see_it_alone_sees_numbers_and_no_links() -> None:
    make_everything()
    page = read(clerk("view_dashboard"))
    text = text_of(page)
    assert "Waiting 3" in text
    assert "mail" in text
    assert "shop.Broken" not in text
    assert "nightly" not in text
    assert "host-4711" not in text
    assert [name for name in ("workers", "failures", "schedules") if f'data-part="{name}"' in page] == []
    assert re.findall(r'href="(/admin/django_taskq/\w+/)', page.split('id="content-main"')[1]) == []


def test_messages_are_for_who_may_see_them() -> None:
    make_everything()
    page = read(clerk(*VIEWER))
    assert "shop.Broken1" in page
    assert "no card" not in page


def test_who_may_see_messages_does_not_see_what_is_sensitive() -> None:
    # Nobody knows what of an unknown task's arguments is sensitive: all of it.
    arguments = json.dumps([["hunter22"], {}])
    make_tasks(state=State.FAILED, errors=make_error(message="bad password hunter22"), arguments=arguments, name="gone")
    page = read(clerk(*VIEWER, "view_payload"))
    assert "bad password" in page
    assert "hunter22" not in page


def test_it_is_for_looking_alone(browser: Client) -> None:
    assert browser.post(HERE, {"action": "delete_selected"}).status_code == 405
    assert browser.get(f"{HERE}add/").status_code == 404


def test_whatever_stands_in_a_row_is_text(browser: Client) -> None:
    make_everything(SCRIPT)
    page = read(browser)
    assert SCRIPT not in page
    for name in ("health", "queues", "workers", "failures", "schedules"):
        assert html.escape(SCRIPT) in part(page, name), name


def test_whatever_was_counted_is_text(browser: Client) -> None:
    counts = Counts()
    counts.ended("succeeded", seconds=1.0, waited=1.0)
    statistics.put("default", minute_of("default"), "", {(SCRIPT, SCRIPT): counts})
    page = read(browser)
    assert SCRIPT not in page
    assert html.escape(SCRIPT) in part(page, "tasks")


def test_a_strict_policy_is_kept(browser: Client) -> None:
    make_everything()
    page = read(browser).split('id="content-main"')[1]
    assert not re.search(r"\sstyle=|<style|\son\w+=|javascript:", page)
    assert "<script" not in page


# ---- what it costs -----------------------------------------------------------------------------------------------


def test_it_takes_few_queries_whoever_looks() -> None:
    make_everything()
    for number in range(12):
        make_tasks(2, state=State.READY, queue_name=f"queue{number}", priority=number)
    root = Client()
    root.force_login(User.objects.create_superuser("root"))
    for client in (root, clerk(*VIEWER, "view_payload")):
        for query in ({}, {"range": "24h"}, {"fragment": "1", "range": "30d"}):
            with CaptureQueriesContext(connection) as queries:
                read(client, **query)
            assert len(queries) <= 8, [one["sql"][:200] for one in queries]


# ---- other sites -------------------------------------------------------------------------------------------------


def test_another_site_has_all_pages_too() -> None:
    ours = {
        model: type(page) for model, page in admin.site._registry.items() if model._meta.app_label == "django_taskq"
    }
    there = {model: type(page) for model, page in operations._registry.items()}
    assert ours == there
    assert {page.__name__ for page in ours.values()} <= set(pages.__all__)
    register(operations)  # twice is once


def test_another_site_leads_to_its_own_pages(browser: Client) -> None:
    make_everything()
    page = read(browser, "/operations/django_taskq/dashboardrecord/")
    links = set(re.findall(r'href="(/[^"]*)"', page.split('id="content-main"')[1]))
    assert links
    for link in links:
        assert link.startswith("/operations/django_taskq/"), link
        assert browser.get(html.unescape(link)).status_code == 200, link


def test_a_class_of_the_projects_own_has_all_pages(tmp_path: Path) -> None:
    (tmp_path / "own_admin.py").write_text(
        "from django.contrib.admin import AdminSite\n"
        "from django.contrib.admin.apps import AdminConfig\n"
        "class Site(AdminSite):\n    pass\n"
        "class Config(AdminConfig):\n    default_site = 'own_admin.Site'\n"
    )
    (tmp_path / "own_settings.py").write_text(
        "from tests.settings import *\n"
        "INSTALLED_APPS = [name.replace('django.contrib.admin', 'own_admin.Config') for name in INSTALLED_APPS]\n"
    )
    program = (
        "import django; django.setup()\n"
        "from django.contrib import admin\n"
        "from django.urls import reverse\n"
        "print(type(admin.site._wrapped).__name__, reverse('admin:django_taskq_dashboardrecord_changelist'))"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "own_settings", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, check=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["Site", HERE]


def test_a_site_with_the_dashboard_alone_has_no_links(rf: RequestFactory) -> None:
    make_everything()
    site = admin.AdminSite(name="admin")
    site.register(DashboardRecord, pages.DashboardAdmin)
    request = rf.get(HERE, {"fragment": "1"})
    request.user = User.objects.create_superuser("root")
    answer: Any = site._registry[DashboardRecord].changelist_view(request)
    text = answer.render().content.decode()
    assert "shop.Broken2" in text
    assert "href=" not in text


def test_moments_are_in_the_time_zone_of_the_project(browser: Client) -> None:
    at = make_schedule().next_at
    assert at is not None
    with override_settings(TIME_ZONE="Asia/Tokyo"):
        assert (at + timedelta(hours=9)).strftime("%H:%M:%S") in part(read(browser), "schedules")
