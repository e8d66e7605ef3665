"""What a worker makes of messages: of references that come twice, late or for nothing, and of tasks without rows."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import kombu
import pytest
from django.db import transaction

from django_taskq import State, control
from django_taskq.backend import TaskqBackend
from django_taskq.compat import task_backends
from django_taskq.core.message import Message
from django_taskq.core.paused import Paused
from django_taskq.core.wire import Call, encode_call, encode_reference
from django_taskq.keeper.outbox import Outbox
from django_taskq.models import TaskRecord
from django_taskq.transitions.due import promote_due
from django_taskq.worker.rows import row_id
from tests.contract.brokers import DEADLINE, MESSAGE_BROKERS, Broker, Worker, send, send_wire
from tests.contract.rows import ago, ahead, row
from tests.servers import shared_broker
from tests.taskapp.tasks import add, asleep, noop
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db(transaction=True)

AMQP = MESSAGE_BROKERS[0]
only_amqp = pytest.mark.parametrize("broker", [AMQP.parameter], indirect=True)
#: Those that keep what they were not told is done, over the end of the connection.
lasting = pytest.mark.parametrize("broker", [kind.parameter for kind in MESSAGE_BROKERS[:2]], indirect=True)


@pytest.fixture(params=[kind.parameter for kind in MESSAGE_BROKERS])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Return a broker of each kind that delivers messages."""
    kind = request.param
    return Broker(kind, request.getfixturevalue(kind.fixture) if kind.fixture else kind.url)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    """Return a function from an action to the log lines about it."""
    caplog.set_level(logging.INFO, "django_taskq.broker")
    return lambda action: [record.getMessage() for record in caplog.records if getattr(record, "action", "") == action]


def ids(messages: list[Message]) -> list[str]:
    return [message.id for message in messages]


def is_drained(worker: Worker) -> bool:
    drained: bool = worker.do(lambda consumer: consumer.is_drained())
    return drained


def unrecorded(**options: Any) -> str:
    return noop.using(record=False, **options).enqueue().id


def receive_one(worker: Worker) -> Message:
    """Receive the one message there is; it may have to be given back by somebody first."""
    (message,) = wait_until(worker.receive, DEADLINE, what="a message")
    return message


# --- references


def test_a_reference_that_comes_often_is_claimed_once(
    broker: Broker, worker: Worker, told: Callable[[str], list[str]]
) -> None:
    result = noop.enqueue()
    for _ in range(49):
        send_wire(broker, encode_reference(result.id))
    (message,) = worker.receive()
    assert (message.id, message.attempt) == (result.id, 1)
    assert worker.receive() == []
    assert is_drained(worker)
    assert len(told("message_dropped")) == 49


@pytest.mark.parametrize("state", [State.SCHEDULED, State.CANCELLED, State.SUCCESSFUL, State.FAILED, State.RUNNING])
def test_a_reference_to_a_task_that_is_not_ready_is_dropped(
    worker: Worker, told: Callable[[str], list[str]], state: State
) -> None:
    result = noop.enqueue()
    TaskRecord.objects.filter(pk=result.id).update(state=state, run_after=ahead(3600))
    assert worker.receive() == []
    assert is_drained(worker)
    assert told("message_dropped") == [
        f"A message from queue 'default' for task {result.id} was dropped: it is {state.value}."
    ]
    assert row(result.id).attempt == 0


def test_a_reference_to_an_expired_task_is_dropped(worker: Worker) -> None:
    result = noop.using(expires=3600).enqueue()
    TaskRecord.objects.filter(pk=result.id).update(expires_at=ago(1))
    assert worker.receive() == []
    assert is_drained(worker)
    assert row(result.id).state == "READY", "the keeper expires it"


