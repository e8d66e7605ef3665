"""From options and wishes to the rows that are to go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from django_taskq import registry, retention
from django_taskq.conf import BackendOptions
from django_taskq.core.options import parse_options
from django_taskq.core.queues import QueueSelection
from django_taskq.core.states import FINAL, State
from django_taskq.retention import Rounds, Sweep, Wish, longest_ttl, plan
from django_taskq.transitions.prune import Finished

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = 86400.0
FAILED = frozenset({State.FAILED})


@dataclass
class Backend:
    """What ``plan`` reads of a backend."""

    alias: str = "default"
    database: str = "default"
    config: BackendOptions = field(default_factory=BackendOptions)


@pytest.fixture(autouse=True)
def clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each database has a clock of its own."""
    shift = {"default": timedelta(), "other": timedelta(hours=1)}
    monkeypatch.setattr(retention, "database_now", lambda using: NOW + shift[using])


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, float]]:
    """Options of registered tasks by name, to be filled in."""
    found: dict[str, dict[str, float]] = {}
    monkeypatch.setattr(registry, "task_names", lambda: list(found))
    monkeypatch.setattr(registry, "lookup", lambda name: name)
    monkeypatch.setattr(retention, "options_of", lambda name: parse_options(found[name]))
    return found


def sweep(
    age: float,
    *,
    using: str = "default",
    now: datetime = NOW,
    states: frozenset[State] = FINAL,
    queues: tuple[str, ...] | None = None,
    backends: tuple[str, ...] | None = None,
    names: tuple[str, ...] | None = None,
    other_names: tuple[str, ...] = (),
) -> Sweep:
    which = Finished(
        states=states,
        before=now - timedelta(seconds=age),
        queues=queues,
        backends=backends,
        names=names,
        other_names=other_names,
    )
    return Sweep(using=using, which=which)


def planned(*backends: Backend, **wish: Any) -> list[Sweep]:
    return plan(backends, Wish(**wish))  # type: ignore[arg-type]  # doubles of backends


def test_without_a_wish_each_alias_has_its_own_ages() -> None:
    jobs = Backend("jobs", config=BackendOptions(result_ttl=60.0, failure_ttl=None))
    assert planned(Backend(), jobs) == [
        sweep(7 * DAY, states=FINAL - FAILED, backends=("default",)),
        sweep(60, states=FINAL - FAILED, backends=("jobs",)),
        sweep(30 * DAY, states=FAILED, backends=("default",)),
    ]


def test_equal_ages_are_one_sweep() -> None:
    assert planned(Backend(config=BackendOptions(result_ttl=60.0, failure_ttl=60.0))) == [
        sweep(60, backends=("default",))
    ]


def test_ages_of_none_keep_everything() -> None:
    assert planned(Backend(config=BackendOptions(result_ttl=None, failure_ttl=None))) == []


def test_an_age_is_for_every_final_state_and_counts_whatever_the_options_say() -> None:
    keeps = Backend("keeps", config=BackendOptions(result_ttl=None, failure_ttl=None))
    assert planned(Backend(), keeps, older_than=5.0) == [sweep(5, backends=("default", "keeps"))]


def test_the_age_of_failures_wins_for_failures() -> None:
    assert planned(Backend(), older_than=5.0, failed_older_than=9.0) == [
        sweep(5, states=FINAL - FAILED, backends=("default",)),
        sweep(9, states=FAILED, backends=("default",)),
    ]


def test_the_age_of_failures_alone_leaves_the_others_to_the_options() -> None:
    assert planned(Backend(), failed_older_than=0.0) == [
        sweep(7 * DAY, states=FINAL - FAILED, backends=("default",)),
        sweep(0, states=FAILED, backends=("default",)),
    ]


def test_only_the_states_asked_for() -> None:
    wanted = frozenset({State.EXPIRED, State.CANCELLED})
    assert planned(Backend(), older_than=5.0, states=wanted) == [sweep(5, states=wanted, backends=("default",))]
    assert planned(Backend(), states=FAILED) == [sweep(30 * DAY, states=FAILED, backends=("default",))]


def test_an_age_that_was_given_can_be_meant_for_rows_of_any_alias() -> None:
    assert planned(Backend(), older_than=5.0, any_backend=True) == [sweep(5)]
    assert planned(Backend(), states=FAILED, any_backend=True) == [
        sweep(30 * DAY, states=FAILED, backends=("default",))
    ], "what OPTIONS say is never meant for other aliases"


def test_each_database_goes_by_its_own_clock() -> None:
    assert planned(Backend(), Backend("far", "other"), Backend("near"), older_than=5.0) == [
        sweep(5, backends=("default", "near")),
        sweep(5, using="other", now=NOW + timedelta(hours=1), backends=("far",)),
    ]


def test_ages_beyond_any_calendar_are_fine() -> None:
    old = planned(Backend(config=BackendOptions(result_ttl=1e300, failure_ttl=1e300)))
    assert [one.which.before.year for one in old] == [1926]


def test_queues_by_name_need_no_look_at_the_rows() -> None:
    assert planned(Backend(), older_than=5.0, queues=QueueSelection.parse("a,b,-b")) == [
        sweep(5, backends=("default",), queues=("a",))
    ]


