"""JSON as it is stored."""

from __future__ import annotations

import json
import random
from collections import OrderedDict, UserDict, UserList, deque
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import pytest

from django_taskq.core import codec

PLAIN: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**63,
    10**308,
    -(10**308),
    0.1,
    -0.0,
    5e-324,
    1.7976931348623157e308,
    1e5,
    "",
    "text",
    "Ünïcödé · 漢字 · עברית · 🙂👩‍👩‍👧 · \U0010ffff",
    "\\ \" ' ` % %s %(name)s {} {0} $1 ? ; --",
    "\\u0000",
    "\\\\u0000",
    "line\nline\r\n\ttab\x01\x1f\x7f\x85\u2028\u2029\ufeff",
    "\u202eright to left\u202c",
    "x" * 100_000,
    "1" * 400,
    [],
    [[]],
    {},
    {"": None},
    {"key": [1, {"other": "value"}]},
]


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: repr(value)[:20])
def test_what_is_json_comes_back_as_it_was(value: Any) -> None:
    again = codec.decode(codec.encode(value))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, (2,)), [1, [2]]),
        (range(3), [0, 1, 2]),
        (deque([1]), [1]),
        (UserList([1]), [1]),
        (b"caf\xc3\xa9", "café"),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (UserDict(a=1), {"a": 1}),
        (MappingProxyType({"a": (1,)}), {"a": [1]}),
        ({1: "a", 2.5: "b", None: "c", True: "d"}, {"1": "d", "2.5": "b", "null": "c"}),  # noqa: F601  # True is 1, and so is written
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_upstream_takes_for_json_is_taken(value: Any, expected: Any) -> None:
    assert codec.decode(codec.encode(value)) == expected


def test_the_text_is_compact_and_keeps_the_order() -> None:
    assert codec.encode({"b": [1, 2], "a": "é"}) == '{"b":[1,2],"a":"é"}'


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, frozenset(), datetime.now(UTC), Decimal(1), uuid4(), 1j, lambda: None, int, iter([])],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [{"key": value}]], ids=["bare", "nested"])
def test_other_types_are_refused_in_upstreams_words(value: Any, wrap: Any) -> None:
    with pytest.raises(TypeError, match=r"^Unsupported type") as refusal:
        codec.encode(wrap(value))
    assert type(value).__name__ in str(refusal.value)


def test_keys_that_are_no_names_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^Unsupported type"):
        codec.encode({(1, 2): 3})


def circle() -> list[Any]:
    value: list[Any] = []
    value.append({"again": value})
    return value


def circle_of_user_lists() -> UserList[Any]:
    value: UserList[Any] = UserList()
    value.append(value)
    return value


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


REFUSED: dict[str, Any] = {
    "nan": float("nan"),
    "infinity": float("inf"),
    "minus infinity": -float("inf"),
    "nan as a key": {float("nan"): 1},
    "just beyond a double": 10**309,
    "far beyond a double": 10**400,
    "far below a double": -(10**400),
    "too many digits for Python": 10**5000,
    "far beyond a double as a key": {10**400: 1},
    "nul": "a\x00b",
    "nul as a key": {"\x00": 1},
    "nul after a backslash": "\\\x00",
    "high surrogate": "\ud800",
    "low surrogate": "a\udfffb",
    "surrogate as a key": {"\udc00": 1},
    "bytes that are no text": b"\xff",
    "circle": circle(),
    "circle of other lists": circle_of_user_lists(),
    "too deep": deep(200_000),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"key": [value]}], ids=["bare", "nested"])
def test_what_a_database_cannot_hold_is_refused(name: str, wrap: Any) -> None:
    with pytest.raises(ValueError, match=r"^Unsupported value"):
        codec.encode(wrap(REFUSED[name]))


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"a": value}, lambda value: (value,)])
def test_nesting_has_a_limit_that_every_reader_can_bear(wrap: Any) -> None:
    value: Any = 1
    for _ in range(codec.MAX_DEPTH):
        value = wrap(value)
    codec.encode([value] * 2)
    codec.encode([[[1]]] * 1_000)
    with pytest.raises(ValueError, match="nested more than 200 levels deep"):
        codec.encode(wrap([value]))


def test_a_long_number_in_a_string_is_no_number() -> None:
    text = "9" * 400
    assert codec.decode(codec.encode([text, {text: 10**308}])) == [text, {text: 10**308}]


@pytest.mark.parametrize("text", ["null", "1", '"a"', "[]", '{"a":[1,{}]}', "-0.5e3"])
@pytest.mark.parametrize(("before", "after"), [("", ""), (" ", ""), ("", "\n"), ("\t\r", " \n")])
def test_white_space_around_it_is_no_part_of_a_value(text: str, before: str, after: str) -> None:
    assert codec.decode(f"{before}{text}{after}") == json.loads(text)


@pytest.mark.parametrize("text", ["", " ", "nul", "[1", "null null", "[]]", "1,", "\x0bnull", "\ufeffnull", '"a'])
def test_what_is_no_json_is_refused_as_the_standard_library_does(text: str) -> None:
    with pytest.raises(json.JSONDecodeError) as expected:
        json.JSONDecoder().decode(text)
    with pytest.raises(json.JSONDecodeError) as found:
        codec.decode(text)
    assert str(found.value) == str(expected.value)


def test_random_values_come_back_and_every_reader_agrees(rng: random.Random) -> None:
    def value(depth: int) -> Any:
        kind = rng.randrange(9 if depth else 7)
        if kind == 7:
            return [value(depth - 1) for _ in range(rng.randrange(4))]
        if kind == 8:
            return {text(): value(depth - 1) for _ in range(rng.randrange(4))}
        return [None, True, False, rng.randrange(-(2**70), 2**70), rng.uniform(-1e9, 1e9), text(), ""][kind]

    def text() -> str:
        return "".join(rng.choice("a\\\"u0\n\x01\x85\u2028é漢🙂%'") for _ in range(rng.randrange(12)))

    for _ in range(500):
        given = value(4)
        assert json.loads(codec.encode(given)) == codec.decode(codec.encode(given)) == given


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("a\x00b", "a\\x00b"),
        ("\ud800\udfff", "\\xd800\\xdfff"),
        ("🙂\u2028\x85", "🙂\u2028\x85"),
    ],
)
def test_a_cleaned_text_shows_what_could_not_be_stored(text: str, expected: str) -> None:
    assert codec.clean(text) == expected
    codec.encode(codec.clean(text))


@pytest.mark.parametrize("length", [0, 99, 100, 101, 150, 100_000])
def test_a_shortened_text_keeps_both_ends_and_says_what_is_missing(length: int) -> None:
    text = "a" * (length // 2) + "z" * (length - length // 2)
    short = codec.shorten(text, 100)
    assert len(short) <= 110
    if length <= 100:
        assert short == text
    else:
        assert short[0] == "a"
        assert short[-1] == "z"
        missing = int("".join(filter(str.isdigit, short)))
        assert short.count("a") + short.count("z") == length - missing + "characters left out".count("a")


@pytest.mark.parametrize(
    "text", ["", "plain", "größe", 'with "quotes"', "back\\slash", "new\nline", "\u2028", "\x7f", "😀"]
)
def test_a_text_is_quoted_as_it_is_encoded(text: str) -> None:
    assert codec.quoted(text) == codec.encode(text)


@pytest.mark.parametrize("text", ["\x00", "\ud800"])
def test_a_text_that_no_database_takes_is_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="Unsupported value"):
        codec.quoted(text)
