"""Deleting rows that have ended: only those, all of those, in batches, beside others who do the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from django_taskq.core.states import FINAL, State
from django_taskq.database import database_now
from django_taskq.models import TaskRecord
from django_taskq.retention import Rounds, Sweep
from django_taskq.transitions import prune
from django_taskq.transitions.prune import Finished, count_finished, delete_batches, finished_queues
from tests.factories import make_tasks

pytestmark = pytest.mark.django_db

USING = "default"


def ended(
    before: datetime | None = None,
    *,
    states: frozenset[State] = FINAL,
    queues: tuple[str, ...] | None = None,
    backends: tuple[str, ...] | None = None,
    **more: Any,
) -> Finished:
    return Finished(states=states, before=before or database_now(USING), queues=queues, backends=backends, **more)


def delete(which: Finished, batch_size: int = 1000) -> int:
    """Delete all, after making sure that the count says the same."""
    expected = count_finished(USING, which)
    deleted = sum(delete_batches(USING, which, batch_size))
    assert deleted == expected
    return deleted


@pytest.mark.parametrize("state", sorted(State))
def test_only_rows_in_a_final_state_go(state: State) -> None:
    # Even with a moment of an end, which only a row in a final state has: the state decides.
    make_tasks(3, state=state, ended_ago=60, finished_at=database_now(USING) - timedelta(seconds=60))

    assert delete(ended()) == (3 if state.is_final else 0)
    assert TaskRecord.objects.count() == (0 if state.is_final else 3)


@pytest.mark.parametrize("state", sorted(set(State) - FINAL))
def test_asking_for_a_state_that_is_not_final_is_refused(state: State) -> None:
    with pytest.raises(ValueError, match=f"{state} is not final"):
        ended(states=frozenset({State.FAILED, state}))


@pytest.mark.parametrize("state", sorted(FINAL))
def test_each_final_state_can_be_chosen(state: State) -> None:
    for one in sorted(FINAL):
        make_tasks(2, state=one)

    assert delete(ended(states=frozenset({state}))) == 2
    assert set(TaskRecord.objects.values_list("state", flat=True)) == FINAL - {state}


def test_what_ended_at_the_moment_goes_and_what_ended_later_stays() -> None:
    moment = database_now(USING) - timedelta(hours=1)
    at, later = (make_tasks(finished_at=moment + timedelta(microseconds=offset))[0] for offset in (0, 1))
    at_before = make_tasks(finished_at=moment - timedelta(microseconds=1))[0]

    assert delete(ended(moment)) == 2
    assert not TaskRecord.objects.filter(pk__in=[at.pk, at_before.pk]).exists()
    assert TaskRecord.objects.get().pk == later.pk


def test_queues_and_backends_are_compared_to_the_letter() -> None:
    for name in ("mail", "Mail", "mail ", "mäil", "mai%"):
        make_tasks(queue_name=name)
    make_tasks(queue_name="mail", backend="Default")

    assert delete(ended(queues=("mail",), backends=("default",))) == 1
    assert delete(ended(queues=("mai%", "mäil"))) == 2
    assert delete(ended(backends=("default",))) == 2
    assert TaskRecord.objects.get().backend == "Default"


def test_names_of_tasks_are_compared_to_the_letter_also_those_left_out() -> None:
    for name in ("shop.mail", "Shop.mail", "shop.mail ", "shop.%", "shop.mäil"):
        make_tasks(name=name)

    assert delete(ended(names=("shop.mail", "nobody"))) == 1
    assert delete(ended(other_names=("shop.%", "SHOP.MAIL"))) == 3
    assert TaskRecord.objects.get().name == "shop.%"
    assert delete(ended(names=("shop.%",), other_names=("shop.%",))) == 0


def test_what_ended_before_the_part_looked_at_stays() -> None:
    moment = database_now(USING) - timedelta(hours=1)
    for offset in (-1, 0, 1, 2):
        make_tasks(finished_at=moment + timedelta(microseconds=offset), name=str(offset))

    assert delete(ended(moment + timedelta(microseconds=1), after=moment)) == 1
    assert sorted(TaskRecord.objects.values_list("name", flat=True)) == ["-1", "0", "2"]


@pytest.mark.parametrize("nothing", [{"states": frozenset()}, {"queues": ()}, {"backends": ()}, {"names": ()}])
def test_choosing_none_deletes_none(nothing: dict[str, Any]) -> None:
    make_tasks(3)

    assert delete(ended(**nothing)) == 0
    assert finished_queues(USING, ended(**nothing)) == []
    assert TaskRecord.objects.count() == 3


def test_batches_have_the_size_asked_for_and_take_what_ended_first() -> None:
    for age in (50, 10, 40, 20, 30):
        make_tasks(2, ended_ago=age, name=str(age))

    batches = delete_batches(USING, ended(), 4)
    assert next(batches) == 4
    assert sorted(TaskRecord.objects.values_list("name", flat=True)) == ["10", "10", "20", "20", "30", "30"]
    assert list(batches) == [4, 2]


def test_more_rows_than_a_batch_takes_may_have_ended_at_one_moment() -> None:
    moment = database_now(USING) - timedelta(seconds=5)
    make_tasks(7, finished_at=moment)
    make_tasks(2, finished_at=moment, queue_name="other")

    assert delete(ended(queues=("default",)), batch_size=2) == 7
    assert TaskRecord.objects.count() == 2


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_has_at_least_one_row(batch_size: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        next(delete_batches(USING, ended(), batch_size))


def test_queues_of_finished_rows_are_those_of_the_rows_meant() -> None:
    for name in ("b", "a", "B", "b"):
        make_tasks(queue_name=name, ended_ago=60)
    make_tasks(queue_name="waiting", state=State.READY)
    make_tasks(queue_name="failed", state=State.FAILED)
    make_tasks(queue_name="fresh")

    moment = database_now(USING) - timedelta(seconds=30)
    assert finished_queues(USING, ended(moment, states=FINAL - {State.FAILED})) == ["B", "a", "b"]


def test_rounds_take_what_ends_between_them_and_leave_what_they_have_seen_unread() -> None:
    rounds = Rounds()
    make_tasks(3, ended_ago=3600, name="brief")
    make_tasks(500, ended_ago=3600, name="long")

    def one_round(now: float) -> int:
        which = ended(database_now(USING) - timedelta(seconds=60), names=("brief",))
        return sum(rounds.carry_out([Sweep(using=USING, which=which)], 100, now))

    assert one_round(0.0) == 3
    make_tasks(2, ended_ago=61, name="brief")
    # Somebody had locked it when it was its turn.
    make_tasks(1, ended_ago=3600, name="brief")
    assert one_round(60.0) == 2
    assert one_round(120.0) == 0
    assert one_round(90_000.0) == 1
    assert TaskRecord.objects.count() == 500


def _conflict() -> OperationalError:
    error = OperationalError("deadlock")
    error.__cause__ = Exception(1213, "Deadlock found when trying to get lock")
    return error


class Conflicting:
    """The first tries lose to another transaction."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.batch = prune._delete_batch

    def __call__(self, *args: Any) -> tuple[int, Any]:
        if self.left:
            self.left -= 1
            raise _conflict()
        return self.batch(*args)


