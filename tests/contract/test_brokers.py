"""What a worker asks of a broker, of every implementation there is."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, connections, transaction

from django_taskq.brokers.base import Consumer
from django_taskq.core.message import Message
from django_taskq.database import CONNECTION_ERRORS
from tests.contract.brokers import DATABASE, DEADLINE, Broker, Worker
from tests.databases import chosen
from tests.taskapp.tasks import add, asleep, noop
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

only_database = pytest.mark.parametrize("broker", [DATABASE.parameter], indirect=True)


def ids(messages: list[Message]) -> list[str]:
    return [message.id for message in messages]


def publish(queue_name: str = "default", **options: Any) -> str:
    return noop.using(queue_name=queue_name, **options).enqueue().id


# --- receive


def test_nothing_is_received_when_there_is_nothing(worker: Worker) -> None:
    assert worker.receive() == []


def test_a_task_is_received_once_with_all_a_worker_needs(worker: Worker) -> None:
    result = add.using(queue_name="mail", priority=3, max_attempts=2, metadata={"a": 1}).enqueue(1, right=2)
    (message,) = worker.receive()
    assert (message.id, message.name, message.queue_name) == (result.id, "tests.taskapp.tasks.add", "mail")
    assert (message.backend, message.priority, message.arguments) == ("default", 3, '[[1],{"right":2}]')
    assert (message.options, message.metadata) == ('{"max_attempts":2}', '{"a":1}')
    assert (message.attempt, message.worker_ids) == (1, "anne\n")
    assert message.enqueued_at == result.enqueued_at
    assert worker.receive() == []


def test_tasks_are_received_by_priority_then_by_age(broker: Broker, worker: Worker) -> None:
    given = {priority: [publish(priority=priority) for _ in range(3)] for priority in (0, 50, -50)}
    wanted = given[50] + given[0] + given[-50]
    received = [ids(worker.receive(limit)) for limit in (4, 1, 100)]
    assert [len(some) for some in received] == [4, 1, 4]
    if broker.kind.has_priorities:
        assert received == [wanted[:4], wanted[4:5], wanted[5:]]
    else:
        assert sorted(itertools.chain(*received)) == sorted(wanted)


def test_who_asks_for_none_gets_none(worker: Worker) -> None:
    publish()
    assert worker.receive(0) == []


@pytest.mark.parametrize(
    ("queues", "received"),
    [
        ("*", ["mail", "mail-bulk", "slow", "default"]),
        ("mail", ["mail"]),
        ("slow,mail", ["mail", "slow"]),
        ("mail*", ["mail", "mail-bulk"]),
        ("-slow", ["mail", "mail-bulk", "default"]),
        ("mail*,-mail-bulk", ["mail"]),
        ("nothing", []),
        ("no*", []),
        ("mail,-mail", []),
    ],
)
def test_only_the_chosen_queues_are_served(
    make_worker: Callable[..., Worker], queues: str, received: list[str]
) -> None:
    worker = make_worker(queues)
    for name in ("mail", "mail-bulk", "slow", "default"):
        publish(name)
    assert sorted(message.queue_name for message in worker.receive()) == sorted(received)


def test_a_queue_that_turns_up_later_is_served(
    make_worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_taskq.brokers.kombu.consumer._LOOK_FOR_QUEUES", 0.1)
    worker = make_worker("mail*")
    assert worker.receive() == []
    task_id = publish("mail-of-tomorrow")
    assert ids(wait_until(worker.receive, DEADLINE, what="the task in the new queue")) == [task_id]


def test_only_the_chosen_backends_are_served(broker: Broker, make_worker: Callable[..., Worker]) -> None:
    worker, both = make_worker(), make_worker(backends=("default", "other"), worker_id="bert")
    theirs = noop.using(backend="other").enqueue()
    if not broker.kind.has_addresses:
        # Aliases that share a broker share its queues.
        assert ids(worker.receive()) == [theirs.id]
        return
    assert worker.receive() == []
    ours = publish()
    worker.close()
    assert sorted(ids(both.receive())) == sorted([theirs.id, ours])


def test_names_are_left_out_or_the_only_ones(worker: Worker) -> None:
    coroutine, plain = asleep.enqueue(0), noop.enqueue()
    name = "tests.taskapp.tasks.asleep"
    assert ids(worker.receive(names={name})) == [plain.id]
    assert worker.receive(names={"tests.taskapp.tasks.add"}, wanted=True) == []
    assert worker.receive(names=(), wanted=True) == []
    # More room than before: a slot of the other kind has come free. What a broker was given back takes its time.
    found = wait_until(lambda: ids(worker.receive(200, names={name}, wanted=True)), DEADLINE, what="the coroutine")
    assert found == [coroutine.id]


def test_two_workers_never_get_the_same(make_worker: Callable[..., Worker], rng: random.Random) -> None:
    anne, bert = make_worker(worker_id="anne"), make_worker(worker_id="bert")
    wanted = [result.id for result in noop.enqueue_many([()] * 100)]
    received: dict[Worker, list[str]] = {anne: [], bert: []}

    def drain(worker: Worker, limits: list[int]) -> None:
        for limit in limits:
            received[worker] += ids(worker.receive(limit))

    threads = [
        threading.Thread(target=drain, args=(worker, [rng.randint(1, 5) for _ in range(50)] + [100]))
        for worker in (anne, bert)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert sorted(received[anne] + received[bert]) == wanted


# --- transactions


def test_what_is_not_committed_is_not_received(worker: Worker) -> None:
    with transaction.atomic():
        task_id = publish()
        if connection.vendor != "sqlite":  # there is one writer at a time, and to receive is to write
            assert worker.receive() == []
    assert ids(worker.receive()) == [task_id]


def test_what_was_rolled_back_is_not_received(worker: Worker) -> None:
    with transaction.atomic():
        publish()
        transaction.set_rollback(True)
    assert worker.receive() == []


# --- hints


def test_a_hint_comes_with_a_task_where_there_are_hints(worker: Worker) -> None:
    trusted_for = worker.do(lambda consumer: consumer.trusted_for)
    if trusted_for is None:
        assert worker.do(lambda consumer: consumer.filenos()) == []
        assert not worker.do(lambda consumer: consumer.drain_hints())
        return
    assert trusted_for > 0
    worker.receive()
    worker.drain_hints()
    assert worker.is_quiet()
    task_id = publish()
    assert worker.await_hint()
    assert worker.drain_hints()
    settles_in = worker.do(lambda consumer: consumer.settles_in)
    assert ids(wait_until(worker.receive, settles_in + 1, what="what the hint told of")) == [task_id]


def test_many_tasks_may_come_with_one_hint(worker: Worker) -> None:
    if worker.do(lambda consumer: consumer.trusted_for) is None:
        return
    worker.receive()
    worker.drain_hints()
    noop.enqueue_many([()] * 1_500)
    assert worker.await_hint()
    received = 0
    while received < 1_500:
        received += len(wait_until(lambda: worker.receive(500), DEADLINE, what="the next of them"))
    assert received == 1_500


def test_a_hint_comes_with_the_commit_not_before(worker: Worker) -> None:
    if worker.do(lambda consumer: consumer.trusted_for) is None:
        return
    worker.receive()
    worker.drain_hints()
    with transaction.atomic():
        publish()
        assert worker.is_quiet()
    assert worker.await_hint()


def test_there_is_news_when_something_was_published(worker: Worker) -> None:
    worker.receive()
    worker.do(lambda consumer: consumer.has_news())
    publish()
    wait_until(lambda: worker.do(lambda consumer: consumer.has_news()), DEADLINE, what="news")


# --- facts


@only_database
def test_the_facts_of_a_queue_count_what_waits_and_what_runs(worker: Worker) -> None:
    for name in ("mail", "mail", "slow"):
        publish(name)
    publish("mail", run_after=3600)
    noop.using(backend="other", queue_name="mail").enqueue()

    def counts() -> list[tuple[int | None, int | None]]:
        facts = worker.do(lambda consumer: consumer.facts(["mail", "slow", "none"]))
        return [(facts[name].ready, facts[name].unacked) for name in ("mail", "slow", "none")]

    assert counts() == [(2, 0), (1, 0), (0, 0)]
    worker.receive(1)
    assert counts() == [(1, 1), (1, 0), (0, 0)]


# --- connections


def test_a_consumer_can_be_closed_twice_and_opened_again(worker: Worker) -> None:
    worker.close()
    worker.close()
    task_id = publish()
    worker.open()
    assert ids(worker.receive()) == [task_id]


def kill_connection(worker: Worker) -> None:
    """Have the server end the worker's connection."""
    postgres = connection.vendor == "postgresql"
    own = "SELECT pg_backend_pid()" if postgres else "SELECT CONNECTION_ID()"

    def ask(consumer: Consumer) -> int:
        with connections[consumer.using].cursor() as cursor:
            cursor.execute(own)
            return int(cursor.fetchone()[0])

    with connection.cursor() as cursor:
        number = worker.do(ask)
        cursor.execute(f"SELECT pg_terminate_backend({number})" if postgres else f"KILL {number}")


def repeat(work: Callable[[], Any]) -> None:
    """Do it until it raises, as it must before the deadline: a server's last words come first."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        work()


@only_database
@pytest.mark.databases("postgres", "mariadb")
def test_a_lost_connection_is_an_error_and_a_new_one_works(worker: Worker) -> None:
    kill_connection(worker)
    with pytest.raises(CONNECTION_ERRORS):
        repeat(worker.receive)
    worker.close()
    task_id = publish()
    worker.open()
    assert ids(worker.receive()) == [task_id]


@only_database
@pytest.mark.databases("postgres")
def test_a_lost_connection_wakes_who_waits_for_hints(worker: Worker) -> None:
    worker.drain_hints()
    kill_connection(worker)
    assert worker.await_hint()
    with pytest.raises(CONNECTION_ERRORS):
        repeat(lambda: worker.do(lambda consumer: consumer.drain_hints()))


@only_database
def test_every_database_is_one_of_those_with_hints_or_without(worker: Worker) -> None:
    """So that the tests above don't pass on all of them for want of hints."""
    assert (worker.do(lambda consumer: consumer.trusted_for) is None) is (chosen() == "mariadb")
