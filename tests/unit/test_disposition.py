"""What becomes of deliveries: of each kind of message, as rows and settings are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from django_taskq.brokers.kombu.disposition import Disposition, Judge
from django_taskq.brokers.kombu.inbox import Delivery
from django_taskq.conf import BackendOptions
from django_taskq.core.paused import NOTHING_PAUSED, Paused
from django_taskq.core.states import State
from django_taskq.core.wire import Call, Wire, encode_call, encode_reference

HOUR = timedelta(hours=1)
NAME = "shop.pack"


class DatabaseDown(Exception):
    """What a database raises."""


class Rows:
    """Rows that can be claimed, and others that are in a state."""

    def __init__(self) -> None:
        self.free: set[str] = set()
        self.known: dict[str, tuple[State, bool]] = {}
        self.adopted: list[str] = []
        self.reason = ""
        self.awaited = False
        self.late = True
        self.is_down = False

    def claim(self, ids: Sequence[str], names: Collection[str], wanted: bool, paused: Paused) -> list[Any]:
        if self.is_down:
            raise DatabaseDown
        return [SimpleNamespace(id=task_id) for task_id in ids if task_id in self.free]

    def put_off(self, ids: Sequence[str], paused: Paused) -> set[str]:
        return set(ids)

    def states(self, ids: Sequence[str]) -> Mapping[str, tuple[State, bool]]:
        return {task_id: self.known[task_id] for task_id in ids if task_id in self.known}

    def refusal(self, call: Call) -> str:
        return self.reason

    def is_awaited(self, call: Call) -> bool:
        return self.awaited

    def acks_late(self, call: Call) -> bool:
        return self.late

    def adopt(self, call: Call, queue_name: str) -> str:
        self.adopted.append(call.id)
        return call.id


class Rig:
    """A judge, its rows, and deliveries for it."""

    def __init__(self) -> None:
        self.rows = Rows()
        options = BackendOptions.parse({"broker": "amqp://localhost", "queues": {"news": {"broadcast": True}}})
        self.judge = Judge(options, self.rows)  # type: ignore[arg-type]  # all it asks
        self._tag = 0

    def delivery(self, wire: Wire, queue_name: str = "default", *, is_redelivered: bool = False) -> Delivery:
        self._tag += 1
        properties = wire.properties
        return Delivery(
            1,
            self._tag,
            queue_name,
            wire.body,
            properties["content_type"],
            properties["content_encoding"],
            wire.headers,
            properties,
            is_redelivered,
        )

    def decide(
        self,
        *deliveries: Delivery,
        names: Collection[str] = (),
        wanted: bool = False,
        paused: Paused = NOTHING_PAUSED,
    ) -> dict[str, list[Any]]:
        """Return what becomes of them, less what nothing becomes of; each is in one place only."""
        found: Disposition = self.judge.judge(deliveries, names, wanted, paused)
        everything: dict[str, list[Any]] = {
            "claimed": [message.id for message in found.claimed],
            "unrecorded": [(one.tag, is_late) for one, _, is_late in found.unrecorded],
            "done": sorted(one.tag for one in found.done),
            "refused": [one.tag for one, _ in found.refused],
            "requeued": [one.tag for one in found.requeued],
            "waiting": [one.tag for one in found.waiting],
        }
        placed = [tag for kind, tags in everything.items() if kind not in {"claimed", "unrecorded"} for tag in tags]
        placed += [tag for tag, _ in everything["unrecorded"]]
        assert sorted(placed) == sorted(one.tag for one in deliveries)
        return {kind: tags for kind, tags in everything.items() if tags}


def call(**changes: Any) -> Wire:
    return encode_call(Call(**{"id": str(uuid4()), "name": NAME, "arguments": "[[],{}]", **changes}))


@pytest.fixture
def rig() -> Rig:
    return Rig()


# References


def test_a_reference_is_done_once_its_row_is_claimed(rig: Rig) -> None:
    task_id = str(uuid4())
    rig.rows.free.add(task_id)
    wire = encode_reference(task_id)
    assert rig.decide(rig.delivery(wire), rig.delivery(wire)) == {"claimed": [task_id], "done": [1, 2]}


@pytest.mark.parametrize(
    ("known", "becomes"),
    [
        (None, {"refused": [1, 2]}),
        ((State.SUCCESSFUL, False), {"done": [1, 2]}),
        ((State.RUNNING, False), {"done": [1, 2]}),
        ((State.READY, True), {"done": [1, 2]}),
        # Locked just now: one of them is looked at again.
        ((State.READY, False), {"done": [1], "waiting": [2]}),
    ],
)
def test_a_reference_that_cannot_be_claimed(
    rig: Rig, known: tuple[State, bool] | None, becomes: dict[str, list[int]]
) -> None:
    task_id = str(uuid4())
    if known:
        rig.rows.known[task_id] = known
    wire = encode_reference(task_id)
    assert rig.decide(rig.delivery(wire), rig.delivery(wire)) == becomes


def test_a_reference_to_what_is_paused_is_done_when_its_row_waits_in_the_outbox(rig: Rig) -> None:
    assert rig.decide(rig.delivery(encode_reference(str(uuid4()))), paused=Paused(tasks=frozenset({NAME}))) == {
        "done": [1]
    }


# Tasks without rows


@pytest.mark.parametrize("late", [True, False])
def test_a_task_without_a_row_runs_as_it_is(rig: Rig, *, late: bool) -> None:
    rig.rows.late = late
    assert rig.decide(rig.delivery(call())) == {"unrecorded": [(1, late)]}
    assert rig.rows.adopted == []


@pytest.mark.parametrize("is_free", [True, False])
def test_one_that_comes_once_more_is_held_by_a_row_whoever_claims_that(rig: Rig, *, is_free: bool) -> None:
    task_id = str(uuid4())
    if is_free:
        rig.rows.free.add(task_id)
    else:
        rig.rows.known[task_id] = State.READY, False
    expected = {"claimed": [task_id], "done": [1]} if is_free else {"done": [1]}
    assert rig.decide(rig.delivery(call(id=task_id), is_redelivered=True)) == expected
    assert rig.rows.adopted == [task_id]


def test_one_whose_row_has_come_and_gone_is_done(rig: Rig) -> None:
    """Another worker was told of the row before this one had claimed it, and has run it."""
    assert rig.decide(rig.delivery(call(), is_redelivered=True)) == {"done": [1]}


def test_of_those_that_are_acked_early_nobody_died(rig: Rig) -> None:
    rig.rows.late = False
    assert rig.decide(rig.delivery(call(), is_redelivered=True)) == {"unrecorded": [(1, False)]}


def test_what_every_worker_gets_has_no_row(rig: Rig) -> None:
    assert rig.decide(rig.delivery(call(), "news", is_redelivered=True)) == {"unrecorded": [(1, True)]}
    assert rig.decide(rig.delivery(call(), "news"), paused=Paused(tasks=frozenset({NAME}))) == {"waiting": [2]}
    assert rig.rows.adopted == []


@pytest.mark.parametrize("is_redelivered", [True, False])
def test_what_no_free_slot_can_run_waits(rig: Rig, *, is_redelivered: bool) -> None:
    one = rig.delivery(call(), is_redelivered=is_redelivered)
    assert rig.decide(one, names={NAME}) == {"waiting": [1]}
    assert rig.decide(one, names={"shop.send"}, wanted=True) == {"waiting": [1]}
    assert rig.rows.adopted == []
    assert "waiting" not in rig.decide(one, names={NAME}, wanted=True)


def test_what_is_for_later_or_paused_waits_as_a_row(rig: Rig) -> None:
    later, paused = str(uuid4()), str(uuid4())
    rig.rows.known[later] = State.SCHEDULED, False
    assert rig.decide(rig.delivery(call(id=later, eta=datetime.now(UTC) + HOUR))) == {"done": [1]}
    assert rig.decide(rig.delivery(call(id=paused)), paused=Paused(tasks=frozenset({NAME}))) == {"done": [2]}
    assert rig.rows.adopted == [later, paused]


@pytest.mark.parametrize("awaited", [True, False])
def test_who_waits_hears_why_it_did_not_run(rig: Rig, *, awaited: bool) -> None:
    rig.rows.awaited = awaited
    expired = rig.delivery(call(expires=datetime.now(UTC) - HOUR))
    assert rig.decide(expired) == ({"unrecorded": [(1, True)]} if awaited else {"done": [1]})
    rig.rows.reason = "no such task"
    assert rig.decide(rig.delivery(call())) == ({"unrecorded": [(2, True)]} if awaited else {"refused": [2]})


# Whatever it is


def test_rubbish_is_set_aside_with_a_reason(rig: Rig) -> None:
    rubbish = rig.delivery(Wire(body=b"{", headers={}, properties=call().properties))
    found = rig.judge.judge([rubbish], (), False, NOTHING_PAUSED)
    ((refused, reason),) = found.refused
    assert refused is rubbish
    assert "not JSON" in reason


def test_what_comes_from_a_paused_queue_goes_back_unread(rig: Rig) -> None:
    rubbish = Wire(body=b"{", headers={}, properties=call().properties)
    deliveries = [rig.delivery(wire) for wire in (rubbish, call(), encode_reference(str(uuid4())))]
    assert rig.decide(*deliveries, paused=Paused(queues=frozenset({"default"}))) == {"requeued": [1, 2, 3]}


def test_a_database_that_fails_leaves_all_to_be_decided_once_more(rig: Rig) -> None:
    task_id = str(uuid4())
    rig.rows.free.add(task_id)
    deliveries = [rig.delivery(encode_reference(task_id)), rig.delivery(call(), is_redelivered=True)]
    rig.rows.is_down = True
    with pytest.raises(DatabaseDown):
        rig.decide(*deliveries)
    rig.rows.is_down = False
    assert rig.decide(*deliveries) == {"claimed": [task_id], "done": [1, 2]}
