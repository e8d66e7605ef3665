"""From the version of Django to the source of its tests."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

import django

#: What pip downloads: the source of this very Django, or of the first one that has tasks.
REQUIREMENT = f"django=={django.get_version()}" if django.VERSION >= (6,) else "django==6.0.*"

#: Django's names and words -> the backport's; in this order.
_BACKPORT = {
    "django.tasks": "django_tasks",
    "import InvalidTask, ": "import InvalidTaskError as InvalidTask, ",
    "import InvalidTask\n": "import InvalidTaskError as InvalidTask\n",
    "    InvalidTask,\n    InvalidTaskBackend,\n": (
        "    InvalidTaskError as InvalidTask,\n    InvalidTaskBackendError as InvalidTaskBackend,\n"
    ),
    "support async Tasks.": "support async tasks.",
}


def directory() -> Path:
    """Return a directory for ``sys.path`` in which the package ``tasks`` is the suite; download it when it is not there.

    Processes that start together wait for one of them to do it.
    """
    suite = Path(sys.prefix) / "upstream" / REQUIREMENT.replace("==", "-").replace("*", "x")
    suite.mkdir(parents=True, exist_ok=True)
    with (suite / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (suite / "tasks").is_dir():
            _download(suite)
    return suite


def _download(suite: Path) -> None:
    with tempfile.TemporaryDirectory(dir=suite) as name:
        temporary = Path(name)
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        # Python 3.11 is too old for Django 6.0 itself, not for these tests.
        options = ["--ignore-requires-python", "--no-binary", "django", "--dest", name, REQUIREMENT]
        subprocess.run([*command, *options], check=True)
        (archive,) = temporary.glob("*.tar.gz")
        unpacked = temporary / "tasks"
        unpacked.mkdir()
        with tarfile.open(archive) as source:
            for member in source:
                path = PurePosixPath(member.name)
                if path.parts[1:-1] == ("tests", "tasks") and (content := source.extractfile(member)) is not None:
                    text = content.read().decode()
                    (unpacked / path.name).write_text(text if django.VERSION >= (6,) else _for_the_backport(text))
        # Last, and at once: a directory that is there is complete.
        unpacked.rename(suite / "tasks")


def _for_the_backport(text: str) -> str:
    for theirs, backports in _BACKPORT.items():
        text = text.replace(theirs, backports)
    return text
