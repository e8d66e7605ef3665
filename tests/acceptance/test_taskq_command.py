"""``manage.py taskq`` and a worker that runs."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.project import Project
from tests.acceptance.workers import Gate, ended, row, wait_for_workers
from tests.taskapp import tasks
from tests.waiting import wait_until


@pytest.mark.once
@pytest.mark.databases("sqlite")
def test_a_worker_is_watched_and_told_from_the_command_line(
    make_project: Callable[..., Project], tmp_path: Path
) -> None:
    project = make_project()
    gate = Gate(tmp_path / "gate")
    worker = project.start(sys.executable, "-m", "django", "taskq", "worker", "--processes=1", "--name=twin")
    (record,) = wait_for_workers(1)
    running = tasks.hold.enqueue(gate.path, "running")
    gate.wait_for("running")

    (status,) = json.loads(project.django("taskq", "status", "--format=json").stdout)
    assert [(one["name"], one["running"], one["is_alive"]) for one in status["workers"]] == [("twin", 1, True)]
    (pinged,) = json.loads(project.django("taskq", "workers", "ping", "twin", "--timeout=30", "--format=json").stdout)
    assert pinged["worker"] == record.pk
    assert [one["id"] for one in pinged["answer"]["running"]] == [running.id]
    assert "in hold" in project.django("taskq", "workers", "stacks", "--timeout=30").stdout

    # What is paused waits, and what runs can be cancelled.
    assert project.django("taskq", "queues", "pause", "default").stdout == "Paused queue default.\n"
    wait_until(lambda: "Paused: queue default" in worker.text(), what="the worker to pause the queue")
    task_id = project.django("taskq", "enqueue", tasks.noop.module_path).stdout.strip()
    assert project.django("taskq", "cancel", running.id, "--yes").stdout == "1 asked to stop.\n"
    assert ended(running).state == "CANCELLED"
    assert json.loads(project.django("taskq", "show", task_id, "--format=json").stdout)["state"] == "READY"
    unhealthy = project.django("taskq", "health", "--min-workers=2", "--max-wait=default=0s", check=False)
    assert unhealthy.returncode == 1
    assert [line.split(":")[0] for line in unhealthy.stdout.splitlines()] == ["max-wait", "min-workers"]

    assert project.django("taskq", "queues", "resume", "default").stdout == "Resumed queue default.\n"
    waiting = tasks.noop.get_result(task_id)
    assert ended(waiting).state == "SUCCESSFUL"
    assert row(waiting).worker_id == record.pk

    top = project.start(sys.executable, "-m", "django", "taskq", "top", "--interval=0.1")
    wait_until(lambda: top.text().count("twin") >= 2, what="two looks at the worker")
    top.send(signal.SIGINT)
    assert top.wait() == 0
    assert "stops" in project.django("taskq", "workers", "stop", "twin", "--timeout=30").stdout
    assert worker.wait() == 0
