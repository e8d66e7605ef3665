"""Statistics of the benchmarks."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from tests.benchmarks.catalogue import FIGURES
from tests.benchmarks.figures import Better, Spread, median, meets, percentile, rate, ratios, shown, verdict
from tests.benchmarks.scope import BROKER_NAMES, NAMES, SETTINGS, BrokerName, fitting, place_of
from tests.benchmarks.session import Outcome
from tests.benchmarks.table import comparison_table, figures_table, plain
from tests.benchmarks.tally import Tally
from tests.servers import VENDORS


@pytest.mark.parametrize(
    ("samples", "share", "expected"),
    [
        ([7.0], 0.95, 7.0),
        ([3.0, 1.0, 2.0], 0.0, 1.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([3.0, 1.0, 2.0], 1.0, 3.0),
        ([4.0, 1.0, 3.0, 2.0], 0.5, 2.5),
        ([0.0, 10.0], 0.95, 9.5),
        ([float(number) for number in range(101)], 0.95, 95.0),
    ],
)
def test_a_percentile_lies_between_its_neighbours(samples: list[float], share: float, expected: float) -> None:
    assert percentile(samples, share) == pytest.approx(expected)


def test_percentiles_are_those_of_the_standard_library(rng: random.Random) -> None:
    for size in (2, 3, 10, 99):
        samples = [rng.uniform(-5, 5) for _ in range(size)]
        theirs = statistics.quantiles(samples, n=100, method="inclusive")
        assert [percentile(samples, share / 100) for share in range(1, 100)] == pytest.approx(theirs)
        assert median(samples) == pytest.approx(statistics.median(samples))


def test_a_percentile_leaves_the_samples_as_they_were() -> None:
    samples = [3.0, 1.0, 2.0]
    percentile(samples, 0.5)
    assert samples == [3.0, 1.0, 2.0]


@pytest.mark.parametrize(("samples", "share"), [([], 0.5), ([1.0], -0.1), ([1.0], 95)])
def test_a_percentile_that_cannot_be_is_refused(samples: list[float], share: float) -> None:
    with pytest.raises(ValueError, match=r"percentile|fraction"):
        percentile(samples, share)


def test_a_spread_keeps_the_order_of_the_runs() -> None:
    spread = Spread.of([5.0, 1.0, 3.0, 2.0])
    assert spread == Spread(samples=(5.0, 1.0, 3.0, 2.0), minimum=1.0, median=2.5, maximum=5.0)


def test_a_rate_needs_time() -> None:
    assert rate(10_000, 2.0) == 5_000
    for seconds in (0.0, -0.001):
        with pytest.raises(ValueError, match="clock"):
            rate(10_000, seconds)


def test_ratios_are_taken_run_by_run() -> None:
    assert ratios([2.0, 3.0], [1.0, 6.0]) == [2.0, 0.5]
    assert ratios([0.0, 1.0], [0.0, 0.0]) == [1.0, math.inf]
    with pytest.raises(ValueError, match="paired"):
        ratios([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("pairs", "better", "expected"),
    [
        ([1.1, 1.3, 1.2, 2.0, 1.01], "more", "better"),
        ([1.1, 1.3, 1.2, 2.0, 1.01], "less", "worse"),
        ([0.9, 0.5, 0.8, 0.7, 0.99], "more", "worse"),
        ([0.9, 0.5, 0.8, 0.7, 0.99], "less", "better"),
        ([0.9, 1.3, 1.2, 1.1, 1.1], "more", "unclear"),
        ([1.0] * 5, "less", "unclear"),
        ([1.1] * 4, "more", "unclear"),
    ],
)
def test_a_verdict_needs_five_pairs_that_agree(pairs: list[float], better: Better, expected: str) -> None:
    assert verdict(pairs, better) == expected


def test_a_goal_that_is_just_reached_is_met() -> None:
    assert meets(5_000, 5_000, "more")
    assert meets(4.0, 4.0, "less")
    assert not meets(4_999, 5_000, "more")
    assert not meets(4.1, 4.0, "less")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (12345.6, "12,346"),
        (999.96, "1,000"),
        (123.4, "123"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.1234, "0.123"),
        (0.01234, "0.0123"),
        (0.00001234, "0.0000"),
        (-12.34, "-12.3"),
        (0.0, "0"),
        (math.inf, "inf"),
    ],
)
def test_values_are_shown_with_three_digits_that_count(value: float, expected: str) -> None:
    assert shown(value) == expected


def outcome(name: str, **samples: list[float]) -> Outcome:
    made = Outcome(variant=name)
    for key, values in samples.items():
        for value in values:
            made.add("drain", {key: value})
    return made


def test_the_table_judges_the_median_by_the_goal() -> None:
    drained = outcome("ours", server_cpu=[90.0, 110.0, 100.0], rate=[4_000.0, 6_000.0, 5_500.0])
    headings, *rows = figures_table("postgres", drained)
    assert len(headings) == 7
    assert rows == [
        ("drain", "tasks/s", "4,000", "5,500", "6,000", "≥ 5,000", "met"),
        ("drain: CPU of the server", "µs/task", "90.0", "100", "110", "", ""),
    ]
    assert figures_table("sqlite", outcome("ours", rate=[2_000.0]))[1][-2:] == ("≥ 2,500", "missed")
    assert figures_table("postgres+amqp", outcome("ours", rate=[4_000.0]))[1][-2:] == ("≥ 4,000", "met")
    assert figures_table("mariadb+redis", outcome("ours", rate=[4_000.0]))[1][-2:] == ("", "")


def test_a_comparison_shows_what_both_have() -> None:
    ours = outcome("ours", rate=[2_000.0, 4_000.0, 3_000.0], server_cpu=[1.0, 1.0, 1.0])
    theirs = outcome("theirs", rate=[1_000.0, 1_000.0, 2_000.0], worker_cpu=[1.0, 1.0, 1.0])
    headings, *rows = comparison_table(ours, theirs)
    assert headings[2:4] == ("ours", "theirs")
    assert rows == [("drain", "tasks/s", "3,000", "1,000", "2.00", "1.50", "4.00", "unclear")]


def test_a_plain_table_lines_up() -> None:
    table = [("figure", "unit", "median"), ("drain", "tasks/s", "5"), ("x", "ms", "12.5")]
    assert plain("title", table).splitlines() == [
        "title",
        "figure  unit     median",
        "-----------------------",
        "drain   tasks/s       5",
        "x       ms         12.5",
    ]


def test_every_figure_has_a_title_of_its_own() -> None:
    titles = [figure.title for figure in FIGURES.values()]
    assert len(titles) == len(set(titles))


def test_goals_are_for_places_that_there_are() -> None:
    places = {place_of(vendor, broker) for vendor in VENDORS for broker in BROKER_NAMES}
    assert len(places) == len(VENDORS) * len(BROKER_NAMES)
    assert {place for figure in FIGURES.values() for place in figure.goals} <= places


@pytest.mark.parametrize(
    ("broker", "results", "left_out"),
    [
        ("database", "database://", set(SETTINGS)),
        ("amqp", "database://", set()),
        ("redis", "database://", {"unrecorded-unconfirmed"}),
        ("database", "disabled://", {*SETTINGS, "round-trip", "in-flight", "idle"}),
        ("amqp", "disabled://", {"round-trip", "in-flight", "idle"}),
    ],
)
def test_what_a_broker_has_not_is_not_measured(broker: BrokerName, results: str, left_out: set[str]) -> None:
    assert fitting(NAMES[::-1], broker, results) == [name for name in NAMES if name not in left_out]
    assert fitting(["idle", "drain"], "amqp", "database://") == ["drain", "idle"]


def test_every_measurement_has_figures() -> None:
    assert {key.partition(".")[0] for key in FIGURES} == {*NAMES, "history"}


def test_a_tally_is_the_sum_of_its_pages() -> None:
    assert Tally.of([]) == Tally(count=0, began_at=0.0, ended_at=0.0)
    assert Tally.of([(2, 5.0, 9.0), (0, 0.0, 0.0), (3, 4.0, 7.0)]) == Tally(count=5, began_at=4.0, ended_at=9.0)
