"""How much of a large table each transition touches: what it moves, and next to nothing else.

The rows a statement reads are counted by the database itself; on SQLite, which does not count rows, it is the
instructions of its virtual machine. A scan of the whole table exceeds either bound many times over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from django.db import connection

from django_taskq import State
from django_taskq.compat import default_task_backend
from django_taskq.core.message import Message
from django_taskq.models import TaskRecord, WorkerRecord
from django_taskq.monitoring.figures import read_figures
from django_taskq.results.database import DatabaseWatcher
from django_taskq.transitions import operate, workers
from django_taskq.transitions.claim import Lanes, claim, claim_named, queue_names
from django_taskq.transitions.due import any_overdue, expire_overdue, promote_due, seconds_to_next
from django_taskq.transitions.finish import End, Held, finish, release
from tests.contract.rows import ANNE, BERT, USING, now, put

if TYPE_CHECKING:
    from pytest_django import DjangoDbBlocker

#: Rows that have ended, and rows that may be claimed.
ENDED, READY = 200_000, 50_000
#: Rows of other kinds: a duty's work, and what is not due yet.
FEW, MANY = 100, 10_000
#: Rows read at most: for each row that is meant, and for any statement.
PER_ROW, FOR_NOTHING = 20, 1_500
#: SQLite's instructions for a row that is read.
INSTRUCTIONS = 60

_NUMBERS = {
    "postgresql": "generate_series(1, {count}) AS numbers(n)",
    "sqlite": "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {count}) SELECT n FROM s)",
    "mysql": "(SELECT seq AS n FROM seq_1_to_{count}) AS numbers",
}
_ID = {"postgresql": "gen_random_uuid()", "sqlite": "lower(hex(randomblob(16)))", "mysql": "uuid()"}
_MOMENT = {
    "postgresql": "now() {sign} n * interval '1 minute'",
    "sqlite": "strftime('%%Y-%%m-%%d %%H:%%M:%%f000', 'now', '{sign}' || n || ' minutes')",
    "mysql": "utc_timestamp(6) {sign} INTERVAL n MINUTE",
}
_INSERT = """
    INSERT INTO django_taskq_task (id, name, queue_name, backend, priority, state, arguments, options, metadata, errors,
        progress, worker_id, worker_ids, attempt, claim, losses, max_deliveries, acks_late, cancel_requested,
        reply_to, headers, log, enqueued_at, {moment})
    SELECT {id}, 'tests.taskapp.tasks.noop', {queue}, {backend}, n %% 5, {state}, '[[],{{}}]', '', '', '', '', %s,
        '', 0, 0, 0, 3, %s, %s, '', '', '', {at}, {at} FROM {numbers}