def test_queues_by_pattern_are_looked_up_among_the_rows_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def finished_queues(using: str, which: Finished) -> list[str]:
        looks.append((using, which))
        return ["mail", "mail-slow", "other"]

    monkeypatch.setattr(retention, "finished_queues", finished_queues)
    assert planned(Backend(), older_than=5.0, queues=QueueSelection.parse("mail*,-*slow")) == [
        sweep(5, backends=("default",), queues=("mail",))
    ]
    assert planned(Backend(), older_than=5.0, queues=QueueSelection.parse("-other")) == [
        sweep(5, backends=("default",), queues=("mail", "mail-slow"))
    ]
    assert looks == [("default", sweep(5, backends=("default",)).which)] * 2


# ---- tasks with ages of their own ----------------------------------------------------------------------------


def test_what_tasks_say_wins_over_their_alias_for_longer_and_for_shorter(own: dict[str, dict[str, float]]) -> None:
    own |= {"brief": {"result_ttl": 60}, "long": {"result_ttl": 90 * DAY}, "also brief": {"result_ttl": 60}}
    jobs = Backend("jobs", config=BackendOptions(result_ttl=None, failure_ttl=None))
    others = ("also brief", "brief", "long")
    assert planned(Backend(), jobs) == [
        sweep(7 * DAY, states=FINAL - FAILED, backends=("default",), other_names=others),
        sweep(60, states=FINAL - FAILED, backends=("default", "jobs"), names=("also brief", "brief")),
        sweep(90 * DAY, states=FINAL - FAILED, backends=("default", "jobs"), names=("long",)),
        sweep(30 * DAY, states=FAILED, backends=("default",)),
    ]


def test_failures_have_an_age_of_their_own(own: dict[str, dict[str, float]]) -> None:
    own |= {"plain": {}, "odd": {"failure_ttl": 5}}
    assert planned(Backend()) == [
        sweep(7 * DAY, states=FINAL - FAILED, backends=("default",)),
        sweep(30 * DAY, states=FAILED, backends=("default",), other_names=("odd",)),
        sweep(5, states=FAILED, backends=("default",), names=("odd",)),
    ]


def test_an_age_that_was_given_counts_whatever_tasks_say(own: dict[str, dict[str, float]]) -> None:
    own |= {"long": {"result_ttl": 90 * DAY, "failure_ttl": 90 * DAY}}
    assert planned(Backend(), older_than=5.0) == [sweep(5, backends=("default",))]


def test_the_longest_age_is_that_of_an_alias_or_of_a_task(own: dict[str, dict[str, float]]) -> None:
    assert longest_of(BackendOptions()) == 30 * DAY
    assert longest_of(BackendOptions(), BackendOptions(result_ttl=40 * DAY)) == 40 * DAY
    own |= {"long": {"failure_ttl": 90 * DAY}, "brief": {"result_ttl": 1}}
    assert longest_of(BackendOptions()) == 90 * DAY
    assert longest_of(BackendOptions(), BackendOptions(failure_ttl=None)) is None
    assert longest_of(BackendOptions(result_ttl=None)) is None


def longest_of(*options: BackendOptions) -> float | None:
    return longest_ttl([Backend(config=one) for one in options])  # type: ignore[misc]  # doubles of backends


# ---- again and again -----------------------------------------------------------------------------------------


class Deletions:
    """Takes the place of the deletion: three batches per sweep; notes from when on it looks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks: list[datetime | None] = []
        monkeypatch.setattr(retention, "delete_batches", self.delete)

    def delete(self, using: str, which: Finished, batch_size: int) -> Iterator[int]:
        self.looks.append(which.after)
        yield from (batch_size, batch_size, 1)


def test_a_round_looks_only_at_what_has_ended_since_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    deletions, rounds = Deletions(monkeypatch), Rounds()
    assert list(rounds.carry_out([sweep(60)], 5, now=0.0)) == [5, 5, 1]
    for minute in (1, 2):
        later = sweep(60, now=NOW + timedelta(minutes=minute))
        assert list(rounds.carry_out([later], 5, now=60.0 * minute)) == [5, 5, 1]
    done = NOW - timedelta(seconds=60)
    overlap = retention._OVERLAP
    assert deletions.looks == [None, done - overlap, done + timedelta(minutes=1) - overlap]


def test_a_round_that_was_not_finished_is_taken_up_from_where_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    deletions, rounds = Deletions(monkeypatch), Rounds()
    assert next(rounds.carry_out([sweep(60)], 5, now=0.0)) == 5
    assert list(rounds.carry_out([sweep(60)], 5, now=1.0)) == [5, 5, 1]
    assert deletions.looks == [None, None]


def test_once_a_day_a_round_looks_at_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    deletions, rounds = Deletions(monkeypatch), Rounds()
    for now in (0.0, DAY - 1, DAY, DAY + 1):
        list(rounds.carry_out([sweep(60)], 5, now=now))
    assert [look is None for look in deletions.looks] == [True, False, True, False]


def test_what_is_meant_by_others_is_looked_at_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    deletions, rounds = Deletions(monkeypatch), Rounds()
    list(rounds.carry_out([sweep(60, names=("a",)), sweep(60, other_names=("a",))], 5, now=0.0))
    # Another task has said something meanwhile.
    list(rounds.carry_out([sweep(60, names=("a",)), sweep(60, other_names=("a", "b"))], 5, now=1.0))
    assert [look is None for look in deletions.looks] == [True, True, False, True]
