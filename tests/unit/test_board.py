"""The sheet that a process leaves behind: what it ran, and until when that was to end."""

from __future__ import annotations

import math
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from django_taskq.bell import Bell
from django_taskq.worker import overdue
from django_taskq.worker.board import Board
from django_taskq.worker.guard import Cause

ONE, TWO, THREE = (f"0198b0d2-6f0c-7c1e-9b1e-00000000000{number}" for number in (1, 2, 3))


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def board(bell: Bell) -> Iterator[Board]:
    board = Board(4, bell)
    yield board
    board.close()


def rings(bell: Bell) -> bool:
    ringing = bool(select.select([bell.watched], [], [], 0)[0])
    bell.quieten()
    return ringing


def test_what_has_ended_is_started_and_does_not_run(board: Board) -> None:
    board.note(0, ONE)
    board.note(3, TWO)
    board.note_end(3)
    assert (board.started(), board.running()) == ({ONE, TWO}, {ONE})
    board.wipe(0)
    assert (board.started(), board.running()) == ({TWO}, set())
    board.note(3, THREE)
    assert board.running() == {THREE}


def test_deadlines(board: Board) -> None:
    assert board.next_deadline() == math.inf
    board.note(0, ONE)
    board.note(1, TWO)
    board.limit(0, 20.0, Cause.LIMIT)
    board.limit(1, 10.0, Cause.CANCEL)
    assert board.next_deadline() == 10.0
    assert board.overdue(9.9) == {}
    assert board.overdue(10.0) == {TWO: Cause.CANCEL}
    assert board.overdue(20.0) == {ONE: Cause.LIMIT, TWO: Cause.CANCEL}
    board.unlimit(1)
    assert board.next_deadline() == 20.0
    assert board.overdue(20.0) == {ONE: Cause.LIMIT}


def test_the_supervisor_is_woken_for_what_it_does_not_know_only(board: Board, bell: Bell) -> None:
    board.limit(0, 20.0, Cause.LIMIT)
    assert rings(bell)
    assert board.next_deadline() == 20.0
    board.limit(1, 25.0, Cause.LIMIT)
    assert not rings(bell), "it looks earlier by itself"
    board.limit(2, 15.0, Cause.LIMIT)
    assert rings(bell)
    board.unlimit(0)
    board.unlimit(2)
    assert not rings(bell)
    assert board.next_deadline() == 25.0
    board.unlimit(1)
    assert board.next_deadline() == math.inf
    board.limit(1, 1e9, Cause.LIMIT)
    assert rings(bell), "it does not look by itself at all"


@dataclass
class Child:
    pid: int
    board: Board
    killed_at: float = 0.0


def test_a_process_is_killed_once_its_deadline_has_passed(board: Board) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    child = Child(process.pid, board)
    board.note(0, ONE)
    board.note(1, TWO)
    now = time.monotonic()
    board.limit(0, now + 600, Cause.LIMIT)
    overdue.kill_overdue([child])
    assert (child.killed_at, overdue.next_deadline([child])) == (0.0, [now + 600])
    board.limit(0, now - 0.1, Cause.LIMIT)
    overdue.kill_overdue([child, child])
    assert process.wait(30) == -9
    assert overdue.next_deadline([child]) == [], "it is dead, and nothing to wait for"
    found = overdue.predecessor_of(board, child.killed_at, was_replaced=False)
    assert found.started == {ONE, TWO}
    assert found.suspects == set()
    assert found.overdue == {ONE: Cause.LIMIT}


def test_a_process_that_died_by_itself_has_suspects(board: Board) -> None:
    board.note(0, ONE)
    board.note(1, TWO)
    board.note_end(1)
    board.limit(0, 1.0, Cause.LIMIT)
    found = overdue.predecessor_of(board, 0.0, was_replaced=False)
    assert found.started == {ONE, TWO}
    assert found.suspects == {ONE}
    assert found.overdue == {}
