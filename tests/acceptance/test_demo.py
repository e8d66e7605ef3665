"""The example project's demo, run as a reader of the README runs it, on directories small enough to count otherwise."""

from __future__ import annotations

import argparse
import email
import fcntl
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest
from pytest_django import DjangoDbBlocker

from django_taskq.models import TaskRecord
from tests.acceptance.process import Process
from tests.acceptance.project import REPOSITORY, Project
from tests.databases import chosen
from tests.servers import shared

# The demo is the example project's; what it asks of a database the other tests ask of MariaDB.
pytestmark = pytest.mark.databases("sqlite", "postgres")

MANAGE = str(REPOSITORY / "manage.py")
#: Seconds. A run takes some four; one that takes this long hangs.
DEADLINE = 120.0

#: Files of a run that is stopped on its way.
LONG = 600

#: Files that cannot even be read: a link that leads nowhere, and a pipe.
UNREADABLE = ("gone.py", "pipe.py")
#: Files that cannot be parsed: their contents, and what the demo must say of them.
BROKEN = {
    "coding.py": (b"# coding: uft-8\nx = 1\n", "bad encoding"),
    "latin.py": (b"name = 'M\xfcller'\n", "bad encoding"),
    "null.py": (b"x = 1\0\n", "bad syntax"),
    "python2.py": (b"print 'hello'\ndef f():\n    import os\n", "bad syntax"),
}
#: Files that can be parsed, and try to mislead whoever counts by looking for words.
TRICKY = {
    "empty.py": b"",
    "endings.py": b"import os\rimport sys\r\nimport re\n\x0cclass A: pass",
    "[bold]markup[_bold].py": b"async def f():\n    def g(): import a.b, c\n    return lambda: 'def class import'\n",
    "deep.py": b"match 1:\n    case 1:\n        try: pass\n        except E: from .x import y\n        else:\n            class B: pass\n",
    "name with space.py": b"# coding: latin-1\nx = '\xfc'  # def class import\nfrom xml.sax import handler\n",
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """A demo that has ended well: what it counted, what it said, and the project it left."""

    directory: Path
    output: str
    project: Project


@contextmanager
def unmigrated(directory: Path) -> Iterator[Project]:
    """The example project, on an empty database that the tests' models see too."""
    databases = shared(chosen())
    name = f"taskq_demo_{uuid4().hex[:12]}"
    environment = {
        "DATABASE_URL": url_of(databases.settings(name)),
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "PYTHONDEVMODE": "1",
    }
    project = Project(databases, name, directory, environment=environment)
    databases.create_database(name)
    try:
        with project.attached():
            yield project
    finally:
        project.close()


def url_of(database: dict[str, str]) -> str:
    """An entry of DATABASES as DATABASE_URL says it."""
    scheme = database["ENGINE"].rpartition(".")[2]
    if scheme == "sqlite3":
        return f"sqlite:///{database['NAME']}"
    account = f"{database['USER']}:{quote(database['PASSWORD'], safe='')}"
    return f"{scheme}://{account}@{database['HOST']}:{database['PORT']}/{database['NAME']}"


@pytest.fixture
def example(tmp_path: Path, django_db_blocker: DjangoDbBlocker) -> Iterator[Project]:
    with django_db_blocker.unblock(), unmigrated(tmp_path) as project:
        yield project


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker) -> Iterator[Run]:
    """One run for all tests that only look at what it said and left."""
    directory = write_sources(tmp_path_factory.mktemp("source"))
    with django_db_blocker.unblock(), unmigrated(tmp_path_factory.mktemp("project")) as project:
        output = succeed(project, "demo", "--directory", str(directory))
        yield Run(directory=directory, output=output, project=project)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    directory.mkdir()
    return write_sources(directory)