"""


def fill(
    count: int, state: str, *, moment: str = "last_attempted_at", sign: str = "-", worker: str = "", backend: str = ""
) -> None:
    """Write `count` rows; the column `moment` holds times before (-) or after (+) now, a minute apart."""
    vendor = connection.vendor
    digit = "CAST(n %% 3 AS CHAR(1))"
    with connection.cursor() as cursor:
        cursor.execute(
            _INSERT.format(
                id=_ID[vendor],
                queue=f"CONCAT('q', {digit})" if vendor == "mysql" else f"'q' || {digit}",
                backend=f"'{backend}'" if backend else "CASE n %% 10 WHEN 0 THEN 'other' ELSE 'default' END",
                state=state,
                moment=moment,
                at=_MOMENT[vendor].format(sign=sign),
                numbers=_NUMBERS[vendor].format(count=count),
            ),
            [worker, True, False],
        )


@pytest.fixture(scope="module")
def _history(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """A large table, committed; each test changes it in a transaction of its own, which is rolled back."""
    with django_db_blocker.unblock():
        fill(ENDED, "CASE n %% 20 WHEN 0 THEN 'FAILED' ELSE 'SUCCESSFUL' END", moment="finished_at")
        fill(READY, "'READY'")
        fill(FEW, "'RUNNING'", worker=ANNE)
        fill(FEW, "'SCHEDULED'", moment="run_after")
        fill(FEW, "'READY'", moment="expires_at", backend="expired")
        fill(MANY, "'SCHEDULED'", moment="run_after", sign="+")
        fill(MANY, "'READY'", moment="expires_at", sign="+", backend="expiring")
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM django_taskq_task" if connection.vendor == "sqlite" else "TRUNCATE django_taskq_task"
        )


@pytest.fixture(params=["unknown", "known"])
def _statistics(request: pytest.FixtureRequest, _history: None, db: None) -> None:
    """Planners must do without statistics, which come some time after a burst, and not be led astray by them.

    Made inside the transaction, and so for this test alone. MySQL would commit, and keeps its own up to date.
    """
    if request.param == "known" and connection.vendor != "mysql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE django_taskq_task")


pytestmark = pytest.mark.usefixtures("_statistics")


class Meter:
    """Rows that were read."""

    rows = 0


@contextmanager
def metered() -> Iterator[Meter]:
    """Count the rows that are read meanwhile, by this connection."""
    meter = Meter()
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        instructions = 0

        def tick() -> None:
            nonlocal instructions
            instructions += 100

        connection.connection.set_progress_handler(tick, 100)
        try:
            yield meter
        finally:
            connection.connection.set_progress_handler(None, 0)
        meter.rows = instructions // INSTRUCTIONS
    else:
        before = read_counter()
        yield meter
        meter.rows = read_counter() - before


def read_counter() -> int:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'django_taskq_task'"
            )
            return int(cursor.fetchone()[0])
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%%'", [])
        return sum(int(value) for _, value in cursor.fetchall())


def assert_is_little(work: Callable[[], Any], *, rows: int) -> Any:
    """Do it; fail if it read much more than `rows` rows. Gives what it gave."""
    with metered() as meter:
        result = work()
    assert meter.rows <= rows * PER_ROW + FOR_NOTHING, f"{meter.rows} rows were read for {rows}"
    return result


def claim_alone(lanes: Lanes, limit: int) -> list[Message]:
    """Claim as a worker does: outside of a caller's transaction more is said to the planner."""
    with mock.patch.object(connection, "in_atomic_block", connection.vendor != "postgresql"):
        return claim(USING, lanes, limit, BERT)


def held(message: Message) -> Held:
    return Held(message.id, message.claim, message.attempt, message.worker_ids)


@pytest.mark.parametrize(
    "lanes",
    [
        Lanes(("default",)),
        Lanes(("default", "other")),
        Lanes(("default",), ("q1",)),
        Lanes(("default", "other"), ("q0", "q1", "q2", "q3")),
    ],
    ids=["any queue", "any queue of two backends", "one queue", "eight lanes"],
)
@pytest.mark.parametrize("limit", [1, 100])
def test_a_claim_reads_what_it_takes(lanes: Lanes, limit: int) -> None:
    pairs = len(lanes.pairs())
    messages = assert_is_little(lambda: claim_alone(lanes, limit), rows=limit * pairs)
    assert len(messages) == limit
    assert {message.priority for message in messages} == {4}


@pytest.mark.parametrize("lanes", [Lanes(("idle",)), Lanes(("default",), ("idle",)), Lanes(("expired",))], ids=str)
def test_a_claim_of_nothing_reads_nothing(lanes: Lanes) -> None:
    assert assert_is_little(lambda: claim_alone(lanes, 100), rows=FEW) == []


def test_a_claim_by_name_looks_at_the_first_of_each_lane() -> None:
    put(name="tests.taskapp.tasks.add", priority=9)
    lanes = Lanes(("default",), ("default", "q1"))
    messages = assert_is_little(
        lambda: claim_named(USING, lanes, 100, BERT, names=["tests.taskapp.tasks.add"], wanted=True), rows=0
    )
    assert len(messages) == 1


