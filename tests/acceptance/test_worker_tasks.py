"""What tasks may do: whatever it is, they end as they should, and the worker goes on as if nothing had been."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.db import connection, transaction
from django.db.models.functions import Length
from pytest_django import DjangoDbBlocker

from django_taskq import TaskFailed, TaskResult
from django_taskq.models import TaskRecord
from tests.acceptance.process import Process
from tests.acceptance.project import Project
from tests.acceptance.workers import Gate, damage, ended, lines, row, start_worker, vendor
from tests.databases import chosen
from tests.servers import shared
from tests.taskapp import tasks
from tests.taskapp.models import Note
from tests.waiting import wait_until

pytestmark = pytest.mark.smoke

#: Receivers of the worker's signals, which write down what they are told.
LISTENER = """
import os, sys
from django_taskq.compat import task_finished, task_started
from tests.taskapp.tasks import leave

TRACE = os.path.join(os.path.dirname(__file__), "signals")

def write(what, task_result):
    exception = sys.exc_info()[0]
    leave(TRACE, f"{what} {task_result.id} {task_result.status.value} {exception and exception.__name__}")

def started(sender, task_result, **kwargs):
    write(f"started-{sender.__name__}", task_result)

def finished(sender, task_result, **kwargs):
    write(f"finished-{sender.__name__}", task_result)

def rude(sender, task_result, **kwargs):
    raise SystemExit("a receiver")

def broken(sender, task_result, **kwargs):
    raise ValueError("a receiver")

for signal, receiver in ((task_started, started), (task_finished, finished)):
    signal.connect(broken, weak=False)
    signal.connect(receiver, weak=False)
    signal.connect(rude, weak=False)
