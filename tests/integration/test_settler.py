"""The ends of tasks without rows, where something around them fails: no outcome is lost, and none counts twice."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from django.db import DataError, OperationalError

from django_taskq import State
from django_taskq.core.message import Message
from django_taskq.core.outcome import AttemptError, Outcome
from django_taskq.core.topology import Queue, Topology
from django_taskq.core.wire import MAX_BODY, Call, Reference, decode
from django_taskq.models import TaskRecord
from django_taskq.worker.replies import Replies
from django_taskq.worker.unrecorded import Settler
from tests.contract.rows import row

pytestmark = [pytest.mark.django_db, pytest.mark.databases("sqlite", "postgres")]

ID = "0198b0d2-6f0c-7c1e-9b1e-5d0a1f6c2b7e"
CALLER = "55ea798a-8c55-3762-845a-0aaad4c617ba"
CALL = Call(id=ID, name="tests.taskapp.tasks.noop", arguments="[[1],{}]")
DONE = Outcome(state=State.SUCCESSFUL, result="1")
AGAIN = Outcome(state=State.READY, error=AttemptError.of(ValueError("no")))
LATER = replace(AGAIN, state=State.SCHEDULED, delay=60.0)


class Consumer:
    """Notes what it is told of messages."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def settle(self, messages: list[Message]) -> None:
        self.told += ["settle" for _ in messages]

    def reject(self, messages: list[Message]) -> None:
        self.told += ["reject" for _ in messages]

    def give_back(self, messages: list[Message]) -> None:
        self.told += ["give back" for _ in messages]