def test_a_reference_to_no_task_is_set_aside_and_told_of_once(
    broker: Broker, worker: Worker, told: Callable[[str], list[str]]
) -> None:
    worker.receive()
    unknown = str(uuid4())
    send_wire(broker, encode_reference(unknown))
    assert worker.receive() == []
    assert is_drained(worker)
    assert told("message_refused") == [
        f"A message from queue 'default' was set aside: there is no task {unknown} here."
    ]


@pytest.mark.databases("postgres", "mariadb")
def test_a_task_whose_row_is_locked_comes_later(worker: Worker) -> None:
    result = noop.enqueue()
    with transaction.atomic():
        assert TaskRecord.objects.select_for_update().get(pk=result.id).state == "READY"
        assert worker.receive() == []
        assert not is_drained(worker)
    assert ids(wait_until(worker.receive, DEADLINE, what="the task")) == [result.id]
    assert row(result.id).attempt == 1


def test_two_workers_with_the_same_references_run_each_task_once(
    broker: Broker, make_worker: Callable[..., Worker]
) -> None:
    anne, bert = make_worker(), make_worker(worker_id="bert")
    results = noop.enqueue_many([()] * 20)
    for result in results:
        send_wire(broker, encode_reference(result.id))
    anne.tend()
    bert.tend()
    received: list[str] = []

    def all_received() -> bool:
        received.extend(ids(anne.receive(7)) + ids(bert.receive(7)))
        return len(received) >= 20

    wait_until(all_received, DEADLINE, what="all tasks")
    assert sorted(received + ids(anne.receive()) + ids(bert.receive())) == sorted(result.id for result in results)


def test_what_was_delivered_stays_when_the_database_goes(worker: Worker) -> None:
    worker.receive()
    result = noop.enqueue()
    wait_until(lambda: worker.do(lambda consumer: consumer.has_news()), DEADLINE, what="the delivery")
    worker.do(lambda consumer: consumer.disconnect())
    assert ids(worker.receive()) == [result.id]


def test_a_failing_database_costs_no_delivery(worker: Worker) -> None:
    worker.receive()
    results = noop.enqueue_many([()] * 5)
    wait_until(lambda: worker.do(lambda consumer: consumer.has_news()), DEADLINE, what="the deliveries")

    def fail_once(consumer: Any) -> None:
        claim, consumer._rows.claim = consumer._rows.claim, None
        with pytest.raises(TypeError):
            consumer.receive(100)
        consumer._rows.claim = claim

    worker.do(fail_once)
    assert ids(worker.receive()) == [result.id for result in results]


# --- who has no room


def test_a_worker_without_room_leaves_messages_to_others(make_worker: Callable[..., Worker]) -> None:
    anne, bert = make_worker(), make_worker(worker_id="bert")
    anne.receive()
    wanted = [noop.enqueue().id, unrecorded()]
    wait_until(lambda: anne.do(lambda consumer: consumer.has_news()), DEADLINE, what="a delivery to anne")
    anne.tend(-1)
    received: list[str] = []

    def got_both() -> bool:
        anne.tend(-1)
        received.extend(ids(bert.receive(2)))
        return len(received) == 2

    wait_until(got_both, DEADLINE, what="bert to get both")
    assert sorted(received) == sorted(wanted)
    anne.tend(-1)
    later = noop.enqueue().id
    assert ids(wait_until(bert.receive, DEADLINE, what="the next")) == [later]


@only_amqp
def test_a_given_prefetch_is_all_that_is_sent_ahead(broker: Broker, make_worker: Callable[..., Worker]) -> None:
    noop.enqueue_many([()] * 10)
    anne = make_worker(prefetch=3)
    anne.tend(100)
    wait_until(lambda: anne.do(lambda consumer: len(consumer._link.deliveries)) == 3, DEADLINE, what="3 deliveries")
    assert anne.do(lambda consumer: consumer.facts(["default"]))["default"] == (7, None, 1)