"""


@pytest.fixture(scope="module")
def project(
    template: Callable[[tuple[str, ...]], str],
    tmp_path_factory: pytest.TempPathFactory,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Project]:
    """One project for all tests of this module: most of them look at one task."""
    directory = tmp_path_factory.mktemp("tasks")
    (directory / "listener.py").write_text(LISTENER)
    backend = {"BACKEND": "django_taskq.TaskqBackend", "QUEUES": [], "OPTIONS": {"imports": ["listener"]}}
    databases, name = shared(chosen()), f"taskq_tasks_{id(directory)}"
    project = Project(databases, name, directory, tasks={"default": backend})
    databases.clone_database(template(()), name)
    with django_db_blocker.unblock():
        try:
            with project.attached():
                yield project
        finally:
            project.close()


@pytest.fixture(scope="module")
def worker(project: Project) -> Process:
    """Two processes serve all tests: one runs tasks on its main thread, the other in two threads."""
    start_worker(project, "--queues=threads", "--threads=2")
    return start_worker(project, "--queues=-threads")


@pytest.fixture(params=["default", "threads"])
def queue(request: pytest.FixtureRequest, worker: Process) -> str:
    """The queue of each kind of slot."""
    return str(request.param)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


@pytest.fixture
def same_processes(project: Project, worker: Process) -> Iterator[None]:
    """See to it that no process of a worker had to be replaced."""
    before = {process.pid for process in project.living()}
    yield
    assert {process.pid for process in project.living()} == before


def error_of(result: TaskResult) -> tuple[str, str]:
    """Class and message of the failure in which a task has ended."""
    record = ended(result)
    assert record.state == "FAILED", (record.state, record.result)
    assert record.result is None
    assert record.finished_at is not None
    return record.attempt_errors[-1].exception_class_path, record.attempt_errors[-1].message


def goes_on(queue: str = "default") -> None:
    """Run an ordinary task that needs its database."""
    assert ended(tasks.note.using(queue_name=queue).enqueue("after")).state == "SUCCESSFUL"


# Ends


@pytest.mark.usefixtures("same_processes")
@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt", "GeneratorExit"])
def test_what_ends_programs_ends_a_task_only(queue: str, kind: str) -> None:
    result = tasks.leave_by.using(queue_name=queue).enqueue(kind)
    assert error_of(result)[0] == f"builtins.{kind}"
    goes_on(queue)


@pytest.mark.usefixtures("same_processes")
@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt", "CancelledError"])
def test_what_ends_programs_ends_a_coroutine_only(worker: Process, gate: Gate, kind: str) -> None:
    beside = tasks.ahold.enqueue(gate.path, "beside")
    gate.wait_for("beside")
    assert error_of(tasks.aleave_by.enqueue(kind))[0].endswith(f".{kind}")
    gate.open()
    assert ended(beside).state == "SUCCESSFUL"


@pytest.mark.usefixtures("same_processes")
@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt"])
def test_what_a_coroutine_beside_a_task_raises_does_not_end_the_loop(worker: Process, gate: Gate, kind: str) -> None:
    beside = tasks.ahold.enqueue(gate.path, "beside")
    gate.wait_for("beside")
    result = tasks.leave_by_child.enqueue(kind)
    assert error_of(result)[0] == f"builtins.{kind}"
    gate.open()
    assert ended(beside).state == "SUCCESSFUL"
    assert ended(tasks.asleep.enqueue(0.01)).state == "SUCCESSFUL"


@pytest.mark.parametrize("kind", ["exit", "segfault"])
def test_what_ends_the_process_is_stopped_and_the_worker_goes_on(queue: str, tmp_path: Path, kind: str) -> None:
    result = tasks.die.using(queue_name=queue, max_deliveries=2).enqueue(str(tmp_path / "trace"), kind)
    assert error_of(result)[0] == "django_taskq.exceptions.WorkerLost"
    assert len(lines(tmp_path / "trace")) == 2
    goes_on(queue)


@pytest.mark.usefixtures("same_processes")
@pytest.mark.parametrize(
    ("kind", "path", "message"),
    [
        ("unprintable", "tests.taskapp.tasks.Unprintable", "<no text: str() raised RuntimeError>"),
        ("unreadable", "tests.taskapp.tasks.Unreadable", "<no text: str() raised SystemExit>"),
        ("nul", "builtins.ValueError", "before\\x00after"),
        ("surrogate", "builtins.ValueError", "before\\xd800after"),
        ("long", "builtins.ValueError", None),
    ],
)
def test_exceptions_that_are_hard_to_store(queue: str, kind: str, path: str, message: str | None) -> None:
    result = tasks.raise_badly.using(queue_name=queue).enqueue(kind)
    found = error_of(result)
    assert found[0] == path
    if message is None:
        assert len(row(result).errors) < 100_000
        assert "characters left out" in found[1]
    else:
        assert found[1] == message
    goes_on(queue)


@pytest.mark.usefixtures("same_processes")
def test_endless_recursion(queue: str) -> None:
    assert error_of(tasks.recurse.using(queue_name=queue).enqueue())[0] == "builtins.RecursionError"
    goes_on(queue)


@pytest.mark.usefixtures("same_processes")
@pytest.mark.parametrize(
    ("kind", "path", "message"),
    [
        ("object", "builtins.TypeError", "Unsupported type: <class 'object'>"),
        ("set", "builtins.TypeError", "Unsupported type: <class 'set'>"),
        ("nan", "builtins.ValueError", "Out of range float values are not JSON compliant"),
        ("nul", "builtins.ValueError", "NUL"),
        ("surrogate", "builtins.ValueError", "lone surrogate"),
        ("huge", "builtins.ValueError", "beyond the range"),
        ("circular", "builtins.ValueError", "Circular"),
        ("deep", "builtins.ValueError", "nested too deeply"),
    ],
)
def test_results_that_are_no_json(queue: str, kind: str, path: str, message: str) -> None:
    # Trying again would give the same.
    result = tasks.return_badly.using(queue_name=queue, max_attempts=3, backoff=0).enqueue(kind)
    found = error_of(result)
    assert found[0] == path
    assert message in found[1]
    assert row(result).attempt == 1


@pytest.mark.usefixtures("same_processes")
def test_a_result_of_50_mb(worker: Process) -> None:
    others = tasks.add.enqueue_many([(number, 1) for number in range(5)])
    result = tasks.large.enqueue(50_000_000)
    others += tasks.add.enqueue_many([(number, 1) for number in range(5)])
    done = TaskRecord.objects.finished().filter(pk=result.id).values_list("state", flat=True)
    state = wait_until(done.first, 60.0, what="the large result")
    if vendor() == "mysql":
        # max_allowed_packet is 16 MiB unless somebody raised it.
        assert error_of(result)[0].startswith("django.db.utils.")
    else:
        assert state == "SUCCESSFUL"
        assert TaskRecord.objects.filter(pk=result.id).values_list(Length("result")).get() == (50_000_002,)
        # It must not slow down the tests after this one.
        assert TaskRecord.objects.filter(pk=result.id).update(result=None) == 1
    assert {ended(other).state for other in others} == {"SUCCESSFUL"}
    assert {row(other).attempt for other in others} == {1}
    goes_on()


# Traces


@pytest.mark.usefixtures("same_processes")
@pytest.mark.parametrize("kind", ["broken transaction", "open block", "no autocommit", "closed", "closed below"])
def test_a_connection_is_fit_for_the_next_task(queue: str, kind: str) -> None:
    Note.objects.filter(text="left open").delete()
    results = tasks.misuse_database.using(queue_name=queue).enqueue_many([(kind,)] * 2)
    after = tasks.note.using(queue_name=queue).enqueue_many([(f"after {kind}",)] * 3)
    assert {ended(result).state for result in [*results, *after]} == {"SUCCESSFUL"}
    assert (
        Note.objects.filter(text=f"after {kind}", pk__in=[json.loads(str(row(one).result)) for one in after]).count()
        == 3
    )
    assert not Note.objects.filter(text="left open").exists(), "nobody committed it"


@pytest.mark.databases("postgres", "mariadb")
@pytest.mark.usefixtures("same_processes")
@pytest.mark.parametrize("task", [tasks.backend_pid, tasks.abackend_pid], ids=["thread", "coroutine"])
def test_a_connection_that_the_server_closed_fails_one_task_at_most(worker: Process, task: Any) -> None:
    """It worked a moment ago, so it is not tested again: that would cost a round trip per task."""
    pid = int(str(ended(task.enqueue()).result))
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)" if vendor() == "postgresql" else "KILL %s", [pid])
    first, second = ended(task.enqueue()), ended(task.enqueue())
    assert first.state in ("SUCCESSFUL", "FAILED")
    assert second.state == "SUCCESSFUL", second.errors
    assert int(str(second.result)) != pid


@pytest.mark.usefixtures("same_processes")
def test_a_coroutine_may_use_the_database(worker: Process) -> None:
    results = [tasks.anote.enqueue(f"async {number}") for number in range(20)]
    assert {ended(result).state for result in results} == {"SUCCESSFUL"}


@pytest.mark.usefixtures("same_processes")
def test_surroundings_are_those_of_the_project_again(project: Project, queue: str, tmp_path: Path) -> None:
    results = tasks.change_surroundings.using(queue_name=queue).enqueue_many([(str(tmp_path),)] * 2)
    assert {ended(result).state for result in results} == {"SUCCESSFUL"}
    for result in tasks.surroundings.using(queue_name=queue).enqueue_many([()] * 2):
        assert json.loads(str(ended(result).result)) == ["UTC", "en-us", str(project.directory)]


@pytest.mark.usefixtures("same_processes")
def test_a_process_is_as_it_was_again(queue: str) -> None:
    before = json.loads(str(ended(tasks.process_state.using(queue_name=queue).enqueue()).result))
    assert before[4] == [0, 0]
    for _ in range(2):
        assert ended(tasks.change_process.using(queue_name=queue).enqueue()).state == "SUCCESSFUL"
        assert json.loads(str(ended(tasks.process_state.using(queue_name=queue).enqueue()).result)) == before
    # The alarm would have come by then.
    assert ended(tasks.sleep.using(queue_name=queue).enqueue(0.5)).state == "SUCCESSFUL"


@pytest.mark.usefixtures("same_processes")
def test_output_is_not_a_tasks_to_close(worker: Process, queue: str) -> None:
    result = tasks.close_output.using(queue_name=queue).enqueue()
    assert ended(result).state == "SUCCESSFUL"
    goes_on(queue)
    last = tasks.fail.enqueue()
    ended(last)
    worker.wait_for(f"{last.id} failed for good")


@pytest.mark.usefixtures("same_processes")
def test_a_directory_may_go_away(project: Project, queue: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    assert ended(tasks.go_and_remove.using(queue_name=queue).enqueue(str(gone))).state == "SUCCESSFUL"
    assert json.loads(str(ended(tasks.surroundings.using(queue_name=queue).enqueue()).result))[2] == str(
        project.directory
    )


# Rows that nobody of ours wrote


@pytest.mark.usefixtures("same_processes")
@pytest.mark.parametrize(
    ("columns", "path", "message"),
    [
        ({"name": "tests.taskapp.tasks.gone"}, "UnknownTask", "leads to nothing"),
        ({"name": "nobody.knows.this"}, "UnknownTask", "not inside an installed app"),
        ({"name": "os.system"}, "UnknownTask", "not inside an installed app"),
        ({"name": "tests.taskapp.tasks.os.system"}, "UnknownTask", "importing tests.taskapp.tasks.os failed"),
        ({"name": "tests.taskapp.tasks.leave"}, "UnknownTask", "leads to a function, not to a task"),
        ({"name": "django.contrib.auth.get_user_model"}, "UnknownTask", "leads to a function, not to a task"),
        ({"name": "tests.taskapp..tasks.noop"}, "UnknownTask", "No task is named"),
        ({"name": ""}, "UnknownTask", "No task is named ''"),
        ({"arguments": "[[1], {}]"}, "TypeError", "missing 1 required positional argument: 'right'"),
        ({"arguments": "[[1, 2, 3], {}]"}, "TypeError", "takes 2 positional arguments but 3 were given"),
        ({"arguments": '[[1, 2], {"other": 3}]'}, "TypeError", "unexpected keyword argument 'other'"),
        ({"arguments": "[[1, 2]"}, "JSONDecodeError", "Expecting"),
        ({"arguments": ""}, "JSONDecodeError", "Expecting value"),
        ({"arguments": "null"}, "TypeError", ""),
        ({"arguments": "[[1, 2]]"}, "ValueError", ""),
        ({"arguments": "[1, {}]"}, "TypeError", ""),
        ({"arguments": "[[1, 2], 3]"}, "TypeError", ""),
        ({"arguments": "[" * 100_000}, "RecursionError", ""),
        ({"options": "[1]"}, "OptionError", "must be a JSON object"),
        ({"options": '{"max_attempts": -1}'}, "OptionError", "max_attempts=-1"),
        ({"options": '{"priority": 1}'}, "OptionError", "'priority' is not known here"),
        ({"options": '{"backoff": [1, "2", 3, 4, 5]}'}, "OptionError", ""),
        ({"metadata": "{"}, "JSONDecodeError", ""),
        ({"errors": "not JSON\n"}, "JSONDecodeError", ""),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_a_damaged_row_fails_and_says_why(queue: str, columns: dict[str, str], path: str, message: str) -> None:
    # Later than anybody would wait, until it is as damaged as it should be.
    result = tasks.add.using(queue_name=queue, run_after=3600).enqueue(1, 2)
    damage(result, state="READY", run_after=None, **columns)
    record = wait_until(TaskRecord.objects.finished().filter(pk=result.id).first)
    assert (record.state, record.attempt) == ("FAILED", 1)
    error = json.loads(record.errors.splitlines()[-1])
    assert error["class"].rpartition(".")[2] == path
    assert message in error["message"]
    goes_on(queue)


# Attempts


def moments(path: Path) -> list[float]:
    """When each attempt of a task started."""
    return [float(line) for line in lines(path)]


@pytest.mark.usefixtures("worker")
def test_retries(tmp_path: Path) -> None:
    result = tasks.fail_until.using(max_attempts=5, backoff=0).enqueue(str(tmp_path / "trace"), 3)
    record = ended(result)
    assert (record.state, record.attempt, record.result, record.losses) == ("SUCCESSFUL", 3, "3", 0)
    assert [(error.attempt, error.message) for error in record.attempt_errors] == [(1, "attempt 1"), (2, "attempt 2")]
    assert len(record.worker_ids.splitlines()) == 3
    result.refresh()
    assert (result.status, result.attempts, result.return_value) == ("SUCCESSFUL", 3, 3)


@pytest.mark.usefixtures("worker")
def test_attempts_come_to_an_end(tmp_path: Path) -> None:
    result = tasks.fail_until.using(max_attempts=3, backoff=0).enqueue(str(tmp_path / "trace"), 9)
    assert error_of(result)[1] == "attempt 3"
    assert len(moments(tmp_path / "trace")) == row(result).attempt == len(row(result).attempt_errors) == 3


@pytest.mark.usefixtures("worker")
def test_backoff_is_kept(tmp_path: Path) -> None:
    result = tasks.fail_until.using(max_attempts=3, backoff=[0.3, 0.6]).enqueue(str(tmp_path / "trace"), 3)
    assert ended(result).state == "SUCCESSFUL"
    first, second, third = moments(tmp_path / "trace")
    assert 0.3 <= second - first < 1.3
    assert 0.6 <= third - second < 1.6


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("options", "attempts"),
    [
        ({"retry_on": [KeyError]}, 1),
        ({"retry_on": [LookupError, ValueError]}, 3),
        ({"retry_on": [Exception], "give_up_on": [ValueError]}, 1),
        ({"give_up_on": [KeyError]}, 3),
        ({"max_attempts": None}, 1),
    ],
    ids=str,
)
def test_which_errors_are_worth_another_attempt(tmp_path: Path, options: dict[str, Any], attempts: int) -> None:
    task = tasks.fail_until.using(**{"max_attempts": 3, "backoff": 0, **options})
    result = task.enqueue(str(tmp_path / "trace"), 9)
    assert error_of(result)[0] == "builtins.ValueError"
    assert len(moments(tmp_path / "trace")) == attempts


@pytest.mark.usefixtures("worker")
def test_a_task_may_ask_for_another_attempt(tmp_path: Path) -> None:
    result = tasks.ask_again.enqueue(str(tmp_path / "trace"), 3, 0.2)
    assert (ended(result).state, row(result).result) == ("SUCCESSFUL", "3")
    first, second, third = moments(tmp_path / "trace")
    assert min(second - first, third - second) >= 0.2


@pytest.mark.usefixtures("worker")
def test_asking_counts_as_an_attempt(tmp_path: Path) -> None:
    result = tasks.ask_again.using(max_attempts=2).enqueue(str(tmp_path / "trace"), 9, 0)
    assert error_of(result) == ("django_taskq.exceptions.Retry", "once more")
    assert len(moments(tmp_path / "trace")) == 2


@pytest.mark.usefixtures("worker")
def test_a_task_may_give_up(tmp_path: Path) -> None:
    result = tasks.reject.enqueue(str(tmp_path / "trace"))
    assert error_of(result) == ("django_taskq.exceptions.Reject", "no use")
    assert len(lines(tmp_path / "trace")) == 1


@pytest.mark.usefixtures("worker")
def test_a_backoff_function_may_give_up(tmp_path: Path) -> None:
    result = tasks.fail_until_backoff_gives_up.enqueue(str(tmp_path / "trace"))
    assert error_of(result) == ("builtins.ValueError", "attempt 2")


# Context


@pytest.mark.usefixtures("worker")
def test_progress_is_seen_while_the_task_runs(gate: Gate) -> None:
    result = tasks.report.enqueue(gate.path)

    def progress() -> Any:
        result.refresh()
        return result.progress

    seen = wait_until(progress, 5.0)
    assert (seen.done, seen.total, seen.message) == (3, 10, "three of ten")
    assert result.state == "RUNNING"
    gate.open()
    assert ended(result).state == "SUCCESSFUL"


@pytest.mark.usefixtures("worker")
def test_metadata_is_kept_over_attempts(tmp_path: Path) -> None:
    result = tasks.remember.using(metadata={"given": True}).enqueue()
    assert ended(result).result == "[1,2]"
    assert json.loads(row(result).metadata) == {"given": True, "seen": [1, 2, 3]}


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("task", [tasks.until_cancelled, tasks.auntil_cancelled], ids=["thread", "coroutine"])
def test_a_running_task_hears_that_it_is_cancelled(gate: Gate, task: Any) -> None:
    result = task.enqueue(gate.path)
    gate.wait_for(task.name)
    assert result.cancel() is True
    record = ended(result, 5.0)
    # It came to its end in its own way.
    assert (record.state, record.result) == ("SUCCESSFUL", '"stopped"')
    assert result.cancel() is False


@pytest.mark.usefixtures("worker")
def test_a_cancelled_task_gets_no_other_attempt(tmp_path: Path, gate: Gate) -> None:
    result = tasks.hold_and_fail.using(max_attempts=5, backoff=0).enqueue(gate.path)
    gate.wait_for("fail")
    assert result.cancel() is True
    gate.open()
    record = ended(result)
    assert (record.state, record.attempt) == ("CANCELLED", 1)
    assert record.finished_at is not None
    assert gate.started() == ["fail"]


@pytest.mark.usefixtures("worker")
def test_a_cancelled_task_that_waits_never_runs(tmp_path: Path, gate: Gate) -> None:
    holding = tasks.hold.using(priority=1).enqueue(gate.path, "before")
    gate.wait_for("before")
    # By then nothing is taken to wait behind it.
    wait_until(lambda: time.time() > row(holding).last_attempted_at.timestamp() + 0.5)
    ready = tasks.mark.enqueue(str(tmp_path / "trace"))
    later = tasks.mark.using(run_after=0.3).enqueue(str(tmp_path / "trace"))
    assert [result.cancel() for result in (ready, later)] == [True, True]
    gate.open()
    ended(holding)
    goes_on()
    for result in (ready, later):
        record = ended(result)
        assert (record.state, record.attempt) == ("CANCELLED", 0)
    assert not lines(tmp_path / "trace")


# Time


@pytest.mark.usefixtures("worker")
def test_what_expired_is_not_run(tmp_path: Path, gate: Gate) -> None:
    holding = tasks.hold.enqueue(gate.path, "before")
    gate.wait_for("before")
    result = tasks.mark.using(expires=0.3).enqueue(str(tmp_path / "trace"))
    in_time = tasks.mark.using(expires=60).enqueue(str(tmp_path / "in-time"))
    expired_at = row(result).enqueued_at.timestamp() + 0.3
    wait_until(lambda: time.time() > expired_at)
    gate.open()
    assert ended(in_time).state == ended(holding).state == "SUCCESSFUL"
    assert not lines(tmp_path / "trace")
    record = ended(result, 15.0)
    assert (record.state, record.attempt, record.started_at) == ("EXPIRED", 0, None)


@pytest.mark.timing
@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("delay", [0.4, timedelta(seconds=1.5)], ids=str)
def test_a_task_runs_when_its_time_has_come(tmp_path: Path, delay: float | timedelta) -> None:
    goes_on()
    result = tasks.mark.using(run_after=delay).enqueue(str(tmp_path / "trace"))
    scheduled = row(result)
    assert scheduled.state == "SCHEDULED"
    assert scheduled.run_after is not None
    late = float(str(ended(result).result)) - scheduled.run_after.timestamp()
    assert 0 <= late < 1.0


@pytest.mark.timing
@pytest.mark.databases("postgres", "mariadb")  # on SQLite there are no locked rows
def test_a_task_that_somebody_has_locked_waits_and_holds_up_nobody(worker: Process, tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")
    locked = tasks.mark.using(run_after=1.5).enqueue(trace)
    expiring = tasks.mark.using(run_after=3600, expires=7200).enqueue(trace)
    enqueued_at = row(locked).enqueued_at
    damage(expiring, expires_at=enqueued_at + timedelta(seconds=1.5))
    with transaction.atomic():
        both = TaskRecord.objects.select_for_update().filter(pk__in=[locked.id, expiring.id])
        assert [record.state for record in both] == ["SCHEDULED", "SCHEDULED"]
        wait_until(lambda: time.time() > enqueued_at.timestamp() + 1.5)
        began, used = time.monotonic(), cpu_seconds(worker)
        wait_until(lambda: time.monotonic() - began > 2.0)
        assert cpu_seconds(worker) - used < 0.5, "it waits, and does not try without a pause"
        assert not lines(trace)
    assert ended(locked, 5.0).state == "SUCCESSFUL"
    assert ended(expiring, 15.0).state == "EXPIRED"
    assert len(lines(trace)) == 1


def cpu_seconds(worker: Process) -> float:
    """Processor time that a worker's processes have used."""
    return sum(sum(psutil.Process(child.pid).cpu_times()[:2]) for child in worker.children())


