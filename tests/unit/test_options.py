"""What can be said about a task besides its arguments."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from django_taskq.core import codec
from django_taskq.core import options as module
from django_taskq.core.options import (
    MAX_COUNT,
    OPTION_NAMES,
    TaskOptions,
    decode_overrides,
    encode_overrides,
    nearest,
    parse_options,
)
from django_taskq.core.retry import DEFAULT_BACKOFF, Delays, exponential, fixed, linear
from django_taskq.exceptions import MAX_DELAY, OptionError
from tests.naming import shown

DEFAULTS = TaskOptions()


class OwnError(Exception):
    pass


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("max_attempts", None, None),
        ("max_attempts", 1, 1),
        ("max_attempts", MAX_COUNT, MAX_COUNT),
        ("backoff", None, DEFAULT_BACKOFF),
        ("backoff", 5, fixed(5)),
        ("backoff", [1, 2], Delays((1.0, 2.0))),
        ("retry_on", OwnError, frozenset({f"{__name__}.OwnError"})),
        ("retry_on", (ValueError, "shop.errors.Busy"), frozenset({"builtins.ValueError", "shop.errors.Busy"})),
        ("give_up_on", [], frozenset()),
        ("expires", None, None),
        ("expires", 60, 60.0),
        ("expires", timedelta(minutes=1), 60.0),
        ("expires", datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)),
        ("acks_late", False, False),
        *((name, value, value) for name in ("store_result", "store_errors") for value in (None, True, False)),
        ("result_ttl", None, None),
        ("result_ttl", 60, 60.0),
        ("failure_ttl", timedelta(days=1), 86400.0),
        ("failure_ttl", MAX_DELAY, MAX_DELAY),
        ("max_deliveries", 2**15 - 1, 2**15 - 1),
        ("sensitive", "password", frozenset({"password"})),
        ("sensitive", ["a", "b", "a"], frozenset({"a", "b"})),
        ("metadata", {"a": (1, None)}, {"a": [1, None]}),
    ],
    ids=shown,
)
def test_an_option_is_brought_into_its_one_form(name: str, given: object, expected: object) -> None:
    assert getattr(parse_options({name: given}), name) == expected


@pytest.mark.parametrize(
    ("name", "given"),
    [
        *(("max_attempts", value) for value in (0, -1, 1.5, "3", True, 2**31, float("inf"))),
        *(("max_deliveries", value) for value in (0, None, 2**15, "3", False)),
        *(("backoff", value) for value in (-1, "soon", [], object())),
        *(("retry_on", value) for value in (5, [int], [ValueError()], [""], [None], [["ValueError"]])),
        ("give_up_on", int),
        *(("expires", value) for value in (-1, "tomorrow", float("nan"), True, timedelta(-1), 10**400)),
        *((name, value) for name in ("acks_late", "record") for value in (1, None, "")),
        *((name, value) for name in ("store_result", "store_errors") for value in (1, "", "no")),
        *(("result_ttl", value) for value in (0, timedelta(0), -1, "7d", True, float("nan"), float("inf"))),
        ("failure_ttl", 0),
        *(("sensitive", value) for value in (5, [1], [["a"]], None)),
        *(("metadata", value) for value in (None, "text", {"a": object()}, {"a": "\x00"}, {(1,): 2})),
        ("metadata", []),
    ],
    ids=shown,
)
def test_what_cannot_be_is_refused_with_the_options_name(name: str, given: object) -> None:
    with pytest.raises(OptionError, match=f"^{name}[=:]"):
        parse_options({name: given})


def test_metadata_is_a_copy_that_the_caller_cannot_change() -> None:
    given: dict[str, Any] = {"a": [1]}
    options = parse_options({"metadata": given})
    given["a"].append(2)
    assert options.metadata == {"a": [1]}


def test_equal_options_are_equal_and_have_one_hash() -> None:
    one = parse_options({"retry_on": [ValueError, KeyError], "metadata": {"a": 1}})
    other = parse_options({"retry_on": ("builtins.KeyError", "builtins.ValueError"), "metadata": {"a": 1}})
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_attempts": 5},
        {"max_attempts": 5, "backoff": exponential(2, 60, factor=3, jitter=False)},
        {"backoff": linear(1, 2, cap=9, jitter=True)},
        {"backoff": fixed(0.25)},
        {"backoff": Delays((1.0, 0.5))},
        {"retry_on": frozenset({"builtins.ValueError", "a.B"}), "give_up_on": frozenset({"c.D"})},
        {"record": False, "store_result": False, "store_errors": False},
        {"store_result": True, "store_errors": True, "result_ttl": 0.5, "failure_ttl": 86400.0},
        {"sensitive": frozenset({"a", "b"})},
    ],
    ids=shown,
)
def test_what_a_call_changes_travels_as_json(changes: dict[str, Any]) -> None:
    changed = replace(DEFAULTS, **changes)
    text = encode_overrides(changed, DEFAULTS)
    travelled = codec.decode(text)
    assert isinstance(travelled, dict)
    assert travelled.keys() == changes.keys()
    assert decode_overrides(text, DEFAULTS) == changed


def test_a_call_can_take_back_what_its_task_says() -> None:
    base = replace(
        DEFAULTS,
        max_attempts=5,
        retry_on=frozenset({"builtins.OSError"}),
        backoff=fixed(9),
        store_result=False,
        store_errors=False,
        result_ttl=5.0,
        failure_ttl=6.0,
    )
    assert decode_overrides(encode_overrides(DEFAULTS, base), base) == DEFAULTS


def test_nothing_changed_needs_no_text() -> None:
    assert encode_overrides(DEFAULTS, DEFAULTS) == ""
    assert encode_overrides(TaskOptions(), DEFAULTS) == ""
    assert decode_overrides("", DEFAULTS) is DEFAULTS


def test_what_has_a_column_of_its_own_does_not_travel() -> None:
    changed = replace(DEFAULTS, acks_late=False, max_deliveries=9, expires=5.0, metadata={"a": 1})
    assert encode_overrides(changed, DEFAULTS) == ""


def wait_a_second(exception: BaseException, task_result: object) -> float:
    return 1.0


def test_a_function_cannot_travel() -> None:
    with pytest.raises(OptionError, match="backoff: a function cannot be given per call"):
        encode_overrides(replace(DEFAULTS, backoff=wait_a_second), DEFAULTS)


def test_a_function_of_the_tasks_own_does_not_have_to() -> None:
    base = replace(DEFAULTS, backoff=wait_a_second)
    text = encode_overrides(replace(base, max_attempts=2), base)
    assert decode_overrides(text, base) == replace(base, max_attempts=2)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "3",
        '{"acks_late":false}',
        '{"unheard_of":1}',
        '{"max_attempts":0}',
        '{"max_attempts":"many"}',
        '{"backoff":"os.system"}',
        '{"backoff":[1,2]}',
        '{"backoff":[-1,600,2,0,true]}',
        '{"backoff":["1",600,2,0,true]}',
        '{"backoff":{"seconds":[]}}',
        '{"backoff":{"seconds":["1"]}}',
        '{"retry_on":[1]}',
        '{"sensitive":[[]]}',
        '{"record":"no"}',
    ],
)
def test_damaged_text_is_refused_in_our_words(text: str) -> None:
    with pytest.raises(OptionError):
        decode_overrides(text, DEFAULTS)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("max_attempt", "; did you mean 'max_attempts'?"), ("Backoff", "; did you mean 'backoff'?"), ("zzz", "")],
)
def test_a_misspelt_name_gets_the_nearest(name: str, hint: str) -> None:
    assert nearest(name, OPTION_NAMES) == hint


@pytest.mark.parametrize("name", ["soft_time_limit", "time_limit"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "5", timedelta(0), timedelta(days=40_000)])
def test_a_limit_is_a_time(name: str, value: object) -> None:
    with pytest.raises(OptionError, match=rf"^{name}="):
        parse_options({name: value})


def test_limits_are_seconds() -> None:
    options = parse_options({"soft_time_limit": 5, "time_limit": timedelta(minutes=1)})
    assert (options.soft_time_limit, options.time_limit) == (5.0, 60.0)
    assert decode_overrides(encode_overrides(options, TaskOptions()), TaskOptions()) == options
    assert parse_options({"soft_time_limit": None, "time_limit": None}) == TaskOptions()


@pytest.mark.parametrize(("soft", "hard"), [(5, 5), (6, 5), (timedelta(seconds=6), 5.5)])
def test_a_soft_limit_comes_before_the_hard_one(soft: object, hard: object) -> None:
    with pytest.raises(OptionError, match=r"soft_time_limit=.*less than time_limit"):
        parse_options({"soft_time_limit": soft, "time_limit": hard})


def test_the_same_text_is_read_anew_for_another_base() -> None:
    text = '{"max_attempts":2}'
    for base in (DEFAULTS, TaskOptions(acks_late=False), DEFAULTS):
        assert decode_overrides(text, base) == replace(base, max_attempts=2)
        assert decode_overrides(text, base) is decode_overrides(text, base)


def test_what_was_read_does_not_pile_up() -> None:
    for seconds in range(1, 2 * module._MAX_DECODED):
        decode_overrides(f'{{"time_limit":{seconds}}}', DEFAULTS)
    decode_overrides(f'{{"sensitive":["{"x" * 10_000}"]}}', DEFAULTS)
    assert len(module._decoded) <= module._MAX_DECODED
    assert max(map(len, module._decoded)) < 1_000
