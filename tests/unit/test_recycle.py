"""When a worker process makes room for a fresh one."""

from __future__ import annotations

import argparse

import pytest

from django_taskq.management.commands.runworker import _size
from django_taskq.worker.pulse import Retirement
from django_taskq.worker.recycle import Recycling, lowered, resident_memory

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("limit", "chance", "expected"), [(1, 0.999, 1), (9, 0.999, 9), (100, 0.0, 100), (100, 0.999, 91), (1000, 0.5, 950)]
)
def test_a_limit_is_lower_by_a_tenth_at_most(limit: int, chance: float, expected: int) -> None:
    assert lowered(limit, chance) == expected


def test_a_process_takes_as_many_tasks_as_it_may() -> None:
    recycling = Recycling(10, None, chance=0.0)
    assert recycling.room(500) == 10
    recycling.took(7, now=0.0)
    assert recycling.room(500) == 3
    recycling.gave_back(2)
    assert (recycling.room(500), recycling.room(4)) == (5, 4)
    assert recycling.verdict(0.0, is_idle=False) is Retirement.NONE
    recycling.took(5, now=0.0)
    assert recycling.room(500) == 0
    assert recycling.verdict(0.0, is_idle=False) is Retirement.TASKS
    assert recycling.due_in(0.0) is None, "there is nothing to look at"


def test_memory_is_looked_at_while_it_may_change() -> None:
    recycling = Recycling(None, resident_memory() * 2, chance=0.0)
    assert recycling.due_in(0.0) is None, "before the first task"
    recycling.took(1, now=0.0)
    assert recycling.due_in(0.0) == 0.5
    assert recycling.verdict(0.6, is_idle=False) is Retirement.NONE
    assert recycling.due_in(0.6) == pytest.approx(0.5)
    assert recycling.verdict(1.2, is_idle=True) is Retirement.NONE
    assert recycling.due_in(1.2) is None, "nothing runs any more"


def test_a_process_that_uses_too_much_memory_retires() -> None:
    recycling = Recycling(None, resident_memory() // 2)
    assert recycling.verdict(5.0, is_idle=True) is Retirement.NONE, "not before its first task"
    recycling.took(1, now=5.0)
    assert recycling.verdict(5.1, is_idle=False) is Retirement.NONE
    assert recycling.verdict(5.6, is_idle=False) is Retirement.MEMORY


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("300M", 300 << 20),
        ("1G", 1 << 30),
        ("1.5g", 3 << 29),
        ("512MB", 512 << 20),
        ("64 MiB", 64 << 20),
        ("20000k", 20480000),
    ],
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert _size(text) == size


@pytest.mark.parametrize("text", ["300", "", "M", "-1G", "1GG", "1M", "0G", "inf"])
def test_sizes_without_a_unit_or_a_sense_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="give a size with its unit"):
        _size(text)
