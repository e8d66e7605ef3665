"""Workers obey what is said through the database: what is paused, and orders to one process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from django_taskq import control
from django_taskq.models import OrderRecord, PauseRecord, WorkerRecord
from django_taskq.worker.remote import Verb
from tests.acceptance.load import broker
from tests.acceptance.process import Process
from tests.acceptance.project import Project
from tests.acceptance.workers import Gate, drain, ended, lines, row, start_worker, states, wait_for_workers
from tests.taskapp import tasks
from tests.waiting import wait_until

pytestmark = pytest.mark.once

USING = "default"


@pytest.fixture(
    params=[
        pytest.param("database", marks=pytest.mark.databases("sqlite", "postgres", "mariadb")),
        pytest.param("amqp", marks=pytest.mark.databases("sqlite")),
        pytest.param("redis", marks=pytest.mark.databases("sqlite")),
    ]
)
def project(request: pytest.FixtureRequest, make_project: Callable[..., Project]) -> Project:
    """Return a project on the database, and on message brokers."""
    kind = request.param
    return make_project(tasks=broker("database://" if kind == "database" else request.getfixturevalue(f"{kind}_url")))


def wait_for_pauses(worker: Process, what: str, times: int) -> None:
    wait_until(lambda: worker.text().count(f"Paused: {what}.\n") >= times, what=f"the worker to pause {what}")


def ask(verb: Verb, worker_ids: list[str]) -> dict[str, str]:
    orders = control.order(USING, verb, worker_ids)
    found = control.answers(USING, orders, 30.0)
    assert found.keys() == set(worker_ids)
    return {worker_id: order.answer for worker_id, order in found.items()}


def facts(verb: Verb, worker_ids: list[str]) -> list[dict[str, Any]]:
    return [json.loads(answer) for answer in ask(verb, worker_ids).values()]


def test_what_is_paused_waits_and_runs_when_it_is_resumed(project: Project, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    # Comes about, for brokers that know of no queue but by its tasks.
    first = tasks.noop.using(queue_name="mail").enqueue()
    worker = start_worker(project, "--threads=2", processes=2)
    assert ended(first).state == "SUCCESSFUL"
    assert control.pause(USING, "queue", "mail", by="anne")
    assert control.pause(USING, "task", tasks.mark.module_path)
    assert not control.pause(USING, "queue", "mail")
    wait_for_pauses(worker, f"queue mail, {tasks.mark.module_path}", 2)
    assert [(one.kind, one.name, one.paused_by) for one in control.paused(USING)] == [
        ("queue", "mail", "anne"),
        ("task", tasks.mark.module_path, ""),
    ]

    waiting = [
        tasks.noop.using(queue_name="mail").enqueue(),
        tasks.asleep.using(queue_name="mail").enqueue(0),
        *tasks.mark.enqueue_many([(str(marks), "paused")] * 3),
    ]
    tasks.mark.using(record=False).enqueue(str(marks), "without a row")
    passing = [*tasks.noop.enqueue_many([()] * 20), tasks.asleep.enqueue(0)]
    for result in passing:
        assert ended(result).state == "SUCCESSFUL"
    # Who starts later knows, and a burst does not wait for what is paused.
    drain(project, "--processes=1")
    assert not lines(marks)
    assert {row(result).state for result in waiting} == {"READY"}
    assert {row(result).attempt for result in waiting} == {0}

    assert control.resume(USING, "task", tasks.mark.module_path)
    assert control.resume(USING, "queue", "mail")
    assert not control.resume(USING, "queue", "mail")
    for result in waiting:
        assert ended(result).attempt == 1
    wait_until(lambda: sorted(lines(marks)) == ["paused"] * 3 + ["without a row"], what="the paused tasks")
    # A mark is made before its task has ended.
    wait_until(lambda: states().keys() == {"SUCCESSFUL"}, what="all tasks to have ended")
    assert not PauseRecord.objects.exists()
    assert "Traceback" not in worker.text()


@pytest.mark.parametrize("project", ["database"], indirect=True)
def test_orders_are_answered_and_carried_out_once(project: Project, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    worker = start_worker(project, "--threads=2", processes=2)
    ids = [one.pk for one in wait_for_workers(2)]
    running = tasks.hold.enqueue(gate.path, "running")
    gate.wait_for("running")
    (busy,) = WorkerRecord.objects.filter(pk=row(running).worker_id).values_list("pk", flat=True)

    # What it says of itself.
    said = {one["worker"]: one for one in facts("ping", ids)}
    assert {one["pid"] for one in said.values()} == {child.pid for child in worker.children()}
    assert [one["id"] for one in said[busy]["running"]] == [running.id]
    assert not any(one["quiet"] or one["stopping"] for one in said.values())
    assert "in hold" in ask("stacks", [busy])[busy]
    assert control.answers(USING, control.order(USING, "ping", ["nobody"]), 0.1) == {}

    # What runs goes on, what comes waits.
    assert all(one["quiet"] for one in facts("drain", ids))
    waiting = tasks.noop.enqueue()
    gate.open()
    assert ended(running).state == "SUCCESSFUL"
    assert all(one["quiet"] for one in facts("ping", ids))
    assert row(waiting).state == "READY"
    assert not any(one["quiet"] for one in facts("resume", ids))
    assert ended(waiting).state == "SUCCESSFUL"

    # The whole worker, in order, though both of its processes are told.
    slow = tasks.sleep.enqueue(1.0)
    wait_until(lambda: row(slow).state == "RUNNING", what="the task to run")
    control.order(USING, "stop", ids)
    assert worker.wait() == 0, worker.text()
    assert row(slow).state == "SUCCESSFUL"
    assert "Gave back" not in worker.text()
    assert not WorkerRecord.objects.exists()
    answered = OrderRecord.objects.filter(answered_at__isnull=False).exclude(worker_id="nobody")
    assert answered.filter(verb="stop").exists()


@pytest.mark.parametrize("project", ["database"], indirect=True)
def test_the_admin_shows_where_a_worker_is(project: Project, tmp_path: Path) -> None:
    # The admin runs here: its tables are none of the project's.
    call_command("migrate", verbosity=0)
    gate = Gate(tmp_path / "gate")
    start_worker(project, "--threads=2")
    [worker] = wait_for_workers(1)
    running = tasks.hold.enqueue(gate.path, "running")
    gate.wait_for("running")
    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))
    page = reverse("admin:django_taskq_workerrecord_stacks", args=[quote(worker.pk)])
    address = browser.post(page)["Location"]

    def text() -> str:
        return browser.get(address).content.decode()

    wait_until(lambda: "in hold" in text(), what="the answer")
    assert "Memory: " in text()
    assert running.id in text()
    gate.open()
    assert ended(running).state == "SUCCESSFUL"


@pytest.mark.timing
@pytest.mark.parametrize("project", ["database", "amqp"], indirect=True)
def test_workers_obey_within_two_seconds(project: Project) -> None:
    worker = start_worker(project, processes=2)
    wait_for_workers(2)
    since = time.monotonic()
    control.pause(USING, "queue", "mail")
    wait_for_pauses(worker, "queue mail", 2)
    assert time.monotonic() - since < 2.0
    since = time.monotonic()
    control.resume(USING, "queue", "mail")
    wait_for_pauses(worker, "nothing", 2)
    assert time.monotonic() - since < 2.0
