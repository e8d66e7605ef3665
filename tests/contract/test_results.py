"""What a result store offers to who waits, of every implementation there is; and what a result makes of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, connections, transaction

from django_taskq import ResultTimeout, ResultUnavailable, State, TaskCancelled, TaskExpired, TaskFailed, TaskResult
from django_taskq.compat import TaskResultDoesNotExist, UpstreamResult
from django_taskq.core.outcome import AttemptError
from django_taskq.models import TaskRecord
from django_taskq.results import database as database_results
from django_taskq.results.base import Ended, ResultStore
from django_taskq.results.database import DatabaseResults
from django_taskq.transitions import operate
from django_taskq.transitions.claim import Lanes, claim
from django_taskq.transitions.due import expire_overdue
from django_taskq.transitions.finish import End, finish
from tests.contract.rows import USING, ago, now, put, statements
from tests.taskapp.tasks import add, noop
from tests.waiting import LATE, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

#: Stores by the scheme of their URL.
IMPLEMENTATIONS: dict[str, Callable[[], ResultStore]] = {"database": lambda: DatabaseResults(USING)}

#: Seconds until something that should happen has happened.
DEADLINE = 10.0
MISSING = "0190a0a0-0000-7000-8000-000000000000"


@pytest.fixture(params=IMPLEMENTATIONS)
def store(request: pytest.FixtureRequest) -> ResultStore:
    return IMPLEMENTATIONS[request.param]()


@pytest.fixture
def elsewhere() -> Iterator[Callable[..., Future[Any]]]:
    """Return a function that starts work in a thread of its own, on a connection of its own."""
    pool = ThreadPoolExecutor(64)

    def start(work: Callable[..., Any], *args: Any) -> Future[Any]:
        def run() -> Any:
            try:
                return work(*args)
            finally:
                connections.close_all()

        return pool.submit(run)

    yield start
    pool.shutdown()


@pytest.fixture(scope="module", autouse=True)
def _watchers_end() -> Iterator[None]:
    """The last connection is given back before the test database goes, not some seconds later."""
    yield
    for watcher in database_results._watchers.values():
        watcher.stop()
        watcher._stopped = False


def end(task_id: str | None = None, state: State = State.SUCCESSFUL, **more: Any) -> None:
    """Claim all there is and end this one, or all of them."""
    messages = claim(USING, Lanes(("default",)), 10_000, "worker")
    claims = dict(TaskRecord.objects.filter(state=State.RUNNING).values_list("pk", "claim"))
    assert messages or claims
    ends = [
        End(id=str(pk), claim=number, state=state, **more)
        for pk, number in claims.items()
        if task_id in (None, str(pk))
    ]
    assert len(finish(USING, ends)) == len(ends)


def row_of(ended: Ended) -> TaskRecord:
    assert isinstance(ended, TaskRecord)
    return ended


def ours(result: UpstreamResult) -> TaskResult:
    assert isinstance(result, TaskResult)
    return result


def is_waited_for(task_id: str) -> bool:
    """Whether somebody waits for this task in this process."""
    return any(task_id in watcher._waiting for watcher in database_results._watchers.values())


def await_waiter(task_id: str) -> None:
    wait_until(lambda: is_waited_for(task_id), DEADLINE, what="somebody to wait")


# --- waiting


@pytest.mark.parametrize("state", [State.SUCCESSFUL, State.FAILED, State.CANCELLED])
def test_what_has_ended_is_there_at_once(store: ResultStore, state: State) -> None:
    task_id = put()
    end(state=state, result='"value"')
    record = row_of(store.wait(task_id, 1))
    assert (str(record.pk), record.state, record.result) == (task_id, state, '"value"')
    assert record.finished_at is not None


@pytest.mark.parametrize("timeout", [None, DEADLINE])
def test_who_waits_is_told_of_the_end(
    store: ResultStore, elsewhere: Callable[..., Future[Any]], timeout: float | None
) -> None:
    task_id = put()
    waiting = elsewhere(store.wait, task_id, timeout)
    await_waiter(task_id)
    end(result="42")
    assert waiting.result(DEADLINE).result == "42"
    assert not is_waited_for(task_id)


def test_the_end_is_told_soon(store: ResultStore, elsewhere: Callable[..., Future[Any]]) -> None:
    def wait(task_id: str) -> float:
        store.wait(task_id, DEADLINE)
        return time.monotonic()

    delays = []
    for _ in range(5):
        task_id = put()
        waiting = elsewhere(wait, task_id)
        await_waiter(task_id)
        end()
        ended = time.monotonic()
        delays.append(waiting.result(DEADLINE) - ended)
    assert sorted(delays)[2] < 0.25


def test_a_retry_is_no_end(store: ResultStore, elsewhere: Callable[..., Future[Any]]) -> None:
    task_id = put()
    waiting = elsewhere(store.wait, task_id, DEADLINE)
    await_waiter(task_id)
    end(state=State.READY, error="x\n")
    end(state=State.SUCCESSFUL)
    assert waiting.result(DEADLINE).attempt == 2


def test_cancelling_is_an_end(store: ResultStore, elsewhere: Callable[..., Future[Any]]) -> None:
    task_id = put()
    waiting = elsewhere(store.wait, task_id, DEADLINE)
    await_waiter(task_id)
    operate.cancel(USING, task_id)
    assert waiting.result(DEADLINE).state == State.CANCELLED


def test_expiring_is_an_end(store: ResultStore, elsewhere: Callable[..., Future[Any]]) -> None:
    task_id = put(expires_at=ago(1))
    waiting = elsewhere(store.wait, task_id, DEADLINE)
    await_waiter(task_id)
    expire_overdue(USING)
    assert waiting.result(DEADLINE).state == State.EXPIRED


@pytest.mark.timing
@pytest.mark.parametrize("timeout", [0, 0.0, 0.3])
def test_nobody_waits_longer_than_the_timeout(store: ResultStore, timeout: float) -> None:
    task_id = put()
    start = time.monotonic()
    with pytest.raises(ResultTimeout, match=f"Task {task_id} did not finish within {timeout} s"):
        store.wait(task_id, timeout)
    assert timeout <= time.monotonic() - start < timeout + LATE
    assert not is_waited_for(task_id)


def test_after_a_timeout_one_can_wait_again(store: ResultStore) -> None:
    task_id = put()
    with pytest.raises(ResultTimeout):
        store.wait(task_id, 0)
    end()
    assert store.wait(task_id, DEADLINE).state == State.SUCCESSFUL


def test_a_task_that_is_not_there_is_not_waited_for(store: ResultStore) -> None:
    start = time.monotonic()
    with pytest.raises(TaskResultDoesNotExist):
        store.wait(MISSING, 60)
    assert time.monotonic() - start < DEADLINE


def test_a_task_that_goes_away_is_not_waited_for(store: ResultStore, elsewhere: Callable[..., Future[Any]]) -> None:
    task_id = put()
    waiting = elsewhere(store.wait, task_id, 60)
    await_waiter(task_id)
    TaskRecord.objects.all().delete()
    with pytest.raises(TaskResultDoesNotExist):
        waiting.result(DEADLINE)


def test_many_can_wait_for_one(store: ResultStore, elsewhere: Callable[..., Future[Any]]) -> None:
    task_id = put()
    waiting = [elsewhere(store.wait, task_id, DEADLINE) for _ in range(20)]
    wait_until(
        lambda: any(len(one._waiting.get(task_id, ())) == 20 for one in database_results._watchers.values()),
        DEADLINE,
        what="twenty to wait",
    )
    end(result="1")
    assert {one.result(DEADLINE).result for one in waiting} == {"1"}


def test_each_gets_its_own(store: ResultStore, elsewhere: Callable[..., Future[Any]]) -> None:
    ids = [put() for _ in range(60)]
    waiting = [elsewhere(store.wait, task_id, DEADLINE) for task_id in ids]
    for task_id in ids:
        await_waiter(task_id)
    for index in (*range(0, 60, 2), *range(1, 60, 2)):
        end(ids[index], result=str(index))
    assert [one.result(DEADLINE).result for one in waiting] == [str(index) for index in range(60)]


def test_who_waits_needs_no_connection_of_its_own(store: ResultStore, elsewhere: Callable[..., Future[Any]]) -> None:
    task_id = put()

    def wait() -> int:
        store.wait(task_id, DEADLINE)
        return sum(one.connection is not None for one in connections.all(initialized_only=True))

    waiting = [elsewhere(wait) for _ in range(5)]
    await_waiter(task_id)
    end()
    assert [one.result(DEADLINE) for one in waiting] == [0] * 5


def test_when_nobody_waits_any_more_the_connection_is_given_back(
    store: ResultStore, elsewhere: Callable[..., Future[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_results.DatabaseWatcher, "idle", 0.05)
    for _ in range(2):
        task_id = put()
        waiting = elsewhere(store.wait, task_id, DEADLINE)
        await_waiter(task_id)
        end()
        waiting.result(DEADLINE)
        wait_until(
            lambda: not [one for one in threading.enumerate() if one.name.startswith("taskq-results")],
            DEADLINE,
            what="the end of the thread that waits",
        )


@pytest.mark.databases("postgres", "mariadb")
def test_a_lost_connection_costs_a_moment(store: ResultStore, elsewhere: Callable[..., Future[Any]]) -> None:
    task_id = put()
    waiting = elsewhere(store.wait, task_id, DEADLINE)
    await_waiter(task_id)
    assert wait_until(kill_others, DEADLINE, what="the connection of the thread that waits")
    end(result="1")
    assert waiting.result(DEADLINE).result == "1"


def kill_others() -> int:
    """End all other connections to this database; give how many there were."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return len(cursor.fetchall())
        cursor.execute("SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()")
        numbers = [number for (number,) in cursor.fetchall()]
        for number in numbers:
            cursor.execute(f"KILL {number}")
        return len(numbers)


