"""The short way of tasks without rows: who may take it, and when its tasks are done with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from django_taskq import State
from django_taskq.core.outcome import AttemptError, Outcome
from django_taskq.worker.lane import FastLane

DONE = Outcome(state=State.SUCCESSFUL, result="1")
GONE_WRONG = Outcome(state=State.FAILED, error=AttemptError.of(ValueError("no")))


class Rig:
    """A lane, what was started in it, and what its consumer was told."""

    def __init__(self, *, is_awaited: bool = True) -> None:
        self.room = 1
        self.started: list[tuple[Any, Callable[[Any], None]]] = []
        self.settled: list[Any] = []
        self.answers: list[Outcome] = []
        self.is_awaited = is_awaited
        replies: Any = SimpleNamespace(answer=self._answer)
        self.lane = FastLane(
            replies,
            has_room=lambda: len(self.started) < self.room,
            is_moving=lambda: True,
            start=lambda message, on_told: self.started.append((message, on_told)),
        )

    def _answer(self, work: Any, outcome: Outcome) -> None:
        self.answers.append(outcome)
        work.is_answered = self.is_awaited

    def submit(self) -> Any:
        """Submit a task, and return it as its slot has it; None when it was not taken."""
        consumer = SimpleNamespace(settle_soon=self.settled.append)
        message: Any = SimpleNamespace(delivery=SimpleNamespace(consumer=consumer))
        if not self.lane.submit(message):
            return None
        work = SimpleNamespace(message=message, is_answered=None, on_told=self.started[-1][1])
        # As Work: known by its identity.
        return type("Work", (), work.__dict__)()

    def is_over(self) -> bool:
        return self.lane.is_over(lambda: True)


def test_there_is_room_for_as_many_as_slots() -> None:
    rig = Rig()
    assert rig.submit() is not None
    assert rig.submit() is None
    assert len(rig.started) == 1


def test_a_task_is_settled_when_the_broker_has_its_answer() -> None:
    rig = Rig()
    work = rig.submit()
    assert rig.lane.settle(work, DONE)
    assert rig.settled == []
    assert not rig.is_over(), "a worker that stops now would lose the ack"
    rig.started[0][1](work)
    assert rig.settled == [work.message]
    assert rig.is_over()


@pytest.mark.parametrize("is_told_first", [True, False])
def test_who_waits_may_be_answered_before_the_slot_is_done(*, is_told_first: bool) -> None:
    rig = Rig()
    work = rig.submit()
    rig.lane.answer(work, DONE)
    if is_told_first:
        work.on_told(work)
    assert rig.lane.settle(work, DONE)
    assert rig.answers == [DONE]
    assert rig.is_over() is is_told_first
    if not is_told_first:
        work.on_told(work)
    assert rig.settled == [work.message]
    assert rig.is_over()


def test_a_task_that_nobody_waits_for_is_settled_at_once() -> None:
    rig = Rig(is_awaited=False)
    work = rig.submit()
    assert rig.lane.settle(work, DONE)
    assert rig.settled == [work.message]
    assert rig.is_over()


def test_a_failure_for_good_is_an_end_like_others() -> None:
    rig = Rig(is_awaited=False)
    assert rig.lane.settle(rig.submit(), GONE_WRONG)
    assert len(rig.settled) == 1


@pytest.mark.parametrize(
    "outcome",
    [
        replace(GONE_WRONG, state=State.READY),
        replace(GONE_WRONG, state=State.SCHEDULED, delay=1.0),
        replace(GONE_WRONG, is_rejected=True),
        Outcome(state=State.READY, is_unstarted=True),
    ],
)
def test_what_needs_more_than_an_ack_is_left_to_the_io_thread(outcome: Outcome) -> None:
    rig = Rig()
    work = rig.submit()
    assert not rig.lane.settle(work, outcome)
    assert work.on_told is None, "who tells of the answer leaves the rest to the I/O thread, too"
    assert rig.answers == [outcome]
    assert rig.settled == []
    assert rig.is_over()


def test_a_lane_is_not_over_before_its_process_is() -> None:
    assert not Rig().lane.is_over(lambda: False)
