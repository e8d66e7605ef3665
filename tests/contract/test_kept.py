"""Results in a store of keys and values: what is the same whatever the store, and with each of them in between."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from asgiref.sync import async_to_sync
from django.db import connections

from django_taskq import ResultTimeout, ResultUnavailable, State, TaskqBackend
from django_taskq.compat import TaskResultDoesNotExist, task_backends
from django_taskq.conf import BackendOptions
from django_taskq.core.message import Message
from django_taskq.core.options import TaskOptions
from django_taskq.core.outcome import AttemptError, Outcome
from django_taskq.core.reply import Reply, decode_body, encode_body
from django_taskq.exceptions import ResultStoreError, TaskFailed
from django_taskq.models import TaskRecord
from django_taskq.results import database as database_results
from django_taskq.results import kept
from django_taskq.results.database import DatabaseResults
from django_taskq.results.kept import ELSEWHERE, KeptResults, Shelf
from django_taskq.results.registry import safe_name, shelf_of
from django_taskq.worker.keeping import keep
from tests.contract.rows import USING, put_and_take
from tests.memory_store import MEMORY, MemoryServer, memory_server
from tests.servers import RedisServer, TCPProxy, shared_broker
from tests.taskapp.tasks import add
from tests.waiting import LATE, wait_until

pytestmark = [
    pytest.mark.once,
    pytest.mark.databases("sqlite"),
    pytest.mark.django_db(transaction=True),
    # What is under test: waiting in a child of a process that has threads.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]

#: Seconds until something that should happen has happened.
DEADLINE = 10.0
NAME = "tests.taskapp.tasks.add"


@pytest.fixture
def memory_url() -> str:
    """Return the URL of a server in memory, for this test alone."""
    return f"mem://{uuid.uuid4()}"


@pytest.fixture
def memory(memory_url: str) -> MemoryServer:
    """Return that server."""
    return memory_server(memory_url.partition("://")[2])


@pytest.fixture(params=["memory", "redis", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty store of each kind: one that cannot tell, one that can, and one on disk."""
    if request.param == "file":
        (tmp_path / "results").mkdir()
        return f"file://{tmp_path}/results"
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def results(url: str) -> KeptResults:
    return open_results(url)


