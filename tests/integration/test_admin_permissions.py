"""Who may do what in the admin: every page and every action there is, by everybody, in every way to ask.

The table is ``tests/deeds.py``; what is missing there is named by the first tests here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.db.models import Model
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from tests.deeds import DEEDS, NOBODY, PAGES, Deed, Rights, address, undone
from tests.waiting import allowed

APP = "django_taskq"
#: By POST alone.
BUTTONS = {deed.page for deed in DEEDS.values() if PAGES[deed.page].sees == NOBODY} | {"schedulerecord_preview"}


def registered() -> list[Any]:
    return [one for model, one in admin.site._registry.items() if model._meta.app_label == APP]


def names_of(patterns: Iterable[URLPattern | URLResolver]) -> Iterator[str]:
    """Yield the names of all addresses that lead to code of ours."""
    for one in patterns:
        if isinstance(one, URLResolver):
            yield from names_of(one.url_patterns)
        elif (one.name or "").startswith(f"{APP}_"):
            yield str(one.name).removeprefix(f"{APP}_")


def own_permissions() -> list[str]:
    """Return the permissions that allow more than to look at a kind of rows."""
    models = apps.get_app_config(APP).get_models()
    return sorted({codename for model in models for codename, _name in model._meta.permissions})


def all_permissions() -> frozenset[str]:
    models = [one._meta for one in apps.get_app_config(APP).get_models()]
    views = {f"view_{one.model_name}" for one in models if "view" in one.default_permissions}
    return frozenset(views | {codename for one in models for codename, _name in one.permissions})


@dataclass(frozen=True, kw_only=True)
class Person:
    """Who asks, and whether that is to be enough."""

    name: str
    granted: frozenset[str] = frozenset()
    is_staff: bool = True
    is_known: bool = True
    may: bool = False

    def browser(self, *, has_token: bool = True) -> Client:
        """Return this person's browser."""
        client = Client(enforce_csrf_checks=not has_token)
        if self.is_known:
            is_root = self.name == "superuser"
            user, is_new = User.objects.get_or_create(
                username=self.name, defaults={"is_staff": self.is_staff, "is_superuser": is_root}
            )
            if is_new and not is_root:
                found = Permission.objects.filter(content_type__app_label=APP, codename__in=self.granted)
                user.user_permissions.set(found)
            client.force_login(user)
        return client


def people(rights: Rights) -> list[Person]:
    """Return those who have just what is needed, those who have all but that, and the usual ones."""
    everything = all_permissions()
    return [
        Person(name="anonymous", is_known=False, is_staff=False),
        Person(name="customer with all permissions", granted=everything, is_staff=False),
        Person(name="staff"),
        Person(name="superuser", may=bool(rights)),
        *(Person(name=f"just {', '.join(sorted(one))}", granted=one, may=True) for one in rights),
        # Of each way one permission is missing.
        *(
            Person(name=f"all but {', '.join(lacking)}", granted=everything - set(lacking))
            for lacking in product(*map(sorted, rights))
            if rights
        ),
    ]


def rows() -> dict[type[Model], list[Any]]:
    """Return all that the admin could change."""
    models: list[Any] = [one for one in apps.get_app_config(APP).get_models() if not one._meta.proxy]
    return {one: list(one._base_manager.order_by("pk").values_list()) for one in [*models, LogEntry]}


# ---- the table ---------------------------------------------------------------------------------------------


def test_every_page_is_in_the_table() -> None:
    assert set(names_of(get_resolver("tests.urls").url_patterns)) == set(PAGES)


def test_every_action_is_in_the_table() -> None:
    actions = {
        # Tuples before Django 6.1.
        f"{one.model._meta.model_name}.{action.name if hasattr(action, 'name') else action[1]}"
        for one in registered()
        for action in one._get_base_actions()
    } - {"delete_selected"}
    # Django's own is left to no class of ours.
    ours = {f"{one.model._meta.model_name}.{name}" for one in registered() for name in one.actions or ()}
    assert ours == {name for name in DEEDS if "." in name}
    assert actions <= ours | {f"{one.model._meta.model_name}.delete_selected" for one in registered()}


