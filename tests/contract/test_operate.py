"""What people do to many tasks at once, and what they tell workers, on every database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections
from pytest_django import DjangoDbBlocker

from django_taskq import State, control
from django_taskq.core.paused import Paused, PauseKind
from django_taskq.core.states import FINAL, MOVES, PENDING
from django_taskq.exceptions import OptionError
from django_taskq.models import OrderRecord, PauseRecord, TaskRecord, WorkerRecord
from django_taskq.models.task import NEVER_PUBLISHED
from django_taskq.selection import Selection
from django_taskq.signals import task_cancelled
from django_taskq.testing import run_tasks
from django_taskq.transitions import operate, workers
from django_taskq.transitions.claim import Lanes, claim, claim_ids, claim_named
from django_taskq.transitions.control import ORDER_LIFE, answer_order, forget_orders, give_orders
from django_taskq.transitions.enqueue import Publication
from django_taskq.transitions.finish import End, finish
from django_taskq.transitions.outbox import put_off, unpublished
from tests.contract.rows import (
    ANNE,
    EVERYTHING,
    USING,
    ago,
    ahead,
    aware,
    columns,
    put,
    put_and_take,
    put_in,
    row,
    statements,
    take,
    take_one,
)

pytestmark = pytest.mark.django_db

#: a broker's
OUTBOX = ("default",)


def all_states() -> dict[State, str]:
    """A task in each state; each is RUNNING only if claimed last."""
    return {state: put_in(state) for state in sorted(State, key=lambda state: state not in {State.RUNNING, *FINAL})}


def unchanged(states: dict[State, str], but: set[State], work: Callable[[list[str]], int]) -> int:
    """Do something to all; whatever is not in ``but`` must be as before."""
    before = {state: columns(task_id) for state, task_id in states.items()}
    moved = work(list(states.values()))
    assert {state for state, task_id in states.items() if columns(task_id) != before[state]} == but
    for state in but:
        found = TaskRecord.objects.filter(pk=states[state]).values_list("state", flat=True).first()
        assert found is None or found == state or State(found) in MOVES[state]
    return moved


def register(worker_id: str) -> None:
    worker = WorkerRecord(id=worker_id, name=worker_id, hostname="here", pid=1, backends="default", queues="*", slots=1)
    workers.register(USING, worker)


# --- what is done to tasks


def test_waiting_tasks_are_cancelled_and_no_others() -> None:
    states = all_states()
    assert unchanged(states, set(PENDING), lambda ids: operate.cancel_waiting(USING, ids)) == 3
    for state in PENDING:
        record = row(states[state])
        assert (record.state, record.cancel_requested, record.published_at) == ("CANCELLED", True, None)
        assert ago(5) < aware(record.finished_at) < ahead(5)


def test_running_tasks_are_asked_once() -> None:
    states = all_states()
    ask = lambda ids: operate.ask_running(USING, ids)  # noqa: E731
    assert unchanged(states, {State.RUNNING}, ask) == 1
    assert row(states[State.RUNNING]).cancel_requested
    assert unchanged(states, set(), ask) == 0


@pytest.mark.parametrize("published", [(), OUTBOX])
def test_what_ended_without_success_runs_again_as_a_new_attempt(published: tuple[str, ...]) -> None:
    states = all_states()
    ends = {State.FAILED, State.CANCELLED, State.EXPIRED}
    for state in ends:
        TaskRecord.objects.filter(pk=states[state]).update(errors='{"a":1}\n', losses=2, cancel_requested=True)
    assert unchanged(states, ends, lambda ids: operate.retry(USING, ids, published=published)) == 3
    for state in ends:
        record = row(states[state])
        assert (record.state, record.attempt, record.losses, record.errors) == ("READY", 1, 0, '{"a":1}\n')
        assert (record.result, record.finished_at, record.worker_id, record.cancel_requested) == (None, None, "", False)
        assert record.worker_ids == f"{ANNE}\n"
        assert (record.published_at and aware(record.published_at)) == (NEVER_PUBLISHED if published else None)
    again = claim_ids(USING, [states[State.FAILED]], ANNE, backends=["default"])
    assert [(message.attempt, message.claim, message.losses) for message in again] == [(2, 2, 0)]


def test_an_expiry_that_has_passed_does_not_end_it_again() -> None:
    over, ahead_of = put_and_take(), put_and_take()
    finish(USING, [End(id=one.id, claim=one.claim, state=State.FAILED) for one in (over, ahead_of)])
    later = ahead(3600)
    TaskRecord.objects.filter(pk=over.id).update(expires_at=ago(60))
    TaskRecord.objects.filter(pk=ahead_of.id).update(expires_at=later)
    assert operate.retry(USING, [over.id, ahead_of.id], published=()) == 2
    assert row(over.id).expires_at is None
    assert aware(row(ahead_of.id).expires_at) == later
    assert len(take(10)) == 2


def test_what_is_due_later_can_run_now() -> None:
    states = all_states()
    assert unchanged(states, {State.SCHEDULED}, lambda ids: operate.make_due(USING, ids)) == 1
    assert row(states[State.SCHEDULED]).state == "READY"


def test_tasks_move_to_another_queue() -> None:
    states = all_states()
    move = lambda ids: operate.move(USING, ids, "mail", published=OUTBOX)  # noqa: E731
    assert unchanged(states, {State.SCHEDULED, State.READY}, move) == 2
    for state in (State.SCHEDULED, State.READY):
        record = row(states[state])
        assert (record.state, record.queue_name, aware(record.published_at)) == ("READY", "mail", NEVER_PUBLISHED)


def test_only_what_is_ready_is_published_again() -> None:
    ready, due = put(publication=Publication.PRESUMED), put(state=State.SCHEDULED, publication=Publication.PENDING)
    without = put()
    assert operate.publish_again(USING, [ready, due, without]) == 1
    assert aware(row(ready).published_at) == NEVER_PUBLISHED
    assert row(without).published_at is None


def test_only_what_a_lost_worker_held_is_taken_back() -> None:
    register("alive")
    kept, lost = put_and_take("alive"), put_and_take("lost")
    once = put_and_take("lost", acks_late=False)
    assert operate.take_back(USING, [kept.id, lost.id, once.id, put()]) == 1
    record = row(lost.id)
    assert (record.state, record.attempt, record.claim, record.worker_ids) == ("READY", 0, 1, "")
    assert row(kept.id).state == row(once.id).state == "RUNNING"


def test_only_what_waits_is_deleted() -> None:
    states = all_states()
    assert operate.delete_waiting(USING, list(states.values())) == 3
    assert set(TaskRecord.objects.values_list("state", flat=True)) == {"RUNNING", *FINAL}


# --- what people call


def test_reports_say_what_became_of_each_task() -> None:
    ids = tuple(all_states().values())
    left = {"SUCCESSFUL: left alone": 1, "FAILED: left alone": 1, "CANCELLED: left alone": 1, "EXPIRED: left alone": 1}
    cancelled = {"cancelled": 3, "asked to stop": 1}
    for dry_run in (True, False):
        report = control.cancel(USING, Selection(ids=ids), dry_run=dry_run)
        assert (report.counts, report.changed) == ({**cancelled, **left}, 4)
    again = control.cancel(USING, Selection(ids=ids))
    assert again.counts["ended meanwhile, or asked before"] == 1
    assert again.changed == 0


@pytest.mark.django_db(transaction=True)
def test_receivers_hear_of_each_task_that_is_cancelled_while_it_waits() -> None:
    told: list[str] = []

    def receive(sender: Any, task_result: Any, **more: Any) -> None:
        told.append(task_result.id)

    ids, running = [put(queue_name="mail") for _ in range(3)], put()
    assert [one.id for one in claim(USING, Lanes(("default",), ("default",)), 5, ANNE)] == [running]
    operate.cancel_waiting(USING, ids[:1])
    task_cancelled.connect(receive)
    try:
        assert control.cancel(USING, Selection(ids=(*ids, running))).changed == 3
    finally:
        task_cancelled.disconnect(receive)
    assert sorted(told) == sorted(ids[1:])


def test_without_states_and_ids_only_what_can_be_changed_is_meant() -> None:
    all_states()
    assert control.retry(USING, Selection()).counts == {"ready again": 3}
    # Those, the one that was READY, and one due later.
    assert control.requeue(USING, Selection(), to_queue="mail").counts == {
        "moved to mail": 5,
        "given back by lost workers": 1,
    }
    assert control.purge(USING, Selection(queue="mail", limit=2)).changed == 2
    assert control.purge(USING, Selection()).changed == 5
    assert dict(TaskRecord.objects.values_list("state", "name")).keys() == {"SUCCESSFUL"}


@pytest.mark.parametrize("name", ["", "q" * 129])
def test_a_queue_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match="to_queue"):
        control.requeue(USING, Selection(), to_queue=name)


def test_many_are_gone_through_in_batches_the_oldest_first() -> None:
    ids = [put() for _ in range(1_203)]
    assert control.purge(USING, Selection(limit=1_201)).changed == 1_201
    assert {str(pk) for pk in TaskRecord.objects.values_list("pk", flat=True)} == set(ids[-2:])


@pytest.mark.django_db(transaction=True)
def test_two_who_cancel_at_once_cancel_each_task_once(django_db_blocker: DjangoDbBlocker) -> None:
    for _ in range(600):
        put()
    start = threading.Barrier(2)
    changed: list[int] = []

    def cancel() -> None:
        with django_db_blocker.unblock():
            start.wait()
            try:
                changed.append(control.cancel(USING, Selection()).changed)
            finally:
                connections.close_all()

    threads = [threading.Thread(target=cancel) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(changed) == 600
    assert set(TaskRecord.objects.values_list("state", flat=True)) == {"CANCELLED"}


def test_a_selection_is_all_that_applies() -> None:
    failed = put_and_take("anne-9", queue_name="late")
    letter, mail, other = put(name="shop.Send", queue_name="mail"), put(queue_name="mail-2"), put(queue_name="Mail")
    finish(USING, [End(id=failed.id, claim=failed.claim, state=State.FAILED, error='{"m":"shop.NoStock: none"}\n')])

    def found(**given: Any) -> set[str]:
        return {str(pk) for pk in Selection(**given).rows(USING).values_list("pk", flat=True)}

    assert found(queue="mail") == {letter}
    assert found(queue="mail*") == {letter, mail}
    assert found(queue="?ail") == {letter, other}
    assert found(task="shop.*", queue="mail*") == {letter}
    assert found(task="shop.*end", backend="other") == set()
    assert found(error="NoStock", worker="anne-9") == found(states=frozenset({State.FAILED})) == {failed.id}
    assert found(ids=(mail, other), queue="Mail") == {other}
    TaskRecord.objects.filter(pk=letter).update(enqueued_at=ago(100))
    TaskRecord.objects.filter(pk=failed.id).update(enqueued_at=ago(200))
    assert found(older_than=50) == {letter}
    assert found(newer_than=50) == {mail, other, failed.id}
    assert len(found(limit=2)) == 2


# --- pauses


def test_a_pause_is_there_once_and_goes_once() -> None:
    assert control.pause(USING, "queue", "mail", by="anne")
    assert not control.pause(USING, "queue", "mail", by="bert")
    assert control.pause(USING, "task", "mail")
    found = [(one.kind, one.name, one.paused_by) for one in control.paused(USING)]
    assert found == [("queue", "mail", "anne"), ("task", "mail", "")]
    assert PauseRecord.objects.paused() == Paused(frozenset({"mail"}), frozenset({"mail"}))
    assert control.resume(USING, "queue", "mail")
    assert not control.resume(USING, "queue", "mail")
    assert PauseRecord.objects.get().kind == PauseKind.TASK


def test_claims_leave_paused_tasks_where_they_are() -> None:
    other, paused = put(name="shop.other"), put(name="shop.paused")
    lanes = Lanes(("default",), paused=("shop.paused", "shop.more"))
    assert claim(USING, Lanes(("default",), ("elsewhere",), ("shop.paused",)), 10, ANNE) == []
    assert claim_named(USING, lanes, 10, ANNE, names={"shop.paused"}, wanted=True) == []
    assert [one.id for one in claim(USING, lanes, 10, ANNE)] == [other]
    assert row(paused).attempt == 0
    assert take_one().id == paused


def test_a_long_line_of_paused_tasks_hides_no_others() -> None:
    for _ in range(600):
        put(name="shop.paused")
    other = put(name="shop.other")
    lanes = Lanes(("default",), paused=("shop.paused",))
    assert [one.id for one in claim_named(USING, lanes, 10, ANNE, names={"shop.none"}, wanted=False)] == [other]


def test_delivered_tasks_that_are_paused_are_not_claimed_and_are_published_later() -> None:
    by_name = put(name="shop.paused", publication=Publication.PRESUMED)
    by_queue = put(queue_name="mail", publication=Publication.PRESUMED)
    other = put(publication=Publication.PRESUMED)
    ids, paused = [by_name, by_queue, other], Paused(frozenset({"mail"}), frozenset({"shop.paused"}))
    assert [one.id for one in claim_ids(USING, ids, ANNE, backends=OUTBOX, paused=paused)] == [other]
    assert put_off(USING, ids, paused, backends=OUTBOX) == {by_name, by_queue}
    assert [one.id for one in unpublished(USING, "default", 10, paused=paused.tasks)] == [by_queue]
    assert {one.id for one in unpublished(USING, "default", 10)} == {by_name, by_queue}


def test_while_nothing_is_paused_claims_are_as_ever() -> None:
    put()
    with statements() as seen:
        take(10, lanes=EVERYTHING)
        claim_ids(USING, [put()], ANNE, backends=["default"])
    assert not any("NOT IN" in statement for statement in seen)


def test_run_tasks_leaves_what_is_paused() -> None:
    paused, in_queue, other = put(name="tests.taskapp.tasks.fail"), put(queue_name="mail"), put()
    control.pause(USING, "task", "tests.taskapp.tasks.fail")
    control.pause(USING, "queue", "mail")
    assert run_tasks() == 1
    assert [row(one).state for one in (paused, in_queue, other)] == ["READY", "READY", "SUCCESSFUL"]
    control.resume(USING, "queue", "mail")
    assert run_tasks() == 1


# --- orders


def test_an_order_is_answered_once() -> None:
    first, second = give_orders(USING, "ping", ["anne", "bert"])
    assert first.pk != second.pk
    assert control.answers(USING, [first, second], 0.0) == {}
    assert answer_order(USING, first.pk, "ä")
    assert not answer_order(USING, first.pk, "again")
    assert {worker: order.answer for worker, order in control.answers(USING, [first, second], 0.05).items()} == {
        "anne": "ä"
    }


def test_old_orders_are_forgotten() -> None:
    old, new = (one.pk for one in give_orders(USING, "stop", ["anne", "bert"]))
    assert forget_orders(USING) == 0
    OrderRecord.objects.filter(pk=old).update(made_at=ago(ORDER_LIFE + 5))
    assert forget_orders(USING) == 1
    assert list(OrderRecord.objects.values_list("pk", flat=True)) == [new]
    assert not answer_order(USING, old, "too late")


def test_who_waits_for_answers_of_nobody_is_back_at_once() -> None:
    orders: list[Any] = control.order(USING, "ping", [])
    assert control.answers(USING, orders, 60.0) == {}