def test_closing_gives_back_what_nobody_took(make_worker: Callable[..., Worker]) -> None:
    anne, bert = make_worker(), make_worker(worker_id="bert")
    anne.receive()
    wanted = [noop.enqueue().id, unrecorded()]
    wait_until(lambda: anne.do(lambda consumer: len(consumer._link.deliveries)) == 2, DEADLINE, what="deliveries")
    anne.close()
    assert sorted(ids(bert.receive(2))) == sorted(wanted)


# --- tasks without rows


def test_a_task_without_a_row_comes_with_all_a_worker_needs(
    broker: Broker, make_worker: Callable[..., Worker], settings: Settings
) -> None:
    settings.TASKS = broker.tasks(queues={"mail": {}})
    worker = make_worker("mail,default")
    result = add.using(record=False, queue_name="mail", priority=3, metadata={"a": 1}, max_attempts=2).enqueue(
        1, right=2
    )
    (message,) = worker.receive()
    assert (message.id, message.name, message.queue_name) == (result.id, "tests.taskapp.tasks.add", "mail")
    assert (message.backend, message.priority, message.arguments) == ("default", 3, '[[1],{"right":2}]')
    assert message.metadata == '{"a":1}'
    assert (message.attempt, message.worker_ids, message.claim) == (1, "anne\n", -1)
    assert message.enqueued_at == result.enqueued_at
    assert worker.admit(message)
    assert not TaskRecord.objects.exists()


def test_what_is_settled_never_comes_again(make_worker: Callable[..., Worker]) -> None:
    anne, bert = make_worker(), make_worker(worker_id="bert")
    unrecorded()
    (message,) = anne.receive()
    assert anne.admit(message)
    anne.settle(message)
    anne.close()
    assert bert.receive() == []
    assert is_drained(bert)


def test_what_is_given_back_is_run_by_another_and_seen_from_then_on(
    broker: Broker, make_worker: Callable[..., Worker]
) -> None:
    anne, bert = make_worker(), make_worker(worker_id="bert")
    task_id = unrecorded(max_deliveries=2)
    (message,) = anne.receive()
    anne.give_back(message)
    anne.close()
    again = receive_one(bert)
    assert again.id == task_id
    if not broker.kind.marks_redelivered:
        assert not TaskRecord.objects.exists()
        return
    assert (again.id, again.attempt, again.delivery, again.worker_ids) == (task_id, 1, None, "bert\n")
    assert (row(task_id).state, row(task_id).max_deliveries, row(task_id).losses) == ("RUNNING", 2, 0)
    assert is_drained(bert)


@only_amqp
@pytest.mark.databases("postgres")
def test_what_became_a_row_runs_once_also_where_another_has_it_just_then(make_worker: Callable[..., Worker]) -> None:
    anne, bert = make_worker(), make_worker(worker_id="bert")
    task_id = unrecorded()
    (message,) = anne.receive()
    anne.do(lambda consumer: consumer._rows.adopt(message.delivery.call, "default"))
    anne.give_back(message)
    anne.close()
    with transaction.atomic():
        claimed = TaskRecord.objects.select_for_update().get(pk=task_id)
        assert bert.receive() == []
        # It has run, and its row goes.
        claimed.delete()
    assert bert.receive() == []
    assert is_drained(bert)
    assert not TaskRecord.objects.exists()


def test_what_is_given_back_with_acks_late_false_stays_without_a_row(make_worker: Callable[..., Worker]) -> None:
    anne, bert = make_worker(), make_worker(worker_id="bert")
    task_id = unrecorded(acks_late=False)
    (message,) = anne.receive()
    anne.give_back(message)
    anne.close()
    again = receive_one(bert)
    assert (again.id, again.attempt) == (task_id, 1)
    assert bert.admit(again)
    assert not TaskRecord.objects.exists()


