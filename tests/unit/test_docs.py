"""The documentation: the reference names everything there is and nothing else, code compiles, links lead somewhere."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from django.core.management.base import BaseCommand, CommandParser

import django_taskq
from django_taskq import State, TaskContext, TaskResult, exceptions, task, testing
from django_taskq.conf import BackendOptions
from django_taskq.core.options import OPTION_NAMES
from django_taskq.core.states import MOVES
from django_taskq.definition import _DECORATOR_OPTIONS
from django_taskq.management.commands import cleartasks, runscheduler, runworker
from django_taskq.management.commands.taskq import SUBCOMMANDS
from django_taskq.management.taskq.filters import add_selection
from django_taskq.testing import run_tasks
from tests.unit.source import modules, texts

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))]

#: What every command of Django's has.
DJANGO_FLAGS = {
    flag for action in BaseCommand().create_parser("manage.py", "any")._actions for flag in action.option_strings
}

FENCE = re.compile(r"^(?P<fence>`{3,})(?P<kind>[^\n`]*)\n(?P<text>.*?)^(?P=fence)[ \t]*$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) +(.+?) *$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`]+)`")
CHECK = re.compile(r"django_taskq\.[EWI]\d{3}")


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return FENCE.sub("", page.read_text())


def blocks(page: Path, kind: str) -> Iterator[str]:
    for match in FENCE.finditer(page.read_text()):
        if match["kind"].strip() == kind:
            yield match["text"]


def section(page: str, heading: str) -> str:
    """Return what stands between a heading and the next one."""
    text = prose(DOCS / page)
    found = [match for match in HEADING.finditer(text) if match[2] == heading]
    assert len(found) == 1, f"{page} has {len(found)} headings {heading!r}"
    following = HEADING.search(text, found[0].end())
    return text[found[0].end() : following.start() if following else len(text)]


def table(page: str, heading: str) -> list[dict[str, str]]:
    """Return the rows of all tables of a section, by the titles of their columns; cells without spaces around them."""
    rows: list[dict[str, str]] = []
    titles: list[str] = []
    for line in section(page, heading).splitlines():
        if not line.startswith("|"):
            titles = []
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if not titles:
            titles = cells
        elif set("".join(cells)) - set("-:| "):
            assert len(cells) == len(titles), f"{page}, {heading}: {line}"
            rows.append(dict(zip(titles, cells, strict=True)))
    assert rows, f"{page}, {heading}: no table"
    return rows


def codes(text: str) -> list[str]:
    return CODE.findall(text)


def code(cell: str) -> str:
    """Return the only code in a cell."""
    (text,) = codes(cell)
    return str(text)


def value(cell: str) -> Any:
    """Return the Python value that the code in a cell stands for; it may call what the package exports."""
    return eval(code(cell), {name: getattr(django_taskq, name) for name in django_taskq.__all__})


def members(cls: type) -> set[str]:
    """Return a class's public names, fields without a default included."""
    return {name for name in {*dir(cls), *(one.name for one in fields(cls))} if not name.startswith("_")}


# ---- the reference -----------------------------------------------------------------------------------------


def test_every_key_of_options_has_a_row_with_its_default() -> None:
    rows = {code(row["Key"]): row for row in table("settings.md", "OPTIONS")}
    assert list(rows) == [option.name for option in fields(BackendOptions)]
    defaults = BackendOptions()
    assert {name: value(row["Default"]) for name, row in rows.items()} == {
        name: getattr(defaults, name) for name in rows
    }
    assert all(row["Unit"] and row["Meaning"] for row in rows.values())


def sample() -> None:
    """Become a task without any option."""


def test_every_task_option_has_a_row_with_its_default_and_where_it_can_be_given() -> None:
    rows = {code(row["Option"]): row for row in table("tasks.md", "Options")}
    using = {"priority", "queue_name", "run_after", "backend", *OPTION_NAMES}
    assert set(rows) == {*_DECORATOR_OPTIONS, *using}
    assert {name for name, row in rows.items() if row["`@task`"] == "yes"} == set(_DECORATOR_OPTIONS)
    assert {name for name, row in rows.items() if row["`using`"] == "yes"} == using
    plain = task(sample)
    # A task without a name takes the function's.
    assert value(rows.pop("name")["Default"]) == ""
    assert {name: value(row["Default"]) for name, row in rows.items()} == {name: getattr(plain, name) for name in rows}


def test_every_public_name_is_listed() -> None:
    named = set(codes(section("results.md", "Everything public")))
    assert named == {*django_taskq.__all__, *testing.__all__, "django_taskq.testing", "django_taskq.models"}


def test_every_public_name_is_explained() -> None:
    elsewhere = "".join(prose(page) for page in DOCS.glob("*.md")).replace(
        section("results.md", "Everything public"), ""
    )
    words = {word for text in codes(elsewhere) for word in re.findall(r"\w+", text)}
    assert set(django_taskq.__all__) - words == set()