@pytest.mark.django_db(transaction=True)
def test_a_batch_that_lost_a_deadlock_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    make_tasks(3)
    monkeypatch.setattr(prune, "_delete_batch", Conflicting(2))

    assert delete(ended()) == 3


@pytest.mark.django_db(transaction=True)
def test_inside_the_callers_transaction_nothing_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    make_tasks(3)
    monkeypatch.setattr(prune, "_delete_batch", Conflicting(1))

    with pytest.raises(OperationalError), transaction.atomic():
        delete(ended())
    assert TaskRecord.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_every_batch_is_committed_before_the_next_one_starts() -> None:
    make_tasks(5)

    seen = []
    for _ in delete_batches(USING, ended(), 2):
        assert not connection.in_atomic_block
        seen.append(in_a_thread(TaskRecord.objects.count))
    assert seen == [3, 1, 0]


def in_a_thread(work: Any) -> Any:
    """Run on a connection of its own, as another process would."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(work())
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert results, "it failed, or still waits"
    return results[0]


@contextmanager
def locked(rows: Any) -> Iterator[None]:
    """Let another transaction hold these rows."""
    is_locked, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                # Whole rows: for keys alone MariaDB reads a secondary index of a small table, and locks all of it.
                assert list(rows.select_for_update())
                is_locked.set()
                may_end.wait(60)
        finally:
            connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    assert is_locked.wait(60)
    try:
        yield
    finally:
        may_end.set()
        thread.join(60)


@pytest.mark.databases("postgres", "mariadb")
@pytest.mark.django_db(transaction=True)
def test_rows_that_another_transaction_holds_are_passed_over() -> None:
    held = make_tasks(2, ended_ago=60)
    make_tasks(3)

    with locked(TaskRecord.objects.filter(pk__in=[record.pk for record in held])):
        assert sum(delete_batches(USING, ended(), 2)) == 3
    assert delete(ended()) == 2


@pytest.mark.django_db(transaction=True)
def test_several_at_once_delete_every_row_once_and_never_undo_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "retry_conflicts", lambda using, work: work())
    make_tasks(400)
    which = ended()
    counts: list[int] = []
    start = threading.Barrier(4)

    def run() -> None:
        try:
            start.wait(60)
            counts.append(sum(delete_batches(USING, which, 10)))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    counts.append(delete(which))
    assert len(counts) == 5
    assert sum(counts) == 400
    assert not TaskRecord.objects.exists()


@pytest.mark.parametrize("states", [FINAL, frozenset({State.FAILED}), FINAL - {State.FAILED}])
@pytest.mark.parametrize("seconds", [None, 60.0])
def test_the_statements_use_the_index_on_the_end(states: frozenset[State], seconds: float | None) -> None:
    make_tasks(50)
    after = None if seconds is None else database_now(USING) - timedelta(seconds=seconds)
    which = ended(states=states, queues=("default",), backends=("default",), other_names=("other",), after=after)
    with CaptureQueriesContext(connection) as queries:
        count_finished(USING, which)
        delete_batches_of = delete_batches(USING, which, 10)
        next(delete_batches_of, 0)
    statements = [query["sql"] for query in queries if "finished_at <=" in query["sql"]]
    assert len(statements) >= 2
    for statement in statements:
        assert "taskq_finished" in _plan(statement), statement


def _plan(statement: str) -> str:
    """What the database would do; PostgreSQL is told that reading a small table in full is not cheap."""
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
        elif connection.vendor == "mysql":
            # Which one it takes depends on its statistics; that it can is what we control.
            statement = statement.replace(
                "django_taskq_task WHERE", "django_taskq_task FORCE INDEX (taskq_finished) WHERE"
            )
        explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
        cursor.execute(f"{explain} {statement}")
        return "\n".join(str(row) for row in cursor.fetchall())
