"""Every move of a task's row, on every database: what it changes, and what keeps it from changing anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection

from django_taskq import State, WorkerLost
from django_taskq.core.message import Message
from django_taskq.core.outcome import AttemptError
from django_taskq.core.retry import class_path
from django_taskq.core.states import FINAL, MOVES, PENDING
from django_taskq.database import database_now
from django_taskq.models import KeeperRecord, TaskRecord, WorkerRecord
from django_taskq.transitions import operate, workers
from django_taskq.transitions.claim import Lanes, claim, claim_named, queue_names
from django_taskq.transitions.due import any_overdue, expire_overdue, promote_due, seconds_to_next
from django_taskq.transitions.enqueue import insert_many
from django_taskq.transitions.finish import MAX_LOG, End, Held, finish, release, save_progress
from tests.contract.rows import (
    ANNE,
    BERT,
    EVERYTHING,
    NEW,
    ODD_TEXT,
    USING,
    ago,
    ahead,
    aware,
    columns,
    now,
    put,
    put_and_take,
    put_in,
    row,
    statements,
    take,
    take_one,
)

pytestmark = pytest.mark.django_db

#: Seconds a statement may take on a busy machine.
SLACK = 5.0


def end(message: Message, state: State = State.SUCCESSFUL, **more: Any) -> End:
    return End(id=message.id, claim=message.claim, state=state, **more)


def held(message: Message) -> Held:
    return Held(message.id, message.claim, message.attempt, message.worker_ids)


def is_recent(moment: Any) -> bool:
    return ago(SLACK) < aware(moment) < ahead(SLACK)


def interrupt(act: Callable[[], object]) -> Callable[..., Any]:
    """Return an execute wrapper that lets something happen after the first statement."""
    waiting = [act]

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if waiting:
            waiting.pop()()
        return result

    return wrapper


# --- enqueue


def test_a_new_task_has_what_it_was_given_and_has_not_begun() -> None:
    run_after, expires_at = ahead(60), ahead(120)
    task_id = put(
        '[["ä"],{}]',
        name="shop.send",
        queue_name="mail",
        backend="other",
        priority=-100,
        state=State.SCHEDULED,
        options='{"max_attempts":2}',
        metadata='{"a":1}',
        max_deliveries=32767,
        acks_late=False,
        run_after=run_after,
        expires_at=expires_at,
    )
    record = row(task_id)
    assert (record.name, record.queue_name, record.backend, record.priority) == ("shop.send", "mail", "other", -100)
    assert (record.state, record.options, record.metadata) == ("SCHEDULED", '{"max_attempts":2}', '{"a":1}')
    assert (record.max_deliveries, record.acks_late, record.call_arguments) == (32767, False, (["ä"], {}))
    assert (record.run_after, record.expires_at) == (run_after, expires_at)
    assert is_recent(record.enqueued_at)
    assert (record.attempt, record.claim, record.losses, record.cancel_requested) == (0, 0, 0, False)
    assert (record.worker_id, record.worker_ids, record.errors, record.progress) == ("",) * 4
    assert record.result is None
    assert (record.started_at, record.last_attempted_at, record.finished_at, record.duration) == (None,) * 4


def test_many_new_tasks_come_in_their_order_and_with_one_time() -> None:
    ids = [f"0190a0a0-0000-7000-8000-{number:012x}" for number in range(2_500)]
    enqueued_at = insert_many(USING, NEW, [(task_id, f"[[{index}],{{}}]") for index, task_id in enumerate(ids)])
    records = list(TaskRecord.objects.order_by("pk"))
    assert [str(record.pk) for record in records] == ids
    assert [record.call_arguments[0] for record in records] == [[index] for index in range(2_500)]
    assert {record.enqueued_at for record in records} == {enqueued_at}
    assert {record.state for record in records} == {"READY"}


def test_many_new_tasks_need_few_statements() -> None:
    ids = [f"0190a0a0-0000-7000-8000-{number:012x}" for number in range(1_000)]
    with statements() as seen:
        insert_many(USING, NEW, [(task_id, "[[],{}]") for task_id in ids])
    assert len(seen) <= 5


# --- claim


def test_a_claimed_task_is_running_and_the_message_has_its_row() -> None:
    run_after, expires_at = ago(60), ahead(60)
    task_id = put(
        '[[1],{"a":"ä"}]',
        name="shop.send",
        queue_name="mail",
        priority=7,
        options='{"max_attempts":2}',
        metadata='{"a":1}',
        headers='{"traceparent":"00-1"}',
        acks_late=False,
        run_after=run_after,
        expires_at=expires_at,
    )
    message = take_one()
    record = row(task_id)
    assert message == Message(
        id=task_id,
        name="shop.send",
        queue_name="mail",
        backend="default",
        priority=7,
        arguments='[[1],{"a":"ä"}]',
        options='{"max_attempts":2}',
        metadata='{"a":1}',
        errors="",
        worker_ids=f"{ANNE}\n",
        attempt=1,
        claim=1,
        losses=0,
        acks_late=False,
        enqueued_at=record.enqueued_at,
        run_after=run_after,
        started_at=aware(record.started_at),
        last_attempted_at=aware(record.last_attempted_at),
        expires_at=expires_at,
        headers='{"traceparent":"00-1"}',
    )
    assert (record.state, record.attempt, record.claim) == ("RUNNING", 1, 1)
    assert (record.worker_id, record.worker_ids) == (ANNE, f"{ANNE}\n")
    assert is_recent(record.started_at)
    assert aware(record.started_at) >= record.enqueued_at
    assert record.finished_at is None


def test_a_first_attempt_has_one_beginning() -> None:
    """What the reply and the row tell of it is the same to the microsecond."""
    for _ in range(100):
        put()
    messages = take(100)
    assert len(messages) == 100
    assert all(message.started_at == message.last_attempted_at >= message.enqueued_at for message in messages)


def test_a_message_says_so_in_plain_types() -> None:
    message = put_and_take()
    assert message.id == str(UUID(message.id))
    assert message.acks_late is True
    assert message.enqueued_at.utcoffset() == timedelta(0)
    assert {type(getattr(message, name)) for name in ("priority", "attempt", "claim", "losses")} == {int}


def test_a_second_attempt_counts_and_keeps_the_first_start() -> None:
    first = put_and_take(ANNE)
    finish(USING, [end(first, State.READY, error="first\n", metadata='{"a":2}')])
    second = take_one(BERT)
    assert (second.id, second.attempt, second.claim) == (first.id, 2, 2)
    assert second.worker_ids == f"{ANNE}\n{BERT}\n"
    assert (second.errors, second.metadata) == ("first\n", '{"a":2}')
    assert second.started_at == first.started_at
    assert second.last_attempted_at >= first.last_attempted_at
    assert row(first.id).worker_id == BERT


def test_tasks_are_taken_by_priority_then_by_age() -> None:
    ids = {priority: [put(priority=priority) for _ in range(2)] for priority in (0, 5, -100, 100, -1)}
    wanted = [task_id for priority in (100, 5, 0, -1, -100) for task_id in ids[priority]]
    assert [message.id for message in take(3)] == wanted[:3]
    assert [message.id for message in take(100)] == wanted[3:]
    assert take(100) == []


@pytest.mark.parametrize("limit", [0, -1])
def test_who_wants_nothing_gets_nothing(limit: int) -> None:
    put()
    assert take(limit) == []


def test_an_empty_table_has_nothing_to_claim() -> None:
    assert take(100) == []
    assert claim(USING, Lanes(()), 1, ANNE) == []


@pytest.mark.parametrize("state", sorted(set(State) - {State.READY}))
def test_only_what_is_ready_is_claimed(state: State) -> None:
    task_id = put_in(state)
    before = columns(task_id)
    assert take(10, BERT) == []
    assert claim_named(USING, EVERYTHING, 10, BERT, names=[NEW.name], wanted=True) == []
    assert columns(task_id) == before


def test_what_has_expired_is_not_claimed() -> None:
    put(expires_at=ago(1))
    alive = put(expires_at=ahead(60))
    assert [message.id for message in take(10)] == [alive]


def test_only_the_lanes_are_served() -> None:
    ids = {
        (backend, queue): put(backend=backend, queue_name=queue)
        for backend in ("default", "other", "third")
        for queue in ("a", "b", "c")
    }
    assert [message.id for message in take(10, lanes=Lanes(("other",), ("b",)))] == [ids["other", "b"]]
    assert [message.id for message in take(10, lanes=Lanes(("other",)))] == [ids["other", "a"], ids["other", "c"]]
    assert {message.id for message in take(10, lanes=Lanes(("default", "third"), ("a", "c")))} == {
        ids[lane] for lane in (("default", "a"), ("default", "c"), ("third", "a"), ("third", "c"))
    }
    assert {message.id for message in take(10, lanes=Lanes(("default", "other", "third")))} == {
        ids["default", "b"],
        ids["third", "b"],
    }


def test_several_lanes_have_one_order() -> None:
    ids = [
        put(backend=backend, queue_name=queue, priority=priority)
        for priority in (9, 0, -9)
        for backend, queue in (("default", "a"), ("other", "b"), ("default", "b"), ("other", "a"))
    ]
    lanes = Lanes(("default", "other"), ("a", "b"))
    taken = [take(5, lanes=lanes) for _ in range(3)]
    assert [len(messages) for messages in taken] == [5, 5, 2]
    assert [message.id for messages in taken for message in messages] == ids


def test_names_match_to_the_letter() -> None:
    names = ["mail", "Mail", "mäil", "mail ", "MAIL"]
    ids = {name: put(queue_name=name, backend=name) for name in names}
    for name in names:
        assert [message.id for message in take(10, lanes=Lanes((name,), (name,)))] == [ids[name]]


def test_tasks_are_claimed_by_name() -> None:
    ids = [put(name=name, priority=priority) for priority in (1, 2) for name in ("a", "b", "c")]
    wanted = claim_named(USING, EVERYTHING, 10, ANNE, names={"a", "c"}, wanted=True)
    assert [message.id for message in wanted] == [ids[3], ids[5], ids[0], ids[2]]
    put(name="a")
    others = claim_named(USING, EVERYTHING, 10, BERT, names={"a"}, wanted=False)
    assert [message.id for message in others] == [ids[4], ids[1]]
    assert {message.worker_ids for message in others} == {f"{BERT}\n"}


def test_claiming_by_name_keeps_to_its_lanes_and_limit() -> None:
    ids = [put(name="a", queue_name=queue) for queue in ("x", "y", "x", "x", "z")]
    lanes = Lanes(("default",), ("x", "z"))
    assert [one.id for one in claim_named(USING, lanes, 2, ANNE, names=["a"], wanted=True)] == [ids[0], ids[2]]
    assert [one.id for one in claim_named(USING, lanes, 9, ANNE, names=["a"], wanted=True)] == [ids[3], ids[4]]


def test_the_queues_in_which_something_is_ready_are_known() -> None:
    for queue in ("b", "a", "c", "a", ODD_TEXT):
        put(queue_name=queue)
    put(queue_name="elsewhere", backend="other")
    put(queue_name="later", state=State.SCHEDULED, run_after=ahead(60))
    assert sorted(queue_names(USING, "default")) == sorted(["a", "b", "c", ODD_TEXT])
    assert queue_names(USING, "nobody") == []


def test_queues_that_differ_in_case_only_are_all_known() -> None:
    for queue in ("mail", "Mail", "mäil"):
        put(queue_name=queue)
    assert sorted(queue_names(USING, "default")) == ["Mail", "mail", "mäil"]


# --- finish


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"state": State.SUCCESSFUL, "result": '{"a":"ä"}', "duration": 0.25},
            {"state": "SUCCESSFUL", "result": '{"a":"ä"}', "duration": 0.25, "errors": "", "worker_id": ANNE},
        ),
        ({"state": State.SUCCESSFUL, "result": "null"}, {"state": "SUCCESSFUL", "result": "null"}),
        ({"state": State.SUCCESSFUL}, {"state": "SUCCESSFUL", "result": None, "worker_ids": f"{ANNE}\n"}),
        (
            {"state": State.SUCCESSFUL, "result": "1", "metadata": '{"b":2}'},
            {"state": "SUCCESSFUL", "result": "1", "metadata": '{"b":2}'},
        ),
        (
            {"state": State.FAILED, "error": '{"class":"a.B"}\n', "duration": 3600.5},
            {"state": "FAILED", "errors": '{"class":"a.B"}\n', "duration": 3600.5, "worker_id": ANNE, "result": None},
        ),
        ({"state": State.FAILED}, {"state": "FAILED", "errors": "", "duration": None}),
        ({"state": State.CANCELLED}, {"state": "CANCELLED", "worker_id": ANNE}),
        (
            {"state": State.READY, "error": "x\n", "loss": 1},
            {"state": "READY", "errors": "x\n", "losses": 1, "worker_id": "", "worker_ids": f"{ANNE}\n"},
        ),
        (
            {"state": State.SCHEDULED, "error": "x\n", "delay": 60.0, "metadata": "{}"},
            {"state": "SCHEDULED", "errors": "x\n", "worker_id": "", "metadata": "{}", "attempt": 1, "claim": 1},
        ),
        ({"state": State.SUCCESSFUL, "log": "a line\n"}, {"state": "SUCCESSFUL", "log": "a line\n"}),
        ({"state": State.FAILED, "log": "a line\n"}, {"state": "FAILED", "log": "a line\n"}),
        ({"state": State.FAILED, "fingerprint": "00ff"}, {"state": "FAILED", "fingerprint": "00ff"}),
        ({"state": State.FAILED}, {"state": "FAILED", "fingerprint": ""}),
        ({"state": State.SUCCESSFUL, "fingerprint": "00ff"}, {"state": "SUCCESSFUL", "fingerprint": None}),
        ({"state": State.READY, "fingerprint": "00ff"}, {"state": "READY", "fingerprint": None, "worker_id": ""}),
    ],
    ids=lambda value: "-".join(str(item) for item in value.values())[:40],
)
@pytest.mark.parametrize("company", [0, 3], ids=["alone", "in company"])
def test_an_end_writes_what_it_says_and_leaves_the_rest(
    given: dict[str, Any], expected: dict[str, Any], company: int
) -> None:
    others = [put_and_take() for _ in range(company)]
    message = put_and_take(metadata='{"a":1}')
    before = columns(message.id)
    assert finish(USING, [*(end(other) for other in others), end(message, **given)])[message.id] is given["state"]
    after = columns(message.id)
    moved = {"state", "finished_at", "run_after", "worker_id", "duration", "fingerprint"}
    untouched = before.keys() - moved - expected.keys()
    assert {key: after[key] for key in untouched} == {key: before[key] for key in untouched}
    assert {key: after[key] for key in expected} == expected
    assert (after["finished_at"] is not None) is given["state"].is_final
    if given["state"].is_final:
        assert is_recent(after["finished_at"])
        assert after["finished_at"] >= after["last_attempted_at"]
    if given["state"] is State.SCHEDULED:
        assert ahead(60 - SLACK) < after["run_after"] < ahead(60 + SLACK)
    else:
        assert after["run_after"] is None


@pytest.mark.parametrize(
    ("asked_for", "becomes"),
    [
        (State.READY, State.CANCELLED),
        (State.SCHEDULED, State.CANCELLED),
        (State.SUCCESSFUL, State.SUCCESSFUL),
        (State.FAILED, State.CANCELLED),
        (State.CANCELLED, State.CANCELLED),
    ],
)
def test_a_task_somebody_cancelled_does_not_come_back(asked_for: State, becomes: State) -> None:
    message = put_and_take()
    assert operate.cancel(USING, message.id)
    assert finish(USING, [end(message, asked_for, error="x\n", delay=60.0)]) == {message.id: becomes}
    record = row(message.id)
    assert (record.state, record.errors, record.worker_id) == (becomes, "x\n", ANNE)
    assert is_recent(record.finished_at)


@pytest.mark.parametrize("keep_row", [True, False], ids=["kept", "not kept"])
@pytest.mark.parametrize("state", [State.SUCCESSFUL, State.FAILED, State.READY])
def test_an_end_of_another_claim_changes_nothing(state: State, keep_row: bool) -> None:
    message = put_and_take()
    before = columns(message.id)
    for claim_number in (message.claim - 1, message.claim + 1):
        late = replace(end(message, state, result="1", error="x\n", keep_row=keep_row), claim=claim_number)
        assert finish(USING, [late]) == {}
    assert columns(message.id) == before


@pytest.mark.parametrize("keep_row", [True, False], ids=["kept", "not kept"])
@pytest.mark.parametrize("state", sorted(set(State) - {State.RUNNING}))
def test_what_does_not_run_does_not_end(state: State, keep_row: bool) -> None:
    task_id = put_in(state)
    before = columns(task_id)
    ends = [
        End(id=task_id, claim=before["claim"], state=new, result="2", error="x\n", keep_row=keep_row)
        for new in (State.SUCCESSFUL, State.FAILED, State.READY)
    ]
    assert [finish(USING, [one]) for one in ends] == [{}, {}, {}]
    assert columns(task_id) == before


def test_an_end_written_twice_counts_once() -> None:
    message = put_and_take()
    assert finish(USING, [end(message, result="1")]) == {message.id: State.SUCCESSFUL}
    before = columns(message.id)
    assert finish(USING, [end(message, result="1")]) == {}
    assert finish(USING, [end(message, State.FAILED)]) == {}
    assert columns(message.id) == before


def test_ends_of_nothing_are_nothing() -> None:
    assert finish(USING, []) == {}
    gone = End(id="0190a0a0-0000-7000-8000-000000000000", claim=1, state=State.SUCCESSFUL)
    assert finish(USING, [gone]) == {}
    assert finish(USING, [replace(gone, keep_row=False)]) == {}


def test_a_success_without_a_record_leaves_no_row() -> None:
    messages = [put_and_take() for _ in range(3)]
    ends = [end(messages[0], keep_row=False), end(messages[1]), end(messages[2], keep_row=False)]
    assert finish(USING, ends) == {message.id: State.SUCCESSFUL for message in messages}
    assert [str(pk) for pk in TaskRecord.objects.values_list("pk", flat=True)] == [messages[1].id]


def test_a_batch_may_hold_ends_of_every_kind() -> None:
    for _ in range(1_200):
        put()
    messages = take(1_200)
    kinds: list[dict[str, Any]] = [
        {"state": State.SUCCESSFUL, "result": "1", "duration": 0.5},
        {"state": State.SUCCESSFUL, "result": None},
        {"state": State.SUCCESSFUL, "result": "3", "metadata": '{"a":1}'},
        {"state": State.FAILED, "error": "x\n"},
        {"state": State.READY, "loss": 1},
        {"state": State.SCHEDULED, "delay": 60.0, "error": "y\n"},
        {"state": State.SUCCESSFUL, "keep_row": False},
    ]
    ends = [end(message, **kinds[index % len(kinds)]) for index, message in enumerate(messages)]
    stale = {one.id for one in ends[::11]}
    written = finish(USING, [replace(one, claim=9) if one.id in stale else one for one in ends])
    assert written == {one.id: one.state for one in ends if one.id not in stale}
    records = {str(record.pk): record for record in TaskRecord.objects.all()}
    for one in ends:
        record = records.get(one.id)
        if one.id in stale:
            assert record is not None
            assert (record.state, record.finished_at, record.result) == ("RUNNING", None, None)
        elif record is None:
            assert not one.keep_row
        else:
            assert (record.state, record.result, record.errors, record.losses) == (
                one.state,
                one.result,
                one.error,
                one.loss,
            )
            assert record.metadata == (one.metadata or "")
            assert record.duration == one.duration


def test_an_end_costs_few_statements_whatever_the_batch() -> None:
    for _ in range(100):
        put()
    messages = take(100)
    with statements() as seen:
        finish(USING, [end(message, result="null", duration=0.1) for message in messages])
    assert len(seen) <= 4


@pytest.mark.parametrize("delay", [0.001, 1e6, 100 * 365.25 * 86400])
def test_delays_of_any_length_can_be_written(delay: float) -> None:
    message = put_and_take()
    finish(USING, [end(message, State.SCHEDULED, delay=delay)])
    run_after = row(message.id).run_after
    assert run_after is not None
    assert abs((run_after - now()).total_seconds() - delay) < SLACK


@pytest.mark.parametrize("last", [State.SUCCESSFUL, State.FAILED])
def test_a_log_grows_over_the_attempts_and_loses_its_oldest_lines(last: State) -> None:
    first = put_and_take()
    finish(USING, [end(first, State.READY, log="first\n" + "漢" * (MAX_LOG - 8) + "\n")])
    assert len(row(first.id).log) == MAX_LOG - 1
    second = take_one()
    finish(USING, [end(second, State.READY)])
    third = take_one()
    other = put_and_take()
    finish(USING, [end(other, log="other\n"), end(third, last, log="third\n")])
    log = row(first.id).log
    assert len(log) == MAX_LOG
    assert log.startswith("\n漢")
    assert log.endswith("漢\nthird\n")
    assert row(other.id).log == "other\n"


def test_odd_texts_come_back_as_they_were() -> None:
    task_id = put(
        ODD_TEXT, name=ODD_TEXT, queue_name=ODD_TEXT, backend=ODD_TEXT[:64], metadata=ODD_TEXT, options=ODD_TEXT
    )
    worker = ODD_TEXT.replace("\n", "")
    (message,) = claim(USING, Lanes((ODD_TEXT[:64],), (ODD_TEXT,)), 1, worker)
    assert message.id == task_id
    assert {message.arguments, message.name, message.queue_name, message.metadata, message.options} == {ODD_TEXT}
    assert message.worker_ids == f"{worker}\n"
    save_progress(USING, [(task_id, message.claim, ODD_TEXT)])
    assert row(task_id).progress == ODD_TEXT
    finish(USING, [end(message, State.READY, error=ODD_TEXT, metadata=ODD_TEXT * 2, log=ODD_TEXT)])
    assert row(task_id).log == ODD_TEXT
    (again,) = claim_named(USING, Lanes((ODD_TEXT[:64],)), 1, worker, names=[ODD_TEXT], wanted=True)
    assert (again.errors, again.metadata) == (ODD_TEXT, ODD_TEXT * 2)
    finish(USING, [end(again, result=ODD_TEXT)])
    record = row(task_id)
    assert (record.result, record.worker_id, record.worker_ids) == (ODD_TEXT, worker, f"{worker}\n{worker}\n")


def test_long_texts_come_back_as_they_were() -> None:
    long = "漢\\'\"🙂x" * 400_000
    message = put_and_take(arguments=long)
    assert message.arguments == long
    finish(USING, [end(message, State.READY, error=long)])
    again = take_one()
    assert again.errors == long
    finish(USING, [end(again, result=long, duration=1.0)])
    assert row(message.id).result == long


# --- release


def test_what_is_given_back_unstarted_is_as_if_never_claimed_but_for_its_token() -> None:
    task_id = put()
    before = columns(task_id)
    message = take_one()
    assert release(USING, [held(message)]) == 1
    assert columns(task_id) == before | {"claim": 1}
    assert finish(USING, [end(message)]) == {}
    assert take_one(BERT).claim == 2


def test_giving_back_a_second_attempt_keeps_the_first() -> None:
    first = put_and_take(ANNE)
    finish(USING, [end(first, State.READY, error="x\n")])
    second = take_one(BERT)
    assert release(USING, [held(second)]) == 1
    record = row(first.id)
    assert (record.state, record.attempt, record.claim) == ("READY", 1, 2)
    assert (record.worker_id, record.worker_ids, record.errors) == ("", f"{ANNE}\n", "x\n")
    assert record.started_at == first.started_at


def test_what_was_cancelled_meanwhile_does_not_go_back() -> None:
    message = put_and_take()
    operate.cancel(USING, message.id)
    assert release(USING, [held(message)]) == 1
    record = row(message.id)
    assert (record.state, record.attempt, record.worker_ids) == ("CANCELLED", 0, "")
    assert is_recent(record.finished_at)


def test_what_is_cancelled_while_it_goes_back_does_not_start_again() -> None:
    message = put_and_take()

    with connection.execute_wrapper(interrupt(lambda: operate.cancel(USING, message.id))):
        release(USING, [held(message)])
    assert row(message.id).cancel_requested
    assert row(message.id).state == "CANCELLED"


def test_only_ones_own_claims_are_given_back() -> None:
    stale, ended, mine = (put_and_take() for _ in range(3))
    finish(USING, [end(ended)])
    before = columns(stale.id), columns(ended.id)
    assert release(USING, [held(stale)._replace(claim=9), held(ended), held(mine)]) == 1
    assert (columns(stale.id), columns(ended.id)) == before
    assert release(USING, []) == 0


def test_giving_back_many_costs_few_statements() -> None:
    for _ in range(600):
        put()
    messages = take(600)
    with statements() as seen:
        assert release(USING, [held(message) for message in messages]) == 600
    assert len(seen) <= 6
    assert len(take(600)) == 600


# --- progress


def test_progress_is_that_of_the_running_attempt() -> None:
    message = put_and_take()
    save_progress(USING, [(message.id, message.claim, '{"done":1}'), (message.id, message.claim + 1, '{"done":9}')])
    assert row(message.id).progress == '{"done":1}'
    finish(USING, [end(message, State.READY)])
    save_progress(USING, [(message.id, message.claim, '{"done":2}')])
    assert row(message.id).progress == '{"done":1}'
    take_one()
    assert row(message.id).progress == ""


# --- due and expired


def test_what_is_due_becomes_ready_the_longest_due_first() -> None:
    ids = [put(state=State.SCHEDULED, run_after=ago(seconds)) for seconds in (1, 3, 2)]
    later = put(state=State.SCHEDULED, run_after=ahead(60))
    assert promote_due(USING, limit=2) == 2
    assert {row(task_id).state for task_id in (ids[1], ids[2])} == {"READY"}
    assert row(ids[0]).state == "SCHEDULED"
    assert promote_due(USING) == 1
    assert promote_due(USING) == 0
    assert row(later).state == "SCHEDULED"
    assert [message.id for message in take(10)] == ids


@pytest.mark.parametrize("state", sorted(set(State) - {State.SCHEDULED}))
def test_only_what_is_scheduled_becomes_due(state: State) -> None:
    task_id = put(state=state, run_after=ago(1)) if state in PENDING else put_in(state)
    before = columns(task_id)
    assert promote_due(USING) == 0
    assert columns(task_id) == before


@pytest.mark.parametrize("state", sorted(PENDING))
def test_what_waits_too_long_expires(state: State) -> None:
    overdue = put(state=state, expires_at=ago(1), run_after=ahead(9) if state is State.SCHEDULED else None)
    others = [put(state=state, expires_at=ahead(60)), put(state=state)]
    assert any_overdue(USING)
    assert expire_overdue(USING) == 1
    assert expire_overdue(USING) == 0
    assert not any_overdue(USING)
    record = row(overdue)
    assert record.state == "EXPIRED"
    assert is_recent(record.finished_at)
    assert {row(task_id).state for task_id in others} == {state}


@pytest.mark.parametrize("state", [State.RUNNING, *sorted(FINAL)])
def test_what_runs_or_has_ended_does_not_expire(state: State) -> None:
    message = put_and_take(expires_at=ahead(60))
    if state is not State.RUNNING:
        finish(USING, [end(message, state)])
    TaskRecord.objects.update(expires_at=ago(1))
    before = columns(message.id)
    assert not any_overdue(USING)
    assert expire_overdue(USING) == 0
    assert columns(message.id) == before


def test_many_expire_in_batches() -> None:
    for _ in range(5):
        put(expires_at=ago(1))
    assert [expire_overdue(USING, limit=2) for _ in range(4)] == [2, 2, 1, 0]


def test_the_next_due_task_is_known() -> None:
    assert seconds_to_next(USING) is None
    put()
    assert seconds_to_next(USING) is None
    put(state=State.SCHEDULED, run_after=ahead(60))
    assert 60 - SLACK < (seconds_to_next(USING) or 0) <= 60
    put(state=State.SCHEDULED, run_after=ago(10))
    assert -10 - SLACK < (seconds_to_next(USING) or 0) <= -10


# --- cancel


@pytest.mark.parametrize("state", sorted(PENDING))
def test_what_waits_is_cancelled_at_once(state: State) -> None:
    task_id = put_in(state)
    assert operate.cancel(USING, task_id)
    record = row(task_id)
    assert (record.state, record.cancel_requested, record.worker_ids) == ("CANCELLED", True, "")
    assert is_recent(record.finished_at)
    assert not operate.cancel(USING, task_id)


def test_what_runs_is_asked_to_stop() -> None:
    message = put_and_take()
    assert operate.cancel(USING, message.id)
    assert operate.cancel(USING, message.id)
    record = row(message.id)
    assert (record.state, record.cancel_requested, record.finished_at) == ("RUNNING", True, None)


@pytest.mark.parametrize("state", sorted(FINAL))
def test_what_has_ended_cannot_be_cancelled(state: State) -> None:
    task_id = put_in(state)
    before = columns(task_id)
    assert not operate.cancel(USING, task_id)
    assert columns(task_id) == before


def test_what_does_not_exist_cannot_be_cancelled() -> None:
    assert not operate.cancel(USING, "0190a0a0-0000-7000-8000-000000000000")


# --- workers


def make_worker(worker_id: str = ANNE, lease: float = 30.0) -> None:
    workers.register(
        USING,
        WorkerRecord(
            id=worker_id, name="anne", hostname="host", pid=1, backends="default", queues="*", slots=1, lease=lease
        ),
    )


def silence(worker_id: str, seconds: float) -> None:
    WorkerRecord.objects.filter(pk=worker_id).update(heartbeat_at=ago(seconds))


def test_a_worker_is_alive_from_its_registration_to_its_end() -> None:
    make_worker()
    record = WorkerRecord.objects.get(pk=ANNE)
    assert is_recent(record.started_at)
    assert record.heartbeat_at == record.started_at
    silence(ANNE, 20)
    assert workers.heartbeat(USING, ANNE)
    assert is_recent(WorkerRecord.objects.get(pk=ANNE).heartbeat_at)
    workers.deregister(USING, ANNE)
    assert not workers.heartbeat(USING, ANNE)
    assert not WorkerRecord.objects.exists()


def test_a_worker_is_lost_when_its_own_lease_has_run_out() -> None:
    make_worker(ANNE, lease=30)
    make_worker(BERT, lease=300)
    lost, alive = put_and_take(ANNE), put_and_take(BERT)
    silence(ANNE, 25)
    silence(BERT, 250)
    assert workers.remove_lost(USING) == []
    silence(ANNE, 35)
    assert workers.remove_lost(USING) == [ANNE]
    assert [record.pk for record in WorkerRecord.objects.all()] == [BERT]
    assert not workers.heartbeat(USING, ANNE)
    # A removal that was cut short before its rescue: its tasks still name it.
    assert workers.remove_lost(USING) == [ANNE]
    assert workers.rescue(USING, ANNE) == (1, 0)
    assert workers.remove_lost(USING) == []
    assert (row(lost.id).state, row(alive.id).state) == ("READY", "RUNNING")


def test_a_worker_that_comes_while_the_lost_are_looked_for_is_not_among_them() -> None:
    put()
    came = False

    def come() -> None:
        nonlocal came
        came = True
        make_worker(BERT)
        assert len(take(1, BERT)) == 1

    with connection.execute_wrapper(interrupt(come)):
        assert workers.remove_lost(USING) == []
    assert came
    assert workers.remove_lost(USING) == []


def test_a_lost_workers_tasks_run_again() -> None:
    message = put_and_take(ANNE)
    mine = put_and_take(BERT)
    assert workers.rescue(USING, ANNE) == (1, 0)
    record = row(message.id)
    assert (record.state, record.losses, record.attempt, record.worker_id) == ("READY", 1, 1, "")
    (error,) = AttemptError.parse(record.errors)
    assert error.exception_class_path == class_path(WorkerLost) == "django_taskq.exceptions.WorkerLost"
    assert ANNE in error.message
    assert (error.attempt, error.worker) == (1, ANNE)
    assert finish(USING, [end(message)]) == {}
    assert row(mine.id).state == "RUNNING"
    again = take_one(BERT)
    assert (again.attempt, again.losses, again.failures) == (2, 1, 0)


def test_a_task_that_must_not_run_twice_fails_with_its_worker() -> None:
    message = put_and_take(acks_late=False)
    assert workers.rescue(USING, ANNE) == (0, 1)
    record = row(message.id)
    assert (record.state, record.losses) == ("FAILED", 1)
    assert is_recent(record.finished_at)
    (error,) = AttemptError.parse(record.errors)
    assert error.exception_class_path == "django_taskq.exceptions.WorkerLost"
    assert "acks_late=False" in error.message


def test_a_task_that_kills_its_workers_is_set_aside_at_max_deliveries() -> None:
    task_id = put(max_deliveries=3)
    ends = []
    for _ in range(3):
        take_one()
        ends.append(workers.rescue(USING, ANNE))
    assert ends == [(1, 0), (1, 0), (0, 1)]
    record = row(task_id)
    assert (record.state, record.losses, record.attempt) == ("FAILED", 3, 3)
    errors = AttemptError.parse(record.errors)
    assert [error.attempt for error in errors] == [1, 2, 3]
    assert "max_deliveries=3" in errors[-1].message
    assert record.worker_ids == f"{ANNE}\n" * 3


def test_what_a_lost_worker_had_not_begun_is_given_back_uncounted() -> None:
    begun, waiting = put_and_take(), put_and_take()
    assert workers.rescue(USING, ANNE, started={begun.id}) == (2, 0)
    assert (row(begun.id).losses, row(begun.id).attempt) == (1, 1)
    assert (row(waiting.id).losses, row(waiting.id).attempt, row(waiting.id).errors) == (0, 0, "")
    assert row(waiting.id).state == "READY"


def test_what_a_worker_did_not_die_of_is_given_back_uncounted() -> None:
    guilty, beside, once, waiting = put_and_take(), put_and_take(), put_and_take(acks_late=False), put_and_take()
    asked = put_and_take()
    operate.cancel(USING, asked.id)
    begun = {guilty.id, beside.id, once.id, asked.id}
    assert workers.rescue(USING, ANNE, started=begun, suspects={guilty.id}) == (4, 1)
    found = [row(one.id) for one in (guilty, beside, waiting, once, asked)]
    assert [(record.state, record.losses, record.attempt) for record in found] == [
        ("READY", 1, 1),
        ("READY", 0, 0),
        ("READY", 0, 0),
        # It may have had its effect.
        ("FAILED", 1, 1),
        ("CANCELLED", 0, 0),
    ]
    assert [record.worker_ids for record in found[1:3]] == ["", ""]


def test_a_lost_task_that_was_cancelled_does_not_come_back() -> None:
    message = put_and_take()
    operate.cancel(USING, message.id)
    assert workers.rescue(USING, ANNE) == (1, 0)
    assert row(message.id).state == "CANCELLED"


def test_one_keeper_at_a_time() -> None:
    assert workers.elect(USING, ANNE, 30)
    assert workers.elect(USING, ANNE, 30)
    assert not workers.elect(USING, BERT, 30)
    (record,) = KeeperRecord.objects.all()
    assert record.holder == ANNE
    assert ahead(30 - SLACK) < record.expires_at < ahead(30 + SLACK)


def test_a_keeper_that_is_silent_is_replaced() -> None:
    workers.elect(USING, ANNE, 30)
    KeeperRecord.objects.update(expires_at=ago(1))
    assert workers.elect(USING, BERT, 30)
    assert not workers.elect(USING, ANNE, 30)


def test_a_keeper_that_resigns_is_replaced_at_once() -> None:
    workers.elect(USING, ANNE, 30)
    workers.resign(USING, BERT)
    assert not workers.elect(USING, BERT, 30)
    workers.resign(USING, ANNE)
    assert workers.elect(USING, BERT, 30)


# --- the table of moves


def test_every_move_that_happens_is_in_the_table() -> None:
    """Try every transition from every state; each change must be a legal move."""
    seen: set[tuple[State, State]] = set()
    for state in State:
        for act in (
            lambda task_id: take(10, BERT),
            lambda task_id: finish(USING, [End(id=task_id, claim=1, state=State.SUCCESSFUL)]),
            lambda task_id: finish(USING, [End(id=task_id, claim=1, state=State.FAILED)]),
            lambda task_id: finish(USING, [End(id=task_id, claim=1, state=State.SCHEDULED, delay=60.0)]),
            lambda task_id: release(USING, [Held(task_id, 1, 1, f"{ANNE}\n")]),
            lambda task_id: workers.rescue(USING, ANNE),
            lambda task_id: operate.cancel(USING, task_id),
            lambda task_id: promote_due(USING),
            lambda task_id: expire_overdue(USING),
        ):
            TaskRecord.objects.all().delete()
            task_id = put_in(state)
            TaskRecord.objects.update(run_after=ago(1))
            if act.__code__.co_names[0] == "expire_overdue":
                TaskRecord.objects.update(expires_at=ago(1))
            act(task_id)
            moved = State(row(task_id).state)
            if moved is not state:
                seen.add((state, moved))
    assert {(old, new) for old, new in seen if new not in MOVES[old]} == set()
    operators = {(old, State.READY) for old in FINAL}
    workflows = {(State.WAITING, State.READY), (State.WAITING, State.SCHEDULED)}
    by_request = {(State.RUNNING, State.CANCELLED)}
    assert {(old, new) for old, news in MOVES.items() for new in news} - seen <= operators | workflows | by_request


def test_the_databases_clock_is_in_utc() -> None:
    assert abs((database_now(USING) - now()).total_seconds()) < SLACK
    assert database_now(USING).utcoffset() == timedelta(0)
