"""Deliveries that wait for their time, or for a slot of their kind: which come when, and that none is forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from django_taskq.brokers.kombu.second_looks import SecondLooks

#: a moment, and seconds after which all that was locked is looked at
NOW, SOON = 1_000.0, 1.0


@pytest.fixture
def looks() -> SecondLooks:
    return SecondLooks()


def several(count: int) -> list[Any]:
    return [object() for _ in range(count)]


def due(looks: SecondLooks, now: float) -> list[Any]:
    """Take all whose time has come."""
    taken: list[Any] = []
    while (one := looks.take_due(now)) is not None:
        taken.append(one)
    return taken


def test_nothing_waits_at_first(looks: SecondLooks) -> None:
    assert not looks
    assert looks.take_due(NOW) is None
    assert looks.unsuited_since is None
    assert not looks.has_news(NOW)
    assert looks.due_at(NOW, for_slots=True) == float("inf")
    assert looks.take_all() == []


def test_those_to_be_looked_at_at_once_come_first_in_their_order(looks: SecondLooks) -> None:
    locked, failed, newest = several(2), several(3), several(1)
    looks.when_unlocked(locked, NOW)
    looks.at_once(failed)
    looks.at_once(newest)
    assert due(looks, NOW) == newest + failed
    assert due(looks, NOW + SOON) == locked


def test_locked_ones_come_when_it_is_time(looks: SecondLooks) -> None:
    looks.when_unlocked(several(2), NOW)
    assert looks
    assert not looks.is_due(NOW)
    assert not looks.has_news(NOW)
    at = looks.due_at(NOW, for_slots=False)
    assert NOW < at <= NOW + SOON
    assert looks.has_news(at)
    assert len(due(looks, at)) == 2
    assert not looks


def test_what_is_due_and_finds_no_slot_does_not_keep_anybody_busy(looks: SecondLooks) -> None:
    looks.at_once(several(1))
    assert looks.is_due(NOW)
    assert looks.due_at(NOW, for_slots=False) > NOW


def test_unsuited_ones_wait_for_their_slots_and_no_time(looks: SecondLooks) -> None:
    early, late = several(2), several(1)
    looks.when_suited(early, NOW)
    looks.when_suited(late, NOW + SOON)
    assert looks.unsuited_since == NOW
    assert due(looks, NOW + 9 * SOON) == []
    looks.suits()
    assert looks.unsuited_since is None
    assert due(looks, NOW) == early + late


def test_slots_are_looked_for_in_between(looks: SecondLooks) -> None:
    looks.when_suited(several(1), NOW)
    looks.suits_some(NOW)
    assert not looks.has_news(NOW)
    assert looks.due_at(NOW, for_slots=False) == float("inf")
    at = looks.due_at(NOW, for_slots=True)
    assert NOW < at < NOW + SOON
    assert looks.has_news(at)


def test_the_earlier_of_both_is_when_to_look(looks: SecondLooks) -> None:
    looks.when_suited(several(1), NOW)
    looks.when_unlocked(several(1), NOW)
    looks.suits_some(NOW + SOON)
    assert looks.due_at(NOW, for_slots=True) == looks.due_at(NOW, for_slots=False)
    looks.suits_some(NOW)
    assert looks.due_at(NOW, for_slots=True) < looks.due_at(NOW, for_slots=False)


def test_all_are_given_back_once(looks: SecondLooks) -> None:
    locked, failed, unsuited = several(1), several(1), several(2)
    looks.when_unlocked(locked, NOW)
    looks.at_once(failed)
    looks.when_suited(unsuited, NOW)
    assert looks.take_all() == unsuited + failed + locked
    assert looks.take_all() == []
    assert not looks