def test_queues_are_found_without_reading_their_tasks() -> None:
    assert assert_is_little(lambda: queue_names(USING, "default"), rows=3) == ["q0", "q1", "q2"]


@pytest.mark.parametrize(
    "kinds",
    [
        [{"state": State.SUCCESSFUL, "result": "1", "duration": 0.1}],
        [{"state": State.FAILED, "error": "x\n"}],
        [{"state": State.READY, "loss": 1}, {"state": State.SCHEDULED, "delay": 9.0}],
        [{"state": State.SUCCESSFUL, "keep_row": False}],
    ],
    ids=["successes", "failures", "retries", "without a record"],
)
@pytest.mark.parametrize("count", [1, 100])
def test_an_end_reads_what_it_ends(kinds: list[dict[str, Any]], count: int) -> None:
    messages = claim(USING, Lanes(("default",)), count, BERT)
    ends = [End(id=one.id, claim=one.claim, **kinds[index % len(kinds)]) for index, one in enumerate(messages)]
    assert len(assert_is_little(lambda: finish(USING, ends), rows=count)) == count


def test_giving_back_reads_what_it_gives_back() -> None:
    messages = claim(USING, Lanes(("default",)), 100, BERT)
    assert assert_is_little(lambda: release(USING, [held(message) for message in messages]), rows=100) == 100


def test_cancelling_reads_one_row() -> None:
    task_id = put()
    assert assert_is_little(lambda: operate.cancel(USING, task_id), rows=1)


def test_what_is_due_is_found_among_what_waits() -> None:
    assert assert_is_little(lambda: seconds_to_next(USING), rows=1) < 0
    assert assert_is_little(lambda: promote_due(USING, 50), rows=50) == 50
    assert assert_is_little(lambda: promote_due(USING), rows=FEW) == FEW - 50
    assert assert_is_little(lambda: promote_due(USING), rows=1) == 0
    assert assert_is_little(lambda: seconds_to_next(USING), rows=1) > 0


def test_what_has_expired_is_found_among_what_can_expire() -> None:
    assert assert_is_little(lambda: any_overdue(USING), rows=FEW)
    assert assert_is_little(lambda: expire_overdue(USING), rows=FEW) == FEW
    assert not assert_is_little(lambda: any_overdue(USING), rows=1)
    assert assert_is_little(lambda: expire_overdue(USING), rows=1) == 0


def test_lost_workers_are_found_among_what_runs() -> None:
    moment = now() - timedelta(seconds=1)
    WorkerRecord.objects.create(
        id=BERT, name="", hostname="", pid=1, backends="", queues="", slots=1, started_at=moment, heartbeat_at=moment
    )
    assert assert_is_little(lambda: workers.remove_lost(USING), rows=FEW) == [ANNE]
    assert assert_is_little(lambda: workers.rescue(USING, ANNE), rows=FEW) == (FEW, 0)
    assert assert_is_little(lambda: workers.rescue(USING, ANNE), rows=1) == (0, 0)
    assert assert_is_little(lambda: workers.remove_lost(USING), rows=1) == []


def test_results_are_read_by_id() -> None:
    task_id = str(TaskRecord.objects.filter(state=State.SUCCESSFUL, backend="default").values_list("pk", flat=True)[0])
    assert assert_is_little(lambda: default_task_backend.get_result(task_id), rows=1).id == task_id
    ids = [str(message.id) for message in claim(USING, Lanes(("default",)), 100, BERT)]
    assert_is_little(lambda: DatabaseWatcher(USING)._look(ids), rows=100)


def test_figures_are_read_from_what_has_not_ended() -> None:
    with metered() as meter:
        figures = read_figures()
    assert figures.depths["default", "q1", State.READY] == pytest.approx(READY * 9 / 30, rel=0.01)
    assert sum(count for (*_, state), count in figures.depths.items() if state is State.SCHEDULED) >= MANY / 2
    assert len(figures.waits) == 3
    # What has not ended is counted, and the history not looked at.
    assert meter.rows < ENDED
