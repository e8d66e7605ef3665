"""Transitions that meet: many connections at once, on every database. The header of the run names the seed."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError, connections, transaction
from django.db.models import F

from django_taskq import State
from django_taskq.core.call import Call
from django_taskq.core.message import Message
from django_taskq.core.states import FINAL
from django_taskq.database import database_now, is_conflict, retry_conflicts, tune_worker_connection
from django_taskq.models import KeeperRecord, TaskRecord
from django_taskq.transitions import operate, schedules, workers
from django_taskq.transitions.claim import Lanes, claim, claim_named
from django_taskq.transitions.due import expire_overdue, promote_due
from django_taskq.transitions.enqueue import insert_call
from django_taskq.transitions.finish import End, Held, finish, release, save_progress
from tests.contract.rows import NEW, USING, ahead, put, row

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds for all threads of a test to end.
DEADLINE = 60.0


def together(*jobs: Callable[[], Any]) -> list[Any]:
    """Run each in a thread and on a connection of its own, started at the same moment; give what they gave."""
    gate = threading.Barrier(len(jobs))

    def run(job: Callable[[], Any]) -> Any:
        try:
            tune_worker_connection(connections[USING])
            gate.wait(DEADLINE)
            return job()
        finally:
            connections[USING].close()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result(DEADLINE) for future in [pool.submit(run, job) for job in jobs]]


@pytest.mark.parametrize("named", [False, True], ids=["by lane", "by name"])
def test_no_two_workers_get_the_same_task(named: bool) -> None:
    lanes = Lanes(("default",), ("a", "b"))
    ids = [put(queue_name="ab"[index % 2], priority=index % 3) for index in range(300)]

    def work(worker: str) -> list[Message]:
        messages: list[Message] = []
        while some := (
            claim_named(USING, lanes, 7, worker, names={NEW.name}, wanted=True)
            if named
            else claim(USING, lanes, 7, worker)
        ):
            messages += some
        return messages

    taken = together(*(lambda name=name: work(name) for name in "abcdef"))
    assert sorted(message.id for messages in taken for message in messages) == ids
    assert {row(message.id).worker_id for message in taken[0]} <= {"a"}


def test_of_two_ends_of_one_attempt_one_counts() -> None:
    for _ in range(40):
        put()
    messages = claim(USING, Lanes(("default",)), 40, "a")
    success = [End(id=one.id, claim=one.claim, state=State.SUCCESSFUL, result="1") for one in messages]
    failure = [End(id=one.id, claim=one.claim, state=State.FAILED, error="x\n") for one in reversed(messages)]
    again = [End(id=one.id, claim=one.claim, state=State.READY, loss=1) for one in messages]
    gone = [End(id=one.id, claim=one.claim, state=State.SUCCESSFUL, keep_row=False) for one in reversed(messages)]
    written = together(*(lambda ends=ends: finish(USING, ends) for ends in (success, failure, again, gone)))
    counted = Counter(task_id for states in written for task_id in states)
    assert counted == dict.fromkeys((one.id for one in messages), 1)
    for task_id in (one.id for one in messages):
        record = TaskRecord.objects.filter(pk=task_id).first()
        state = next(states[task_id] for states in written if task_id in states)
        assert (record is None) is (task_id in written[3])
        if record is not None:
            assert record.state == state
            assert (record.result is not None) is (state is State.SUCCESSFUL)
            assert record.errors == ("x\n" if state is State.FAILED else "")
            assert record.losses == (state is State.READY)


def test_one_of_many_becomes_the_keeper() -> None:
    names = [f"worker-{number}" for number in range(8)]
    elected = together(*(lambda name=name: workers.elect(USING, name, 30) for name in names))
    assert elected.count(True) == 1
    assert KeeperRecord.objects.get().holder == names[elected.index(True)]


def test_several_that_loaded_their_code_at_once_find_one_leader() -> None:
    digests = [f"digest-{number}" for number in range(8)]
    started = database_now(USING)
    lead = together(
        *(lambda digest=digest: schedules.take_lead(USING, "default", digest, started) for digest in digests)
    )
    holder = KeeperRecord.objects.get().holder
    assert lead[digests.index(holder)]


def test_a_message_that_several_receive_at_once_becomes_one_row() -> None:
    call, task_id = Call(id=str(uuid4()), name=NEW.name, arguments="[[],{}]"), str(uuid4())
    made = together(*(lambda: insert_call(USING, NEW, task_id, call) for _ in range(8)))
    assert any(made)
    assert str(TaskRecord.objects.get().pk) == task_id


def test_a_task_that_another_transaction_holds_is_passed_over() -> None:
    """Where rows can be locked one by one; on SQLite there is one writer at a time, and claims wait for it."""
    first, second = put(), put()
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        if not connections[USING].features.has_select_for_update_skip_locked:
            holding.set()
            return
        with transaction.atomic():
            TaskRecord.objects.select_for_update().get(pk=first)
            holding.set()
            assert done.wait(DEADLINE)

    def take() -> list[str]:
        assert holding.wait(DEADLINE)
        try:
            return [message.id for message in claim(USING, Lanes(("default",)), 1, "a")]
        finally:
            done.set()

    can_lock = connections[USING].features.has_select_for_update_skip_locked
    assert together(hold, take)[1] == [second if can_lock else first]


class Story:
    """What the threads of a test did, told so that it can be compared with the rows."""

    def __init__(self, ids: list[str], seed: int) -> None:
        self.ids = ids
        self.seed = seed
        self.lock = threading.Lock()
        self.claims: Counter[str] = Counter()
        self.tokens: Counter[tuple[str, int]] = Counter()
        self.given_back: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.dead: set[str] = set()
        self.until = time.monotonic() + DEADLINE / 2

    def goes_on(self) -> bool:
        if time.monotonic() > self.until:
            raise TimeoutError(f"not all tasks have ended (seed {self.seed})")
        return TaskRecord.objects.unfinished().exists()

    def work(self, number: int) -> None:
        rng = random.Random(self.seed + number)
        lives = 0
        while self.goes_on():
            worker = f"worker-{number}-{lives}"
            lanes = Lanes(("default",), rng.choice([None, ("a",), ("a", "b")]))
            messages = claim(USING, lanes, rng.randint(1, 12), worker)
            with self.lock:
                self.claims.update(message.id for message in messages)
                self.tokens.update((message.id, message.claim) for message in messages)
            if not messages:
                continue
            match rng.randrange(5):
                case 0:
                    lives += 1
                    with self.lock:
                        self.dead.add(worker)
                case 1:
                    for message in messages:
                        held = Held(message.id, message.claim, message.attempt, message.worker_ids)
                        if release(USING, [held]):
                            with self.lock:
                                self.given_back[message.id] += 1
                case _:
                    save_progress(USING, [(message.id, message.claim, "{}") for message in messages[:2]])
                    self.note(finish(USING, [self.end(rng, message) for message in messages]))

    def end(self, rng: random.Random, message: Message) -> End:
        state = rng.choice([State.SUCCESSFUL, State.SUCCESSFUL, State.FAILED, State.READY, State.SCHEDULED])
        metadata = rng.choice([None, '{"a":1}'])
        return End(id=message.id, claim=message.claim, state=state, delay=0.001, error="x\n", metadata=metadata)

    def note(self, written: dict[str, State]) -> None:
        with self.lock:
            self.ends.update(task_id for task_id, state in written.items() if state.is_final)

    def rescue(self) -> None:
        while self.goes_on():
            with self.lock:
                dead = sorted(self.dead)
            for worker in dead:
                workers.rescue(USING, worker)

    def cancel(self) -> None:
        rng = random.Random(self.seed)
        while self.goes_on():
            operate.cancel(USING, rng.choice(self.ids))

    def keep_house(self, name: str) -> None:
        while self.goes_on():
            workers.elect(USING, name, 30)
            promote_due(USING)
            expire_overdue(USING)


def test_whatever_meets_each_task_ends_once_and_nothing_is_lost(rng: random.Random) -> None:
    seed = rng.randrange(2**32)
    ids = [
        put(
            queue_name=rng.choice("ab"),
            priority=rng.randrange(3),
            expires_at=ahead(0.2) if rng.random() < 0.1 else None,
        )
        for _ in range(200)
    ]
    story = Story(ids, seed)
    together(
        *(lambda number=number: story.work(number) for number in range(4)),
        story.rescue,
        story.cancel,
        lambda: story.keep_house("one"),
        lambda: story.keep_house("other"),
    )
    told = f"seed {seed}"
    assert max(story.tokens.values()) == 1, told
    assert not story.ends or max(story.ends.values()) == 1, told
    records = {str(record.pk): record for record in TaskRecord.objects.all()}
    assert sorted(records) == ids, told
    for task_id, record in records.items():
        assert record.state in FINAL, told
        assert record.finished_at is not None, told
        assert record.claim == story.claims[task_id], told
        assert record.attempt == story.claims[task_id] - story.given_back[task_id], told
        assert record.worker_ids.count("\n") == record.attempt, told
        if record.state == State.SUCCESSFUL:
            assert story.ends[task_id] == 1, told
        if record.state == State.EXPIRED:
            assert story.ends[task_id] == 0, told


# --- deadlocks


@pytest.mark.databases("postgres", "mariadb")  # SQLite has one lock
@pytest.mark.parametrize("in_transaction", [False, True], ids=["alone", "in a transaction of the caller's"])
def test_who_loses_a_deadlock_tries_again_unless_more_is_lost_than_its_own(in_transaction: bool) -> None:
    rows = [put(), put()]
    gate = threading.Barrier(2)
    tries: Counter[int] = Counter()

    def lock(number: int) -> None:
        tries[number] += 1
        with transaction.atomic(savepoint=False):
            for index, task_id in enumerate(rows[::-1] if number else rows):
                TaskRecord.objects.filter(pk=task_id).update(losses=F("losses") + 1)
                if index == 0 and max(tries.values()) == 1:
                    gate.wait(DEADLINE)

    def work(number: int) -> str:
        try:
            with transaction.atomic() if in_transaction else nullcontext():
                retry_conflicts(USING, lambda: lock(number))
        except OperationalError as error:
            return "lost" if is_conflict(error) else repr(error)
        return "done"

    ended = together(lambda: work(0), lambda: work(1))
    assert sorted(ended) == (["done", "lost"] if in_transaction else ["done", "done"])
    # Who tries again may meet the other one once more, and win.
    assert sum(tries.values()) == 2 if in_transaction else sum(tries.values()) >= 3
    assert {row(task_id).losses for task_id in rows} == {ended.count("done")}


def test_other_errors_are_not_tried_again() -> None:
    tries = []

    def work() -> None:
        tries.append(1)
        raise OperationalError("no such host")

    with pytest.raises(OperationalError, match="no such host"):
        retry_conflicts(USING, work)
    assert len(tries) == 1