@lasting
def test_what_may_run_once_is_acked_before_it_starts(make_worker: Callable[..., Worker]) -> None:
    anne, bert = make_worker(), make_worker(worker_id="bert")
    unrecorded(acks_late=False)
    (message,) = anne.receive()
    assert anne.admit(message)
    anne.do(lambda consumer: consumer._link.abandon())
    assert bert.receive() == []
    assert is_drained(bert)


@only_amqp
@pytest.mark.parametrize("acks_late", [True, False])
def test_what_a_lost_connection_brought_does_not_start(make_worker: Callable[..., Worker], *, acks_late: bool) -> None:
    anne, bert = make_worker(), make_worker(worker_id="bert")
    task_id = unrecorded(acks_late=acks_late)
    (message,) = anne.receive()
    anne.do(lambda consumer: consumer._link.abandon())
    assert not anne.admit(message)
    assert receive_one(bert).id == task_id


@only_amqp
def test_what_a_lost_connection_held_comes_again_as_a_row(make_worker: Callable[..., Worker]) -> None:
    anne, bert = make_worker(), make_worker(worker_id="bert")
    task_id = unrecorded()
    (message,) = anne.receive()
    anne.do(lambda consumer: consumer._link.abandon())
    # Its end comes too late to be acked, and does not disturb.
    anne.settle(message)
    again = receive_one(bert)
    assert (again.id, again.delivery, row(task_id).state) == (task_id, None, "RUNNING")


@pytest.mark.parametrize("broker", [MESSAGE_BROKERS[1].parameter], indirect=True)
def test_redis_hears_over_any_connection_what_became_of_a_message(make_worker: Callable[..., Worker]) -> None:
    anne, bert = make_worker(prefetch=10), make_worker(worker_id="bert")
    for number in range(5):
        unrecorded(priority=-number)
    ended, given_back, running = anne.receive(3)
    wait_until(lambda: anne.do(lambda consumer: len(consumer._link.deliveries)) == 2, DEADLINE, what="the rest")
    unstarted = anne.do(lambda consumer: [one.headers["id"] for one in consumer._link.deliveries])

    def break_connection(consumer: Any) -> None:
        link = consumer._link
        epoch = link._inbox.epoch
        shared_broker("redis").command("CLIENT", "KILL", "ID", str(link._ear._bulk._waiting_id))
        wait_until(lambda: link._inbox.epoch > epoch, DEADLINE, what="the link to notice")
        consumer.settle([ended])
        consumer.give_back([given_back])
        wait_until(lambda: link.is_connected, DEADLINE, what="the next connection")
        # What was not taken is back in the queue, and may come again here.
        consumer.tend(time.monotonic(), -1)

    anne.do(break_connection)
    assert anne.admit(running)
    anne.settle(running)
    anne.close()
    assert sorted(ids(bert.receive())) == sorted([given_back.id, *unstarted])


def test_a_task_without_a_row_that_has_expired_is_dropped(
    worker: Worker, broker: Broker, told: Callable[[str], list[str]]
) -> None:
    worker.receive()
    call = Call(id=str(uuid4()), name="tests.taskapp.tasks.noop", arguments="[[],{}]", expires=ago(1))
    send_wire(broker, encode_call(call))
    assert worker.receive() == []
    assert is_drained(worker)
    assert len(told("message_dropped")) == 1


def test_a_task_for_later_waits_in_a_row(worker: Worker, broker: Broker) -> None:
    worker.receive()
    due = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    # As Celery's producers send it: ids and moments are theirs to choose.
    call = Call(id="no uuid", name="tests.taskapp.tasks.noop", arguments="[[],{}]", eta=due)
    for _ in range(2):
        send_wire(broker, encode_call(call))
    assert worker.receive() == []
    assert is_drained(worker)
    record = TaskRecord.objects.get()
    assert (str(record.pk), record.state, record.run_after, record.attempt) == (row_id("no uuid"), "SCHEDULED", due, 0)


