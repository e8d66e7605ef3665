"""When a worker process asks whether it is told something."""

from __future__ import annotations

import time

import pytest

from django_taskq.worker.remote import Remote


def remote() -> Remote:
    return Remote([], [], answer=lambda verb: "", carry_out=lambda verb: None, changed=lambda: None)


def due(one: Remote, now: float, *, is_listening: bool = True) -> float:
    return round(one.due_in(now, is_listening=is_listening), 3)


def look(one: Remote, now: float) -> None:
    one.look(now, "anne", is_listening=True)


def test_it_asks_at_once_and_then_seldom_where_hints_tell() -> None:
    one = remote()
    assert due(one, 100.0) == 0
    look(one, 100.0)
    assert due(one, 100.0) == 20
    assert due(one, 100.0, is_listening=False) == 1.5
    one.begin_anew()
    assert due(one, 100.0) == 0


def test_what_is_there_is_looked_for_at_once() -> None:
    one = remote()
    now = time.monotonic()
    look(one, now)
    one.hint(0.0)
    assert due(one, time.monotonic()) == 0
    look(one, time.monotonic())
    assert due(one, time.monotonic()) > 19


def test_what_cannot_be_seen_yet_is_looked_for_when_it_can_and_not_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    one = remote()
    clock = 0.0
    monkeypatch.setattr("django_taskq.worker.remote.time.monotonic", lambda: clock)
    look(one, 0.0)
    clock = 5.0
    one.hint(1.0)
    assert due(one, clock) == 1
    # Many: neither do they put it off, nor is any of them forgotten.
    clock = 5.9
    one.hint(1.0)
    assert due(one, clock) == 0.1
    look(one, 6.0)
    assert due(one, 6.0) == 1.5
    look(one, 7.5)
    assert due(one, 7.5) == 20