@pytest.fixture
def elsewhere() -> Iterator[Callable[..., Future[Any]]]:
    """Return a function that starts work in a thread of its own."""
    pool = ThreadPoolExecutor(64)

    def start(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        def run() -> Any:
            try:
                return work(*args, **kwargs)
            finally:
                connections.close_all()

        return pool.submit(run)

    yield start
    pool.shutdown()


@pytest.fixture(autouse=True)
def _watchers_end() -> Iterator[None]:
    yield
    for watcher in (*kept._watchers.values(), *database_results._watchers.values()):
        watcher.stop()
        watcher._stopped = False


def options_of(url: str, **options: Any) -> BackendOptions:
    return BackendOptions.parse({"results": url, "result_stores": MEMORY, **options})


def open_results(url: str, **options: Any) -> KeptResults:
    return KeptResults(partial(shelf_of, options_of(url, **options)), DatabaseResults(USING))


def new_id() -> str:
    return str(uuid.uuid4())


def a_reply(task_id: str | None = None, **changes: Any) -> Reply:
    now = datetime.now(UTC)
    reply = Reply(
        task_id=task_id or new_id(),
        state=State.SUCCESSFUL,
        result="42",
        name=NAME,
        worker="anne-1-aaaa",
        attempt=1,
        enqueued_at=now,
        started_at=now,
        finished_at=now,
        expires_at=now + timedelta(hours=1),
    )
    return replace(reply, **changes)


def stored(results: KeptResults, **changes: Any) -> Reply:
    reply = a_reply(**changes)
    assert results.keep(reply)
    return reply


def found(results: KeptResults, task_id: str) -> Reply:
    reply = results.find(task_id)
    assert reply is not None
    return reply


def wait(results: KeptResults, task_id: str, timeout: float | None) -> Reply:
    ended = results.wait(task_id, timeout, is_recorded=False)
    assert isinstance(ended, Reply)
    return ended


def waiters(task_id: str) -> int:
    return sum(len(watcher._waiting.get(task_id, ())) for watcher in kept._watchers.values())


def await_waiters(task_id: str, count: int = 1) -> None:
    wait_until(lambda: waiters(task_id) == count, DEADLINE, what=f"{count} to wait")


# ---- what is stored --------------------------------------------------------------------------------------------


def test_what_was_stored_is_read_as_it_was(results: KeptResults) -> None:
    reply = stored(results, result='{"a":[1,null,"ü"]}')
    assert found(results, reply.task_id) == replace(reply, correlation_id=reply.task_id)
    assert results.value_of(reply.task_id, ELSEWHERE) == reply.result
    assert results.find(new_id()) is None


def test_a_failure_comes_as_text_and_nothing_is_rebuilt(results: KeptResults) -> None:
    error = AttemptError(exception_class_path="os.system", message="echo this", traceback="Traceback …\nü\n")
    reply = stored(results, state=State.FAILED, result=None, error=error)
    read = found(results, reply.task_id)
    assert read.state is State.FAILED
    assert read.error == error
    backend = cast("TaskqBackend", task_backends["default"])
    backend.result_store = results
    try:
        result = backend.get_result(reply.task_id)
    finally:
        del backend.result_store
    with pytest.raises(TaskFailed) as failure:
        result.get(1)
    assert type(failure.value) is TaskFailed
    assert failure.value.exception_class_path == "os.system"
    assert failure.value.message == "echo this"
    assert failure.value.traceback == error.traceback


@pytest.mark.parametrize("state", [State.CANCELLED, State.EXPIRED])
def test_other_ends_are_told_apart(results: KeptResults, state: State) -> None:
    reply = stored(results, state=state, result=None)
    assert found(results, reply.task_id).state is state


def test_a_million_bytes_are_a_value(results: KeptResults) -> None:
    text = f'"{"ü" * 500_000}"'
    reply = stored(results, result=text)
    assert results.value_of(reply.task_id, ELSEWHERE) == text


def test_the_end_of_a_later_attempt_stays_and_takes_the_place_of_an_earlier_one(results: KeptResults) -> None:
    task_id = new_id()
    for attempt, result, expected in (
        (2, '"second"', '"second"'),
        (1, '"late"', '"second"'),
        (3, '"third"', '"third"'),
    ):
        stored(results, task_id=task_id, attempt=attempt, result=result)
        assert found(results, task_id).result == expected


def test_what_is_over_is_not_read_though_the_server_still_has_it(results: KeptResults) -> None:
    over = stored(results, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    for_ever = stored(results, expires_at=None)
    assert results.find(over.task_id) is None
    with pytest.raises(ResultUnavailable, match=r"is not in .* any more: its time was over \(result_ttl\)"):
        results.value_of(over.task_id, ELSEWHERE)
    assert found(results, for_ever.task_id).expires_at is None


def test_stores_are_told_how_long(memory: MemoryServer, memory_url: str) -> None:
    results = open_results(memory_url)
    for seconds, expected in ((3600.0, 3600.0), (-5.0, 1.0), (None, None)):
        expires_at = None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)
        stored(results, expires_at=expires_at)
        ttl = list(memory.ttls.values())[-1]
        assert ttl == (None if expected is None else pytest.approx(expected, abs=5))


def test_deleting_twice_is_as_good_as_once(results: KeptResults) -> None:
    reply = stored(results)
    for _ in range(2):
        results.forget(reply.task_id)
        assert results.find(reply.task_id) is None
    results.forget(new_id())


@pytest.mark.parametrize("task_id", ["a/../b c", "x" * 5000, "🙂", "A0B0C0D0-0000-4000-8000-000000000000"])
def test_ids_that_others_have_chosen_are_keys_like_any_other(results: KeptResults, task_id: str) -> None:
    key = results.shelf.key(task_id)
    assert len(key) <= 100
    assert key.replace("-", "").isalnum()
    # Longer ones no message can carry.
    if len(task_id) < 256:
        stored(results, task_id=task_id)
        assert found(results, task_id).result == "42"


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"{}", b"[1]", b'{"task_id":"x","status":"SUCCESS","status":"FAILURE"}']
)
def test_what_is_no_result_is_an_error_and_stays_one(memory: MemoryServer, memory_url: str, body: bytes) -> None:
    results, task_id = open_results(memory_url), new_id()
    memory.values[results.shelf.key(task_id)] = body
    with pytest.raises(ResultStoreError, match=f"what is stored for task {task_id} is not a result"):
        results.find(task_id)


