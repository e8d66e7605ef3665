"""Routes: which queue a task goes to that names none."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import pytest

from django_taskq.exceptions import OptionError
from django_taskq.option_values import OptionsError
from django_taskq.routes import Routes, load_router, parse_routes, queues_of, route


def by_size(task_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    return "large" if args or kwargs else None


@pytest.fixture
def routers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("project_routers")
    monkeypatch.setitem(sys.modules, "project_routers", module)
    return module


@pytest.mark.parametrize(
    ("task_name", "queue_name"),
    [
        ("shop.mail.send", "mail"),
        ("shop.mail.urgent", "urgent"),
        ("shop.reports.daily", "slow"),
        ("shop.x", None),
        ("SHOP.MAIL.SEND", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("form", [dict, list])
def test_the_first_pattern_that_matches_decides(form: Any, task_name: str, queue_name: str | None) -> None:
    pairs = [("shop.mail.urgent", "urgent"), ("shop.mail.*", "mail"), ("*.report[s].?aily", "slow")]
    assert route(parse_routes("routes", form(pairs)), task_name) == queue_name


@pytest.mark.parametrize("given", [{}, [], ()])
def test_no_routes_leave_tasks_where_they_are(given: Any) -> None:
    assert parse_routes("routes", given) == ()
    assert route((), "shop.mail.send") is None


def test_a_function_sees_the_call() -> None:
    routes = parse_routes("routes", by_size)
    assert route(routes, "t") is None
    assert route(routes, "t", [1]) == "large"
    assert route(routes, "t", (), {"a": 1}) == "large"


def test_a_path_leads_to_a_function_and_is_followed_only_when_needed(routers: ModuleType) -> None:
    routes = parse_routes("routes", "project_routers.choose")
    assert routes == "project_routers.choose"
    routers.choose = by_size  # type: ignore[attr-defined]
    load_router(routes)
    assert route(routes, "t", [1], allowed=["large"]) == "large"


@pytest.mark.parametrize("value", [7, "", "x" * 129, True, b"mail", ["mail"], "a\0b", {}])
def test_a_function_that_gives_nonsense_is_named(value: Any) -> None:
    def choose(task_name: str, args: Any, kwargs: Any) -> Any:
        return value

    with pytest.raises(OptionError, match=r"OPTIONS\['routes'\].*choose gave .* for the task shop.send"):
        route(parse_routes("routes", choose), "shop.send")


def test_a_function_that_fails_is_named_with_what_it_said(routers: ModuleType) -> None:
    def choose(task_name: str, args: Any, kwargs: Any) -> str:
        raise LookupError("no such shop")

    routers.choose = choose  # type: ignore[attr-defined]
    with pytest.raises(
        OptionError, match=r"project_routers\.choose failed for the task t: LookupError: no such"
    ) as said:
        route("project_routers.choose", "t")
    assert isinstance(said.value.__cause__, LookupError)


def test_a_function_may_only_name_queues_of_the_alias() -> None:
    with pytest.raises(OptionError, match=r"gave the queue 'large'.*QUEUES does not have; did you mean 'larger'"):
        route(by_size, "t", [1], allowed=["mail", "larger"])


@pytest.mark.parametrize("path", ["project_routers.missing", "no_such_module.choose"])
def test_a_path_that_leads_nowhere(path: str, routers: ModuleType) -> None:
    with pytest.raises(OptionError, match=f"{path!r} cannot be imported"):
        load_router(parse_routes("routes", path))


def test_a_path_that_leads_to_something_else(routers: ModuleType) -> None:
    routers.choose = "mail"  # type: ignore[attr-defined]
    with pytest.raises(OptionError, match="is a str, not a function"):
        route("project_routers.choose", "t")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (7, "OPTIONS['routes'] cannot be a int"),
        (None, "OPTIONS['routes'] cannot be a NoneType"),
        (dict, "OPTIONS['routes'] cannot be a type"),
        ("mail", "is not the path of a function"),
        ("shop routers.choose", "is not the path of a function"),
        ({"*": ""}, "OPTIONS['routes']['*']='' is not a queue's name"),
        ({"*": "x" * 129}, "is not a queue's name"),
        ({"*": {"queue": "mail"}}, "OPTIONS['routes']['*'] is a dict. Write the queue's name alone"),
        ({7: "mail"}, "the pattern 7 is not text"),
        ({"": "mail"}, "the pattern '' is not text"),
        (["mail"], "OPTIONS['routes'][0] must be a pair"),
        ([("*", "mail"), ("a", "b", "c")], "OPTIONS['routes'][1] must be a pair"),
    ],
)
def test_what_cannot_be_routes(given: Any, said: str) -> None:
    with pytest.raises(OptionsError) as refusal:
        parse_routes("routes", given)
    assert said in str(refusal.value)
    assert refusal.value.key == "routes"


@pytest.mark.parametrize(
    ("routes", "names"), [((), []), ((("a", "x"), ("b", "y"), ("c", "x")), ["x", "y"]), (by_size, []), ("a.b", [])]
)
def test_the_queues_that_are_known_beforehand(routes: Routes, names: list[str]) -> None:
    assert queues_of(routes) == names
