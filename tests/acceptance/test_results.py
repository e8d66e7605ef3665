"""Results in a store of their own, end to end: a worker puts them there, and whoever knows a task's id has them."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections

from django_taskq import ResultUnavailable, State, TaskExpired, TaskFailed, TaskResult, task
from django_taskq.compat import TaskResultDoesNotExist
from django_taskq.models import TaskRecord
from django_taskq.results import database as database_results
from django_taskq.results import kept
from tests.acceptance.load import broker
from tests.acceptance.project import Project
from tests.acceptance.workers import ended, lines, row, start_worker, states
from tests.servers import TCPProxy, shared_broker
from tests.taskapp import tasks
from tests.waiting import LATE, wait_until

pytestmark = [pytest.mark.once, pytest.mark.databases("sqlite", "postgres")]

#: Seconds until something that should happen has happened.
DEADLINE = 30.0
OPTIONS = {"lease": 3.0, "result_ttl": 1000, "failure_ttl": 2000}

#: Waits for tasks whose ids another process tells it, one in each line.
_READER = """
import json, sys, django
django.setup()
from tests.taskapp.tasks import add
for line in sys.stdin:
    result = add.get_result(line.strip())
    print(json.dumps([result.get(30), result.state, result.attempts]), flush=True)
"""


@pytest.fixture(autouse=True)
def _watchers_end(make_project: Callable[..., Project]) -> Iterator[None]:
    """What waits in this process gives its connections back before the databases of its projects go."""
    yield
    for watcher in (*kept._watchers.values(), *database_results._watchers.values()):
        watcher.stop()
        watcher._stopped = False


@pytest.fixture(params=["database", "amqp"])
def project(request: pytest.FixtureRequest, redis_url: str, make_project: Callable[..., Project]) -> Project:
    """Return a project with results in Redis: with rows alone, and with a message broker."""
    url = "database://" if request.param == "database" else request.getfixturevalue("amqp_url")
    return make_project(tasks=broker(url, results=redis_url, **OPTIONS))


with_messages = pytest.mark.parametrize("project", ["amqp"], indirect=True)


@task
def nobody_knows() -> None:
    """Be a task of which no worker has the code."""


def key_of(result: TaskResult) -> str:
    return f"taskq-result-{result.id}"


def seconds_left(result: TaskResult, db: int) -> int:
    return int(shared_broker("redis").command("TTL", key_of(result), db=db))


def test_a_value_is_in_the_store_and_not_in_its_row(project: Project, redis_db: int) -> None:
    start_worker(project)
    good, bad = tasks.add.enqueue(1, 2), tasks.fail.enqueue("why")
    assert good.get(DEADLINE) == 3
    with pytest.raises(TaskFailed, match="why") as failure:
        bad.get(DEADLINE)
    assert "raise ValueError" in failure.value.traceback
    assert (row(good).state, row(good).result) == ("SUCCESSFUL", "")
    assert tasks.add.get_result(good.id).return_value == 3
    assert 900 < seconds_left(good, redis_db) <= 1000
    assert 1900 < seconds_left(bad, redis_db) <= 2000
    brief = tasks.add.using(result_ttl=50).enqueue(3, 4)
    assert brief.get(DEADLINE) == 7
    assert 0 < seconds_left(brief, redis_db) <= 50


@with_messages
def test_a_task_without_a_row_is_told_of_by_the_store_alone(project: Project, redis_db: int, tmp_path: Path) -> None:
    start_worker(project)
    good, bad = tasks.add.using(record=False).enqueue(1, 2), tasks.fail.using(record=False).enqueue("why")
    again = tasks.fail_until.using(record=False, max_attempts=3, backoff=0).enqueue(str(tmp_path / "trace"), 3)
    late = tasks.add.using(record=False, expires=0.001).enqueue(1, 2)
    unknown = nobody_knows.using(record=False).enqueue()
    assert (good.get(DEADLINE), good.state, good.attempts) == (3, State.SUCCESSFUL, 1)
    with pytest.raises(TaskFailed, match="why") as failure:
        bad.get(DEADLINE)
    assert "raise ValueError" in failure.value.traceback
    assert (again.get(DEADLINE), again.attempts) == (3, 3)
    with pytest.raises(TaskExpired):
        late.get(DEADLINE)
    with pytest.raises(TaskFailed, match="No task is named"):
        unknown.get(DEADLINE)
    assert not TaskRecord.objects.exists()
    found = tasks.add.get_result(good.id)
    assert (found.return_value, found.state, found.finished_at) == (3, State.SUCCESSFUL, good.finished_at)
    assert 900 < seconds_left(good, redis_db) <= 1000


@with_messages
def test_many_wait_in_threads_and_on_a_loop(project: Project) -> None:
    start_worker(project)
    add = tasks.add.using(record=False)

    def call(number: int) -> int:
        try:
            return int(add.enqueue(number, number).get(DEADLINE))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(call, range(200))) == [2 * number for number in range(200)]

    async def gather() -> list[Any]:
        results = [await add.aenqueue(number, number) for number in range(200)]
        return await asyncio.gather(*(result.aget(DEADLINE) for result in results))

    assert async_to_sync(gather)() == [2 * number for number in range(200)]
    assert not [watcher for watcher in kept._watchers.values() if watcher._waiting]


@with_messages
def test_another_process_has_the_result_too(project: Project) -> None:
    start_worker(project)
    results = [one.enqueue(1, 2) for one in (tasks.add, tasks.add.using(record=False))]
    for result in results:
        assert result.get(DEADLINE) == 3
    program = project.start(sys.executable, "-c", _READER.replace("sys.stdin", repr([one.id for one in results])))
    assert program.wait(DEADLINE) == 0, program.text()
    told = [json.loads(line) for line in program.text().splitlines() if line.startswith("[")]
    assert told == [[3, "SUCCESSFUL", 1]] * 2


def test_what_is_forgotten_is_gone_for_all(project: Project) -> None:
    start_worker(project)
    result = tasks.add.enqueue(1, 2)
    assert result.get(DEADLINE) == 3
    for _ in range(2):
        result.forget()
    assert result.get() == 3, "who has read it has it"
    with pytest.raises(ResultUnavailable, match="not in redis://"):
        tasks.add.get_result(result.id).get(5)


@with_messages
def test_what_nobody_wants_is_not_stored(project: Project) -> None:
    start_worker(project)
    silent = tasks.add.using(store_result=False)
    recorded, unrecorded = silent.enqueue(1, 2), silent.using(record=False).enqueue(1, 2)
    failed = tasks.fail.using(record=False, store_result=False).enqueue("why")
    assert recorded.get(DEADLINE) is None
    with pytest.raises(ResultUnavailable, match="store_result=False"):
        unrecorded.get(DEADLINE)

    def is_found() -> bool:
        try:
            failed.refresh()
        except TaskResultDoesNotExist:
            return False
        return True

    # Errors are kept all the same.
    wait_until(is_found, what="the failure")
    assert failed.attempt_errors[0].message == "why"
    for result in (recorded, unrecorded):
        assert shared_broker("redis").command("EXISTS", key_of(result)) == "0"


def test_a_large_value_and_one_too_large(make_project: Callable[..., Project], tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    project = make_project(tasks=broker("database://", results=f"file://{tmp_path}/results", **OPTIONS))
    start_worker(project)
    result = tasks.large.enqueue(1_000_000)
    assert result.get(DEADLINE) == "x" * 1_000_000
    assert row(result).result == ""
    too_large = tasks.large.enqueue(40_000_000)
    with pytest.raises(TaskFailed, match="bytes; at most"):
        too_large.get(60)


def test_while_the_store_is_down_values_are_in_their_rows(redis_url: str, make_project: Callable[..., Project]) -> None:
    server = shared_broker("redis")
    with TCPProxy(server.port) as proxy:
        url = redis_url.replace(f":{server.port}/", f":{proxy.port}/")
        project = make_project(tasks=broker("database://", results=url, **OPTIONS))
        worker = start_worker(project)
        before = tasks.add.enqueue(1, 2)
        assert ended(before).result == ""
        proxy.refuse()
        proxy.cut()
        during = tasks.add.enqueue(3, 4)
        assert ended(during).result == "7"
        assert during.get(5) == 7
        assert "its result stays in its row" in worker.text()
        began = time.monotonic()
        with pytest.raises(ResultUnavailable, match="failed") as error:
            before.get(2)
        assert time.monotonic() - began < 2.0 + LATE
        for text in (str(error.value), worker.text()):
            assert server.password not in text
        proxy.resume()
        assert before.get(5) == 3
        after = tasks.add.enqueue(5, 6)
        assert after.get(DEADLINE) == 11
        assert row(after).result == ""
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0


@with_messages
def test_what_a_killed_worker_ran_has_the_result_of_the_one_after_it(project: Project, tmp_path: Path) -> None:
    worker = start_worker(project)
    path = tmp_path / "trace"
    result = tasks.die.using(record=False, max_deliveries=1).enqueue(str(path), "kill")
    # It ends as a row, which says that its workers were lost.
    wait_until(lambda: states() == {"FAILED": 1}, what="the task to be set aside")
    with pytest.raises(TaskFailed, match="max_deliveries=1"):
        result.get(DEADLINE)
    assert len(lines(path)) >= 1
    assert worker.returncode is None


def test_workers_delete_what_is_over_where_the_store_does_not(
    make_project: Callable[..., Project], tmp_path: Path
) -> None:
    directory = tmp_path / "results"
    directory.mkdir()
    project = make_project(
        tasks=broker("database://", results=f"file://{directory}", lease=3.0, result_ttl=1, result_sweep=1)
    )
    worker = start_worker(project)
    result = tasks.add.enqueue(1, 2)
    assert result.get(DEADLINE) == 3
    (file,) = [file for file in directory.iterdir() if result.id in file.name]
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    wait_until(lambda: file.stat().st_mtime < time.time(), what="its time to be over")
    worker = start_worker(project)
    wait_until(lambda: not file.exists(), what="the worker to delete it")
    worker.wait_for("old results from file://")
    # And its row, which ended as long ago.
    wait_until(lambda: not TaskRecord.objects.exists(), what="the row to go")