def test_two_aliases_share_a_store_and_prefixes_keep_it_apart(url: str) -> None:
    results, same, other = open_results(url), open_results(url), open_results(url, result_options={"key_prefix": "x."})
    assert results.shelf is same.shelf
    assert results.shelf is not other.shelf
    reply = stored(results)
    assert other.find(reply.task_id) is None
    assert found(same, reply.task_id).result == "42"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://:s3cret@host:6379/1", "redis://***@host:6379"),
        ("redis://host:6379/1", "redis://host:6379/1"),
        ("file:///var/lib/results", "file:///var/lib/results"),
        ("cache://results", "cache://results"),
        ("s3://key:s3cret@bucket/path", "s3://***@bucket"),
        ("mongodb://ann:s3c@ret@a:1,b:2/db?authSource=s3cret", "mongodb://***@a:1"),
        ("azureblockblob://AccountName=a;AccountKey=s3cret==", "azureblockblob://***"),
        ("celery+redis://:s3cret@[::1]/0", "celery+redis://***"),
        ("vault://s3cret?token=s3cret", "vault://***"),
    ],
)
def test_stores_are_called_by_what_of_their_url_is_no_secret(url: str, name: str) -> None:
    assert safe_name(url) == name


# ---- waiting ---------------------------------------------------------------------------------------------------


def test_what_has_ended_is_there_at_once(results: KeptResults) -> None:
    reply = stored(results)
    began = time.monotonic()
    assert wait(results, reply.task_id, 0).result == "42"
    assert time.monotonic() - began < LATE


@pytest.mark.parametrize("timeout", [None, DEADLINE])
def test_who_waits_is_told_of_the_end(
    results: KeptResults, elsewhere: Callable[..., Future[Any]], timeout: float | None
) -> None:
    reply = a_reply()
    waiting = elsewhere(wait, results, reply.task_id, timeout)
    await_waiters(reply.task_id)
    began = time.monotonic()
    results.keep(reply)
    assert waiting.result(DEADLINE).result == "42"
    assert time.monotonic() - began < LATE
    assert waiters(reply.task_id) == 0


def test_awaiting_leaves_the_event_loop_free(results: KeptResults) -> None:
    replies = [a_reply() for _ in range(100)]

    async def main() -> list[Any]:
        awaited = [
            asyncio.ensure_future(results.await_(reply.task_id, DEADLINE, is_recorded=False)) for reply in replies
        ]
        for reply in replies:
            await asyncio.to_thread(await_waiters, reply.task_id)
            await asyncio.to_thread(results.keep, reply)
        return await asyncio.gather(*awaited)

    assert [ended.task_id for ended in async_to_sync(main)()] == [reply.task_id for reply in replies]


