"""Signals beyond upstream's: sent once, after the fact, and only to those who listen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import transaction
from django.dispatch import Signal

from django_taskq import State, TaskContext, TaskqBackend, task
from django_taskq.announcements import announce_lost, finish_announcing, uncounted
from django_taskq.compat import task_finished
from django_taskq.signals import task_cancelled, task_lost, task_retrying
from django_taskq.testing import run_tasks
from django_taskq.transitions import operate, workers
from django_taskq.transitions.claim import Lanes, claim
from tests.taskapp import tasks

Heard = list[dict[str, Any]]


@contextmanager
def heard(signal: Signal) -> Iterator[Heard]:
    """Gather what a signal says, and where."""
    calls: Heard = []

    def receive(sender: object, **named: Any) -> None:
        state = getattr(named.get("task_result"), "state", None)
        calls.append({"sender": sender, "state": state, "thread": threading.current_thread().name, **named})

    signal.connect(receive)
    try:
        yield calls
    finally:
        signal.disconnect(receive)


@task(max_attempts=2, backoff=3)
def fail_and_try_again() -> None:
    """Fail."""
    raise LookupError("not yet")


@task(takes_context=True, max_attempts=5, backoff=0)
def give_in(context: TaskContext) -> None:
    """Be cancelled, and fail for it."""
    operate.cancel("default", context.task_result.id)
    raise RuntimeError("stopped")


@pytest.mark.django_db
def test_a_retry_is_told_with_its_reason_and_its_delay() -> None:
    result = fail_and_try_again.enqueue()
    with heard(task_retrying) as retries, heard(task_finished) as ends:
        run_tasks()
    (call,) = retries
    assert call["sender"] is TaskqBackend
    assert (call["task_result"].id, call["delay"]) == (result.id, pytest.approx(3, rel=0.5))
    assert isinstance(call["exception"], LookupError)
    assert ends == []


@pytest.mark.django_db(transaction=True)
def test_a_waiting_task_that_is_cancelled_is_told_after_the_commit() -> None:
    result = tasks.noop.enqueue()
    with heard(task_cancelled) as calls:
        with transaction.atomic():
            assert result.cancel()
            assert calls == []
        assert not result.cancel()
    (call,) = calls
    assert (call["sender"], call["task_result"].id, call["state"]) == (TaskqBackend, result.id, State.CANCELLED)


@pytest.mark.django_db(transaction=True)
def test_a_cancellation_that_is_rolled_back_is_not_told() -> None:
    result = tasks.noop.enqueue()
    with heard(task_cancelled) as calls, transaction.atomic():
        assert result.cancel()
        transaction.set_rollback(True)
    assert calls == []
    result.refresh()
    assert result.state is State.READY


@pytest.mark.django_db
def test_a_running_task_that_gives_in_is_told_as_cancelled_and_as_finished() -> None:
    give_in.enqueue()
    with heard(task_cancelled) as cancelled, heard(task_finished) as finished, heard(task_retrying) as retried:
        run_tasks()
    assert [call["state"] for call in cancelled] == [State.CANCELLED]
    assert len(finished) == 1
    assert retried == []


@pytest.mark.django_db
def test_rescue_gives_what_was_begun_and_how_it_goes_on() -> None:
    for acks_late in (True, False):
        tasks.noop.using(acks_late=acks_late).enqueue()
    tasks.add.enqueue(1, 2)
    first, second, third = claim("default", Lanes(("default",)), 3, "anne-1")
    lost: list[workers.LostTask] = []
    assert workers.rescue("default", "anne-1", started={first.id, second.id}, lost=lost) == (2, 1)
    assert {(one.id, one.runs_again) for one in lost} == {(first.id, True), (second.id, False)}
    assert {(one.name, one.worker_id, one.backend) for one in lost} == {(first.name, "anne-1", "default")}
    assert third.id not in {one.id for one in lost}


@pytest.mark.django_db(transaction=True)
def test_a_lost_task_is_told_from_another_thread_and_counted() -> None:
    result = tasks.noop.enqueue()
    lost = workers.LostTask(result.id, "noop", "default", "default", "anne-1", runs_again=True)
    gone = lost._replace(id="0190a0a0-0000-7000-8000-000000000000")
    uncounted.clear()
    with heard(task_lost) as calls:
        announce_lost([gone, lost])
        finish_announcing(10)
    announce_lost([lost])
    (call,) = calls
    assert (call["task_result"].id, call["worker_id"], call["runs_again"]) == (result.id, "anne-1", True)
    assert (call["sender"], call["thread"]) == (TaskqBackend, "taskq-signals")
    assert list(uncounted) == [gone, lost, lost]
    uncounted.clear()


@pytest.mark.django_db(transaction=True)
def test_nothing_is_read_for_nobody(django_assert_num_queries: Callable[[int], Any]) -> None:
    result = tasks.noop.enqueue()
    with heard(task_cancelled):
        pass
    from django_taskq.announcements import send_cancelled

    with django_assert_num_queries(0):
        send_cancelled("default", result.id)