def test_every_action_takes_a_permission() -> None:
    # One without runs for whoever may look at the list.
    actions = [(one, name) for one in registered() for name in one.actions or ()]
    assert actions
    for model_admin, name in actions:
        required = getattr(getattr(model_admin, name), "allowed_permissions", None)
        assert required, f"{model_admin}: {name}"
        assert not {"view"} & set(required), f"{model_admin}: {name}"


def test_every_page_that_changes_something_has_its_deed() -> None:
    assert {deed.page for deed in DEEDS.values()} <= set(PAGES)


# ---- to look -----------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_page_is_shown_to_who_may_see_it_and_changes_nothing(page: str) -> None:
    row = made() if (made := PAGES[page].make) is not None else None
    before = rows()
    for person in people(PAGES[page].sees):
        answer = person.browser().get(address(page, row))
        refused = 302 if not person.is_staff else 405 if page in BUTTONS else 403
        assert answer.status_code == (200 if person.may else refused), f"{person.name}: {answer.status_code}"
    assert rows() == before


@pytest.mark.django_db
@pytest.mark.parametrize("page", sorted(set(PAGES) - {deed.page for deed in DEEDS.values()}))
def test_what_is_posted_to_a_page_that_only_shows_changes_nothing(page: str) -> None:
    row = made() if (made := PAGES[page].make) is not None else None
    before = rows()
    for person in people(NOBODY):
        answer = person.browser().post(address(page, row), {"post": "yes", "name": "x", "_save": "1"})
        assert answer.status_code in (200, 302, 403, 405)
    assert rows() == before


@pytest.mark.django_db
def test_the_front_page_leads_where_people_may_go() -> None:
    pages = [page for page in PAGES if page.endswith("_changelist")]
    granted = [frozenset[str](), *(frozenset({one}) for one in sorted(all_permissions()))]
    for one in granted:
        browser = Person(name=f"just {', '.join(one)}", granted=one).browser()
        text = browser.get(f"/admin/{APP}/" if one else "/admin/").content.decode()
        led = {page for page in pages if f'href="{address(page, None)}"' in text}
        assert led == {page for page in pages if any(need <= one for need in PAGES[page].sees)}, one


# ---- to act ------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS)
def test_what_is_allowed_happens_and_nothing_else(deed: Deed) -> None:
    row = deed.make()
    before = rows()
    for person in people(deed.rights):
        browser = person.browser()
        with undone():
            answer = browser.post(address(deed.page, row), deed.data(row))
            after = rows()
            changed = {model for model in after if after[model] != before[model]}
            if person.may:
                assert answer.status_code in (200, 302), person.name
                assert changed == set(deed.changes), person.name
                assert deed.effect(), person.name
            else:
                assert not changed, person.name
                # A list leaves out what somebody may not choose, and is shown again.
                assert answer.status_code in ((200, 302, 403) if deed.page.endswith("list") else (302, 403)), (
                    person.name
                )


@pytest.mark.django_db
@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS)
def test_nothing_happens_by_get_or_without_a_token(deed: Deed) -> None:
    row = deed.make()
    before = rows()
    for person in people(deed.rights):
        if person.may or person.name in ("anonymous", "staff"):
            strict = person.browser(has_token=False)
            assert strict.post(address(deed.page, row), deed.data(row)).status_code == 403
            strict.get(address(deed.page, row), deed.data(row))
            assert rows() == before, person.name


# ---- twice at once -----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS)
def test_twice_at_once_happens_once(deed: Deed) -> None:
    row = deed.make()
    browsers = [Person(name="superuser").browser() for _ in range(2)]
    data, barrier, answers = deed.data(row), threading.Barrier(2), []

    def press(browser: Client) -> None:
        browser.raise_request_exception = False
        try:
            barrier.wait(allowed(10.0))
            answers.append(browser.post(address(deed.page, row), data).status_code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=press, args=(browser,)) for browser in browsers]
    for one in threads:
        one.start()
    for one in threads:
        one.join(allowed(60.0))
    assert deed.effect()
    assert len(answers) == 2
    assert set(answers) <= {200, 302, 404}, answers
