"""The suite on every database, with every Django: what ``make test`` runs inside ``python -m tests.servers run``.

``here`` is the environment nox itself runs in: Python 3.11 has Django 5.2, newer ones the newest Django. The other
versions of Django get an environment each, on the newest Python found.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import nox

from tests.pythons import newest_python
from tests.servers import VENDORS

#: The versions of Django the suite runs with.
DJANGOS = ("5.2", "6.0", "6.1")
#: Processes that run tests side by side, as many as there are cores: a test is at work for most of its time. Those that
#: measure time run alone, afterwards.
WORKERS = "2"
#: How they share the tests: neighbours, which have fixtures in common, stay together until one of them has no more.
SHARED = ("-n", WORKERS, "--dist", "worksteal")
#: pytest's exit codes for "all passed" and "none were selected": a database may have none that measure time.
PASSED, NONE_SELECTED = 0, 5
#: Seconds pytest gets after a Ctrl-C to end its workers and its servers.
PATIENCE = 60.0

REPORTS = Path(__file__).parent / ".reports"
HERE = ".".join(version("Django").split(".")[:2])
ELSEWHERE = [django for django in DJANGOS if django != HERE]
NEWEST = newest_python()

nox.needs_version = ">=2025.2.9"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["here", "django" if NEWEST else "nowhere"]


@nox.session(venv_backend="none")
def here(session: nox.Session) -> None:
    """Run the suite in the environment nox runs in."""
    run_suite(session, python=sys.executable, django=HERE)


@nox.session(venv_backend="none")
def nowhere(session: nox.Session) -> None:
    """Say what was not tested."""
    session.warn(f"No Python 3.12 or newer was found: Django {' and '.join(ELSEWHERE)}: not tested.")


@nox.session(python=str(NEWEST.program) if NEWEST else None)
@nox.parametrize("django", [nox.param(django, id=django) for django in ELSEWHERE])
def django(session: nox.Session, django: str) -> None:
    """Run the suite with another Django on the newest Python."""
    extras = "postgres,mysql,redis,cron,solar,rich,process" + (",django52" if django == "5.2" else "")
    install = ("python", "-m", "pip", "install", "--quiet")
    # The first pip that knows dependency groups.
    session.run_install(*install, "--upgrade", "pip>=25.1")
    groups = ("--group", "test", "--group", "celery")
    session.run_install(*install, f"Django~={django}.0", "--editable", f".[{extras}]", *groups)
    run_suite(session, python="python", django=django)


def runs_with(django: str) -> list[tuple[str, list[str], list[int]]]:
    """Kinds of runs, what pytest is told for each, and the exit codes that are good ones.

    What has nothing to do with the version of Django, time among it, is tested with one of them; and of real processes
    with another one that those work which stand for all.
    """
    if django != HERE:
        return [("side by side", ["-m", "not once and not timing and (smoke or not acceptance)", *SHARED], [PASSED])]
    return [
        ("side by side", ["-m", "not timing", *SHARED], [PASSED]),
        ("timing", ["-m", "timing"], [PASSED, NONE_SELECTED]),
    ]


def run_suite(session: nox.Session, *, python: str, django: str) -> None:
    """Run all tiers on every database, also when one fails; the pure tier once."""
    failed: list[str] = []
    # Also where the environment keeps Python from writing what it has compiled: each of the thousands of processes that
    # tests start would compile all of it again, four tenths of what a worker does until it has started.
    session.run(python, "-m", "compileall", "-q", "django_taskq", "tests", "example_project")
    # Django's own tests are downloaded once, before two processes want them at the same time.
    session.run(python, "-m", "tests.upstream")
    for database in VENDORS:
        # All but a tier, rather than a list of tiers, in which a new directory could be forgotten.
        once = [] if database == VENDORS[0] else ["--ignore=tests/unit"]
        if django != HERE and (database == "mariadb" or django != DJANGOS[-1]):
            # Real workers on MariaDB differ from those on PostgreSQL in their SQL only, which the contract tier
            # covers here, too, and those with a Django between the oldest and the newest in nothing at all.
            once.append("--ignore=tests/acceptance")
        if django != HERE:
            # Their clients are installed here only.
            once.append("--ignore=tests/contract/stores")
        for kind, options, passed in runs_with(django):
            name = f"Django {django}, {database}, {kind}"
            report = REPORTS / f"{name.replace(', ', '-').replace(' ', '-').lower()}.xml"
            session.log(name)
            try:
                session.run(
                    *(python, "-m", "pytest", *options, f"--junit-xml={report}", *once, *session.posargs),
                    env={"TASKQ_TEST_DB": database, "PYTHONDEVMODE": "1"},
                    success_codes=passed,
                    interrupt_timeout=PATIENCE,
                    terminate_timeout=PATIENCE,
                )
            except nox.command.CommandFailed:
                failed.append(name)
    if failed:
        session.error(f"Failed: {'; '.join(failed)}")