def test_every_exception_has_a_row() -> None:
    classes = {
        name for name, one in inspect.getmembers(exceptions, inspect.isclass) if issubclass(one, exceptions.TaskqError)
    }
    assert {code(row["Class"]) for row in table("results.md", "Exceptions")} == classes


@pytest.mark.parametrize(
    ("cls", "internal"),
    [(TaskResult, set[str]()), (TaskContext, {"report", "is_cancelled"})],
    ids=["TaskResult", "TaskContext"],
)
def test_every_member_has_a_row(cls: type, internal: set[str]) -> None:
    first = {title for row in table("results.md", cls.__name__) for title in codes(next(iter(row.values())))}
    documented = {re.sub(r"^await |\(.*", "", name) for name in first}
    assert documented == members(cls) - internal


def test_the_states_and_their_moves_are_those_of_the_code() -> None:
    rows = {State(code(row["State"])): row for row in table("how-it-works.md", "States")}
    assert list(rows) == list(State)
    assert {state: frozenset(State(name) for name in codes(row["Moves to"])) for state, row in rows.items()} == MOVES
    assert {state: code(row["For `django.tasks`"]) for state, row in rows.items()} == {
        state: state.upstream for state in State
    }
    assert {state for state, row in rows.items() if row["Meaning"].endswith("Final.")} == {
        state for state in State if state.is_final
    }


def test_every_check_has_a_row() -> None:
    made = {identity for module in modules().values() for _, text in texts(module) for identity in CHECK.findall(text)}
    assert made
    assert sorted(code(row["Id"]) for row in table("checks.md", "Checks")) == sorted(made)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("runworker", runworker.Command()),
        ("runscheduler", runscheduler.Command()),
        ("cleartasks", cleartasks.Command()),
    ],
)
def test_every_flag_has_a_row_with_its_default(name: str, command: BaseCommand) -> None:
    documented = {tuple(codes(row["Option"])): row["Default"] for row in table("commands.md", name)}
    actions = {
        tuple(action.option_strings): action.default
        for action in command.create_parser("manage.py", name)._actions
        if not DJANGO_FLAGS.issuperset(action.option_strings)
    }
    assert set(documented) == set(actions)
    numbers = {flags: default for flags, default in actions.items() if type(default) is int}
    assert {flags: int(documented[flags]) for flags in numbers} == numbers
    assert {flags for flags, default in actions.items() if default is False} == {
        flags for flags, cell in documented.items() if cell == "off"
    }


def test_every_subcommand_of_taskq_has_a_row() -> None:
    documented = {code(row["Subcommand"]) for row in table("commands.md", "taskq") if "Subcommand" in row}
    assert documented == SUBCOMMANDS.keys()


def test_every_filter_of_taskq_has_a_row() -> None:
    parser = CommandParser()
    add_selection(parser)
    flags = {flag for action in parser._actions for flag in action.option_strings} - {"-h", "--help"}
    documented = {flag for row in table("commands.md", "Which tasks") for flag in codes(row["Option"])}
    assert documented == flags | {"--limit"}


def test_every_argument_of_run_tasks_has_a_row() -> None:
    rows = [code(row["Argument"]) for row in table("testing.md", "The whole way")]
    assert rows == list(inspect.signature(run_tasks).parameters)


def test_the_targets_of_make_are_those_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):.*##", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)) - {"help"}
    assert {
        code(row["Command"]).removeprefix("make ") for row in table("contributing.md", "From a checkout")
    } == targets


# ---- code --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_compiles(page: Path) -> None:
    for text in blocks(page, "python"):
        compile(text, str(page), "exec", dont_inherit=True)
    for text in blocks(page, "pycon"):
        for example in doctest.DocTestParser().get_examples(text):
            compile(example.source, str(page), "single", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def test_the_tutorial_has_code() -> None:
    assert len(list(blocks(DOCS / "tutorial.md", "python"))) >= 5
    assert len(list(blocks(DOCS / "tutorial.md", "pycon"))) >= 5


# ---- links -------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Return the names by which a page's headings can be linked to, as GitHub and MyST make them."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for _, heading in HEADING.findall(prose(page))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    lost = []
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_every_page_is_in_the_contents() -> None:
    lines = [line for text in blocks(DOCS / "index.md", "{toctree}") for line in text.splitlines()]
    contents = [line for line in lines if line and not line.startswith(":")]
    assert sorted(contents) == sorted(page.stem for page in DOCS.glob("*.md") if page.stem != "index")


def test_included_files_are_there() -> None:
    included = [
        (page.parent / match["kind"].removeprefix("{include}").strip()).resolve()
        for page in PAGES
        for match in FENCE.finditer(page.read_text())
        if match["kind"].startswith("{include}")
    ]
    assert included == [REPOSITORY / "CHANGELOG.md"]