# --- awaiting


def test_awaiting_leaves_the_event_loop_free(store: ResultStore) -> None:
    ids = [put() for _ in range(200)]

    async def main() -> list[Ended]:
        awaited = [asyncio.ensure_future(store.await_(task_id, DEADLINE)) for task_id in ids]
        # What comes after this runs on the same loop.
        for task_id in ids:
            await asyncio.to_thread(await_waiter, task_id)
        await sync_to_async(end)(result="1")
        return await asyncio.gather(*awaited)

    assert [str(row_of(ended).pk) for ended in async_to_sync(main)()] == ids


@pytest.mark.timing
def test_awaiting_ends_with_its_timeout(store: ResultStore) -> None:
    task_id = put()
    start = time.monotonic()
    with pytest.raises(ResultTimeout):
        async_to_sync(store.await_)(task_id, 0.2)
    assert 0.2 <= time.monotonic() - start < 0.2 + LATE
    assert not is_waited_for(task_id)


def test_awaiting_what_is_not_there_ends_at_once(store: ResultStore) -> None:
    with pytest.raises(TaskResultDoesNotExist):
        async_to_sync(store.await_)(MISSING, 60)


def test_a_cancelled_await_leaves_nothing(store: ResultStore) -> None:
    task_id = put()

    async def main() -> None:
        awaited = asyncio.ensure_future(store.await_(task_id, None))
        await asyncio.to_thread(await_waiter, task_id)
        awaited.cancel()
        with pytest.raises(asyncio.CancelledError):
            await awaited

    async_to_sync(main)()
    assert not is_waited_for(task_id)
    end()
    assert store.wait(task_id, DEADLINE).state == State.SUCCESSFUL


