"""States and the moves between them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_taskq import State
from django_taskq.compat import TaskResultStatus
from django_taskq.core.states import FINAL, MOVES, PENDING


def reachable(start: State, *, without: frozenset[State] = frozenset()) -> set[State]:
    found: set[State] = set()
    waiting = [start]
    while waiting:
        for state in MOVES[waiting.pop()] - found - without:
            found.add(state)
            waiting.append(state)
    return found


def moves() -> Iterator[tuple[State, State]]:
    return ((old, new) for old, news in MOVES.items() for new in news)


def test_every_state_is_in_the_table() -> None:
    assert set(MOVES) == set(State)


def test_a_state_is_final_pending_or_running_and_only_one_of_these() -> None:
    assert FINAL | PENDING | {State.RUNNING} == set(State)
    assert not FINAL & PENDING
    assert {state for state in State if state.is_final} == FINAL


def test_nothing_moves_to_where_it_is() -> None:
    assert [move for move in moves() if move[0] is move[1]] == []


def test_only_what_was_claimed_ends_with_a_result() -> None:
    ends = {State.SUCCESSFUL, State.FAILED}
    assert {old for old, new in moves() if new in ends} == {State.RUNNING}


def test_only_what_is_ready_is_claimed() -> None:
    assert {old for old, new in moves() if new is State.RUNNING} == {State.READY}


def test_whoever_waits_can_be_cancelled_and_expire() -> None:
    for state in PENDING:
        assert {State.CANCELLED, State.EXPIRED} <= MOVES[state]


def test_a_success_is_for_ever_and_other_ends_lead_nowhere_but_to_ready() -> None:
    assert MOVES[State.SUCCESSFUL] == frozenset()
    for state in FINAL - {State.SUCCESSFUL}:
        assert MOVES[state] == {State.READY}


@pytest.mark.parametrize("start", sorted(PENDING | {State.RUNNING}))
def test_every_end_can_be_reached_from_everywhere(start: State) -> None:
    assert reachable(start) >= FINAL


def test_every_state_has_a_name_upstream_knows() -> None:
    assert {state.upstream for state in State} == set(TaskResultStatus.values)
    assert {state.upstream for state in PENDING} == {"READY"}
    assert {state for state in State if state.upstream in {"FAILED", "SUCCESSFUL"}} == FINAL


def test_a_state_is_the_text_in_its_column() -> None:
    assert f"{State.READY}" == State("READY") == "READY"
    assert max(len(state) for state in State) <= 10