def test_tasks_without_rows_are_chosen_by_name(worker: Worker) -> None:
    coroutine, plain = asleep.using(record=False).enqueue(0), noop.using(record=False).enqueue()
    name = "tests.taskapp.tasks.asleep"
    assert ids(worker.receive(names={name})) == [plain.id]
    # More room than before: a slot of the other kind has come free.
    assert ids(worker.receive(200, names={name}, wanted=True)) == [coroutine.id]


def test_a_queue_that_workers_cannot_know_of_is_found_by_its_rows(
    make_worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No broker tells its queues, and neither settings nor tasks name this one."""
    monkeypatch.setattr("django_taskq.brokers.kombu.consumer._LOOK_FOR_QUEUES", 0.1)
    worker = make_worker()
    task_id = unrecorded(queue_name="invented")
    keeper = Outbox("default", [task_backends["default"]])  # type: ignore[list-item]  # TASKS has no others

    def received() -> list[Message]:
        keeper(time.monotonic())
        return worker.receive()

    (message,) = wait_until(received, DEADLINE, what="the task")
    assert (message.id, message.queue_name, message.delivery) == (task_id, "invented", None)


# --- the broker's side


def test_a_message_of_no_use_is_set_aside_and_told_of_once(
    broker: Broker, worker: Worker, told: Callable[[str], list[str]]
) -> None:
    worker.receive()
    send(broker, b"rubbish", content_type="application/json", content_encoding="utf-8")
    good = noop.enqueue()
    assert ids(worker.receive()) == [good.id]
    assert is_drained(worker)
    assert len(told("message_refused")) == 1


@only_amqp
def test_a_dead_letter_exchange_gets_what_is_set_aside(
    broker: Broker, make_worker: Callable[..., Worker], settings: Settings
) -> None:
    settings.TASKS = broker.tasks(
        exchanges={"shop.dead": {"type": "fanout"}},
        queues={
            "default": {"arguments": {"x-dead-letter-exchange": "shop.dead"}},
            "dead": {"exchange": "shop.dead"},
        },
        queue_defaults={},
    )
    worker = make_worker("default")
    worker.receive()
    send(broker, b"rubbish", content_type="application/json", content_encoding="utf-8")
    good = unrecorded()
    (message,) = worker.receive()
    worker.settle(message)
    assert message.id == good

    def dead() -> Any:
        return kombu.Queue("dead")(connection_.default_channel).get(no_ack=True)

    with kombu.Connection(broker.url) as connection_:
        letter = wait_until(dead, DEADLINE, what="the dead letter")
        assert (letter.body, letter.headers["x-death"][0]["reason"]) == ("rubbish", "rejected")
        assert dead() is None


@only_amqp
def test_a_queue_that_cannot_be_declared_keeps_nobody_from_the_others(
    broker: Broker, make_worker: Callable[..., Worker], caplog: pytest.LogCaptureFixture
) -> None:
    with kombu.Connection(broker.url) as connection:
        kombu.Queue("theirs", queue_arguments={"x-max-length": 7})(connection.default_channel).declare()
    worker = make_worker("theirs,ours")
    worker.tend()
    task_id = noop.using(queue_name="ours").enqueue().id
    received: list[str] = []

    def has_come() -> bool:
        worker.tend()
        received.extend(ids(worker.do(lambda consumer: consumer.receive(10))))
        return bool(received)

    wait_until(has_come, DEADLINE, what="the task in the other queue")
    assert received == [task_id]
    # The queues are declared in any order.
    wait_until(lambda: "Queue 'theirs' is not consumed" in caplog.text, DEADLINE, what="the word about the other queue")
    assert caplog.text.count("Queue 'theirs' is not consumed") == 1
    assert "broker failed" not in caplog.text


def test_a_task_for_later_is_published_when_it_is_due(worker: Worker, told: Callable[[str], list[str]]) -> None:
    result = noop.using(run_after=3600).enqueue()
    assert worker.receive() == []
    assert told("message_dropped") == []
    TaskRecord.objects.filter(pk=result.id).update(run_after=ago(1))
    assert promote_due("default") == 1
    Outbox("default", [task_backends["default"]])(time.monotonic())  # type: ignore[list-item]  # TASKS has no others
    assert ids(worker.receive()) == [result.id]


def test_a_broadcast_reaches_every_worker(
    broker: Broker, make_worker: Callable[..., Worker], settings: Settings
) -> None:
    settings.TASKS = broker.tasks(queues={"news": {"broadcast": True}}, queue_defaults={})
    workers = [make_worker("news", worker_id=name) for name in ("anne", "bert")]
    for worker in workers:
        worker.receive()
    task_id = unrecorded(queue_name="news")
    for worker in workers:
        (message,) = wait_until(worker.receive, DEADLINE, what="the news")
        assert (message.id, message.queue_name) == (task_id, "news")
        worker.settle(message)


def test_the_facts_of_a_queue_tell_what_waits(broker: Broker, make_worker: Callable[..., Worker]) -> None:
    idle = make_worker("slow", worker_id="idle")
    for name in ("mail", "mail", "slow"):
        noop.using(queue_name=name).enqueue()
    wait_until(
        lambda: (
            idle.do(lambda consumer: consumer.facts(["mail", "slow", "none"])).values()
            and [one.ready for one in idle.do(lambda consumer: consumer.facts(["mail", "slow", "none"])).values()]
            == [2, 1, 0]
        ),
        DEADLINE,
        what="the counts",
    )
    idle.receive(1)
    facts = idle.do(lambda consumer: consumer.facts(["mail", "slow"]))
    assert [(one.ready, one.consumers) for one in facts.values()] == (
        [(2, 0), (0, 1)] if broker.kind.counts_consumers else [(2, None), (0, None)]
    )


def pause(worker: Worker, *, queues: tuple[str, ...] = (), names: tuple[str, ...] = ()) -> None:
    """Have a worker leave these alone, as its process does."""
    paused = Paused(frozenset(queues), frozenset(names))
    worker.each(lambda consumer: consumer.pause(paused))


def test_what_is_paused_by_name_leaves_the_broker_and_comes_back_from_the_outbox(worker: Worker) -> None:
    publish = Outbox("default", [task_backends["default"]])  # type: ignore[list-item]  # TASKS has no others
    assert control.pause("default", "task", noop.module_path)
    pause(worker, names=(noop.module_path,))
    recorded, other = noop.enqueue(), add.enqueue(1, 2)
    unrecorded = noop.using(record=False).enqueue()
    assert ids(worker.receive()) == [other.id]
    assert is_drained(worker)
    waiting = sorted([recorded.id, unrecorded.id])
    assert sorted(str(pk) for pk in TaskRecord.objects.filter(state="READY").values_list("pk", flat=True)) == waiting
    # A keeper leaves them, for as long.
    publish(0.0)
    assert is_drained(worker)
    assert control.resume("default", "task", noop.module_path)
    pause(worker)
    publish(0.0)
    assert sorted(ids(worker.receive())) == waiting
    assert worker.receive() == []


def test_what_is_in_a_paused_queue_stays_at_the_broker(make_worker: Callable[..., Worker]) -> None:
    worker = make_worker("mail,default")
    first = noop.enqueue()
    assert ids(worker.receive()) == [first.id]
    pause(worker, queues=("default",))
    recorded, unrecorded = noop.enqueue(), noop.using(record=False).enqueue()
    other = noop.using(queue_name="mail").enqueue()
    assert ids(worker.receive()) == [other.id]
    assert row(recorded.id).attempt == 0
    pause(worker)
    found: list[str] = []

    def has_both() -> bool:
        # What came before the worker knew is still on its way back to the broker, where nobody sees it.
        found.extend(ids(worker.receive()))
        return sorted(found) == sorted([recorded.id, unrecorded.id])

    wait_until(has_both, DEADLINE, what="the tasks of the queue")


def test_a_queue_is_emptied_of_what_waits_in_it(make_worker: Callable[..., Worker]) -> None:
    backend = task_backends["default"]
    assert isinstance(backend, TaskqBackend)
    worker = make_worker("default")
    assert worker.receive() == []
    worker.close()
    for _ in range(3):
        noop.using(record=False).enqueue()
    assert control.purge_broker(backend, "default") == 3
    assert control.purge_broker(backend, "default") == 0
    assert control.purge_broker(backend, "never-made") == 0
    worker.open()
    assert worker.receive() == []


def test_a_broker_is_drained_when_nothing_waits_in_the_chosen_queues(make_worker: Callable[..., Worker]) -> None:
    worker = make_worker("mail")
    worker.close()
    assert not is_drained(worker), "who is not connected cannot know"
    worker.open()
    worker.receive()
    assert is_drained(worker)
    # From here on nothing is received.
    worker.tend(-1)
    wait_until(lambda: worker.do(lambda consumer: not consumer._link._consuming), DEADLINE, what="the end of it")
    noop.using(queue_name="slow").enqueue()
    assert is_drained(worker)
    noop.using(queue_name="mail").enqueue()
    assert not is_drained(worker)
    worker.receive()
    assert is_drained(worker)


def test_a_worker_that_comes_first_makes_its_queues(broker: Broker, make_worker: Callable[..., Worker]) -> None:
    worker = make_worker("mail,slow")
    worker.receive()
    send_wire(broker, encode_call(Call(id=str(uuid4()), name="tests.taskapp.tasks.noop", arguments="[[],{}]")), "slow")
    assert [message.queue_name for message in worker.receive()] == ["slow"]


# --- past the I/O thread


class Lane:
    """Takes up to ``room`` tasks."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken: list[Message] = []
        self.is_closed = False

    def has_room(self) -> bool:
        return len(self.taken) < self.room

    def is_moving(self) -> bool:
        return False

    def submit(self, message: Message) -> bool:
        if self.is_closed:
            return False
        self.taken.append(message)
        return True


def test_a_lane_gets_tasks_without_rows_for_which_it_has_room(
    broker: Broker, make_worker: Callable[..., Worker]
) -> None:
    lane = Lane(room=2)
    worker = make_worker(lane=lane)
    worker.receive()
    sent = [unrecorded() for _ in range(3)]
    wait_until(lambda: len(lane.taken) == 2, DEADLINE, what="the lane to be full")
    received = worker.receive()
    assert sorted(ids(lane.taken) + ids(received)) == sorted(sent)
    lane.room = 3
    worker.do(lambda consumer: consumer.hand_over())
    assert len(lane.taken) == 2, "nothing is left"
    worker.do(lambda consumer: [consumer.settle_soon(message) for message in lane.taken])
    worker.settle(*received)
    wait_until(lambda: is_drained(worker), DEADLINE, what="the broker to have nothing left")


def test_a_lane_gets_nothing_of_which_there_is_more_to_decide(
    broker: Broker, make_worker: Callable[..., Worker]
) -> None:
    lane = Lane(room=10)
    worker = make_worker(lane=lane)
    worker.receive()
    sent = [
        noop.enqueue().id,
        unrecorded(expires=timedelta(hours=1)),
        asleep.using(record=False).enqueue(0).id,
    ]
    send_wire(broker, encode_call(Call(id=str(uuid4()), name="os.system", arguments="[[1],{}]")))
    assert sorted(ids(worker.receive())) == sorted(sent)
    assert lane.taken == []


def test_what_a_lane_refuses_after_all_is_received(make_worker: Callable[..., Worker]) -> None:
    lane = Lane(room=10)
    lane.is_closed = True
    worker = make_worker(lane=lane)
    worker.receive()
    sent = unrecorded()
    assert ids(worker.receive()) == [sent]