# What is kept


@pytest.mark.usefixtures("worker")
def test_an_unrecorded_task_leaves_a_row_only_when_it_fails() -> None:
    good, bad = tasks.add.using(record=False).enqueue(1, 2), tasks.fail.using(record=False).enqueue()
    wait_until(lambda: not TaskRecord.objects.filter(pk=good.id).exists(), what="the row to go")
    assert error_of(bad) == ("builtins.ValueError", "as asked")


@pytest.mark.usefixtures("worker")
def test_an_unrecorded_task_that_is_retried_leaves_no_row(tmp_path: Path) -> None:
    task = tasks.fail_until.using(record=False, max_attempts=3, backoff=0)
    result = task.enqueue(str(tmp_path / "trace"), 3)
    wait_until(lambda: not TaskRecord.objects.filter(pk=result.id).exists(), what="the row to go")
    assert len(moments(tmp_path / "trace")) == 3


@pytest.mark.usefixtures("worker")
def test_what_is_not_to_be_stored_is_not() -> None:
    good = tasks.add.using(store_result=False).enqueue(1, 2)
    bad = tasks.fail.using(store_errors=False).enqueue("secret")
    assert (ended(good).state, row(good).result) == ("SUCCESSFUL", None)
    assert (ended(bad).state, row(bad).errors) == ("FAILED", "")
    bad.refresh()
    with pytest.raises(TaskFailed, match="its errors are not kept"):
        bad.get()


