"""The summary at the end of ``make test``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

PASSED = '<testsuites><testsuite tests="40" failures="0" errors="0" skipped="0" time="70.5"/></testsuites>'
FAILED = '<testsuites><testsuite tests="10" failures="2" errors="1" skipped="3" time="1.25"/></testsuites>'


def report(directory: Path, exit_code: int) -> tuple[int, str]:
    command = [sys.executable, "-m", "tests.report", str(directory), str(exit_code)]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False)
    last = done.stdout.splitlines()[-1]
    assert (directory / "summary.txt").read_text() == f"{last}\n"
    return done.returncode, last.strip("= ")


@pytest.mark.parametrize(
    ("files", "exit_code", "expected"),
    [
        ([PASSED], 0, (0, "40 passed in 70.50s (0:01:10)")),
        ([PASSED, FAILED], 1, (1, "2 failed, 44 passed, 3 skipped, 1 errors in 71.75s (0:01:12)")),
        ([PASSED], 1, (1, "40 passed, 1 errors in 70.50s (0:01:10)")),
        ([], 0, (1, "no tests ran in 0.00s")),
    ],
    ids=["all passed", "one failed", "something else failed", "nothing ran"],
)
def test_the_summary_adds_up_all_runs(
    files: list[str], exit_code: int, expected: tuple[int, str], tmp_path: Path
) -> None:
    for number, text in enumerate(files):
        (tmp_path / f"{number}.xml").write_text(text)
    assert report(tmp_path, exit_code) == expected