# --- transactions


def test_inside_a_transaction_ones_own_end_is_seen(store: ResultStore) -> None:
    with transaction.atomic():
        task_id = put()
        end(result="1")
        assert store.wait(task_id, 1).result == "1"


def test_what_nobody_can_see_yet_is_not_waited_for(store: ResultStore) -> None:
    start = time.monotonic()
    with transaction.atomic():
        task_id = put()
        with pytest.raises(ResultUnavailable, match="has not been committed"):
            store.wait(task_id, 60)
        with pytest.raises(ResultUnavailable, match="has not been committed"):
            async_to_sync(store.await_)(task_id, 60)
    assert time.monotonic() - start < DEADLINE


@pytest.mark.databases("postgres", "mariadb")  # on SQLite a transaction is the one writer: nobody could end the task
def test_inside_a_transaction_one_can_wait_for_what_was_committed_before(
    store: ResultStore, elsewhere: Callable[..., Future[Any]]
) -> None:
    task_id = put()

    def wait() -> Ended:
        with transaction.atomic():
            # A read, so that the transaction has its snapshot: a repeatable read would show it for ever.
            assert TaskRecord.objects.get(pk=task_id).state == State.READY
            return store.wait(task_id, DEADLINE)

    waiting = elsewhere(wait)
    await_waiter(task_id)
    end()
    assert waiting.result(DEADLINE).state == State.SUCCESSFUL


# --- fork

#: The parent waits for a task when it forks; the child then waits for another, on its own, while the parent goes on.
_FORK = """
import json, os, sys, threading, time
import django
from django.conf import settings
settings.configure(**json.loads(sys.argv[1]))
django.setup()
from django.db import connections
from django_taskq.results import database
from django_taskq.results.database import DatabaseResults

mine, childs = sys.argv[2:]
store = DatabaseResults("default")
answers = []
threading.Thread(target=lambda: answers.append(store.wait(mine, 30).result)).start()
while not database._watchers or not database._watchers["default"]._waiting:
    time.sleep(0.01)
time.sleep(0.1)
pid = os.fork()
if pid == 0:
    try:
        connections.close_all()
        print("child", store.wait(childs, 30).result, flush=True)
    finally:
        os._exit(0)
_, status = os.waitpid(pid, 0)
print("ended", os.waitstatus_to_exitcode(status), flush=True)
while not answers:
    time.sleep(0.01)
print("parent", *answers, flush=True)
"""


