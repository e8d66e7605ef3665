"""Statistics of the benchmarks."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import calls
from tests.benchmarks.__main__ import parse
from tests.benchmarks.calls import Caller, Reply
from tests.benchmarks.catalogue import FIGURES, Figure
from tests.benchmarks.figures import Better, Spread, median, meets, percentile, rate, ratios, shown, verdict
from tests.benchmarks.plan import Plan
from tests.benchmarks.scope import (
    BROKER_NAMES,
    NAMES,
    PEER_MEASURES,
    SETTINGS,
    BrokerName,
    fitting,
    has_peers,
    place_of,
)
from tests.benchmarks.session import Outcome
from tests.benchmarks.table import comparison_table, figures_table, plain
from tests.benchmarks.tally import Tally
from tests.benchmarks.variant import Variant
from tests.benchmarks.worker_process import WorkerProcess
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


def test_a_peer_stands_beside_ours_where_it_was_measured() -> None:
    ours, peer = Outcome(variant="ours"), Outcome(variant="Celery")
    for in_flight, theirs in ((300.0, 100.0), (290.0, 100.0), (200.0, 100.0)):
        ours.add("rpc-in-flight", {"rate": in_flight})
        peer.add("rpc-in-flight", {"rate": theirs})
    ours.add("rpc-round-trip", {"p50": 2.0, "p95": 4.0})
    peer.add("rpc-round-trip", {"p50": 4.0, "p95": 5.0})
    ours.add("rpc-recorded", {"p50": 2.5})
    headings, *rows = figures_table("sqlite+amqp", ours, peer)
    assert headings[7:] == ("Celery", "ratio", "goal", "")
    assert [row[0] for row in rows] == [
        *("rpc: round trip, p50", "rpc: round trip, p95", "rpc: 32 in flight", "rpc: round trip with a row, p50"),
    ]
    assert [row[7:] for row in rows] == [
        ("4.00", "0.500", "≤ 0.513", "met"),
        ("5.00", "0.800", "", ""),
        ("100", "2.90", "≥ 2.96", "missed"),
        ("", "", "", ""),
    ]


def test_a_goal_is_a_ratio_where_it_was_set_beside_a_figure_of_the_peer() -> None:
    figure = Figure(title="x", unit="ms", better="less", goals={"sqlite+amqp": 1.0}, celery=2.0)
    assert figure.ratio_goal("sqlite+amqp") == 0.5
    assert figure.ratio_goal("sqlite") is None
    assert Figure(title="x", unit="ms", better="less", goals={"sqlite": 1.0}).ratio_goal("sqlite") is None
    judged = {key for key, figure in FIGURES.items() if figure.ratio_goal("postgres+amqp") is not None}
    assert judged == {"rpc-round-trip.p50", "rpc-round-trip.rested_p50", "rpc-in-flight.rate", "rpc-threads.rate"}
    assert {key.partition(".")[0] for key, figure in FIGURES.items() if figure.celery} <= set(PEER_MEASURES)


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


def test_a_peer_is_measured_at_replies_over_rabbitmq(tmp_path: Path) -> None:
    assert has_peers(NAMES, "amqp")
    assert has_peers(["drain", "rpc-drain"], "amqp")
    assert not has_peers(["drain", "rpc-recorded"], "amqp")
    assert not has_peers(NAMES, "redis")
    celery, ours = Variant.celery(tmp_path), Variant(name="ours", root=tmp_path)
    assert [name for name in NAMES if celery.can(name)] == list(PEER_MEASURES)
    assert all(map(ours.can, NAMES))


@pytest.mark.parametrize("arguments", [[], ["--broker=redis"], ["--broker=amqp", "--only=drain"]])
def test_a_peer_that_could_do_nothing_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--peer=celery", *arguments])
    assert "--broker amqp" in capsys.readouterr().err
    assert parse(["--peer=celery", "--broker=amqp"]).peer == "celery"


def test_a_part_of_a_plan_has_a_task_for_each_that_is_under_way() -> None:
    given: dict[str, Any] = dict.fromkeys(Plan.__dataclass_fields__)
    plan = Plan(**{**given, "tasks": 10_000, "in_flight": 32, "in_flight_tasks": 3_200, "round_trips": 500})
    assert plan.divided(1) == plan
    assert (plan.divided(4).tasks, plan.divided(4).in_flight_tasks, plan.divided(4).round_trips) == (2_500, 800, 500)
    assert (plan.divided(20_000).tasks, plan.divided(20_000).in_flight_tasks) == (1, 32)


class _Caller(Caller):
    """Answers, or raises, as it is told."""

    def __init__(self, ends: Iterable[Exception | None], *lost: type[Exception]) -> None:
        self.ends = iter(ends)
        self.lost = lost

    def get(self, timeout: float) -> None:
        assert timeout == self.patience
        if (end := next(self.ends)) is not None:
            raise end

    def noop(self) -> Reply:
        return self

    def ticks(self, count: int) -> Sequence[Reply]:
        return [self] * count

    def worker(self, plan: Plan) -> WorkerProcess:
        raise NotImplementedError

    def leave_thread(self) -> None:
        raise NotImplementedError


def test_lost_calls_are_counted_where_they_may_be_lost() -> None:
    times, lost = calls.answered(_Caller([None, TimeoutError(), None, None], TimeoutError), 4)
    assert (len(times), lost) == (3, 1)
    assert calls.answered(_Caller([TimeoutError()] * 3, TimeoutError), 100) == ([], 3)
    with pytest.raises(TimeoutError):
        calls.answered(_Caller([None, TimeoutError()]), 2)


def test_a_rate_of_threads_leaves_out_what_was_lost() -> None:
    figures = calls.of_threads([([100.0, 100.0, 300.0], 0), ([200.0], 2)])
    assert figures == {"rate": 8.0, "p50": 150.0, "p95": pytest.approx(285.0), "lost": pytest.approx(333.3, abs=0.1)}


def test_every_measurement_has_figures() -> None:
    assert {key.partition(".")[0] for key in FIGURES} == {*NAMES, "history"}


def test_a_tally_is_the_sum_of_its_pages() -> None:
    assert Tally.of([]) == Tally(count=0, began_at=0.0, ended_at=0.0)
    assert Tally.of([(2, 5.0, 9.0), (0, 0.0, 0.0), (3, 4.0, 7.0)]) == Tally(count=5, began_at=4.0, ended_at=9.0)
