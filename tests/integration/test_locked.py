"""Eight processes that write to one SQLite file: none of them ever hears "database is locked"."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from django_taskq import State
from django_taskq.models import TaskRecord
from tests.taskapp.models import Note

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]

REPOSITORY = Path(__file__).parents[2]
PROCESSES = 8
#: What each of them does.
ENQUEUED, CLAIMED_AT_ONCE = 60, 7

#: Half of them are callers, who write rows of their own in the same transaction; half are workers.
_PROGRAM = """
import json, sys, time
import django
from django.conf import settings
settings.configure(**json.loads(sys.argv[1]))
django.setup()
from django.db import connection, transaction
from django_taskq import State
from django_taskq.transitions.claim import Lanes, claim
from django_taskq.transitions.finish import End, finish
from tests.taskapp.models import Note
from tests.taskapp.tasks import noop

number, rounds, limit = map(int, sys.argv[2:])
print("ready", flush=True)
sys.stdin.readline()
slowest = 0.0
if number % 2:
    for index in range(rounds):
        begin = time.monotonic()
        if index % 2:
            noop.enqueue()
        else:
            with transaction.atomic():
                # It reads first: a transaction that only then begins to write is what SQLite refuses at once.
                Note.objects.count()
                Note.objects.create(text=f"{number} {index}")
                noop.enqueue()
        slowest = max(slowest, time.monotonic() - begin)
else:
    ended = 0
    until = time.monotonic() + 60
    while ended < rounds and time.monotonic() < until:
        begin = time.monotonic()
        messages = claim("default", Lanes(("default",)), min(limit, rounds - ended), f"worker-{number}")
        ends = [End(id=one.id, claim=one.claim, state=State.SUCCESSFUL, result="null", duration=0.0) for one in messages]
        ended += len(finish("default", ends))
        slowest = max(slowest, time.monotonic() - begin)
    assert ended == rounds, ended
print(json.dumps(slowest))
"""


def configuration() -> dict[str, Any]:
    """Settings of a project that says nothing about SQLite but where its file is."""
    return {
        "DATABASES": {"default": {key: str(connection.settings_dict[key]) for key in ("ENGINE", "NAME")}},
        "INSTALLED_APPS": ["django.contrib.contenttypes", "django.contrib.auth", "django_taskq", "tests.taskapp"],
        "TASKS": {"default": {"BACKEND": "django_taskq.TaskqBackend"}},
        "USE_TZ": True,
    }


def test_many_processes_write_to_one_file() -> None:
    given = [json.dumps(configuration()), str(ENQUEUED), str(CLAIMED_AT_ONCE)]
    command = [sys.executable, "-c", _PROGRAM, given[0]]
    processes = [
        subprocess.Popen(
            [*command, str(number), *given[1:]],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    errors = [errors for _, errors in answers if errors]
    assert errors == []
    assert [process.returncode for process in processes] == [0] * PROCESSES
    assert TaskRecord.objects.count() == ENQUEUED * PROCESSES // 2
    assert set(TaskRecord.objects.values_list("state", "attempt", "claim")) == {(State.SUCCESSFUL, 1, 1)}
    assert Note.objects.count() == ENQUEUED * PROCESSES // 4
    assert connection.cursor().execute("PRAGMA journal_mode").fetchone()[0] == "wal"
