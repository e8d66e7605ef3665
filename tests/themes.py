"""``python -m tests.themes unfold``: every page of the admin in a theme, which has to be there before Django is set up."""

from __future__ import annotations

import os
import sys
from html.parser import HTMLParser
from typing import Any

#: theme -> its app, which comes before the admin
THEMES = {"unfold": "unfold", "jazzmin": "jazzmin"}
#: What a page of ours cannot do without, by a part of its address.
NEEDED = {
    "schedulerecord_change": ('formaction="/admin/django_taskq/schedulerecord/', "/run/", "/preview/", "_save"),
    "taskrecord_changelist": ("taskq-state", 'class="paginator taskq-pages"', 'name="action"'),
    "taskrecord_change": ("taskq-timeline", "taskq-runs", 'value="retry_tasks"'),
    "failurerecord_changelist": ("taskq-failures", "<form"),
    "queuerecord_changelist": ("taskq-queues", "<form", "/purge/"),
}


class Forms(HTMLParser):
    """How deep forms are within others: a browser drops those within, and their buttons belong to the one around them."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = self.deepest = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "form":
            self.depth += 1
            self.deepest = max(self.deepest, self.depth)

    def handle_endtag(self, tag: str) -> None:
        self.depth -= tag == "form"


def problems(page: str, text: str) -> list[str]:
    """Return what is wrong with a page."""
    forms = Forms()
    forms.feed(text)
    found = [f"{page}: without {needed}" for needed in NEEDED.get(page, ()) if needed not in text]
    if forms.deepest > 1 or forms.depth:
        found.append(f"{page}: a form within another")
    if not page.endswith("_history") and "django_taskq/themes.css" not in text:
        found.append(f"{page}: without our styles")
    return found


def main(theme: str) -> int:
    """Look at every page; print what is wrong."""
    from tests import settings

    settings.INSTALLED_APPS.insert(0, THEMES[theme])
    import django

    django.setup()
    from django.test.runner import DiscoverRunner

    runner = DiscoverRunner(verbosity=0, interactive=False)
    runner.setup_test_environment()
    databases = runner.setup_databases()
    try:
        found = look()
    finally:
        runner.teardown_databases(databases)
        runner.teardown_test_environment()
    print(*found, sep="\n")
    return len(found)


def look() -> list[str]:
    """Return what is wrong with the pages."""
    from django.contrib.auth.models import User
    from django.test import Client

    from tests.deeds import NOBODY, PAGES, address, undone

    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))
    found: list[str] = []
    for page, what in PAGES.items():
        if what.sees == NOBODY:
            continue
        with undone():
            row = what.make() if what.make is not None else None
            if row is None:
                PAGES["taskrecord_change"].make()  # type: ignore[misc]  # it has one
            answer = browser.get(address(page, row))
            found += problems(page, answer.content.decode()) if answer.status_code == 200 else [f"{page}: {answer}"]
    return found


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    os.environ["TASKQ_TEST_DB"] = "sqlite"
    sys.exit(main(sys.argv[1]))
