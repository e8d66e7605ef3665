"""Which other Python this machine has: Django 6 needs 3.12 or newer.

Standard library only: asked before there is a virtual environment.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

#: Django 6.0 and 6.1 need it.
OLDEST_FOR_DJANGO_6 = (3, 12)

_QUESTION = """
import json, sys, sysconfig
print(json.dumps([sys.version_info[:3], sys.version_info.releaselevel, sys.executable, sysconfig.get_path("include")]))
"""


@dataclass(frozen=True, kw_only=True)
class Python:
    """An interpreter that runs: its version, its program, and where its C headers would be."""

    version: tuple[int, int, int]
    program: Path
    include: Path


def newest_python() -> Python | None:
    """Return the newest released Python >= 3.12 in PATH or among pyenv's versions, or None."""
    found = [python for program in _candidates() if (python := _ask(program)) is not None]
    return max(found, key=lambda python: python.version, default=None)


def _candidates() -> list[Path]:
    directories = [Path(entry) for entry in os.get_exec_path()]
    roots = {Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser(), Path("~/.pyenv").expanduser()}
    for root in roots:
        directories.extend(root.glob("versions/*/bin"))
    return [
        program
        for directory in dict.fromkeys(directories)
        for program in sorted(directory.glob("python3.*"))
        if (name := re.fullmatch(r"python3\.(\d+)", program.name))
        and (3, int(name[1])) >= OLDEST_FOR_DJANGO_6
        and os.access(program, os.X_OK)
    ]


def _ask(program: Path) -> Python | None:
    """Return what the program says of itself; None when it does not run, as a pyenv shim of a version not chosen."""
    answer = subprocess.run([program, "-S", "-c", _QUESTION], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        return None
    version, level, executable, include = json.loads(answer.stdout)
    if level != "final":
        return None
    return Python(version=tuple(version), program=Path(executable), include=Path(include))
