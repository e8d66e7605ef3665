"""Operations on very many tasks: each task is acted on once, whatever happens in between."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest
from django.db import InterfaceError, OperationalError, connection, connections, transaction

from django_taskq import bulk, task
from django_taskq.bulk import CannotAsk, abort, ask, carry_on, work_off
from django_taskq.core.ids import millisecond_of
from django_taskq.core.states import State
from django_taskq.exceptions import OptionError
from django_taskq.finding.search import Search
from django_taskq.keeper.operations import Operations
from django_taskq.models import OperationRecord, TaskRecord
from django_taskq.signals import task_cancelled
from django_taskq.transitions import operations
from django_taskq.transitions.operations import forget_operations
from tests.factories import make_tasks, make_worker
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

USING = "default"
#: seconds for all threads of a test to end
DEADLINE = 60.0


@task(sensitive=["password"])
def login(user: str, password: str) -> None:
    """A task that has a secret."""


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "SLICE", 5)
    monkeypatch.setattr(bulk, "WINDOW", 7)


def asked(verb: str, search: Search | None = None, **given: Any) -> OperationRecord:
    return ask(USING, verb, search or Search(), token=uuid4().hex, **given)[0]


def now(operation: OperationRecord) -> OperationRecord:
    return OperationRecord.objects.get(pk=operation.pk)


def states() -> dict[str, int]:
    found: dict[str, int] = {}
    for one in TaskRecord.objects.values_list("state", flat=True):
        found[one] = found.get(one, 0) + 1
    return found


@pytest.mark.parametrize(
    ("verb", "given", "after", "reason"),
    [
        ("retry", {}, {"READY": 18, "SUCCESSFUL": 3, "RUNNING": 1}, "ready again"),
        ("cancel", {}, {"CANCELLED": 6, "FAILED": 12, "SUCCESSFUL": 3, "RUNNING": 1}, "cancelled"),
        ("discard", {}, {"READY": 6, "SUCCESSFUL": 3, "RUNNING": 1}, "deleted"),
        ("delete", {}, {"READY": 6, "RUNNING": 1}, "deleted"),
        ("requeue", {"parameters": {"to_queue": "slow", "priority": 3}}, None, "moved to slow and given priority 3"),
    ],
)
def test_everything_that_is_meant_is_done_once(
    verb: str, given: Any, after: dict[str, int] | None, reason: str
) -> None:
    for _ in range(3):
        make_tasks(2, state=State.READY)
        make_tasks(4, state=State.FAILED)
        make_tasks(1)
    make_worker()
    make_tasks(1, state=State.RUNNING)
    operation = asked(verb, **given)
    assert operation.state == "WAITING"
    wait_until(lambda: int(time.time() * 1000) > millisecond_of(operation.until), what="the next millisecond")
    make_tasks(2, state=State.FAILED, queue_name="later")
    assert work_off(USING) is False
    done = now(operation)
    assert (done.state, done.finished_at is not None, done.fraction) == ("DONE", True, 1.0)
    # What came later is left alone.
    assert TaskRecord.objects.filter(state="FAILED", queue_name="later").count() == 2
    TaskRecord.objects.filter(queue_name="later").delete()
    if after is None:
        assert set(TaskRecord.objects.filter(state="READY").values_list("queue_name", "priority")) == {("slow", 3)}
        assert done.reasons == {reason: 6, "left to a worker or a broker": 0} | done.reasons
    else:
        assert states() == after
    assert done.changed == sum(count for name, count in done.reasons.items() if name in {reason, "asked to stop"})
    assert done.seen == sum(done.reasons.values())


def test_only_what_is_searched_for_is_meant() -> None:
    meant: tuple[dict[str, Any], ...] = (
        {"name": "shop.Mail.send"},
        {"name": "shop.mail.send"},
        {"name": "shop.Mail.drop", "queue_name": "slow"},
        {"name": "shop.Mail.other", "fingerprint": "aa"},
    )
    rows = [make_tasks(1, state=State.FAILED, **fields)[0] for fields in meant]
    asked("retry", Search(prefix="shop.Mail", queue="default"))
    work_off(USING)
    assert [TaskRecord.objects.get(pk=row.pk).state for row in rows] == ["READY", "FAILED", "FAILED", "READY"]
    asked("discard", Search(group="0123456789abcdef", state="FAILED"))
    work_off(USING)
    assert states() == {"READY": 2}


def test_what_is_hidden_cannot_be_guessed_by_acting_on_it() -> None:
    error = '{"class":"shop.Broken","message":"no hunter22 and no é","traceback":"","attempt":1,"worker":"w","at":"2026-01-01T00:00:00+00:00"}\n'
    make_tasks(7, state=State.FAILED, name=f"{__name__}.login", arguments='[["ann","hunter22"],{}]', errors=error)
    guess = asked("retry", Search(error="hunter22", state="FAILED"))
    seen = asked("retry", Search(error="and no é", state="FAILED"))
    work_off(USING)
    assert (now(guess).state, now(guess).seen, now(seen).changed) == ("DONE", 0, 7)


@pytest.mark.parametrize(
    ("verb", "search"),
    [
        ("retry", Search(arguments=(("a", "1"),))),
        ("retry", Search(is_nothing=True)),
        ("retry", Search(state="RUNNING")),
        ("delete", Search(state="READY")),
    ],
)
def test_what_cannot_be_meant_is_refused(verb: str, search: Search) -> None:
    with pytest.raises(CannotAsk):
        asked(verb, search)
    with pytest.raises(OptionError):
        asked("requeue", parameters={"to_queue": "", "priority": None})
    assert not OperationRecord.objects.exists()


def test_a_page_that_is_sent_twice_asks_once() -> None:
    token = uuid4().hex
    found = together(*[lambda: ask(USING, "retry", Search(), token=token)] * 2)
    assert sorted(is_new for _, is_new in found) == [False, True]
    assert {operation.pk for operation, _ in found} == {OperationRecord.objects.get().pk}


def together(*jobs: Any) -> list[Any]:
    """Run each in a thread and on a connection of its own, started at the same moment."""
    gate = threading.Barrier(len(jobs))

    def run(job: Any) -> Any:
        try:
            gate.wait(DEADLINE)
            return job()
        finally:
            connections[USING].close()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result(DEADLINE) for future in [pool.submit(run, job) for job in jobs]]


@pytest.mark.parametrize("verb", ["retry", "discard"])
def test_two_keepers_at_once_do_each_task_once(verb: str) -> None:
    make_tasks(60, state=State.FAILED)
    operation = asked(verb)

    def keep() -> None:
        while carry_on(USING, operation.pk):
            continue

    together(keep, keep, keep)
    done = now(operation)
    reason = "ready again" if verb == "retry" else "deleted"
    assert (done.state, done.seen, done.changed, done.reasons) == ("DONE", 60, 60, {reason: 60})


def test_an_operation_and_an_operator_at_once_do_each_task_once() -> None:
    from django_taskq import control
    from django_taskq.selection import Selection

    make_tasks(40, state=State.FAILED)
    operation = asked("retry")
    _, report = together(
        lambda: work_off(USING), lambda: control.retry(USING, Selection(states=frozenset({State.FAILED})))
    )
    assert states() == {"READY": 40}
    assert now(operation).changed + report.changed == 40


class Crash(Exception):
    """The process is gone."""


@pytest.fixture(params=["before the change", "after the change", "after the cursor"])
def crash(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the third slice crash at one of its statements; the list counts slices."""
    slices: list[int] = []
    advance, hold = operations.advance, operations.hold

    def crashing_hold(*args: Any) -> Any:
        held = hold(*args)
        slices.append(1)
        if len(slices) == 3 and request.param == "before the change":
            raise Crash
        return held

    def crashing_advance(*args: Any, **kwargs: Any) -> None:
        if len(slices) == 3 and request.param == "after the change":
            raise Crash
        advance(*args, **kwargs)
        if len(slices) == 3 and request.param == "after the cursor":
            raise Crash

    monkeypatch.setattr(operations, "hold", crashing_hold)
    monkeypatch.setattr(operations, "advance", crashing_advance)
    return slices


