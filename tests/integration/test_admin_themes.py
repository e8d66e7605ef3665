"""The admin in other clothes: django-unfold and django-jazzmin."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.themes import THEMES
from tests.waiting import allowed

pytestmark = [pytest.mark.once, pytest.mark.databases("sqlite")]


@pytest.mark.parametrize("theme", THEMES)
def test_every_page_is_whole_in_a_theme(theme: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.themes", theme],
        capture_output=True,
        text=True,
        check=False,
        timeout=allowed(60.0),
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr[-3000:]