class Publisher:
    """Notes what is published, and takes it or not."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.is_down = False

    def publish(self, outgoing: list[Any]) -> list[bool]:
        if not self.is_down:
            self.taken += outgoing
        return [not self.is_down for _ in outgoing]

    def post(self, outgoing: list[Any], done: Callable[[list[bool]], None]) -> None:
        done(self.publish(outgoing))


class Rig:
    """A settler with tasks that have ended."""

    def __init__(self, **queues: Any) -> None:
        self.consumer, self.publisher = Consumer(), Publisher()
        config = SimpleNamespace(topology=Topology(**queues))
        backend: Any = SimpleNamespace(config=config, publisher=self.publisher, database="default", alias="default")
        backend.replier = lambda queue_name: self.publisher
        self.replies = Replies(lambda alias: backend, lambda: None)
        self.settler = Settler(lambda alias: backend, self.replies)

    def add(self, outcome: Outcome, call: Call = CALL, **changes: Any) -> None:
        """Let a task end."""
        now = datetime.now(UTC)
        message = Message(
            id=call.id,
            name=call.name,
            queue_name="default",
            backend="default",
            priority=0,
            arguments=call.arguments,
            options="",
            metadata="",
            errors="",
            worker_ids="anne\n",
            attempt=1,
            claim=-1,
            losses=0,
            acks_late=True,
            enqueued_at=now,
            run_after=None,
            started_at=now,
            last_attempted_at=now,
            expires_at=None,
            delivery=SimpleNamespace(consumer=self.consumer, call=call),
        )
        work: Any = SimpleNamespace(message=replace(message, **changes), is_answered=None, is_told=False, on_told=None)
        self.replies.answer(work, outcome)
        self.settler.add(work, outcome, worker_id="anne")

    def settle(self) -> int:
        """Settle; return how many were settled."""
        return len(list(self.settler.settle()))

    def calls(self) -> list[Call]:
        """Return the calls that were published."""
        found: list[Call | Reference] = [
            decode(
                one.wire.body,
                content_type=one.wire.properties["content_type"],
                content_encoding=one.wire.properties["content_encoding"],
                headers=one.wire.headers,
                properties=one.wire.properties,
            )
            for one in self.publisher.taken
            if not one.reply
        ]
        return [one for one in found if isinstance(one, Call)]


def test_a_task_that_succeeded_is_acked() -> None:
    rig = Rig()
    rig.add(DONE)
    assert (rig.settle(), rig.consumer.told, rig.publisher.taken) == (1, ["settle"], [])
    assert rig.settler.is_empty()


def test_a_task_that_gave_up_is_set_aside() -> None:
    rig = Rig()
    rig.add(replace(AGAIN, state=State.FAILED, is_rejected=True))
    rig.add(replace(AGAIN, state=State.FAILED))
    assert rig.settle() == 2
    assert sorted(rig.consumer.told) == ["reject", "settle"]


def test_a_task_that_did_not_start_is_given_back() -> None:
    rig = Rig()
    rig.add(Outcome(state=State.READY, is_unstarted=True))
    assert (rig.settle(), rig.consumer.told, rig.publisher.taken) == (1, ["give back"], [])
    assert not TaskRecord.objects.exists()


def test_another_attempt_at_once_is_published_then_acked() -> None:
    rig = Rig()
    rig.add(AGAIN)
    assert (rig.settle(), rig.consumer.told) == (1, ["settle"])
    (call,) = rig.calls()
    assert (call.retries, call.worker_ids, [error.message for error in AttemptError.parse(call.errors)]) == (
        1,
        "anne\n",
        ["no"],
    )
    assert not TaskRecord.objects.exists()


def test_another_attempt_has_a_row_where_every_worker_would_run_it() -> None:
    rig = Rig(queues={"default": Queue(name="default", exchange="default", broadcast=True)})
    rig.add(AGAIN)
    assert (rig.settle(), rig.publisher.taken, row(ID).state) == (1, [], "READY")


def test_another_attempt_has_a_row_where_it_waits_or_the_broker_is_down() -> None:
    rig = Rig()
    rig.add(LATER)
    assert (rig.settle(), rig.consumer.told, rig.publisher.taken) == (1, ["settle"], [])
    assert (row(ID).state, row(ID).attempt, row(ID).worker_ids) == ("SCHEDULED", 1, "anne\n")
    TaskRecord.objects.all().delete()
    rig.publisher.is_down = True
    rig.add(AGAIN)
    assert (rig.settle(), row(ID).state) == (1, "READY")


def test_metadata_that_no_header_holds_goes_to_a_row() -> None:
    rig = Rig()
    rig.add(replace(AGAIN, metadata='{"a":"' + "x" * 60_000 + '"}'))
    assert (rig.settle(), rig.consumer.told, rig.publisher.taken) == (1, ["settle"], [])
    assert len(row(ID).metadata) > 60_000


def test_a_database_that_is_away_holds_up_nothing_else_and_nothing_is_done_twice() -> None:
    rig = Rig()
    rig.add(LATER)
    rig.add(replace(DONE, result="2"), replace(CALL, id="other", reply_to=CALLER))
    rig.add(AGAIN, replace(CALL, id="third"))
    with mock.patch("django_taskq.worker.unrecorded.insert_call", side_effect=OperationalError("away")):
        for _ in range(5):
            with pytest.raises(OperationalError):
                rig.settle()
    assert rig.consumer.told == ["settle", "settle"]
    assert [one.reply for one in rig.publisher.taken] == [True, False]
    assert not rig.settler.is_empty()
    assert rig.settle() == 1
    assert row(ID).state == "SCHEDULED"
    assert len(rig.publisher.taken) == 2


def test_a_row_that_no_database_takes_is_given_up_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.add(LATER)
    with mock.patch("django_taskq.worker.unrecorded.insert_call", side_effect=DataError("too long")):
        for _ in range(2):
            with pytest.raises(DataError):
                rig.settle()
        assert rig.settle() == 1
    assert [record.levelno for record in caplog.records if "is given up" in record.getMessage()] == [logging.ERROR]
    assert rig.consumer.told == ["settle"]


def test_nobody_is_answered_in_a_queue_of_tasks(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    for reply_to in ("default", f"{CALLER}\n", CALLER.upper(), f"x{CALLER}"):
        rig.add(DONE, replace(CALL, reply_to=reply_to))
    assert rig.settle() == 4
    assert rig.publisher.taken == []
    assert caplog.text.count("nobody is answered") == 4


def test_a_caller_hears_of_a_result_that_no_message_holds() -> None:
    rig = Rig()
    rig.add(replace(DONE, result='"' + "x" * MAX_BODY + '"'), replace(CALL, reply_to=CALLER))
    assert rig.settle() == 1
    (reply,) = rig.publisher.taken
    assert b'"status":"FAILURE"' in reply.wire.body


def test_an_answer_is_offered_again_to_a_broker_that_did_not_take_it() -> None:
    rig = Rig()
    rig.publisher.is_down = True
    rig.add(DONE, replace(CALL, reply_to=CALLER))
    # The task is not this process's any more, but its delivery is held for as long as the answer is.
    assert (rig.settle(), rig.consumer.told, rig.publisher.taken) == (1, [], [])
    assert not rig.settler.is_empty()
    rig.publisher.is_down = False
    now = time.monotonic()
    rig.replies.go_on(now, is_leaving=False)
    assert rig.publisher.taken == []
    due = rig.replies.due_in(now)
    assert due is not None
    rig.replies.go_on(now + due, is_leaving=False)
    rig.settle()
    assert ([one.queue_name for one in rig.publisher.taken], rig.consumer.told) == ([CALLER], ["settle"])
    assert rig.settler.is_empty()
    assert rig.replies.due_in(now) is None


@pytest.mark.parametrize("is_leaving", [True, False])
def test_an_answer_that_no_broker_takes_holds_its_task_for_a_while_only(
    is_leaving: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig()
    rig.publisher.is_down = True
    rig.add(DONE, replace(CALL, reply_to=CALLER))
    rig.settle()
    rig.replies.go_on(time.monotonic() + (0 if is_leaving else 60), is_leaving=is_leaving)
    rig.settle()
    assert rig.consumer.told == ["settle"]
    assert rig.settler.is_empty()
    assert "could not be answered" in caplog.text
