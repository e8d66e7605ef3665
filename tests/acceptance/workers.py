"""What tests of real workers ask and wait for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from django.db import OperationalError, connection

from django_taskq import TaskResult
from django_taskq.database import notify
from django_taskq.models import TaskRecord, WorkerRecord
from django_taskq.wakeup import READY_CHANNEL
from tests.acceptance.process import Process
from tests.acceptance.project import Project
from tests.waiting import wait_until

#: A line of the supervisor's banner; afterwards it forks, and signals are its own to handle.
BANNER = "  runs      "


#: Refuses a second final state, and a second `finished_at`, whoever writes it.
_FINAL_IS_FINAL = {
    "sqlite": [
        """
        CREATE TRIGGER final_is_final BEFORE UPDATE ON django_taskq_task
        WHEN OLD.finished_at IS NOT NULL BEGIN SELECT RAISE(ABORT, 'final is final'); END
        """
    ],
    "postgresql": [
        """
        CREATE FUNCTION final_is_final() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'final is final'; END $$
        """,
        """
        CREATE TRIGGER final_is_final BEFORE UPDATE ON django_taskq_task
        FOR EACH ROW WHEN (OLD.finished_at IS NOT NULL) EXECUTE FUNCTION final_is_final()
        """,
    ],
    "mysql": [
        """
        CREATE TRIGGER final_is_final BEFORE UPDATE ON django_taskq_task FOR EACH ROW
        IF OLD.finished_at IS NOT NULL THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'final is final'; END IF
        """
    ],
}


class Gate:
    """A directory through which the tasks ``hold`` and ``ahold`` speak with the test."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.path = str(directory)

    def started(self) -> list[str]:
        """Return the names of those that started, in this order; one that ran twice stands here twice."""
        return [line.split()[0] for line in lines(self.directory / "started")]

    def ended(self) -> list[str]:
        """Return the names of those that were let go and came to their end."""
        return [line.split()[0] for line in lines(self.directory / "ended")]

    def pid(self, name: str) -> int:
        """Return the process that ran `name` last."""
        return [int(line.split()[1]) for line in lines(self.directory / "started") if line.split()[0] == name][-1]

    def wait_for(self, *names: str, deadline: float = 30.0) -> None:
        """Wait until all of `names` have started, each as often as it is named."""
        wanted = Counter(names)
        wait_until(lambda: Counter(self.started()) >= wanted, deadline, what=f"{names} to start")

    def open(self) -> None:
        """Let all go, also those that come later."""
        (self.directory / "go").touch()


def lines(path: Path | str) -> list[str]:
    """Return the lines that tasks have left in a file; none when there is no file yet.

    Whole ones only: where a line goes over the end of a page of the file, a reader may see the first half of it.
    """
    try:
        text = Path(path).read_text()
    except FileNotFoundError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()


def states() -> dict[str, int]:
    """Count the project's tasks by state."""
    return dict(Counter(TaskRecord.objects.values_list("state", flat=True)))


def row(result: TaskResult) -> TaskRecord:
    """Return a task's row as it is now."""
    return TaskRecord.objects.get(pk=result.id)


def ended(result: TaskResult, deadline: float = 30.0) -> TaskRecord:
    """Wait until a task has ended, and return its row.

    Not by ``result.get()``: the thread that waits in there keeps the database of the last test for some seconds.
    """
    done = TaskRecord.objects.finished().filter(pk=result.id)
    return wait_until(done.first, deadline, what=f"{result.task.name} to end")


def wait_for_workers(count: int, deadline: float = 30.0) -> list[WorkerRecord]:
    """Wait until exactly so many worker processes are registered; return their rows."""
    wait_until(lambda: WorkerRecord.objects.count() == count, deadline, what=f"{count} registered worker processes")
    return list(WorkerRecord.objects.order_by("pk"))


def wait_until_done(deadline: float = 60.0) -> dict[str, int]:
    """Wait until every task has ended; return their numbers by state."""
    wait_until(lambda: not TaskRecord.objects.unfinished().exists(), deadline, what="all tasks to end")
    return states()


def start_worker(project: Project, *arguments: str, processes: int = 1) -> Process:
    """Start a worker and wait until all its processes are registered, beside those of other workers."""
    before = WorkerRecord.objects.count()
    worker = project.runworker(f"--processes={processes}", *arguments)
    wait_until(
        lambda: WorkerRecord.objects.count() >= before + processes or worker.returncode is not None,
        what="the worker's processes to register",
    )
    assert worker.returncode is None, worker.text()
    return worker


def drain(project: Project, *arguments: str, deadline: float = 60.0) -> Process:
    """Run a worker with ``--burst`` to its end, which must be a good one."""
    worker = project.runworker("--burst", *arguments)
    assert worker.wait(deadline) == 0, worker.text()
    return worker


@contextmanager
def frozen(process: psutil.Process) -> Iterator[None]:
    """Stop a process as SIGSTOP does, and let it go on after the block.

    Not in the middle of a transaction: nobody could touch the rows, on SQLite the file, that it locked.
    """

    def froze() -> bool:
        process.suspend()
        if _is_locked():
            process.resume()
            return False
        return True

    wait_until(froze, what="a moment without an open transaction")
    try:
        yield
    finally:
        process.resume()


def _is_locked() -> bool:
    """Tell whether another connection to the project's database is in a transaction."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA busy_timeout")
            (patience,) = cursor.fetchone()
            cursor.execute("PRAGMA busy_timeout = 0")
            try:
                cursor.execute("BEGIN IMMEDIATE")
                cursor.execute("ROLLBACK")
            except OperationalError:
                return True
            finally:
                cursor.execute(f"PRAGMA busy_timeout = {patience}")
            return False
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND backend_xid IS NOT NULL"
            )
        else:
            cursor.execute(
                "SELECT count(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p "
                "ON p.id = t.trx_mysql_thread_id WHERE p.db = DATABASE() AND p.id <> CONNECTION_ID()"
            )
        return bool(cursor.fetchone()[0])


def is_gone(process: psutil.Process) -> bool:
    """Tell whether a process has ended; when whoever inherited it takes note of that is not its concern."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def guard_final_states() -> None:
    """Let the project's database refuse any change of a task that has ended, with the text "final is final"."""
    with connection.cursor() as cursor:
        for statement in _FINAL_IS_FINAL[connection.vendor]:
            cursor.execute(statement)


def damage(result: TaskResult, **columns: Any) -> None:
    """Write into a row what no code of ours would."""
    assert TaskRecord.objects.filter(pk=result.id).update(**columns) == 1
    notify("default", READY_CHANNEL)


def vendor() -> str:
    """Return the database's name as Django has it: sqlite, postgresql, mysql."""
    return connection.vendor
