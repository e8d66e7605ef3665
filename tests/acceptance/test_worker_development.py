"""A worker at a developer's hands: code that changes, a debugger, a terminal that is closed."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from django_taskq.models import WorkerRecord
from tests.acceptance.project import Project
from tests.acceptance.workers import Gate, ended, row, start_worker, states
from tests.taskapp import tasks
from tests.waiting import wait_until

pytestmark = [pytest.mark.once, pytest.mark.databases("sqlite")]

#: With an app of the test's own, to be written beside the settings.
WITH_SHOP = {
    "INSTALLED_APPS": ["django.contrib.contenttypes", "django.contrib.auth", "django_taskq", "tests.taskapp", "shop"],
    "DEBUG": True,
}


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def test_code_that_changes_is_loaded_when_it_loads(make_project: Callable[..., Project], gate: Gate) -> None:
    project = make_project(settings=WITH_SHOP)
    module = project.directory / "shop" / "tasks.py"
    module.parent.mkdir()
    (module.parent / "__init__.py").touch()

    def write(source: str) -> None:
        module.write_text(f"from django_taskq import task\n{source}")

    write("@task\ndef one(): ...\n")
    worker = start_worker(project, "--reload", "--threads=2")
    assert "reloads   when code changes" in worker.text()
    held = tasks.hold.enqueue(gate.path, "held")
    gate.wait_for("held")

    # One that does not load changes nothing.
    write("def broken(:\n")
    worker.wait_for("The code as it is now does not load")
    assert "SyntaxError" in worker.text()
    assert ended(tasks.add.enqueue(1, 2)).result == "3"

    # One that loads is loaded; who is in the middle of something gets some seconds, then it runs again.
    write("@task\ndef one(): ...\n@task\ndef two(): ...\n")
    worker.wait_for("Begins anew")
    gate.wait_for("held", "held")
    gate.open()
    assert ended(held).attempt == 2
    known = [int(number) for number in re.findall(r"knows +(\d+) task", worker.text())]
    assert known == [known[0], known[0] + 1]
    assert worker.returncode is None
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0, worker.text()
    wait_until(lambda: not project.living(), what="the watcher to end, too")


def test_a_debugger_has_the_terminal_and_the_main_thread(make_project: Callable[..., Project], gate: Gate) -> None:
    project = make_project()
    keyboard = project.directory / "keyboard"
    os.mkfifo(keyboard)
    result = tasks.debugged.enqueue()
    command = f"exec {sys.executable} -m django runworker --solo < {keyboard}"
    worker = project.start("sh", "-c", command)
    with keyboard.open("w") as typed:
        worker.wait_for("(Pdb)")
        # It beats while somebody thinks.
        assert WorkerRecord.objects.get().pid == worker.pid
        typed.write("answer = 6 * 7\ncontinue\n")
        typed.flush()
        assert ended(result).result == "42"
        assert ended(tasks.asleep.enqueue(0.0)).state == "SUCCESSFUL"
        assert not worker.children()
        held = tasks.hold.enqueue(gate.path, "held")
        gate.wait_for("held")
        worker.send(signal.SIGTERM)
        waiting = tasks.noop.enqueue()
        wait_until(lambda: row(held).state == "RUNNING")
        worker.send(signal.SIGTERM)
        assert worker.wait() == 4, worker.text()
    assert states() == {"SUCCESSFUL": 2, "READY": 2}
    assert row(waiting).attempt == 0

    refused = project.runworker("--solo", "--processes=2")
    assert refused.wait() == 1
    assert "it has no --processes" in refused.text()


def test_a_worker_goes_with_its_terminal(make_project: Callable[..., Project]) -> None:
    project = make_project(settings={"DEBUG": True})
    command = [sys.executable, "-m", "django", "runworker", "--processes=1"]
    terminal = project.start(sys.executable, "-c", f"import pty; pty.spawn({command!r})")
    wait_until(lambda: WorkerRecord.objects.count() == 1, what="the worker to register")
    assert "reloads   when code changes" in terminal.text(), "DEBUG, and a terminal"
    terminal.send(signal.SIGKILL)
    terminal.wait()
    wait_until(lambda: not project.living(), what="all processes to end")
    assert not WorkerRecord.objects.exists()
