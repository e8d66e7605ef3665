"""Histograms: adding two is counting both, and a quantile is right to a bucket's width."""

from __future__ import annotations

import json
import random

import pytest

from django_taskq.core import counts
from django_taskq.core.counts import (
    MAX_SERIES,
    OTHER,
    Counts,
    Series,
    add_series,
    counts_of,
    dump_counts,
    dump_series,
    load_counts,
    load_series,
    read_counts,
    read_series,
    sum_of,
)
from django_taskq.core.histogram import BOUNDS, Histogram
from django_taskq.worker import gauges


def histogram(values: list[float]) -> Histogram:
    one = Histogram()
    for value in values:
        one.note(value)
    return one


def durations(rng: random.Random, count: int) -> list[float]:
    return [10.0 ** rng.uniform(-3, 4.9) for _ in range(count)]


def test_the_sum_of_two_is_what_one_would_have_counted(rng: random.Random) -> None:
    first, second = durations(rng, 300), durations(rng, 200)
    whole = histogram(first)
    whole.add(histogram(second))
    assert whole == histogram(first + second)
    assert whole.count == 500
    assert whole.total == pytest.approx(sum(first) + sum(second))


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95, 0.99, 1.0])
def test_a_quantile_is_right_to_a_quarter(rng: random.Random, share: float) -> None:
    for count in (1, 2, 7, 1000):
        values = sorted(durations(rng, count))
        found = histogram(values).quantile(share)
        true = values[max(round(share * count + 0.4999), 1) - 1]
        assert found is not None
        assert true / 1.26 <= found <= true * 1.26, (count, share, true)


def test_quantiles_of_nothing_of_the_short_and_of_the_long() -> None:
    assert Histogram().quantile(0.5) is None
    assert histogram([0.0, 0.0]).quantile(0.95) == BOUNDS[0]
    assert histogram([1e9]).quantile(0.5) == BOUNDS[-1]


def test_what_stands_in_json_comes_back(rng: random.Random) -> None:
    one = histogram(durations(rng, 50))
    assert Histogram.load(json.loads(json.dumps(one.dump()))) == one


@pytest.mark.parametrize("flat", [[], [1.0, 2], ["x"], [1.0, "a", "b"]])
def test_what_is_no_histogram_is_refused(flat: list[float]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Histogram.load(flat)


def some(succeeded: int, failed: int = 0) -> Counts:
    found = Counts()
    for _ in range(succeeded):
        found.ended("succeeded", seconds=0.5, waited=0.1)
    for _ in range(failed):
        found.ended("failed", seconds=2.0, waited=None)
    return found


def test_counts_by_task_and_queue_add_up_and_come_back() -> None:
    one: Series = {("a", "default"): some(2), ("b", "default"): some(1, 1)}
    add_series(one, {("a", "default"): some(3), ("a", "mail"): some(1)})
    there = load_series(dump_series(one))
    assert {key: (found["succeeded"], found["failed"]) for key, found in there.items()} == {
        ("a", "default"): (5, 0),
        ("b", "default"): (1, 1),
        ("a", "mail"): (1, 0),
    }
    total = load_counts(dump_counts(sum_of(there)))
    assert (total["succeeded"], total["failed"], total.runs.count, total.waits.count) == (7, 1, 8, 7)
    assert total.runs.total == pytest.approx(5.5)


def test_no_more_pairs_than_a_row_may_hold_are_counted_apart() -> None:
    series: Series = {}
    for number in range(MAX_SERIES + 50):
        counts_of(series, f"task{number}", "default").ended("succeeded", seconds=None, waited=None)
    assert len(series) == MAX_SERIES + 1
    assert series[OTHER]["succeeded"] == 50
    assert sum_of(series)["succeeded"] == MAX_SERIES + 50


@pytest.mark.parametrize("text", ["", "{", "null", "7", "[1]", '[["a","b",[[1],[],[]]]]', '{"a":1}'])
def test_what_somebody_has_spoilt_counts_as_nothing(text: str) -> None:
    assert load_series(text) == {}
    assert not load_counts(text)


def test_a_worker_counts_the_same_ends_for_its_supervisor() -> None:
    # Which needs nothing of the package to read them.
    assert (counts.ENDS, counts.MAX_SERIES, counts.OTHER) == (gauges.ENDS, gauges.MAX_SERIES, gauges.OTHER)


def test_what_is_taken_is_what_is_loaded_and_added(rng: random.Random) -> None:
    series: Series = {}
    for name in "abc":
        for seconds in durations(rng, 50):
            counts_of(series, name, "q").ended("succeeded", seconds=seconds, waited=seconds / 7)
    taken = Counts()
    for _name, _queue, parts in read_series(dump_series(series)):
        taken.take(parts)
    whole = sum_of(series)
    assert (taken.ends, taken.waits, taken.runs) == (whole.ends, whole.waits, whole.runs)
    assert taken.runs.total == pytest.approx(whole.runs.total)
    taken.take(read_counts(dump_counts(whole)))
    assert taken.runs.count == 300


@pytest.mark.parametrize(
    "text", ["", "{", "3", "[]", "[1]", '["a","b","c"]', "null", "[[1],[0,1],[0,1]]", "[[0,0,0,0,0,0],[0,1],[0]]"]
)
def test_what_somebody_has_changed_is_not_taken(text: str) -> None:
    taken = Counts()
    taken.take(read_counts(text))
    assert not taken
    assert (taken.waits.counts, taken.runs.counts) == ({}, {})
    assert all(not isinstance(parts, Counts) for *_names, parts in read_series(text))


@pytest.mark.parametrize("flat", [[], [0, 1], [0.0, "a", 1], [0.0, 1, None], [0.0, [1], 1]])
def test_what_is_no_histogram_is_not_taken(flat: list[float]) -> None:
    one = Histogram()
    with pytest.raises((ValueError, TypeError, LookupError)):
        one.take(flat)
    assert one.counts == {}