# What others hear


def heard(project: Project, result: TaskResult) -> list[str]:
    """What the receivers in the worker were told of a task."""
    return [line.replace(result.id, "id") for line in lines(project.directory / "signals") if result.id in line]


@pytest.mark.usefixtures("same_processes")
def test_signals_tell_of_start_and_end(project: Project, queue: str, tmp_path: Path) -> None:
    good, bad = tasks.add.using(queue_name=queue).enqueue(1, 2), tasks.fail.using(queue_name=queue).enqueue()
    coroutine = tasks.asleep.enqueue(0)
    again = tasks.fail_until.using(queue_name=queue, max_attempts=2, backoff=0).enqueue(str(tmp_path / "trace"), 2)
    for result in (good, bad, coroutine, again):
        ended(result)
    started = "started-TaskqBackend id RUNNING None"
    assert heard(project, good) == heard(project, coroutine) == [started, "finished-TaskqBackend id SUCCESSFUL None"]
    assert heard(project, bad) == [started, "finished-TaskqBackend id FAILED ValueError"]
    # The end of an attempt is not the end of the task.
    assert heard(project, again) == [started, started, "finished-TaskqBackend id SUCCESSFUL None"]


def test_the_workers_leak_nothing(project: Project, worker: Process) -> None:
    """After all the tests above, and a thousand tasks more: as many files and threads as before these."""
    goes_on()
    child = next(psutil.Process(one.pid) for one in worker.children())
    before = (child.num_fds(), child.num_threads())
    results = [*tasks.note.enqueue_many([("more",)] * 500), *tasks.fail.enqueue_many([()] * 500)]
    ids = [result.id for result in results]
    wait_until(lambda: not TaskRecord.objects.unfinished().filter(pk__in=ids).exists())
    assert (child.num_fds(), child.num_threads()) == before