def test_a_crash_between_any_two_statements_changes_nothing(crash: list[int]) -> None:
    make_tasks(30, state=State.FAILED)
    operation = asked("discard")
    assert carry_on(USING, operation.pk)
    assert carry_on(USING, operation.pk)
    with pytest.raises(Crash):
        carry_on(USING, operation.pk)
    at_crash = now(operation)
    # Its state, its counts and the rows say the same.
    assert (at_crash.state, at_crash.seen, at_crash.changed) == ("RUNNING", 10, 10)
    assert TaskRecord.objects.count() == 20
    assert work_off(USING) is False
    done = now(operation)
    assert (done.state, done.seen, done.reasons) == ("DONE", 30, {"deleted": 30})
    assert not TaskRecord.objects.exists()


def test_aborted_in_the_middle_it_ends_there() -> None:
    make_tasks(30, state=State.FAILED)
    operation = asked("retry")
    assert carry_on(USING, operation.pk)
    assert abort(USING, operation.pk)
    assert not abort(USING, operation.pk)
    assert not carry_on(USING, operation.pk)
    ended = now(operation)
    assert (ended.state, ended.changed, ended.finished_at is not None) == ("ABORTED", 5, True)
    assert 0.0 <= ended.fraction < 1.0
    assert states() == {"READY": 5, "FAILED": 25}
    waiting = asked("retry")
    assert abort(USING, waiting.pk)
    assert work_off(USING) is False
    assert now(waiting).seen == 0