def test_a_forked_child_waits_on_its_own_and_its_parent_goes_on(tmp_path: Path) -> None:
    mine, childs = put(), put()
    configuration = {
        "DATABASES": {"default": {key: connection.settings_dict[key] for key in _CONNECTION}},
        "INSTALLED_APPS": ["django.contrib.contenttypes", "django.contrib.auth", "django_taskq"],
        "TASKS": {"default": {"BACKEND": "django_taskq.TaskqBackend"}},
        "USE_TZ": True,
    }
    command = [sys.executable, "-W", "ignore", "-c", _FORK, json.dumps(configuration), mine, childs]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            end(childs, result='"for the child"')
            lines = [process.stdout.readline(), process.stdout.readline()]
            end(mine, result='"for the parent"')
            lines.append(process.stdout.readline())
        finally:
            process.kill()
        assert process.stderr is not None
        assert lines == ['child "for the child"\n', "ended 0\n", 'parent "for the parent"\n'], process.stderr.read()
        assert "database" not in process.stderr.read()


_CONNECTION = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT")


# --- what a result makes of it


def test_get_gives_the_value() -> None:
    result = add.enqueue(1, 2)
    end(result="3")
    assert result.get(timeout=1) == 3
    assert (result.state, result.return_value, result.is_finished) == (State.SUCCESSFUL, 3, True)
    with statements() as seen:
        assert result.get() == 3
    assert seen == []


def test_get_waits(elsewhere: Callable[..., Future[Any]]) -> None:
    result = add.enqueue(1, 2)
    waiting = elsewhere(result.get, DEADLINE)
    await_waiter(result.id)
    end(result="3")
    assert waiting.result(DEADLINE) == 3


def test_aget_gives_the_value() -> None:
    async def main() -> Any:
        result = ours(await add.aenqueue(1, 2))
        awaited = asyncio.ensure_future(result.aget(timeout=DEADLINE))
        await asyncio.to_thread(await_waiter, result.id)
        await sync_to_async(end)(result="3")
        return await awaited

    assert async_to_sync(main)() == 3


def test_a_failure_comes_as_text_and_is_not_rebuilt() -> None:
    result = noop.enqueue()
    error = AttemptError(exception_class_path="os.system", message="what happened", traceback="Traceback …\n")
    end(state=State.FAILED, error=error.line(attempt=1, worker="w", at=now()))
    with pytest.raises(TaskFailed) as failure:
        result.get(1)
    assert type(failure.value) is TaskFailed
    assert failure.value.task_id == result.id
    assert failure.value.exception_class_path == "os.system"
    assert failure.value.message == "what happened"
    assert failure.value.traceback == "Traceback …\n"
    assert "what happened" in str(failure.value)


def test_the_last_failure_counts() -> None:
    result = noop.enqueue()
    for attempt, state in enumerate((State.READY, State.FAILED), start=1):
        error = AttemptError(exception_class_path="a.B", message=f"{attempt}", traceback="")
        end(state=state, error=error.line(attempt=attempt, worker="w", at=now()))
    with pytest.raises(TaskFailed, match=r"a\.B: 2"):
        result.get(1)
    assert [error.message for error in result.attempt_errors] == ["1", "2"]
    assert [error.exception_class_path for error in result.errors] == ["a.B", "a.B"]


def test_a_failure_without_errors_says_why_there_is_nothing_to_say() -> None:
    result = noop.enqueue()
    end(state=State.FAILED)
    with pytest.raises(TaskFailed, match="store_errors=False"):
        result.get(1)


def test_cancelled_and_expired_tasks_have_errors_of_their_own() -> None:
    cancelled, expired = noop.enqueue(), noop.using(expires=0).enqueue()
    assert cancelled.cancel()
    expire_overdue(USING)
    with pytest.raises(TaskCancelled, match="was cancelled"):
        cancelled.get(1)
    with pytest.raises(TaskExpired, match="before it expired"):
        expired.get(1)
    assert (cancelled.status, expired.status) == ("FAILED", "FAILED")


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5", True, 1j], ids=repr)
def test_an_impossible_timeout_is_refused(timeout: Any) -> None:
    with pytest.raises(ValueError, match="timeout="):
        noop.enqueue().get(timeout)


@pytest.mark.parametrize(
    "timeout", [float("inf"), 1e300, 10**400, threading.TIMEOUT_MAX], ids=lambda one: f"{one:.0}" if one < 1e300 else ""
)
def test_a_timeout_beyond_all_clocks_is_no_timeout(timeout: Any, elsewhere: Callable[..., Future[Any]]) -> None:
    result = noop.enqueue()
    waiting = elsewhere(result.get, timeout)
    await_waiter(result.id)
    end(result="null")
    assert waiting.result(DEADLINE) is None
    assert async_to_sync(ours(noop.get_result(result.id)).aget)(timeout) is None


def test_without_a_record_there_is_nothing_to_wait_for() -> None:
    with pytest.raises(ResultUnavailable, match="record=False"):
        noop.using(record=False).enqueue().get(60)
