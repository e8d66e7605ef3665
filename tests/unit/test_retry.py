"""When a failed attempt is followed by another, and how long after."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from django_taskq import exponential, fixed, linear
from django_taskq.core.retry import (
    Backoff,
    Delays,
    class_path,
    matches,
    parse_backoff,
    seconds_of,
)
from django_taskq.exceptions import MAX_DELAY, OptionError
from tests.naming import shown


def delays(backoff: Backoff | Delays, count: int = 5, chance: float = 0.0) -> list[float]:
    return [backoff.delay(failures, chance) for failures in range(1, count + 1)]


def test_exponential_multiplies_up_to_its_cap() -> None:
    assert delays(exponential(1, 10, jitter=False)) == [1, 2, 4, 8, 10]
    assert delays(exponential(2, 1000, factor=3, jitter=False)) == [2, 6, 18, 54, 162]


def test_linear_adds_up_to_its_cap() -> None:
    assert delays(linear()) == [1, 2, 3, 4, 5]
    assert delays(linear(5, 10, cap=30)) == [5, 15, 25, 30, 30]


def test_fixed_stays() -> None:
    assert delays(fixed(3)) == [3, 3, 3, 3, 3]


def test_a_list_is_followed_and_its_last_delay_repeats() -> None:
    backoff = parse_backoff([1, timedelta(minutes=1), 2.5])
    assert isinstance(backoff, Delays)
    assert delays(backoff) == [1, 60, 2.5, 2.5, 2.5]


def test_jitter_takes_up_to_half_away() -> None:
    backoff = exponential(8, 600)
    assert backoff.delay(1, 0.0) == 4
    assert 7.99 < backoff.delay(1, math.nextafter(1, 0)) <= 8
    assert linear(8, jitter=True).delay(1, 0.5) == 6


@pytest.mark.parametrize("backoff", [exponential(), exponential(0.5, factor=1.5), linear(1, 1e6)], ids=repr)
@pytest.mark.parametrize("failures", [1_000, 100_000])
def test_any_number_of_failures_stays_within_the_cap(backoff: Backoff, failures: int) -> None:
    assert 300 <= backoff.delay(failures, 0.0) <= 600


@pytest.mark.parametrize("make", [fixed, exponential, linear])
def test_delays_can_be_given_as_timedelta(make: Callable[[timedelta], Backoff]) -> None:
    backoff = make(timedelta(seconds=90))
    assert backoff.base == 90
    assert make(timedelta(seconds=90)) == backoff


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: fixed(-1), "delay=-1"),
        (lambda: fixed("5"), "delay='5'"),  # type: ignore[arg-type]  # the mistake under test
        (lambda: fixed(float("nan")), "delay=nan"),
        (lambda: fixed(True), "delay=True"),
        (lambda: exponential(1, float("inf")), "cap=inf"),
        (lambda: exponential(1, MAX_DELAY * 2), "cap="),
        (lambda: exponential(factor=-2), "factor=-2"),
        (lambda: linear(1, -1), "step=-1"),
        (lambda: linear(timedelta(days=-1)), "base=-86400"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_impossible_delay_is_refused_where_it_is_written(make: Callable[[], Backoff], named: str) -> None:
    with pytest.raises(OptionError, match=r"^backoff: ") as refusal:
        make()
    assert named in str(refusal.value)


def halve(exception: BaseException, task_result: object) -> float:
    return 0.5


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (5, fixed(5)),
        (0, fixed(0)),
        (timedelta(minutes=2), fixed(120)),
        ((1, 2), Delays((1.0, 2.0))),
        (exponential(2), exponential(2)),
        (Delays((1.0,)), Delays((1.0,))),
        (halve, halve),
    ],
    ids=shown,
)
def test_a_backoff_is_a_formula_a_function_a_delay_or_a_list(given: object, expected: object) -> None:
    assert parse_backoff(given) == expected


@pytest.mark.parametrize("given", ["5", b"5", None, -1, [], [1, -1], [1, "2"], {"seconds": 1}, True, float("inf")])
def test_anything_else_is_no_backoff(given: object) -> None:
    with pytest.raises(OptionError, match="backoff"):
        parse_backoff(given)


@pytest.mark.parametrize(
    ("given", "seconds"), [(0, 0), (1.5, 1.5), (timedelta(hours=1, milliseconds=5), 3600.005), (MAX_DELAY, MAX_DELAY)]
)
def test_seconds_are_numbers_or_timedeltas(given: object, seconds: float) -> None:
    result = seconds_of(given, "run_after")
    assert result == seconds
    assert isinstance(result, float)


@pytest.mark.parametrize(
    "given",
    [-1, -0.001, timedelta(-1), MAX_DELAY * 1.1, timedelta.max, 10**400, float("nan"), "1", None, True, Decimal(1), 1j],
    ids=lambda value: repr(value)[:20],
)
def test_other_seconds_are_refused_with_the_option(given: Any) -> None:
    with pytest.raises(OptionError, match=r"^run_after="):
        seconds_of(given, "run_after")


class Outer:
    class Inner(KeyError):
        pass


def test_a_class_is_matched_by_the_path_of_itself_or_what_it_inherits_from() -> None:
    path = f"{__name__}.Outer.Inner"
    assert class_path(Outer.Inner) == path
    for name in (path, "builtins.KeyError", "builtins.LookupError", "builtins.Exception", "builtins.BaseException"):
        assert matches(Outer.Inner(), frozenset({name}))
    assert not matches(Outer.Inner(), frozenset({"builtins.ValueError", "KeyError", "Inner"}))
    assert not matches(SystemExit(), frozenset({"builtins.Exception"}))