@pytest.mark.parametrize("search", ['{"nobody": 1}', "[1", "[]", '"x"', "null"])
def test_one_that_cannot_go_on_fails_and_lets_others_pass(search: str) -> None:
    make_tasks(3, state=State.FAILED)
    bad, good = asked("discard"), asked("retry")
    OperationRecord.objects.filter(pk=bad.pk).update(search=search)
    assert work_off(USING) is False
    failed = now(bad)
    assert (failed.state, failed.finished_at is not None) == ("FAILED", True)
    assert failed.error
    assert (now(good).state, now(good).changed) == ("DONE", 3)


def test_a_database_that_is_gone_or_busy_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_tasks(3, state=State.FAILED)
    operation = asked("retry")
    duty = Operations(USING, is_hinted=True)

    def busy(*args: Any) -> None:
        raise OperationalError("database is locked")

    def gone(*args: Any) -> None:
        connection.close()
        raise InterfaceError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(bulk, "_slice", busy)
        assert 0.0 < duty(time.monotonic()) < 15.0
        assert "has to wait" in caplog.text
        patched.setattr(bulk, "_slice", gone)
        with pytest.raises(InterfaceError):
            duty(time.monotonic())
    connection.close()
    assert now(operation).state == "WAITING"
    assert duty(time.monotonic()) == 15.0
    assert now(operation).changed == 3


def test_receivers_hear_of_what_was_cancelled_and_do_not_hold_up_the_keeper() -> None:
    make_tasks(7, state=State.READY)
    heard: list[str] = []
    threads: set[str] = set()

    def hear(sender: Any, task_result: Any, **named: Any) -> None:
        heard.append(task_result.id)
        threads.add(threading.current_thread().name)

    task_cancelled.connect(hear)
    try:
        asked("cancel")
        work_off(USING)
        wait_until(lambda: len(heard) == 7, what="the signals")
    finally:
        task_cancelled.disconnect(hear)
    assert threads == {"taskq-signals"}
    assert sorted(heard) == sorted(str(pk) for pk in TaskRecord.objects.values_list("pk", flat=True))


def test_the_duty_takes_turns_and_looks_rarely_where_it_is_told() -> None:
    duty = Operations(USING, is_hinted=True)
    assert duty(time.monotonic()) >= 15.0
    assert Operations(USING, is_hinted=False)(time.monotonic()) == 2.0
    make_tasks(12, state=State.FAILED)
    operation = asked("retry")
    with patch("django_taskq.keeper.operations._TURN", 0.0):
        turns = 0
        while duty(time.monotonic()) == 0.0:
            turns += 1
    assert turns >= 2
    assert now(operation).changed == 12


def test_old_ones_are_forgotten() -> None:
    old, new, waiting = asked("retry"), asked("retry"), asked("retry")
    for one in (old, new):
        abort(USING, one.pk)
    OperationRecord.objects.filter(pk=old.pk).update(finished_at="2026-01-01T00:00:00+00:00")
    assert forget_operations(USING, 30 * 86_400.0) == 1
    assert set(OperationRecord.objects.values_list("pk", flat=True)) == {new.pk, waiting.pk}


def test_what_is_rolled_back_was_never_asked_for() -> None:
    make_tasks(3, state=State.FAILED)
    with transaction.atomic():
        asked("retry")
        transaction.set_rollback(True)
    assert work_off(USING) is False
    assert states() == {"FAILED": 3}