def write_sources(directory: Path) -> Path:
    """Real source, source that cannot be parsed, and things that are called `.py` and hold no source."""
    for package in (json, email):
        shutil.copytree(
            Path(package.__path__[0]), directory / package.__name__, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name, contents in (TRICKY | {name: contents for name, (contents, _) in BROKEN.items()}).items():
        (directory / name).write_bytes(contents)
    (directory / "gone.py").symlink_to("nowhere")
    os.mkfifo(directory / "pipe.py")
    for ignored in ("site-packages", "__pycache__"):
        (directory / ignored).mkdir()
        (directory / ignored / "other.py").write_text("def not_counted(): pass\n")
    (directory / "readme.txt").write_text("def not_counted(): pass\n")
    return directory


@pytest.fixture
def long_work(tmp_path: Path) -> Path:
    """A directory that two processes take some ten seconds to count."""
    directory = tmp_path / "long"
    directory.mkdir()
    for number in range(LONG):
        (directory / f"copy{number}.py").symlink_to(argparse.__file__)
    return directory


def start(project: Project, *arguments: str) -> Process:
    return project.start(sys.executable, MANAGE, *arguments)


def succeed(project: Project, *arguments: str) -> str:
    process = start(project, *arguments)
    code = process.wait(DEADLINE)
    assert (code, process.stderr.read_text()) == (0, "")
    return process.stdout.read_text()


def refused(project: Project, *arguments: str) -> str:
    """What a run that ends with an error says, which is never a traceback."""
    process = start(project, *arguments)
    assert process.wait(DEADLINE) in (1, 2)
    errors = process.stderr.read_text()
    assert "Traceback" not in errors
    return errors


def shown(output: str, label: str) -> str:
    """What the report says beside a label."""
    found = re.search(rf"^  {re.escape(label)} {{2,}}(.*)$", output, re.MULTILINE)
    assert found, f"no {label!r} in:\n{output}"
    return found[1]


def number(output: str, label: str) -> int:
    return int(shown(output, label).split()[0].replace(",", ""))


def states() -> Counter[str]:
    return Counter(TaskRecord.objects.values_list("state", flat=True))


@pytest.mark.smoke
def test_the_summary_says_what_another_way_of_counting_says(finished: Run) -> None:
    output, directory = finished.output, finished.directory
    parsed = [*(directory / name for name in TRICKY), *directory.glob("json/**/*.py"), *directory.glob("email/**/*.py")]
    readable = [*parsed, *(directory / name for name in BROKEN)]
    words = Counter(word for path in parsed for word in words_of(path))
    assert number(output, "files") == len(readable) + len(UNREADABLE)
    assert f"({sum(path.stat().st_size for path in readable):,} bytes)" in shown(output, "size")
    assert number(output, "lines") == sum(lines_of(path) for path in readable)
    assert number(output, "functions") == words["def"]
    assert number(output, "classes") == words["class"]
    assert number(output, "imports") == words["import"]
    longest = max(readable, key=lines_of)
    assert shown(output, "longest file") == f"{longest.relative_to(directory)}, {lines_of(longest):,} lines"
    assert shown(output, "fingerprint") == fingerprint_of(directory, readable)


def words_of(path: Path) -> Iterator[str]:
    """Names and keywords; each statement we count holds its keyword once, and the keyword stands nowhere else."""
    with tokenize.open(path) as source:
        for token in tokenize.generate_tokens(source.readline):
            if token.type == tokenize.NAME:
                yield token.string


def lines_of(path: Path) -> int:
    with path.open(encoding="latin-1", newline=None) as source:
        return sum(1 for _ in source)


def fingerprint_of(directory: Path, readable: Sequence[Path]) -> str:
    sums = {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in readable}
    sums |= dict.fromkeys(UNREADABLE, "")
    return hashlib.sha256("".join(f"{name}\0{sums[name]}\n" for name in sorted(sums)).encode()).hexdigest()


def test_files_that_cannot_be_parsed_are_named_with_the_reason(finished: Run) -> None:
    section = finished.output.partition("Could not be parsed\n")[2].partition("\n\n")[0]
    found = re.findall(r"^  (bad \w+|unreadable) +(\S+?): \S", section, re.MULTILINE)

    expected = {name: verdict for name, (_, verdict) in BROKEN.items()} | dict.fromkeys(UNREADABLE, "unreadable")
    assert {name: verdict for verdict, name in found} == expected
    assert len(section.splitlines()) == len(expected)


@pytest.mark.smoke
def test_a_task_fails_on_purpose_and_is_retried(finished: Run) -> None:
    assert shown(finished.output, "attempt 1").endswith("StumbleError: attempt 1 fails on purpose")
    assert shown(finished.output, "attempt 2").endswith("StumbleError: attempt 2 fails on purpose")
    assert shown(finished.output, "attempt 3") == "succeeded"


@pytest.mark.smoke
def test_an_async_task_answers(finished: Run) -> None:
    assert ".".join(str(part) for part in sys.version_info[:3]) in shown(finished.output, "python")
    assert number(finished.output, "library") == len(sys.stdlib_module_names)


@pytest.mark.smoke
def test_every_task_it_enqueued_has_succeeded(finished: Run) -> None:
    files = number(finished.output, "files")
    assert f"- enqueued {files + 2} tasks in " in finished.output
    assert re.search(rf"- counted {files} files in 2 worker processes: [\d,]+ tasks/s", finished.output)
    assert states() == {"SUCCESSFUL": files + 3}


@pytest.mark.smoke
def test_the_admin_it_points_to_lists_the_tasks(finished: Run) -> None:
    lines = r"manage\.py createsuperuser\n.*manage\.py runserver\n.*http://127\.0\.0\.1:8000/admin/"
    assert re.search(lines, finished.output)
    script = (
        "from django.contrib.auth.models import User; from django.test import Client; from django.urls import reverse;"
        "user = User.objects.create_superuser('admin', 'admin@example.com', 'not used here');"
        "client = Client(headers={'host': 'localhost'}); client.force_login(user);"
        "page = client.get(reverse('admin:django_taskq_taskrecord_changelist')); print(page.status_code, page.text)"
    )
    page = succeed(finished.project, "shell", "--verbosity", "0", "-c", script)

    assert page.startswith("200 ")
    assert all(name in page for name in ("measure_file", "stumble", "describe_python", "summarise"))


@pytest.mark.databases("sqlite")
def test_it_can_be_run_again_and_again(example: Project, directory: Path) -> None:
    arguments = ("demo", "--directory", str(directory / "json"), "--limit", "2", "--processes")
    outputs = [succeed(example, *arguments, processes) for processes in ("1", "2")]

    assert [number(output, "files") for output in outputs] == [2, 2]
    assert shown(outputs[0], "fingerprint") == shown(outputs[1], "fingerprint")
    assert "earlier census" not in outputs[1]
    assert states() == {"SUCCESSFUL": 2 * (2 + 3)}


@pytest.mark.databases("sqlite")
def test_on_a_terminal_it_draws(example: Project, directory: Path) -> None:
    output = run_on_a_terminal(example.environment | {"TERM": "xterm-256color"}, "demo", "--directory", str(directory))

    assert "━" in output
    assert "✓" in output
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output).replace("\r", "")
    python = len(list(directory.glob("[je]*/**/*.py")))
    assert number(plain, "files") == len(TRICKY) + len(BROKEN) + len(UNREADABLE) + python
    assert "\n  http://127.0.0.1:8000/admin/\n" in plain


