"""Interrupts from outside: they hit the task's own code, and nothing else, whenever they come."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from django_taskq import SoftTimeLimitExceeded, TaskqBackend, task
from django_taskq.core import codec
from django_taskq.core.message import Message
from django_taskq.core.options import TaskOptions, encode_overrides
from django_taskq.core.outcome import Outcome
from django_taskq.worker import limits
from django_taskq.worker.board import Board
from django_taskq.worker.cleanup import free_log_handlers
from django_taskq.worker.limits import Watch
from django_taskq.worker.runner import Attempt
from django_taskq.worker.slots import CoroutineSlots, ThreadSlots, Work
from tests.waiting import wait_until

#: Tasks of a storm: enough for an interrupt to come between any two instructions. TASKQ_TEST_STORM=20000 by hand.
STORM = int(os.environ.get("TASKQ_TEST_STORM", "800"))


@task
def spin(seconds: float) -> str:
    """Keep the interpreter busy."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return "done"


@task
def nap(seconds: float) -> str:
    """Sleep in pieces."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        time.sleep(0.0001)
    return "done"


@task
def swallow(seconds: float) -> str:
    """Catch the soft limit as close to the end as can be."""
    try:
        nap.func(seconds)
    except SoftTimeLimitExceeded:
        return "caught"
    return "done"


@task
async def anap(seconds: float) -> str:
    """Let others run."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:  # noqa: ASYNC110  # it waits for nothing: interrupts are to come in between
        await asyncio.sleep(0)
    return "done"


@task
async def aswallow(seconds: float) -> str:
    """Catch the soft limit in the event loop."""
    try:
        await anap.func(seconds)
    except SoftTimeLimitExceeded:
        await asyncio.sleep(0)
        return "caught"
    return "done"


class Storm:
    """Tasks whose limits are about as long as they take, and what became of them."""

    def __init__(self, rng: random.Random, functions: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
        # A machine that is busy elsewhere must not be taken for a task that does not end.
        monkeypatch.setattr(limits, "_LIMIT_GRACE", 600.0)
        monkeypatch.setattr(limits, "_SPACING", 0.0)
        self.board = Board(STORM)
        self.watch = Watch(self.board, lambda work, outcome: pytest.fail("given up"))
        self.ends: dict[int, Outcome] = {}
        self.works = [self._work(rng, place, functions) for place in range(STORM)]

    def _work(self, rng: random.Random, place: int, functions: list[object]) -> Work:
        chosen = rng.choice(functions)
        length = rng.uniform(0.0005, 0.003)
        # Most end within a hair of their limit, on one side of it or the other, which differs between machines; the
        # others surely on either side. Who watches them waits for the interpreter's lock, 5 ms at a time.
        near = max(length + rng.uniform(-0.0004, 0.0004), 0.0001)
        length, limit = rng.choices([(length, near), (0.1, 0.001), (length, 1.0)], weights=[6, 1, 1])[0]
        name = "soft_time_limit" if rng.random() < 0.5 else "time_limit"
        message = message_of(chosen.registered_name, [length], **{name: limit})  # type: ignore[attr-defined]  # a task
        attempt = Attempt(
            TaskqBackend("default", {}), message, report=lambda progress: None, is_cancelled=lambda: False
        )
        return Work(message, attempt, place, False)

    def on_end(self, work: Work, outcome: Outcome) -> None:
        assert work.place not in self.ends, "one end each"
        self.ends[work.place] = outcome

    def check(self) -> None:
        """Every task has ended once, in one of the ways there are; and both ways were taken."""
        wait_until(lambda: len(self.ends) == STORM, 120.0, what="all tasks to end")
        ways = Counter(
            outcome.result if outcome.error is None else outcome.error.exception_class_path
            for outcome in self.ends.values()
        )
        assert ways.keys() <= {
            '"done"',
            '"caught"',
            "django_taskq.exceptions.TimeLimitExceeded",
            "django_taskq.exceptions.SoftTimeLimitExceeded",
        }
        assert ways['"done"'] > STORM / 20
        assert ways["django_taskq.exceptions.TimeLimitExceeded"] > STORM / 20
        assert self.board.next_deadline() == float("inf"), "nothing is left on the board"


def message_of(name: str, args: list[object], **options: object) -> Message:
    now = datetime.now(UTC)
    return Message(
        id="0198b0d2-6f0c-7c1e-9b1e-5d0a1f6c2b7e",
        name=name,
        queue_name="default",
        backend="default",
        priority=0,
        arguments=codec.encode([args, {}]),
        options=encode_overrides(TaskOptions(**options), TaskOptions()),  # type: ignore[arg-type]  # given as they are
        metadata="{}",
        errors="",
        worker_ids="me\n",
        attempt=1,
        claim=1,
        losses=0,
        acks_late=True,
        enqueued_at=now,
        run_after=None,
        started_at=now,
        last_attempted_at=now,
        expires_at=None,
    )


def test_a_storm_over_threads(rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    storm = Storm(rng, [spin, nap, swallow], monkeypatch)
    slots = ThreadSlots(3, str(Path.cwd()), lambda work: None, storm.on_end, storm.watch)
    slots.start()
    for work in storm.works:
        slots.submit(work)
    storm.check()
    assert [thread for thread in slots._threads if not thread.is_alive()] == []
    slots.stop()


def test_a_storm_over_the_main_thread(rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    storm = Storm(rng, [spin, nap, swallow], monkeypatch)
    slots = ThreadSlots(1, str(Path.cwd()), lambda work: None, storm.on_end, storm.watch)
    for work in storm.works:
        slots.submit(work)
    slots.stop()
    slots.serve()
    storm.check()


def test_a_storm_over_coroutines(rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    storm = Storm(rng, [anap, aswallow], monkeypatch)
    slots = CoroutineSlots(5, str(Path.cwd()), lambda work: None, storm.on_end, storm.watch)
    for work in storm.works:
        slots.submit(work)
    storm.check()


def test_locks_of_log_handlers_are_given_back_by_their_owner_only() -> None:
    handler = logging.Handler()
    logging.getLogger("tests.locks").addHandler(handler)
    free_log_handlers()
    assert handler.lock is not None
    handler.acquire()
    with ThreadPoolExecutor(1) as others:
        others.submit(free_log_handlers).result()
        assert not others.submit(handler.lock.acquire, blocking=False).result(), "it is not theirs to give back"
        free_log_handlers()
        assert others.submit(handler.lock.acquire, blocking=False).result()
        others.submit(handler.lock.release).result()
