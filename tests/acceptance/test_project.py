"""The tests' own projects: apart from each other, one with the test process, gone afterwards."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable

import pytest
from django.conf import settings
from django.db import connection

from tests.acceptance.project import Project
from tests.reaper import started_at
from tests.taskapp.models import Note
from tests.waiting import wait_until

#: Starts a child in a session of its own, tells its pid, and waits.
WITH_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
print(child.pid, flush=True)
child.wait()
"""

#: A test run: starts a process, tells its pid, and waits.
RUN = """
import os, signal, sys
from pathlib import Path
from tests.acceptance.process import Process
waits = [sys.executable, "-c", "import signal; signal.pause()"]
print(Process(waits, directory=Path(sys.argv[1]), name="left", environment=os.environ).pid, flush=True)
signal.pause()
"""


def test_the_test_and_its_project_see_the_same_rows(project: Project) -> None:
    Note.objects.create(text="from the test")
    shell = """
from tests.taskapp.models import Note
Note.objects.create(text="from the project")
print(Note.objects.count())
"""
    assert project.django("shell", "--command", shell).stdout.split()[-1] == "2"
    assert sorted(Note.objects.values_list("text", flat=True)) == ["from the project", "from the test"]


def test_each_project_has_rows_of_its_own(make_project: Callable[..., Project]) -> None:
    for _ in range(2):
        make_project()
        assert not Note.objects.exists()
        Note.objects.create(text="mine")


def test_a_project_has_the_settings_it_was_made_with(make_project: Callable[..., Project]) -> None:
    tasks = {"default": {"BACKEND": "django_taskq.TaskqBackend", "QUEUES": ["mail"]}}
    project = make_project(
        tasks=tasks, apps=["django.contrib.sites"], settings={"SITE_ID": 7}, environment={"ANSWER": "42"}
    )
    shell = """
import json, os
from django.conf import settings
print(json.dumps([settings.TASKS, settings.SITE_ID, os.environ["ANSWER"]]))
"""
    assert json.loads(project.django("shell", "--command", shell).stdout.splitlines()[-1]) == [tasks, 7, "42"]
    assert tasks == settings.TASKS
    assert "django_site" in connection.introspection.table_names()


def test_nothing_of_a_project_outlives_it(project: Project) -> None:
    process = project.start(sys.executable, "-c", WITH_CHILD)
    wait_until(process.text, what="the child's pid")
    child = int(process.text())
    assert [found.pid for found in process.children()] == [child]
    process.send(signal.SIGKILL)
    process.wait()
    assert [found.pid for found in project.living()] == [child]
    project.close()
    assert project.living() == []
    assert started_at(child) is None


def test_a_command_that_fails_shows_what_it_said(project: Project) -> None:
    with pytest.raises(AssertionError, match="Unknown command: 'nonsense'"):
        project.django("nonsense")


def test_waiting_for_output_ends_with_the_process(project: Project) -> None:
    process = project.start(sys.executable, "-c", "print('something else')")
    with pytest.raises(AssertionError, match=r"ended with 0 before 'this'(.|\n)*something else"):
        process.wait_for("this")


def test_a_process_does_not_outlive_a_test_run_that_is_killed(project: Project) -> None:
    run = project.start(sys.executable, "-c", RUN, str(project.directory))
    wait_until(run.text, what="the process's pid")
    left = int(run.text())
    run.send(signal.SIGKILL)
    wait_until(lambda: started_at(left) is None, what="the end of the process")
