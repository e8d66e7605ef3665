"""Hiding sensitive arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from django_taskq.core.sensitive import HIDDEN, hide_all, hide_sensitive


def login(user: str, password: str, /, host: str = "", *, token: str = "") -> None: ...


def collect(first: int, *values: int, **fields: int) -> None: ...


def hidden(func: Callable[..., Any], sensitive: set[str], *args: object, **kwargs: object) -> object:
    return hide_sensitive(args, kwargs, sensitive, list(inspect.signature(func).parameters.values()))


@pytest.mark.parametrize(
    ("func", "sensitive", "args", "kwargs", "expected"),
    [
        (login, set(), ("ann", "1234"), {"token": "t"}, (["ann", "1234"], {"token": "t"})),
        (login, {"password"}, ("ann", "1234"), {"token": "t"}, (["ann", HIDDEN], {"token": "t"})),
        (login, {"token"}, ("ann", "1234"), {"token": "t"}, (["ann", "1234"], {"token": HIDDEN})),
        (login, {"host"}, ("ann", "1234", "h"), {}, (["ann", "1234", HIDDEN], {})),
        (login, {"host"}, ("ann", "1234"), {"host": "h"}, (["ann", "1234"], {"host": HIDDEN})),
        (collect, {"values"}, (1, 2, 3), {"a": 4}, ([1, HIDDEN, HIDDEN], {"a": 4})),
        (collect, {"fields"}, (1, 2, 3), {"a": 4}, ([1, 2, 3], {"a": HIDDEN})),
        (collect, {"a"}, (1, 2), {"a": 4, "b": 5}, ([1, 2], {"a": HIDDEN, "b": 5})),
    ],
)
def test_named_arguments_are_hidden(
    func: Callable[..., Any],
    sensitive: set[str],
    args: tuple[object, ...],
    kwargs: dict[str, object],
    expected: tuple[list[object], dict[str, object]],
) -> None:
    assert hidden(func, sensitive, *args, **kwargs) == expected


def test_positional_arguments_that_no_parameter_takes_any_more_are_hidden() -> None:
    assert hidden(login, {"password"}, "ann", "1234", "h", "old") == (["ann", HIDDEN, "h", HIDDEN], {})


def test_keyword_arguments_that_no_parameter_takes_any_more_are_hidden_by_their_name() -> None:
    assert hidden(login, {"secret"}, secret="s", other="o") == ([], {"secret": HIDDEN, "other": "o"})


def test_of_an_unknown_task_everything_is_hidden() -> None:
    assert hide_all(["ann", "1234"], {"token": "t"}) == ([HIDDEN, HIDDEN], {"token": HIDDEN})
