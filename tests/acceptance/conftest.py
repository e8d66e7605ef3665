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
from pytest_django import DjangoDbBlocker

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
