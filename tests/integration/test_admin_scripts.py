"""Stored scripts: whatever stands in a row, pages show it as text."""

from __future__ import annotations

from collections import Counter, deque
from urllib.parse import urljoin, urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import resolve

from tests.scripts import PAYLOADS, Page, write_everywhere

pytestmark = pytest.mark.django_db

OURS = "/admin/django_taskq/"
TASKS = f"{OURS}taskrecord/"


@pytest.fixture
def browser() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def read(browser: Client, path: str) -> Page:
    response = browser.get(path)
    assert response.status_code == 200, path
    page = Page(response.content.decode())
    assert page.intruders == [], path
    return page


def linked(browser: Client, each: int) -> dict[str, Page]:
    """Return the pages of the app that links lead to, from its own page on, `each` of every view at most; no filters.

    But for the page that asks before a queue is purged, which is told in the query what to ask.
    """
    pages: dict[str, Page] = {}
    waiting, seen = deque([OURS]), Counter[str]()
    while waiting:
        path = waiting.popleft()
        pages[path] = read(browser, path)
        for link in pages[path].links:
            url = urlsplit(urljoin(path, link))
            if not url.path.startswith(OURS) or url.path in pages or url.path in waiting:
                continue
            view = resolve(url.path).view_name
            if seen[view] < each:
                seen[view] += 1
                waiting.append(f"{url.path}?{url.query}" if view.endswith("_purge") else url.path)
    return pages


def test_a_script_in_any_field_is_text_on_every_page(browser: Client) -> None:
    user = User.objects.get()
    records = {payload: write_everywhere(payload, user) for payload in PAYLOADS.values()}

    pages = linked(browser, each=3)
    # Lists, failures, workers, pauses, schedules, and what was done to them.
    assert len(pages) >= 20
    lists = [
        pages[f"{OURS}{name}/"]
        for name in ("taskrecord", "failurerecord", "queuerecord", "schedulerecord", "pauserecord", "operationrecord")
    ]
    for payload, written in records.items():
        for page in (*lists, read(browser, f"{TASKS}{written[0].pk}/change/")):
            assert payload in page.text


@pytest.mark.parametrize("name", ["q", "queue", "task", "state", "p", "e", "<script data-xss>"])
def test_a_script_in_what_is_asked_is_text(browser: Client, name: str) -> None:
    for payload in (*PAYLOADS.values(), "\x00<b data-xss>"):
        response = browser.get(TASKS, {name: payload}, follow=True)
        assert Page(response.content.decode()).intruders == []
        assert response.status_code in {200, 400}
