"""A real browser before the admin of a test's project: what it shows, and what the browser complains of.

Playwright drives Debian's Chromium. It is imported where it is needed: environments of other versions of Django, in
which the browser's tests do not run, are without it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urljoin, urlsplit

from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import Resolver404, resolve

from tests.acceptance.admin_site import WITHOUT_POLICY
from tests.acceptance.project import Project
from tests.servers.programs import chromium
from tests.waiting import allowed

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from playwright.sync_api import Browser, BrowserContext, Page

#: Milliseconds, as Playwright counts, that a page may take for anything.
_PATIENCE = 20_000.0
#: CSS pixels: a laptop, a phone.
WIDE, NARROW = (1280, 900), (390, 844)

#: Where the admin has the pages of the app.
OURS = "/admin/django_taskq/"
TASKS = f"{OURS}taskrecord/"


class Visitor:
    """Somebody who is signed in before a browser window; `problems` is what the browser has complained of."""

    def __init__(self, context: BrowserContext, site: str) -> None:
        self.site = site
        self.problems: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(allowed(_PATIENCE / 1000) * 1000)
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.problems.append(f"{self.page.url}: {error}"))
        self.page.on("dialog", self._asked)
        self.page.on("request", self._requested)

    def visit(self, path: str) -> Page:
        """Open a page, which must be there, and wait until all of it is."""
        response = self.page.goto(urljoin(self.site, path))
        assert response is not None
        assert response.ok, f"{path}: {response.status}"
        return self.page

    def press(self, name: str) -> None:
        """Press a button, and wait for the page it leads to."""
        with self.page.expect_navigation():
            self.page.get_by_role("button", name=name, exact=True).first.click()

    def follow(self, name: str) -> None:
        """Follow a link of the page's content, and wait for where it leads."""
        with self.page.expect_navigation():
            self.page.locator("#content").get_by_role("link", name=name).first.click()

    def said(self) -> str:
        """Return the messages above the page."""
        return " ".join(self.page.locator(".messagelist li").all_inner_texts())

    def text(self) -> str:
        """Return all the page says, also in what is folded up."""
        return self.page.locator("body").text_content() or ""

    def look(self, *, dark: bool = False, size: tuple[int, int] = WIDE, reduced_motion: bool = False) -> None:
        """Look at it in the dark, on a phone, or by somebody who gets dizzy."""
        self.page.emulate_media(
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce" if reduced_motion else "no-preference",
        )
        self.page.set_viewport_size({"width": size[0], "height": size[1]})
        # Colours change slowly, and begin to with the next frame.
        self.page.evaluate(
            "async () => { await new Promise(next => requestAnimationFrame(() => requestAnimationFrame(next)));"
            " await Promise.allSettled(document.getAnimations().map(one => one.finished)) }"
        )

    def crawl(self, *, asking: bool = False) -> Iterator[str]:
        """Visit one page of every view of the app that links lead to; each time, yield the path.

        `asking`: and one for each name that a link asks a view for, as filters do; not for several together, of which
        there are very many. Pages that are built later come along by themselves.
        """
        waiting, known = deque([OURS]), set[str]()
        while waiting:
            path = waiting.popleft()
            self.visit(path)
            yield path
            for href in self.page.locator("a[href]").evaluate_all("links => links.map(link => link.href)"):
                url = urlsplit(href)
                kind = _kind(url.path, url.query if asking else "") if href.startswith(self.site) else None
                if kind is not None and kind not in known:
                    known.add(kind)
                    waiting.append(f"{url.path}?{url.query}" if asking and url.query else url.path)

    def _heard(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.problems.append(f"{self.page.url}: {message.text}")

    def _asked(self, dialog: Any) -> None:
        self.problems.append(f"{self.page.url}: a dialog: {dialog.message}")
        dialog.dismiss()

    def _requested(self, request: Any) -> None:
        if not request.url.startswith((self.site, "data:")):
            self.problems.append(f"{self.page.url}: a request to {request.url}")


def _kind(path: str, query: str) -> str | None:
    """Return the name of the app's view, with the name of what it is asked; None for all else."""
    asked = sorted(dict(parse_qsl(query, keep_blank_values=True)))
    if not path.startswith(OURS) or len(asked) > 1:
        return None
    try:
        name = resolve(path).view_name
    except Resolver404:
        return None
    return " ".join([name, *asked])


class Window:
    """A running browser, and the site it looks at."""

    def __init__(self, browser: Browser, project: Project, site: str) -> None:
        self.project = project
        self.site = site
        self._browser = browser

    @contextmanager
    def visitor(self, *, user: User | None = None, policy: bool = True) -> Iterator[Visitor]:
        """Sign somebody in, a superuser if not told otherwise; `policy` is the site's, against scripts among others."""
        client = Client()
        client.force_login(
            user or get_user_model().objects.get_or_create(username="root", is_staff=True, is_superuser=True)[0]
        )
        context = self._browser.new_context(
            viewport={"width": WIDE[0], "height": WIDE[1]},
            extra_http_headers={} if policy else {WITHOUT_POLICY: "1"},
        )
        try:
            cookie = settings.SESSION_COOKIE_NAME
            context.add_cookies([{"name": cookie, "value": client.cookies[cookie].value, "url": self.site}])
            yield Visitor(context, self.site)
        finally:
            context.close()


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a browser without a screen."""
    from playwright.sync_api import sync_playwright

    options = ["--disable-dev-shm-usage"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    # Playwright's event loop counts as running in this thread between any two calls; nothing of ours runs in it.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    try:
        with sync_playwright() as playwright:
            started = playwright.chromium.launch(executable_path=chromium(), args=options)
            try:
                yield started
            finally:
                started.close()
    finally:
        if before is None:
            del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
        else:
            os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = before
