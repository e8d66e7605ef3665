"""A worker whose processes die before they can work says so and ends; it does not try for ever."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.databases("sqlite")

_PROGRAM = """
import django
django.setup()
from django_taskq.worker import supervisor
from django_taskq.worker.settings import WorkerSettings

def broken(*args, **kwargs):
    raise RuntimeError("this process cannot work")

supervisor.WorkerProcess = broken
raise SystemExit(supervisor.Supervisor(WorkerSettings(backends=("default",), processes=2)).run())
"""


def test_a_worker_gives_up_when_no_process_gets_as_far_as_working() -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 5, ended.stderr
    assert "10 worker processes in a row died before they could work" in ended.stderr
    assert "this process cannot work" in ended.stderr
