"""Projects of the tests' own, on the database TASKQ_TEST_DB chooses."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from pytest_django import DjangoDbBlocker

from tests.acceptance.admin_site import APPS, SETTINGS
from tests.acceptance.browsing import Visitor, Window, browser
from tests.acceptance.project import Project
from tests.databases import chosen
from tests.servers import Databases, shared

_numbers = itertools.count(1)


def _name(kind: str) -> str:
    """Return a name that no other process and no other test uses on a shared server."""
    return f"taskq_{kind}_{os.getpid()}_{next(_numbers)}"


@pytest.fixture(autouse=True)
def _nobody_reads_replies_any_more() -> Iterator[None]:
    """A reader tries to reach its broker for ever, in a thread of this process."""
    yield
    module = sys.modules.get("django_taskq.results.rpc")
    if module is not None:
        module.close_queues()
        module._queues.clear()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[tuple[str, ...]], str]]:
    """Return a function from additional apps to the name of a migrated database, made once: migrating takes seconds."""
    made: dict[tuple[str, ...], Project] = {}

    def name(apps: tuple[str, ...]) -> str:
        if apps not in made:
            project = Project(shared(chosen()), _name("template"), tmp_path_factory.mktemp("template"), apps=apps)
            project.create()
            made[apps] = project
        return made[apps].name

    yield name
    for project in made.values():
        project.close()


@pytest.fixture
def make_project(
    template: Callable[[tuple[str, ...]], str], tmp_path: Path, django_db_blocker: DjangoDbBlocker
) -> Iterator[Callable[..., Project]]:
    """Return a function that makes a migrated project; it takes what `Project` takes by keyword.

    With ``databases=server`` the database is on that private server instead of the shared one. The test process is
    attached to the last project made.
    """
    with ExitStack() as stack:

        def make(*, databases: Databases | None = None, **options: Any) -> Project:
            name = _name("project")
            directory = tmp_path / name
            directory.mkdir()
            project = Project(databases or shared(chosen()), name, directory, **options)
            stack.callback(project.close)
            if databases is None:
                project.databases.clone_database(template(tuple(options.get("apps", ()))), name)
            else:
                project.create()
            stack.enter_context(django_db_blocker.unblock())
            stack.enter_context(project.attached())
            return project

        yield make


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    """Return a migrated project with default settings, attached."""
    return make_project()


@pytest.fixture(scope="session")
def _admin_template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    project = Project(shared(chosen()), _name("template"), tmp_path_factory.mktemp("template"), **_admin_options())
    project.create()
    yield project.name
    project.close()


@pytest.fixture(scope="module")
def window(
    _admin_template: str, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker
) -> Iterator[Window]:
    """A browser before the admin of a project of this module's own, to which this process is attached."""
    name = _name("project")
    project = Project(shared(chosen()), name, tmp_path_factory.mktemp("site"), **_admin_options())
    try:
        project.databases.clone_database(_admin_template, name)
        server = project.start(sys.executable, "-m", "tests.acceptance.admin_site")
        server.wait_for("port=")
        site = f"http://127.0.0.1:{server.stdout.read_text().strip().removeprefix('port=')}/"
        with browser() as started, django_db_blocker.unblock(), project.attached():
            yield Window(started, project, site)
    finally:
        project.close()


@pytest.fixture
def visitor(window: Window) -> Iterator[Visitor]:
    """A superuser before the browser, which must have had nothing to complain of."""
    with window.visitor() as visitor:
        yield visitor
    assert not visitor.problems


def _admin_options() -> dict[str, Any]:
    tasks = {"default": {"BACKEND": "django_taskq.TaskqBackend", "QUEUES": []}}
    return {"tasks": tasks, "apps": APPS, "settings": {**SETTINGS, "TEMPLATES": settings.TEMPLATES}}
