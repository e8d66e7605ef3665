"""``manage.py taskq`` with rows: what it shows, what it changes, what it asks the database."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from django_taskq import State, task
from django_taskq.aliases import taskq_backends
from django_taskq.core.outcome import AttemptError
from django_taskq.core.sensitive import HIDDEN
from django_taskq.database import database_now
from django_taskq.models import PauseRecord, TaskRecord
from django_taskq.overview import overview
from tests.factories import WORKER, make_tasks, make_worker
from tests.taskapp import tasks

pytestmark = pytest.mark.django_db

ANY_QUEUE = {"default": {"BACKEND": "django_taskq.TaskqBackend", "QUEUES": []}}


@task(sensitive=["password"])
def secretive(user: str, password: str) -> None:
    """A task that has a secret."""


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("taskq", *arguments, stdout=out)
    return out.getvalue()


def read(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--format=json"))


def fails(*arguments: str) -> str:
    with pytest.raises(CommandError) as error:
        run(*arguments)
    return str(error.value)


def states() -> dict[str, int]:
    return dict(Counter(TaskRecord.objects.values_list("state", flat=True)))


def failed(message: str, **fields: Any) -> TaskRecord:
    error = AttemptError(exception_class_path="shop.errors.OutOfStock", message=message, traceback="Traceback: here")
    line = error.line(attempt=1, worker=WORKER, at=database_now("default"))
    (record,) = make_tasks(state=State.FAILED, errors=line, **fields)
    return record


def test_status_counts_what_waits_and_runs_and_who_works() -> None:
    make_tasks(3, state=State.READY, queue_name="mail", ended_ago=90)
    make_tasks(2, state=State.RUNNING, queue_name="slow")
    make_tasks(2, state=State.FAILED)
    make_worker(silent_for=1)
    make_worker(id="lost", name="lost", silent_for=900)
    PauseRecord.objects.create(kind="queue", name="slow", paused_at=database_now("default"))
    (one,) = read("status")
    queues = {queue["queue"]: queue for queue in one["queues"]}
    assert (queues["mail"]["ready"], queues["mail"]["is_paused"]) == (3, False)
    assert 90 <= queues["mail"]["oldest_wait"] < 120
    assert (queues["slow"]["running"], queues["slow"]["is_paused"], queues["slow"]["oldest_wait"]) == (2, True, None)
    assert one["ended"] == {"FAILED": 2}
    workers = {worker["id"]: worker for worker in one["workers"]}
    assert workers[WORKER]["is_alive"]
    assert workers[WORKER]["running"] == 2
    assert not workers["lost"]["is_alive"]
    assert workers["lost"]["silent_for"] >= 900
    text = run("top", "--once")
    assert re.search(r"running +2, on 1 of 2 worker processes alive", text)
    assert re.search(r"^slow .*PAUSED$", text, re.MULTILINE)


def test_status_asks_a_few_questions_that_small_indexes_answer() -> None:
    make_tasks(2, state=State.READY)
    make_tasks(1, state=State.SCHEDULED, run_after=database_now("default"))
    with CaptureQueriesContext(connection) as few:
        overview("default", taskq_backends())
    make_tasks(400, state=State.READY, queue_name="default")
    make_tasks(2000, state=State.SUCCESSFUL, ended_ago=7200)
    with CaptureQueriesContext(connection) as many:
        overview("default", taskq_backends())
    assert len(many) == len(few) <= 20
    if connection.vendor == "sqlite":
        for query in many.captured_queries:
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
                plan = [str(row[3]) for row in cursor.fetchall()]
            # The table as a whole is never read: the ends of its rowids are.
            whole = [step for step in plan if step.startswith("SCAN django_taskq_task") and "INDEX" not in step]
            assert not whole or "max(rowid)" in query["sql"], query["sql"]


def test_list_shows_the_newest_that_are_meant() -> None:
    make_tasks(3, state=State.READY, queue_name="mail", name="shop.send")
    make_tasks(2, state=State.SUCCESSFUL, ended_ago=7200, name="shop.count")
    failure = failed("No 7 is out of stock", name="Shop.send")
    assert [row["id"] for row in read("list")] == [
        str(pk) for pk in TaskRecord.objects.order_by("-pk").values_list("pk", flat=True)
    ]
    for arguments, count in [
        (["--state=READY"], 3),
        (["--state=READY", "--state=failed"], 4),
        (["--task=shop.*"], 5),
        (["--queue=ma?l"], 3),
        (["--older-than=1h"], 2),
        (["--newer-than=1h"], 4),
        (["--error=OutOfStock"], 1),
        (["--error=out of stock"], 1),
        (["--error=KeyError"], 0),
        ([f"--worker={WORKER}"], 3),
        (["--limit=4"], 4),
        ([str(failure.pk)], 1),
    ]:
        assert len(read("list", *arguments)) == count, arguments
    assert len(run("list", "--format=jsonl").splitlines()) == 6
    assert len(run("list").splitlines()) == 7


def test_show_tells_everything_but_what_is_sensitive() -> None:
    record = failed("No 7 for hunter2", name=secretive.module_path, arguments='[["anne","hunter2"],{}]')
    shown = read("show", str(record.pk))
    assert shown["state"] == "FAILED"
    assert shown["workers"] == [WORKER]
    assert [error["message"] for error in shown["errors"]] == [f"No 7 for {HIDDEN}"]
    text = run("show", str(record.pk))
    assert "Traceback: here" in text
    assert "hunter2" not in text + json.dumps(shown)
    unknown = "0199c0de-0000-7000-8000-000000000000"
    assert f"There is no task {unknown}" in fails("show", unknown)


def test_changes_are_announced_confirmed_and_counted() -> None:
    make_tasks(2, state=State.READY, queue_name="mail")
    make_tasks(1, state=State.RUNNING, queue_name="mail")
    make_tasks(2, state=State.FAILED)
    before = states()
    assert run("cancel", "--queue=mail", "--dry-run") == "Would cancel 3 tasks (2 cancelled, 1 asked to stop).\n"
    assert "give --yes" in fails("cancel", "--queue=mail")
    assert "ids, or a filter" in fails("cancel", "--yes")
    assert states() == before
    assert run("cancel", "--queue=mail", "--yes") == "2 cancelled, 1 asked to stop.\n"
    assert states() == {"CANCELLED": 2, "RUNNING": 1, "FAILED": 2}
    assert run("retry", "--state=FAILED", "--limit=1", "--yes") == "1 ready again.\n"
    assert run("retry", "0199c0de-0000-7000-8000-000000000000", "--yes") == "1 not found.\n"
    assert "moved to slow" in run("requeue", "--state=READY", "--to-queue=slow", "--yes")
    assert TaskRecord.objects.get(state="READY").queue_name == "slow"
    assert run("purge", "--all", "--yes") == "1 deleted.\n"
    assert states() == {"CANCELLED": 2, "RUNNING": 1, "FAILED": 1}


def test_queues_and_tasks_are_paused_and_resumed() -> None:
    name = tasks.noop.module_path
    assert run("queues", "pause", "mail", "slow") == "Paused queue mail.\nPaused queue slow.\n"
    assert run("queues", "pause", "mail") == "The queue mail was paused before.\n"
    assert run("tasks", "pause", name) == f"Paused task {name}.\n"
    assert {row["queue"] for row in read("queues") if row["paused_at"]} == {"mail", "slow"}
    assert [row["task"] for row in read("tasks") if row["paused_at"]] == [name]
    assert PauseRecord.objects.get(kind="task").paused_by
    assert run("queues", "resume", "mail", "slow") == "Resumed queue mail.\nResumed queue slow.\n"
    assert run("tasks", "resume", name, "other") == f"Resumed task {name}.\nThe task other was not paused.\n"
    assert not PauseRecord.objects.exists()


def test_enqueue_calls_registered_tasks_and_prints_their_ids(settings: Any) -> None:
    settings.TASKS = ANY_QUEUE
    task_id = run(
        "enqueue", tasks.noop.module_path, "--queue=mail", "--priority=7", "--delay=30s", "--backend=default"
    ).strip()
    row = TaskRecord.objects.get(pk=task_id)
    assert (row.name, row.queue_name, row.priority, row.state) == (tasks.noop.module_path, "mail", 7, "SCHEDULED")
    added = TaskRecord.objects.get(
        pk=run("enqueue", tasks.add.module_path, "--args=[1]", '--kwargs={"right": 2}').strip()
    )
    assert added.call_arguments == ([1], {"right": 2})


def test_config_says_where_each_value_comes_from_and_no_password(settings: Any) -> None:
    options = {"lease": 12, "result_options": {"password": "hunter2"}}
    settings.TASKS = {"default": {"BACKEND": "django_taskq.TaskqBackend", "OPTIONS": options}}
    text = run("config", "--format=json")
    rows = {row["key"]: row for row in json.loads(text)}
    assert (rows["lease"]["value"], rows["lease"]["source"]) == (12, "settings")
    assert (rows["poll_interval"]["value"], rows["poll_interval"]["source"]) == (1.0, "default")
    assert "hunter2" not in text
    assert re.search(r"^default +lease +12 +settings$", run("config"), re.MULTILINE)


def health(*arguments: str) -> tuple[int, list[str]]:
    out = io.StringIO()
    try:
        call_command("taskq", "health", *arguments, stdout=out)
    except SystemExit as error:
        return int(error.code or 0), out.getvalue().splitlines()
    return 0, out.getvalue().splitlines()


def test_health_names_each_rule_that_does_not_hold() -> None:
    make_tasks(3, state=State.READY, queue_name="mail", ended_ago=600)
    make_tasks(2, state=State.READY, queue_name="slow", ended_ago=600)
    make_worker()
    assert health() == (0, ["ok: 1 worker process alive"])
    assert health("--min-workers=1", "--max-depth=3", "--max-wait=1h") == (0, ["ok: 1 worker process alive"])
    status, failures = health("--max-wait=mail=60s", "--max-wait=1h", "--max-depth=slow=1", "--min-workers=2")
    assert status == 1
    assert [failure.split(":")[0] for failure in failures] == ["max-wait", "max-depth", "min-workers"]
    # What is paused is left out by rules for all queues, not by its own.
    PauseRecord.objects.create(kind="queue", name="slow", paused_at=database_now("default"))
    assert len(health("--max-wait=60s")[1]) == 1
    assert len(health("--max-wait=60s", "--max-wait=slow=60s")[1]) == 2


@pytest.fixture
def unreachable() -> Iterator[None]:
    """Let the database be one that cannot be opened."""
    kept, settings = connections["default"], connections.settings["default"]
    away = {**settings, "ENGINE": "django.db.backends.sqlite3", "NAME": "/nowhere/db.sqlite3", "OPTIONS": {}}
    connections.settings["default"] = away
    connections["default"] = connections.create_connection("default")
    connections["default"].ensure_connection  # noqa: B018  # as it is: pytest-django blocks only its own
    try:
        yield
    finally:
        connections.settings["default"], connections["default"] = settings, kept


def test_a_database_that_cannot_be_reached_is_a_line_not_a_traceback(unreachable: None) -> None:
    status, failures = health("--min-workers=0")
    assert status == 1
    assert [failure.split(":")[0] for failure in failures] == ["database"]
    assert "unable to open" in fails("list")


def test_orders_need_somebody_who_lives() -> None:
    make_worker(silent_for=900)
    assert [row["id"] for row in read("workers")] == [WORKER]
    assert fails("workers", "ping") == "No worker is alive."
    assert fails("workers", "drain", "nobody") == "No such worker is alive."
