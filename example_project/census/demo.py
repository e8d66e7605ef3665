"""The story that the command `demo` tells."""

import shutil
import sys
import time
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError, connection
from django.urls import reverse

from example_project.census import files, report, run
from example_project.census.display import Display
from example_project.census.files import Sources
from example_project.census.run import Census, CensusError
from example_project.census.summary import Summary


class CensusStoppedError(CensusError):
    """The census was stopped from outside, and nothing of it is left in the queue."""


def demo(display: Display, *, directory: Path | None, limit: int | None, processes: int) -> None:
    """Migrate, enqueue, drain, and show what came of it.

    Raises CensusError with a message for the reader when that cannot be done, CensusStoppedError after Ctrl-C.
    """
    began = time.monotonic()
    sources = _sources(directory, limit)
    display.heading(
        "Census of the standard library" if directory is None else "Census of a directory",
        f"{_count(len(sources.paths), 'file')} in {sources.directory}",
    )
    if sources.unnameable:
        display.step(f"left out {_count(sources.unnameable, 'file')} whose name is not UTF-8")
    _migrate()
    display.step(f"migrated {_database()}")
    if waiting := run.left_behind():
        display.step(f"found {_count(waiting, 'task')} of an earlier census, which will run first")
    census = _enqueue(display, sources)
    try:
        _drain(display, census, processes)
        summary = run.summary_of(census, processes=1)
    except KeyboardInterrupt:
        cancelled = _count(run.abandon(census), "task")
        raise CensusStoppedError(f"Stopped; {cancelled} that had not run yet cancelled.") from None
    except CensusError:
        run.abandon(census)
        raise
    display.step(f"read the results back; {time.monotonic() - began:.1f} s in all")
    _show(display, census, summary)


def _sources(directory: Path | None, limit: int | None) -> Sources:
    try:
        sources = files.find(directory or files.standard_library(), limit=limit)
    except OSError as error:
        raise CensusError(f"Cannot list {error.filename}: {error.strerror}.") from error
    if not sources.paths:
        raise CensusError(f"There is no .py file under {sources.directory}; name another one with --directory.")
    return sources


def _migrate() -> None:
    if connection.vendor == "sqlite" and connection.settings_dict["NAME"] in ("", ":memory:"):
        raise CensusError("A database in memory cannot be shared with workers; let DATABASE_URL name a file.")
    try:
        call_command("migrate", interactive=False, verbosity=0)
    except OperationalError as error:
        raise CensusError(f"Cannot use {_database()}: {error}") from error


def _enqueue(display: Display, sources: Sources) -> Census:
    began = time.monotonic()
    census = run.enqueue(sources)
    display.step(f"enqueued {_count(len(census.results), 'task')} in {time.monotonic() - began:.2f} s")
    return census


def _drain(display: Display, census: Census, processes: int) -> None:
    with display.progress(len(census.results)) as show:
        run.drain(census.results, processes=processes, on_progress=show)
    run.check(census)
    workers = _count(processes, "worker process", "worker processes")
    counted = _count(len(census.files), "file")
    pace = run.pace(census)
    display.step(
        f"counted {counted} in {workers}: {pace.per_second:,.0f} tasks/s, {pace.work * 1000:,.1f} ms of work in each"
    )


def _show(display: Display, census: Census, summary: Summary) -> None:
    display.section("Summary", report.summary_lines(summary))
    if problems := report.problem_lines(summary):
        display.section("Could not be parsed", problems)
    display.section("Failed on purpose, and was retried", report.retry_lines(*run.stumbling(census)))
    display.section("Answered by an async task", report.python_lines(run.value_of(census.python)))
    python, manage = _python(), _short(settings.BASE_DIR / "manage.py")
    display.commands(
        "See every task in the admin",
        [
            f"{python} {manage} createsuperuser",
            f"{python} {manage} runserver",
            f"http://127.0.0.1:8000{reverse('admin:index')}",
        ],
    )


def _database() -> str:
    """The database's kind, name and host: what may be shown of its URL."""
    name, host = str(connection.settings_dict["NAME"]), connection.settings_dict["HOST"]
    place = _short(Path(name)) if connection.vendor == "sqlite" else f"{name} on {host}" if host else name
    return f"{connection.display_name}, {place}"


def _python() -> str:
    """How this interpreter is called from here."""
    known = shutil.which("python")
    if known and Path(known).parent == Path(sys.executable).parent:
        return "python"
    return _short(Path(sys.executable))


def _short(path: Path) -> str:
    """The path from here, where it is below this directory."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
