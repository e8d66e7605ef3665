"""What a running worker shows of itself and of its tasks: lines, logs in rows, traces, events, signals, counters."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client.parser import text_string_to_metric_families

from django_taskq.monitoring.tracing import instrument, uninstrument
from tests.acceptance.project import Project
from tests.acceptance.workers import ended, lines, start_worker, wait_until_done
from tests.taskapp import tasks
from tests.waiting import wait_until

pytestmark = pytest.mark.once

NAME = "tests.taskapp.tasks"

#: Runs a worker as ``runworker --burst`` does, and shows what its supervisor's probe would.
WITH_LEDGER = """
import django; django.setup()
from django_taskq.worker.settings import WorkerSettings
from django_taskq.worker.startup import import_tasks
from django_taskq.worker.supervisor import Supervisor
import_tasks([])
supervisor = Supervisor(WorkerSettings(backends=("default",), coroutines=0, strict=True, burst=True, name="counted"))
assert supervisor.run() == 0
print(supervisor.ledger.render())
"""


def parsed(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(path)]


def test_a_worker_is_watched_from_its_start_to_its_end(make_project: Callable[..., Project], tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    project = make_project(apps=["tests.watchedapp"], environment={"TASKQ_WATCHED": str(watched)})
    worker = start_worker(project, "--threads=2", "--log-format=json")
    # First, as it takes along what its process has not written or sent yet.
    lost = tasks.crash.using(max_deliveries=1).enqueue(1)
    assert ended(lost).state == "FAILED"
    instrument(TracerProvider())
    try:
        logged, alogged = tasks.log_lines.enqueue("first", "second"), tasks.alog_lines.enqueue("third")
    finally:
        uninstrument()
    secret, failed = tasks.log_secret.enqueue(password="hunter2"), tasks.fail.enqueue("no such order")
    retried = tasks.fail.using(max_attempts=2, backoff=0).enqueue("not yet")
    kept = {result.id: ended(result).log.splitlines() for result in (logged, alogged, secret, failed, retried)}
    cancelled = tasks.noop.using(run_after=600).enqueue()
    wait_until(lambda: any(one["told"] == "task_lost" for one in parsed(watched / "signals")), what="task_lost")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0, worker.text()

    # Lines of the task stay with its row, those of the queue do not, and none of a task with secrets.
    assert [line.partition("Z ")[2] for line in kept[logged.id]] == [
        "INFO shop.orders: first",
        "INFO shop.orders: second",
    ]
    assert [line.partition("Z ")[2] for line in kept[alogged.id]] == [
        "INFO shop.orders: third",
        "WARNING shop.orders: from a thread",
    ]
    assert kept[secret.id] == kept[failed.id] == []

    # What is printed is JSON, and says which task it is about, whoever logged it.
    printed = [json.loads(line) for line in worker.stderr.read_text().splitlines()]
    assert {"time", "level", "logger", "message"} <= set.intersection(*(set(line) for line in printed))
    (warned,) = [line for line in printed if line["message"].startswith("the password is")]
    assert (warned["logger"], warned["task_id"], warned["task"]) == ("shop.orders", secret.id, f"{NAME}.log_secret")
    (given,) = [line for line in printed if line["message"] == "from a thread"]
    assert (given["task_id"], given["answer"], given["attempt"]) == ("not ours", 42, 1)
    assert any(line.get("action") == "task_failed" and line["task_id"] == failed.id for line in printed)
    assert not any(line["message"] == "first" for line in printed)

    # Spans and events that waited in the process were sent before it ended.
    spans = {span["attributes"]["messaging.message.id"]: span for span in parsed(watched / "spans")}
    assert spans[logged.id]["parent_id"] is not None
    assert spans[failed.id]["status"]["status_code"] == "ERROR"
    events = {event.get("tags", {}).get("task_id", ""): event for event in parsed(watched / "event")}
    # One is the supervisor's, of the process that died.
    assert set(events) == {failed.id, retried.id, lost.id, ""}
    assert events[failed.id]["exception"]["values"][-1]["value"] == "no such order"

    told = parsed(watched / "signals")
    assert {one["id"] for one in told if one["told"] == "task_retrying"} == {retried.id}
    assert [(one["id"], one["runs_again"]) for one in told if one["told"] == "task_lost"] == [(lost.id, False)]
    # Two processes: the first one died.
    assert len([one for one in told if one["told"] == "worker_ready"]) == 2
    (stopped,) = [one for one in told if one["told"] == "worker_stopping"]
    assert (stopped["sender"], stopped["backends"], stopped["queues"]) == ("WorkerProcess", ["default"], "*")
    assert cancelled.id not in {one.get("id") for one in told}


def test_counts_outlive_the_process_that_made_them(project: Project) -> None:
    tasks.noop.using(priority=5).enqueue_many([()] * 50)
    tasks.fail.using(priority=4, max_attempts=2, backoff=0).enqueue()
    # Meanwhile the ends of all before it are written.
    tasks.sleep.using(priority=3).enqueue(0.5)
    tasks.crash.using(priority=2, max_deliveries=1).enqueue(1)
    tasks.noop.using(priority=1).enqueue_many([()] * 50)
    process = project.start(sys.executable, "-c", WITH_LEDGER)
    assert process.wait(60.0) == 0, process.text()
    assert wait_until_done() == {"SUCCESSFUL": 101, "FAILED": 2}
    samples = {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(process.stdout.read_text())
        for sample in family.samples
    }

    def total(end: str, task: str) -> float:
        return samples.get(("taskq_worker_tasks_total", end, "default", f"{NAME}.{task}"), 0.0)

    assert total("succeeded", "noop") == 100
    assert (total("retried", "fail"), total("failed", "fail")) == (1, 1)
    assert (total("lost", "crash"), total("failed", "crash")) == (1, 0)
    assert samples["taskq_worker_run_seconds_count", "default", f"{NAME}.fail"] == 2
    assert samples["taskq_worker_wait_seconds_count", "default", f"{NAME}.noop"] == 100
    # Nobody is left who could run anything.
    assert samples["taskq_worker_slots", "threads"] == 0
