"""``python -m tests.screenshots DIRECTORY``: pictures of the admin, from the example project after some real work."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urljoin

from tests.acceptance.browsing import NARROW, OURS, TASKS, WIDE, Visitor, browser
from tests.acceptance.process import Process
from tests.acceptance.project import REPOSITORY

#: Writes what a demo does not have, and tells of a session of somebody who may see everything.
_SEED = """
from django.contrib.auth import get_user_model
from django.test import Client
from django_taskq.schedule_control import create_schedule
from django_taskq.schedules.definition import Schedule
from example_project.census import tasks

for failures in (1, 2, 9, 9, 9):
    tasks.stumble.enqueue(failures)
for path in ("/no/such/file.py", "/nor/this.py"):
    tasks.measure_file.enqueue(path)
for name, kind, expression in (("census of the night", "cron", "0 3 * * *"), ("look around", "interval", "900")):
    create_schedule(Schedule(name=name, task=tasks.describe_python.module_path, kind=kind, expression=expression))
user = get_user_model().objects.create_superuser("maria")
client = Client()
client.force_login(user)
print("session", client.cookies["sessionid"].value)
"""
#: Tells of a task that failed, once all have ended.
_FAILED = """
from django_taskq.models import TaskRecord
from tests.waiting import wait_until

wait_until(lambda: not TaskRecord.objects.unfinished().exists(), what="the tasks to end")
print("failed", TaskRecord.objects.filter(state="FAILED", name__endswith="stumble").first().pk)
"""

#: Pages by the names of their pictures; those that are not there, and that nothing links to, are left out.
_PAGES = {
    "dashboard": f"{OURS}dashboardrecord/",
    "tasks": TASKS,
    "failures": f"{OURS}failurerecord/",
    "queues": f"{OURS}queuerecord/",
    "schedules": f"{OURS}schedulerecord/",
}


def main(directory: Path) -> None:
    """Let the example project work, and take the pictures."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        environment = {
            **os.environ,
            "DATABASE_URL": f"sqlite:///{place}/db.sqlite3",
            "DJANGO_SETTINGS_MODULE": "example_project.settings",
            "PYTHONPATH": str(REPOSITORY),
        }

        def manage(*arguments: str) -> str:
            command = [sys.executable, str(REPOSITORY / "manage.py"), *arguments]
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            return done.stdout

        manage("demo", "--limit=60")
        session = _word_after("session", manage("shell", "--command", _SEED))
        worker = Process(
            [sys.executable, str(REPOSITORY / "manage.py"), "runworker"],
            directory=Path(place),
            name="worker",
            environment=environment,
        )
        server = Process(
            [sys.executable, "-m", "tests.acceptance.admin_site"],
            directory=Path(place),
            name="server",
            environment=environment,
        )
        try:
            failed = _word_after("failed", manage("shell", "--command", _FAILED))
            server.wait_for("port=")
            site = f"http://127.0.0.1:{server.stdout.read_text().strip().removeprefix('port=')}/"
            with browser() as started:
                context = started.new_context()
                context.add_cookies([{"name": "sessionid", "value": session, "url": site}])
                take(Visitor(context, site), {**_PAGES, "task": f"{TASKS}{failed}/change/"}, directory)
        finally:
            server.end()
            worker.end()


def take(visitor: Visitor, pages: dict[str, str], directory: Path) -> None:
    """Take each page by day and by night, and the list of tasks on a phone."""
    for name, path in pages.items():
        response = visitor.page.goto(urljoin(visitor.site, path))
        if response is None or not response.ok:
            print(f"{name}: there is no {path}")
            continue
        for dark in (False, True):
            visitor.look(dark=dark, size=WIDE)
            visitor.page.screenshot(path=directory / f"{name}-{'dark' if dark else 'light'}.png")
    visitor.visit(TASKS)
    visitor.look(size=NARROW)
    visitor.page.screenshot(path=directory / "tasks-phone.png")


def _word_after(word: str, text: str) -> str:
    return next(line.split()[1] for line in text.splitlines() if line.startswith(f"{word} "))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
