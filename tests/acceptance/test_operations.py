"""Operations on very many tasks, carried on by real workers."""

from __future__ import annotations

import signal
from uuid import uuid4

import pytest

from django_taskq import State
from django_taskq.bulk import abort, ask
from django_taskq.finding.search import Search
from django_taskq.models import KeeperRecord, OperationRecord, TaskRecord
from tests.acceptance.project import Project
from tests.acceptance.workers import start_worker, states
from tests.factories import make_tasks
from tests.waiting import wait_until

pytestmark = [pytest.mark.once, pytest.mark.databases("postgres")]

COUNT = 5_000


def asked(verb: str = "retry") -> int:
    operation, _ = ask("default", verb, Search(state="FAILED"), token=uuid4().hex)
    return operation.pk


def now(operation_id: int) -> OperationRecord:
    return OperationRecord.objects.get(pk=operation_id)


def test_five_thousand_failed_tasks_run_again(project: Project) -> None:
    make_tasks(COUNT, state=State.FAILED)
    start_worker(project)
    wait_until(KeeperRecord.objects.exists, what="a keeper")
    operation_id = asked()
    wait_until(lambda: not now(operation_id).is_active, what="the operation to end")
    done = now(operation_id)
    assert (done.state, done.seen, done.reasons) == ("DONE", COUNT, {"ready again": COUNT}), done.error
    wait_until(lambda: states() == {"SUCCESSFUL": COUNT}, 120.0, what="the tasks to run")


def test_aborted_in_the_middle_the_rest_is_left_alone(project: Project) -> None:
    make_tasks(4 * COUNT, state=State.FAILED)
    operation_id = asked("discard")
    start_worker(project)
    wait_until(lambda: now(operation_id).changed, what="the first slice")
    abort("default", operation_id)
    ended = now(operation_id)
    assert TaskRecord.objects.count() == 4 * COUNT - ended.changed
    assert ended.state == "ABORTED", "it was faster than the test"


def test_after_a_kill_another_worker_goes_on_and_each_task_is_acted_on_once(project: Project) -> None:
    make_tasks(4 * COUNT, state=State.FAILED)
    operation_id = asked("discard")
    worker = start_worker(project)
    wait_until(lambda: now(operation_id).changed, what="the first slice")
    children = worker.children()
    # First who would replace the others.
    worker.send(signal.SIGKILL)
    for child in children:
        child.kill()
    worker.wait()
    at_kill = now(operation_id)
    assert at_kill.state == "RUNNING", "it was faster than the test"
    assert TaskRecord.objects.count() == 4 * COUNT - at_kill.changed
    start_worker(project)
    wait_until(lambda: not now(operation_id).is_active, 60.0, what="the other worker to go on")
    done = now(operation_id)
    assert (done.state, done.seen, done.reasons) == ("DONE", 4 * COUNT, {"deleted": 4 * COUNT})
    assert not TaskRecord.objects.exists()