def test_many_who_wait_for_one_cost_one_look(
    memory: MemoryServer, memory_url: str, elsewhere: Callable[..., Future[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only those who come are a reason to look.
    monkeypatch.setattr(kept, "_FIRST_LOOK", 60.0)
    monkeypatch.setattr(kept, "_LAST_LOOK", 60.0)
    results, reply = open_results(memory_url), a_reply()
    memory.may_answer.clear()
    first = elsewhere(wait, results, reply.task_id, DEADLINE)
    wait_until(lambda: memory.calls["get"] == 1, DEADLINE, what="the first look")
    others = [elsewhere(wait, results, reply.task_id, DEADLINE) for _ in range(49)]
    await_waiters(reply.task_id, 50)
    memory.values[results.shelf.key(reply.task_id)] = encode_body(reply)
    memory.may_answer.set()
    assert {one.result(DEADLINE).result for one in (first, *others)} == {"42"}
    assert memory.calls["get"] <= 2


def test_many_who_wait_for_a_server_far_away_are_told_in_time(
    memory: MemoryServer, memory_url: str, elsewhere: Callable[..., Future[Any]]
) -> None:
    results, replies = open_results(memory_url), [a_reply() for _ in range(60)]
    for reply in replies:
        results.keep(reply)
    # One by one they would take 6 s.
    memory.delay = 0.1
    waiting = [elsewhere(wait, results, reply.task_id, 3.0) for reply in replies]
    assert {one.result(DEADLINE).task_id for one in waiting} == {reply.task_id for reply in replies}


def test_a_state_that_is_not_final_is_no_end(memory: MemoryServer, memory_url: str) -> None:
    """Celery's workers say that they have begun."""
    results, task_id = open_results(memory_url), new_id()
    memory.values[results.shelf.key(task_id)] = b'{"task_id":"%s","status":"STARTED","result":null}' % task_id.encode()
    with pytest.raises(ResultTimeout):
        wait(results, task_id, 0.2)


@pytest.mark.timing
@pytest.mark.parametrize("timeout", [0, 0.3])
def test_nobody_waits_longer_than_the_timeout(results: KeptResults, timeout: float) -> None:
    task_id, began = new_id(), time.monotonic()
    with pytest.raises(ResultTimeout, match=f"Task {task_id} did not finish within {timeout} s"):
        wait(results, task_id, timeout)
    assert timeout <= time.monotonic() - began < timeout + LATE
    began = time.monotonic()
    with pytest.raises(ResultTimeout):
        async_to_sync(results.await_)(task_id, timeout, is_recorded=False)
    assert timeout <= time.monotonic() - began < timeout + LATE
    assert waiters(task_id) == 0


def test_a_task_without_a_row_may_have_one_for_a_while(
    results: KeptResults, elsewhere: Callable[..., Future[Any]]
) -> None:
    """It waits for another attempt there, say, and is cancelled."""
    message = put_and_take()
    waiting = elsewhere(results.wait, message.id, DEADLINE, is_recorded=False)
    await_waiters(message.id)
    TaskRecord.objects.filter(pk=message.id).update(state=State.CANCELLED, finished_at=datetime.now(UTC))
    ended = waiting.result(DEADLINE)
    assert isinstance(ended, TaskRecord)
    assert ended.state == State.CANCELLED


def test_an_id_that_no_row_can_have_holds_up_nobody(
    results: KeptResults, elsewhere: Callable[..., Future[Any]]
) -> None:
    message = put_and_take()
    with pytest.raises(ResultTimeout):
        # Long enough for a look at the rows.
        wait(results, "celery's", 1.3)
    rows = elsewhere(results.wait, message.id, DEADLINE)
    TaskRecord.objects.filter(pk=message.id).update(state=State.CANCELLED, finished_at=datetime.now(UTC))
    assert rows.result(DEADLINE).state == State.CANCELLED


def test_a_forked_child_has_a_store_of_its_own(results: KeptResults, elsewhere: Callable[..., Future[Any]]) -> None:
    mine, childs = a_reply(), a_reply()
    shelf = results.shelf
    waiting = elsewhere(wait, results, mine.task_id, DEADLINE)
    await_waiters(mine.task_id)
    stored(results)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            own = results.shelf
            results.keep(childs)
            is_right = wait(results, childs.task_id, DEADLINE).result == "42"
            code = 0 if own is not shelf and own.store is not shelf.store and is_right else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    results.keep(mine)
    assert waiting.result(DEADLINE).result == "42"
    assert results.shelf is shelf


# ---- servers that do not answer --------------------------------------------------------------------------------


class NoisyError(Exception):
    """What a client may say."""


def test_errors_of_the_client_are_one_of_ours_without_secrets(memory: MemoryServer, memory_url: str) -> None:
    name = memory_url.partition("://")[2]
    results = open_results(f"mem://user:p%40ssword@{name}")
    server = memory_server(f"user:p%40ssword@{name}")
    server.problem = NoisyError("cannot reach user:p%40ssword, that is p@ssword,\nat host")
    for operation in (
        lambda: results.find(new_id()),
        lambda: results.forget(new_id()),
        lambda: results.sweep(datetime.now(UTC), 5.0),
        lambda: results.value_of(new_id(), ELSEWHERE),
        lambda: results.keep(a_reply()),
        lambda: wait(results, new_id(), 0.2),
    ):
        with pytest.raises(ResultStoreError, match="NoisyError") as error:
            operation()
        text = f"{error.value!r} {error.value.__cause__!r}"
        assert "ssword" not in text
        assert "mem://***@" in text
    assert memory.calls == {}


@pytest.mark.parametrize("timeout", [0.3, 1.0])
def test_whoever_waits_hears_within_its_timeout_that_the_server_is_down(
    memory: MemoryServer, memory_url: str, timeout: float
) -> None:
    results = open_results(memory_url)
    memory.problem = NoisyError("refused")
    for ask in (wait, await_sync):
        began = time.monotonic()
        with pytest.raises(ResultStoreError, match=r"mem://.* failed: refused"):
            ask(results, new_id(), timeout)
        assert time.monotonic() - began < timeout + LATE


def await_sync(results: KeptResults, task_id: str, timeout: float) -> object:
    return async_to_sync(results.await_)(task_id, timeout, is_recorded=False)


def test_whoever_waits_hears_within_its_timeout_that_the_server_does_not_answer(
    memory: MemoryServer, memory_url: str
) -> None:
    results = open_results(memory_url)
    memory.may_answer.clear()
    try:
        for ask in (wait, await_sync):
            began = time.monotonic()
            with pytest.raises(ResultStoreError, match=r"mem://.* has not answered for"):
                ask(results, new_id(), 1.0)
            assert 1.0 <= time.monotonic() - began < 1.0 + LATE
    finally:
        memory.may_answer.set()


def test_who_waits_without_limit_is_told_some_time(
    memory: MemoryServer, memory_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_GIVE_UP", 1.0)
    memory.problem = NoisyError("refused")
    began = time.monotonic()
    with pytest.raises(ResultStoreError, match="refused"):
        wait(open_results(memory_url), new_id(), None)
    assert 1.0 <= time.monotonic() - began < 1.0 + DEADLINE


def test_a_server_that_is_back_is_asked_again(
    memory: MemoryServer, memory_url: str, elsewhere: Callable[..., Future[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    results, reply = open_results(memory_url), a_reply()
    memory.problem = NoisyError("refused")
    with caplog.at_level(logging.WARNING, "django_taskq.results"):
        waiting = [elsewhere(wait, results, reply.task_id, DEADLINE) for _ in range(20)]
        await_waiters(reply.task_id, 20)
        asked = memory.calls["get"]
        # Callers who come meanwhile are no reason to ask more often.
        wait_until(lambda: memory.calls["get"] >= asked + 2, DEADLINE, what="two more tries")
        assert memory.calls["get"] < 10
        memory.problem = None
        results.keep(reply)
        assert {one.result(DEADLINE).result for one in waiting} == {"42"}
    assert len([record for record in caplog.records if "trying again" in record.message]) == 1
    with pytest.raises(ResultTimeout):
        wait(results, new_id(), 0.1)


def test_redis_that_goes_and_comes_back(elsewhere: Callable[..., Future[Any]]) -> None:
    with RedisServer(durable=False) as server, TCPProxy(server.port) as proxy:
        url = server.url(1).replace(f":{server.port}/", f":{proxy.port}/")
        secret = url.partition("://")[2].partition("@")[0].rpartition(":")[2]
        assert secret
        results, reply = open_results(url), a_reply()
        stored(results)
        assert waits_in_vain(results, 0.2) is ResultTimeout
        proxy.refuse()
        proxy.cut()
        assert waits_in_vain(results, 1.0, secret) is ResultStoreError
        with pytest.raises(ResultStoreError) as error:
            results.find(reply.task_id)
        assert secret not in repr(error.value)
        waiting = elsewhere(wait, results, reply.task_id, DEADLINE)
        await_waiters(reply.task_id)
        proxy.resume()
        results.keep(reply)
        assert waiting.result(DEADLINE).result == "42"
        proxy.swallow()
        assert waits_in_vain(results, 1.0, secret) is ResultStoreError
        server.stop()
        assert waits_in_vain(results, 1.0, secret) is ResultStoreError


def waits_in_vain(results: KeptResults, timeout: float, secret: str = "no secret") -> type[Exception]:
    """Wait, see that it does not take too long, and return what it ended with."""
    began = time.monotonic()
    with pytest.raises((ResultTimeout, ResultStoreError)) as error:
        wait(results, new_id(), timeout)
    assert time.monotonic() - began < timeout + LATE
    assert secret not in f"{error.value!r} {error.value.__cause__!r}"
    return error.type


# ---- what a worker does ----------------------------------------------------------------------------------------


class Worker:
    """A worker that has run a task, with results in a store, and what it makes of the task's end."""

    def __init__(self, settings: Any, url: str, **options: Any) -> None:
        given = {"results": url, "result_stores": MEMORY, **options}
        settings.TASKS = {"default": {"BACKEND": "django_taskq.TaskqBackend", "OPTIONS": given}}
        self.backend = cast("TaskqBackend", task_backends["default"])
        self.message: Message = put_and_take()

    def keep(self, outcome: Outcome, *, has_row: bool = True, **options: Any) -> Outcome:
        self.message = replace(self.message, delivery=None if has_row else object())
        return keep(self.backend, self.message, self.backend.settled(TaskOptions(**options)), outcome)

    def found(self) -> Reply | None:
        return self.backend.result_store.find(self.message.id)


@pytest.fixture
def make_worker(settings: Any, memory_url: str) -> Callable[..., Worker]:
    """Return a function from options to a worker with results in memory."""
    return partial(Worker, settings, memory_url)


GOOD = Outcome(state=State.SUCCESSFUL, result='"value"')
BAD = Outcome(
    state=State.FAILED, error=AttemptError(exception_class_path="a.B", message="bad", traceback="Traceback …")
)


def test_a_value_is_stored_before_its_row_tells_of_the_end(make_worker: Callable[..., Worker]) -> None:
    worker = make_worker()
    assert worker.keep(GOOD) == replace(GOOD, is_kept=True)
    reply = worker.found()
    assert reply is not None
    assert (reply.result, reply.name, reply.attempt, reply.worker) == ('"value"', worker.message.name, 1, "anne-1-aaaa")


@pytest.mark.parametrize(
    ("options", "task", "outcome", "seconds"),
    [
        ({"result_ttl": 100}, {}, GOOD, 100),
        ({"result_ttl": 100}, {"result_ttl": 5.0, "failure_ttl": 6.0}, GOOD, 5),
        ({"result_ttl": None}, {"result_ttl": 5.0}, GOOD, 5),
        ({"result_ttl": None}, {}, GOOD, None),
        ({"failure_ttl": 200}, {"result_ttl": 5.0}, BAD, 200),
        ({"failure_ttl": 200}, {"failure_ttl": 6.0}, BAD, 6),
    ],
)
def test_it_is_kept_as_long_as_task_or_alias_say(
    make_worker: Callable[..., Worker],
    options: dict[str, Any],
    task: dict[str, Any],
    outcome: Outcome,
    seconds: float | None,
) -> None:
    worker = make_worker(**options)
    worker.keep(replace(outcome, duration=3.0), **task)
    reply = worker.found()
    assert reply is not None
    assert reply.finished_at == worker.message.last_attempted_at + timedelta(seconds=3)
    assert reply.expires_at == (None if seconds is None else reply.finished_at + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("options", "task", "outcome", "expected"),
    [
        ({}, {"store_result": False}, GOOD, None),
        ({"store_result": False}, {}, GOOD, None),
        ({"store_result": False}, {"store_result": True}, GOOD, State.SUCCESSFUL),
        # Errors have a say of their own, as with Celery's task_store_errors_even_if_ignored.
        ({}, {"store_result": False}, BAD, State.FAILED),
        ({}, {"store_result": False, "store_errors": False}, BAD, None),
        ({"store_result": False, "store_errors": False}, {}, BAD, None),
        ({"store_result": False, "store_errors": False}, {"store_errors": True}, BAD, State.FAILED),
        # Who waits for the value has to hear that there is none.
        ({}, {"store_errors": False}, BAD, State.FAILED),
        # All there is to say stands in the row, where there is one.
        ({}, {}, Outcome(state=State.CANCELLED), None),
        ({}, {"record": False}, Outcome(state=State.CANCELLED), None),
        ({}, {"has_row": False}, Outcome(state=State.CANCELLED), State.CANCELLED),
        ({}, {"has_row": False, "record": False}, Outcome(state=State.EXPIRED), State.EXPIRED),
        ({}, {"has_row": False, "store_result": False}, Outcome(state=State.EXPIRED), None),
        ({}, {}, Outcome(state=State.READY), None),
    ],
)
def test_what_nobody_wants_is_not_stored(
    make_worker: Callable[..., Worker],
    options: dict[str, Any],
    task: dict[str, Any],
    outcome: Outcome,
    expected: State | None,
) -> None:
    worker = make_worker(**options)
    assert worker.keep(outcome, **task) == replace(outcome, is_kept=expected is State.SUCCESSFUL)
    reply = worker.found()
    assert (None if reply is None else reply.state) == expected


@pytest.mark.parametrize("has_row", [True, False])
def test_a_value_too_large_for_the_store_fails_the_task_and_says_so(
    make_worker: Callable[..., Worker], has_row: bool, caplog: pytest.LogCaptureFixture
) -> None:
    worker = make_worker(result_options={"max_size": 2000})
    outcome = worker.keep(replace(GOOD, result=f'"{"x" * 2000}"', duration=1.0), has_row=has_row)
    assert (outcome.state, outcome.result, outcome.is_kept, outcome.duration) == (State.FAILED, None, False, 1.0)
    assert outcome.error is not None
    assert "at most 2000 can be kept or sent" in outcome.error.message
    reply = worker.found()
    assert reply is not None
    assert reply.state is State.FAILED
    assert reply.error is not None
    assert reply.error.message == outcome.error.message
    assert "failed for good" in caplog.text


def test_a_failure_too_large_for_the_store_stays_in_the_row(make_worker: Callable[..., Worker]) -> None:
    worker = make_worker(result_options={"max_size": 50})
    assert worker.keep(BAD) is BAD
    outcome = worker.keep(GOOD)
    assert outcome.state is State.FAILED
    assert worker.found() is None


@pytest.mark.parametrize(
    ("more", "said"),
    [({}, "stays in its row"), ({"record": False}, "is lost"), ({"has_row": False}, "is lost")],
)
def test_a_store_that_fails_is_tried_again_and_then_the_row_has_the_value(
    make_worker: Callable[..., Worker],
    memory: MemoryServer,
    more: dict[str, Any],
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = make_worker()
    memory.problem = NoisyError("refused")
    assert worker.keep(GOOD, **more) is GOOD
    assert memory.calls["get"] == kept._TRIES
    assert said in caplog.text
    threading.Timer(kept._PAUSE / 2, partial(setattr, memory, "problem", None)).start()
    assert worker.keep(GOOD, **more).is_kept


# ---- what a caller of a recorded task does ---------------------------------------------------------------------


def recorded(settings: Any, url: str, *, result: str | None = ELSEWHERE) -> Any:
    """Return a task that its row says has succeeded, with the value elsewhere."""
    settings.TASKS = {
        "default": {
            "BACKEND": "django_taskq.TaskqBackend",
            "OPTIONS": {"results": url, "result_stores": MEMORY},
        }
    }
    task = add.enqueue(1, 2)
    values = {"state": State.SUCCESSFUL, "result": result, "finished_at": datetime.now(UTC)}
    assert TaskRecord.objects.filter(pk=task.id).update(**values) == 1
    return task


def test_the_value_is_fetched_when_somebody_wants_it(settings: Any, memory: MemoryServer, memory_url: str) -> None:
    task = recorded(settings, memory_url)
    open_results(memory_url).keep(a_reply(task.id, result="3"))
    asked = memory.calls["get"]
    task.refresh()
    assert (task.state, memory.calls["get"]) == (State.SUCCESSFUL, asked)
    assert task.return_value == 3
    assert task.get() == 3
    assert memory.calls["get"] == asked + 1, "and once"
    again = add.get_result(task.id)
    assert async_to_sync(again.aget)(5) == 3
    assert async_to_sync(recorded(settings, memory_url, result="4").aget)(5) == 4


def test_a_value_that_is_gone_is_said_to_be(settings: Any, memory_url: str) -> None:
    task = recorded(settings, memory_url)
    with pytest.raises(ResultUnavailable, match="or somebody deleted it"):
        task.get(5)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_store_that_does_not_answer_has_no_longer_than_the_caller(
    settings: Any, memory: MemoryServer, memory_url: str, asynchronous: bool
) -> None:
    task = recorded(settings, memory_url)
    open_results(memory_url).keep(a_reply(task.id, result="3"))
    memory.may_answer.clear()
    get = async_to_sync(task.aget) if asynchronous else task.get
    try:
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(ResultStoreError, match="did not answer in time"):
                get(0.6)
            assert time.monotonic() - began < 0.6 + LATE
    finally:
        memory.may_answer.set()
    assert get(5) == 3
    task.forget()
    assert task.get(5) == 3, "it was read"
    with pytest.raises(ResultUnavailable):
        add.get_result(task.id).get(5)


def test_a_task_without_a_row_is_found_by_what_is_stored(settings: Any, memory_url: str) -> None:
    recorded(settings, memory_url)
    results = open_results(memory_url)
    reply = stored(results, result="3", started_at=datetime.now(UTC) - timedelta(seconds=5))
    result = add.get_result(reply.task_id)
    assert (result.get(5), result.state, result.attempts, result.finished_at) == (3, "SUCCESSFUL", 1, reply.finished_at)
    with pytest.raises(TaskResultDoesNotExist):
        add.get_result(new_id())
    # What Celery's workers store has no name: nobody knows which task it was.
    stored(results, task_id="celery's", name="")
    with pytest.raises(TaskResultDoesNotExist):
        add.get_result("celery's")


def test_what_is_stored_is_celery_s_result_message(memory: MemoryServer, memory_url: str) -> None:
    results = open_results(memory_url)
    reply = stored(results)
    (body,) = memory.values.values()
    assert body.startswith(b'{"task_id":"%s","status":"SUCCESS","result":42,' % reply.task_id.encode())
    assert decode_body(body.decode()).result == "42"


# ---- sweeping --------------------------------------------------------------------------------------------------


def test_a_store_without_an_expiry_is_swept_by_its_longest_time(memory: MemoryServer, memory_url: str) -> None:
    results, now = open_results(memory_url), datetime.now(UTC)
    assert results.sweep(now, 60.0) == 1
    assert results.sweep(now, None) == 2
    assert memory.sweeps == [(now.timestamp(), 60.0), (now.timestamp(), float("inf"))]


def test_a_store_with_an_expiry_is_left_alone(memory: MemoryServer, memory_url: str) -> None:
    results = open_results(memory_url, result_stores={"mem": "tests.memory_store.ForgetfulStore"})
    assert results.sweep(datetime.now(UTC), 60.0) == 0
    assert memory.calls == {}


def test_nobody_sweeps_twice_within_the_pause(url: str) -> None:
    one: Shelf = open_results(url).shelf
    now = datetime.now(UTC)
    assert one.may_sweep(now, 60.0)
    for seconds, expected in ((0, False), (59, False), (61, True), (62, False)):
        assert one.may_sweep(now + timedelta(seconds=seconds), 60.0) is expected
    # A clock that was wrong, or a value that is none of ours.
    assert one.may_sweep(now - timedelta(days=1), 60.0)


def test_the_run_s_redis_needs_a_password() -> None:
    """What the tests above say about secrets means something."""
    assert "@" in shared_broker("redis").url(0)
