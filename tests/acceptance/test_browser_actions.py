"""What people do in the admin, done with a real browser and real workers, under a strict policy."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from django_taskq import TaskResult, control
from django_taskq.core.states import State
from django_taskq.models import OperationRecord, PauseRecord, ScheduleRecord, TaskRecord
from django_taskq.schedule_control import create_schedule
from django_taskq.schedules.definition import Schedule
from tests.acceptance.browsing import OURS, TASKS, Visitor, Window
from tests.acceptance.process import Process
from tests.acceptance.workers import Gate, ended, frozen, row, start_worker, wait_until_done
from tests.factories import make_tasks
from tests.taskapp import tasks
from tests.waiting import wait_until

pytestmark = [pytest.mark.once, pytest.mark.databases("postgres")]

PAUSES, SCHEDULES = f"{OURS}pauserecord/", f"{OURS}schedulerecord/"


@pytest.fixture(scope="module", autouse=True)
def worker(window: Window) -> Process:
    return start_worker(window.project, "--threads=2")


@pytest.mark.databases("postgres", "sqlite")
def test_a_failed_task_is_retried_and_succeeds(visitor: Visitor, tmp_path: Path) -> None:
    path = str(tmp_path / "attempts")
    result = tasks.fail_until.enqueue(path, 2)
    assert ended(result).state == State.FAILED

    page = visitor.visit(f"{TASKS}?state=FAILED")
    visitor.follow(result.task.name)
    assert "Failed" in page.locator(".field-state_text").inner_text()
    visitor.press("Retry")
    assert "Retry: 1" in visitor.said()

    _wait_for_success(result)
    visitor.visit(f"{TASKS}{result.id}/change/")
    assert "Successful" in page.locator(".field-state_text").inner_text()


def test_tasks_of_the_list_are_retried_together(visitor: Visitor, tmp_path: Path) -> None:
    results = [tasks.fail_until.enqueue(str(tmp_path / str(number)), 2) for number in range(3)]
    assert {ended(result).state for result in results} == {State.FAILED}

    page = visitor.visit(f"{TASKS}?state=FAILED")
    page.locator("#action-toggle").check()
    page.locator("select[name=action]").select_option("retry_tasks")
    visitor.press("Go")
    assert "Retry: 3" in visitor.said()

    _wait_for_success(*results)


def test_five_thousand_tasks_are_retried_with_progress_and_what_is_aborted_is_left_alone(
    visitor: Visitor, worker: Process
) -> None:
    control.pause("default", "queue", "many")
    make_tasks(5_000, state=State.FAILED, name=tasks.noop.module_path, queue_name="many")
    page = visitor.page

    def ask(action: str) -> None:
        visitor.visit(f"{TASKS}?queue=many")
        page.locator("select[name=action]").select_option(action)
        page.get_by_role("checkbox", name="all tasks that match").check()
        visitor.press("Go")
        with page.expect_navigation():
            page.locator("#content form button[type=submit]").click()

    ask("retry_tasks")
    progress = page.locator("progress")
    assert progress.count() == 1
    # The page follows by itself.
    page.locator("[data-taskq-progress=over]").wait_for()
    assert progress.get_attribute("value") == "100"
    assert OperationRecord.objects.get().changed == 5_000
    assert not TaskRecord.objects.filter(queue_name="many", state=State.FAILED).exists()

    with ExitStack() as stack:
        # Nobody works it off before it is aborted.
        for process in worker.children():
            stack.enter_context(frozen(process))
        ask("cancel_tasks")
        assert page.locator("[data-taskq-progress=moving]").count() == 1
        visitor.press("Abort")
        assert "was aborted" in visitor.said()
        assert page.locator("[data-taskq-progress=over]").count() == 1
    assert not TaskRecord.objects.filter(queue_name="many", state=State.CANCELLED).exists()
    control.resume("default", "queue", "many")
    wait_until_done()


def test_failures_are_retried_as_a_group(visitor: Visitor, tmp_path: Path) -> None:
    results = [tasks.fail_until.enqueue(str(tmp_path / str(number)), 2) for number in range(2)]
    assert {ended(result).state for result in results} == {State.FAILED}

    visitor.visit(f"{OURS}failurerecord/")
    visitor.press("Retry all")

    _wait_for_success(*results)


@pytest.mark.databases("postgres", "sqlite")
def test_a_running_task_is_cancelled(visitor: Visitor, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    result = tasks.hold.enqueue(gate.path, "held")
    gate.wait_for("held")

    page = visitor.visit(f"{TASKS}{result.id}/change/")
    assert "Running" in page.locator(".field-state_text").inner_text()
    visitor.press("Cancel")
    assert "Cancel: 1" in visitor.said()

    assert ended(result).state == State.CANCELLED


def test_a_queue_is_paused_and_resumed(visitor: Visitor) -> None:
    page = visitor.visit(f"{PAUSES}add/")
    page.get_by_label("Kind").select_option("queue")
    page.get_by_label("Name").fill("mail")
    visitor.press("Save")
    assert PauseRecord.objects.get().paused_by == "root"
    held, other = tasks.noop.using(queue_name="mail").enqueue(), tasks.noop.enqueue()
    assert ended(other).state == State.SUCCESSFUL
    assert row(held).state == State.READY

    visitor.visit(PAUSES)
    visitor.follow("Queue")
    visitor.follow("Delete")
    visitor.press("Yes, I’m sure")
    assert not PauseRecord.objects.exists()
    assert ended(held).state == State.SUCCESSFUL


def test_a_schedule_is_edited_with_its_next_runs_in_view_and_run(visitor: Visitor, window: Window) -> None:
    create_schedule(Schedule(name="nightly", task=tasks.noop.module_path, kind="cron", expression="0 3 * * *"))

    page = visitor.visit(SCHEDULES)
    visitor.follow("nightly")
    page.get_by_label("Expression").fill("30 4 * * *")
    with page.context.expect_page() as opened:
        page.get_by_role("button", name="Show next runs").click()
    preview = opened.value
    # It is open as soon as it is empty.
    preview.locator(".taskq-next-runs li").nth(4).wait_for()
    assert preview.locator(".taskq-next-runs li").count() == 5
    assert "04:30:00" in preview.locator(".taskq-next-runs").inner_text()
    preview.close()
    assert ScheduleRecord.objects.get().expression == "0 3 * * *"

    visitor.press("Save and continue editing")
    assert ScheduleRecord.objects.get().expression == "30 4 * * *"
    assert "04:30:00" in page.locator(".taskq-next-runs").inner_text()
    visitor.press("Run now")
    assert "1 task was enqueued" in visitor.said()
    visitor.press("Disable")
    assert not ScheduleRecord.objects.get().is_enabled
    visitor.press("Enable")
    assert ScheduleRecord.objects.get().is_enabled


def test_what_is_wrong_with_a_schedule_stands_at_its_field(visitor: Visitor) -> None:
    page = visitor.visit(f"{SCHEDULES}add/")
    page.get_by_label("Name").fill("broken")
    page.get_by_label("Expression").fill("61 * * * *")
    page.locator("select[name=task]").select_option(tasks.noop.module_path)
    visitor.press("Save")
    assert page.locator(".field-expression .errorlist").count() == 1


def _wait_for_success(*results: TaskResult) -> None:
    wait_until(lambda: all(row(result).state == State.SUCCESSFUL for result in results), what="all of them to succeed")