def run_on_a_terminal(environment: dict[str, str], *arguments: str) -> str:
    """What a process wrote to a terminal of 100 columns; it must end well, and in time."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, MANAGE, *arguments], env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = b""
    try:
        while chunk := read_from(ours):
            written += chunk
        assert process.wait(DEADLINE) == 0, written.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return written.decode()


def read_from(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: how Linux says that nobody holds the terminal's other side any more
        return b""


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("ending", ["Ctrl-C", "SIGTERM"])
def test_it_stops_cleanly(example: Project, long_work: Path, ending: str) -> None:
    process = start(example, "demo", "--directory", str(long_work))
    process.wait_for(f" of {LONG + 2}\n")
    assert len(example.living()) > 1

    began = time.monotonic()
    if ending == "Ctrl-C":
        process.send_group(signal.SIGINT)
    else:
        process.send(signal.SIGTERM)
    code = process.wait(DEADLINE)

    assert time.monotonic() - began < 40
    assert code == 130
    cancelled = re.search(r"Stopped; ([\d,]+) tasks that had not run yet cancelled", process.stderr.read_text())
    assert cancelled, process.text()
    assert example.living() == []
    left = states()
    assert set(left) == {"SUCCESSFUL", "CANCELLED"}
    assert left["CANCELLED"] == int(cancelled[1].replace(",", ""))
    assert "earlier census" not in succeed(example, "demo", "--directory", str(long_work), "--limit", "1")


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--directory", "nowhere"), "Cannot list "),
        (("--directory", "."), "There is no .py file under "),
        (("--limit", "0"), "'0' is not a whole number from 1 up"),
        (("--processes", "-1"), "'-1' is not a whole number from 1 up"),
    ],
)
def test_a_wrong_argument_is_refused(example: Project, arguments: Sequence[str], complaint: str) -> None:
    assert complaint in refused(example, "demo", *arguments)


@pytest.mark.databases("sqlite")
def test_a_worker_that_fails_is_reported_with_its_last_words(example: Project, directory: Path) -> None:
    # The project's directory comes first on its processes' path, and each imports `sitecustomize` when it starts.
    (example.directory / "sitecustomize.py").write_text(
        "import os, sys\nif 'runworker' in sys.orig_argv:\n    os.write(2, b'no worker today\\n')\n    os._exit(7)\n"
    )

    errors = refused(example, "demo", "--directory", str(directory))

    assert "The worker failed. Its last lines:\nno worker today" in errors
    assert set(states()) == {"CANCELLED"}


@pytest.mark.databases("sqlite")
def test_a_database_that_cannot_be_opened_is_reported(example: Project) -> None:
    example.environment["DATABASE_URL"] = f"sqlite:///{example.directory}/nowhere/demo.sqlite3"
    assert "unable to open database file" in refused(example, "demo")


@pytest.mark.databases("sqlite")
def test_a_database_in_memory_is_refused(example: Project) -> None:
    example.environment["DATABASE_URL"] = "sqlite://:memory:"
    assert "cannot be shared with workers" in refused(example, "demo")
