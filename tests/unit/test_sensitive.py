"""Hiding sensitive arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from django_taskq.core import codec
from django_taskq.core.sensitive import HIDDEN, has_hidden, hide_all, hide_sensitive, hide_texts, uncover


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


@pytest.mark.parametrize(
    ("secret", "text", "expected"),
    [
        ("hunter2", "a hunter2 b", f"a {HIDDEN} b"),
        ('a"b\\c', codec.encode({"x": 'a"b\\c'}), f'{{"x":"{HIDDEN}"}}'),
        ("a\x1b'\"b", repr("a\x1b'\"b"), f"'{HIDDEN}'"),
        ("p@ss/word", "https://ann:p%40ss%2Fword@host", f"https://ann:{HIDDEN}@host"),
        ("pass word", "?key=pass+word", f"?key={HIDDEN}"),
        ("-----BEGIN-----\nMIIabcdefg\nx", "  | -----BEGIN-----\n  | MIIabcdefg", f"  | {HIDDEN}\n  | {HIDDEN}"),
    ],
)
def test_a_secret_is_hidden_in_texts_however_it_is_written(secret: str, text: str, expected: str) -> None:
    assert hide_texts(text, {secret}) == expected


def test_a_secret_that_was_cut_is_hidden_on_both_sides_of_the_cut() -> None:
    secret = "".join(f"<{number}>" for number in range(2000))
    cut = codec.shorten(f"before {secret} after", 1000)
    assert "<1>" in cut
    seen = hide_texts(cut, {secret})
    assert seen.startswith(f"before {HIDDEN}\n…")
    assert seen.endswith(f"left out …\n{HIDDEN} after")


def test_what_is_no_secret_stays_at_a_cut() -> None:
    cut = codec.shorten("ab" * 1000, 100)
    assert hide_texts(cut, {"abba"}) == cut


@pytest.mark.parametrize(
    ("shown", "value", "expected"),
    [
        (HIDDEN, "s", "s"),
        ({"a": HIDDEN, "b": 2}, {"a": "s", "b": 1}, {"a": "s", "b": 2}),
        ([{"a": HIDDEN}, 3], [{"a": "s"}, 2], [{"a": "s"}, 3]),
        # It is not known any more which one it was.
        ([{"a": HIDDEN}], [{"a": "s"}, {"a": "t"}], [{"a": HIDDEN}]),
        ({"b": HIDDEN}, {"a": "s"}, {"b": HIDDEN}),
        ({"a": HIDDEN}, ["s"], {"a": HIDDEN}),
    ],
)
def test_what_is_hidden_stays_as_it_was_where_it_was(shown: object, value: object, expected: object) -> None:
    found = uncover(shown, value)
    assert found == expected
    assert has_hidden(found) == (HIDDEN in str(expected))
