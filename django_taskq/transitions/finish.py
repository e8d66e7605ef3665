"""The end of attempts: RUNNING -> a final state, or back to SCHEDULED or READY."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial, reduce
from operator import or_
from typing import Any, NamedTuple

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Q

from ..core import codec
from ..core.states import State
from ..database import Now, id_param, notify, read_id, retry_conflicts, sqlite_now, sqlite_text
from ..models import TaskRecord
from ..wakeup import DONE_CHANNEL, DUE_CHANNEL, MAX_PAYLOAD, READY_CHANNEL

#: characters of a row's log; of a longer one the oldest are dropped
MAX_LOG = 16_384

#: a task that was asked to stop does not come back for another attempt, and what it raised is how it stopped
_STATE = "CASE WHEN t.cancel_requested AND e.state <> 'SUCCESSFUL' THEN 'CANCELLED' ELSE e.state END"
_FINGERPRINT = "CASE WHEN e.state = 'FAILED' AND NOT t.cancel_requested THEN e.fingerprint END"
#: as SQLite reads them from JSON
_JSON_COLUMNS = (
    *("id", "claim", "state", "result", "error", "delay", "metadata", "duration", "loss", "log", "fingerprint"),
    "due",
)
_ENDS = "(t.cancel_requested OR e.state NOT IN ('READY', 'SCHEDULED'))"


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How one attempt ends. ``claim`` is the attempt's fencing token.

    ``result``: JSON text or None. ``error``: one line for ``errors``, or "". ``delay``: seconds until
    a SCHEDULED task runs again. ``metadata``: JSON text, or None to keep what is there. ``loss``: 1
    when the attempt died with its worker. ``log``: lines to add to those of earlier attempts.
    ``keep_row``: False deletes the row instead. ``fingerprint``: of a FAILED attempt's error.
    """

    id: str
    claim: int
    state: State
    result: str | None = None
    error: str = ""
    delay: float = 0.0
    metadata: str | None = None
    duration: float | None = None
    loss: int = 0
    log: str = ""
    keep_row: bool = True
    fingerprint: str = ""


def finish(using: str, ends: Sequence[End]) -> dict[str, State]:
    """Write the ends of attempts in one statement; gives the states that were really written, by id.

    An id that is missing was not RUNNING under that claim any more: taken over, or already
    written by a try whose answer got lost. Nothing was changed for it.
    """
    kept = [end for end in ends if end.keep_row]
    written: dict[str, State] = {}
    if kept:
        written |= retry_conflicts(using, lambda: _write(using, kept))
    if len(kept) < len(ends):
        gone = [end for end in ends if not end.keep_row]
        written |= retry_conflicts(using, lambda: _delete(using, gone))
    states = set(written.values())
    if State.READY in states:
        notify(using, READY_CHANNEL)
    if State.SCHEDULED in states:
        notify(using, DUE_CHANNEL)
    return written


class Held(NamedTuple):
    """A claim that somebody holds. ``worker_ids`` has a line per attempt, this one included."""

    id: str
    claim: int
    attempt: int
    worker_ids: str


def release(using: str, held: Sequence[Held]) -> int:
    """Give back tasks that were claimed and not started: READY again, as if never claimed.

    The attempt is not counted; the fencing token stays used. Gives how many were given back.
    """
    alike: dict[tuple[int, str], dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for one in held:
        workers_before = one.worker_ids[: one.worker_ids.rstrip("\n").rfind("\n") + 1]
        alike[one.attempt, workers_before][one.claim].append(one.id)
    released = cancelled = 0
    for (attempt, workers_before), claims in alike.items():
        values: dict[str, Any] = {"attempt": attempt - 1, "worker_id": "", "worker_ids": workers_before}
        if attempt == 1:
            values |= {"started_at": None, "last_attempted_at": None}
        ids = [task_id for group in claims.values() for task_id in group]
        ours = reduce(or_, (Q(id__in=group, claim=claim) for claim, group in claims.items()))
        # All ids once more: they are what is to be looked up.
        rows = TaskRecord.objects.using(using).filter(ours, id__in=ids, state=State.RUNNING)
        wanted, unwanted = rows.filter(cancel_requested=False), rows.filter(cancel_requested=True)
        done = retry_conflicts(using, partial(wanted.update, state=State.READY, **values))
        released += done
        if done < len(ids):
            # Cancelled while it waited here: it must not start elsewhere. In this order: what somebody cancels after the
            # first statement is either READY, or still RUNNING for the second.
            ended = partial(unwanted.update, state=State.CANCELLED, finished_at=Now(), published_at=None, **values)
            cancelled += retry_conflicts(using, ended)
    if released:
        notify(using, READY_CHANNEL)
    if cancelled:
        notify(using, DONE_CHANNEL, "*")
    return released + cancelled


def save_progress(using: str, reports: Sequence[tuple[str, int, str]]) -> None:
    """Write how far running attempts are: ``(id, claim, JSON text)``."""

    def save() -> None:
        with transaction.atomic(using=using, savepoint=False):
            for task_id, claim, progress in reports:
                TaskRecord.objects.using(using).filter(id=task_id, claim=claim, state=State.RUNNING).update(
                    progress=progress
                )

    retry_conflicts(using, save)


def _write(using: str, ends: Sequence[End]) -> dict[str, State]:
    connection = connections[using]
    write = {"postgresql": _write_postgresql, "sqlite": _write_sqlite}.get(connection.vendor, _write_mysql)
    return {read_id(row[0]): State(row[1]) for row in write(connection, ends)}


def _write_postgresql(connection: BaseDatabaseWrapper, ends: Sequence[End]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH ended AS (UPDATE django_taskq_task t SET state = {_STATE}, "
            f"finished_at = CASE WHEN {_ENDS} THEN clock_timestamp() END, "
            "run_after = CASE WHEN e.state = 'SCHEDULED' THEN clock_timestamp() + e.delay * interval '1 second' "
            "ELSE t.run_after END, "
            f"worker_id = CASE WHEN {_ENDS} THEN t.worker_id ELSE '' END, "
            f"published_at = CASE WHEN NOT {_ENDS} THEN t.published_at END, "
            "result = e.result, errors = t.errors || e.error, metadata = coalesce(e.metadata, t.metadata), "
            "duration = coalesce(e.duration, t.duration), losses = t.losses + e.loss, "
            f"fingerprint = {_FINGERPRINT}, "
            f"log = CASE e.log WHEN '' THEN t.log ELSE right(t.log || e.log, {MAX_LOG}) END "
            "FROM unnest(%s::uuid[], %s::int[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::text[], "
            "%s::float8[], %s::smallint[], %s::text[], %s::text[]) "
            "AS e(id, claim, state, result, error, delay, metadata, duration, loss, log, fingerprint) "
            "WHERE t.id = e.id AND t.claim = e.claim AND t.state = 'RUNNING' RETURNING t.id, t.state) "
            # One notification per statement, not per task: whoever waits looks for its own id in it.
            "SELECT ended.id, ended.state, (SELECT pg_notify(%s, %s)::text) FROM ended",
            [*map(list, zip(*map(_columns, ends), strict=True)), DONE_CHANNEL, _payload(ends)],
        )
        return cursor.fetchall()  # type: ignore[no-any-return]


def _write_sqlite(connection: BaseDatabaseWrapper, ends: Sequence[End]) -> list[Any]:
    now = sqlite_now()
    rows = [
        [
            id_param(connection, end.id),
            *_columns(end)[1:],
            sqlite_text(datetime.now(UTC) + timedelta(seconds=end.delay)),
        ]
        for end in ends
    ]
    columns = ", ".join(f"json_extract(value, '$[{index}]') AS {name}" for index, name in enumerate(_JSON_COLUMNS))
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE django_taskq_task AS t SET state = {_STATE}, finished_at = CASE WHEN {_ENDS} THEN %s END, "
            "run_after = CASE WHEN e.state = 'SCHEDULED' THEN e.due ELSE t.run_after END, "
            f"worker_id = CASE WHEN {_ENDS} THEN t.worker_id ELSE '' END, "
            f"published_at = CASE WHEN NOT {_ENDS} THEN t.published_at END, "
            "result = e.result, errors = t.errors || e.error, metadata = coalesce(e.metadata, t.metadata), "
            "duration = coalesce(e.duration, t.duration), losses = t.losses + e.loss, "
            f"fingerprint = {_FINGERPRINT}, "
            f"log = CASE e.log WHEN '' THEN t.log ELSE substr(t.log || e.log, -{MAX_LOG}) END "
            f"FROM (SELECT {columns} FROM json_each(%s)) AS e "
            "WHERE t.id = e.id AND t.claim = e.claim AND t.state = 'RUNNING' RETURNING id, state",
            [now, codec.encode(rows)],
        )
        return cursor.fetchall()  # type: ignore[no-any-return]


def _write_mysql(connection: BaseDatabaseWrapper, ends: Sequence[End]) -> list[Any]:
    marks = ", ".join(["%s"] * len(ends))
    ids = [id_param(connection, end.id) for end in ends]
    claims = {end.id: end.claim for end in ends}
    # SET sees the values that earlier assignments of the same statement wrote (MySQL manual, UPDATE):
    # state comes last, since the others read t.cancel_requested and e.* only.
    statement = (
        "UPDATE django_taskq_task t SET "
        "t.finished_at = IF(t.cancel_requested OR %s, UTC_TIMESTAMP(6), NULL), "
        "t.run_after = IF(%s, UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND, t.run_after), "
        "t.worker_id = IF(t.cancel_requested OR %s, t.worker_id, ''), "
        "t.published_at = IF(t.cancel_requested OR %s, NULL, t.published_at), "
        "t.result = %s, t.errors = CONCAT(t.errors, %s), t.metadata = COALESCE(%s, t.metadata), "
        "t.duration = COALESCE(%s, t.duration), t.losses = t.losses + %s, "
        "t.fingerprint = IF(%s AND NOT t.cancel_requested, %s, NULL), "
        f"t.log = RIGHT(CONCAT(t.log, %s), {MAX_LOG}), "
        "t.state = IF(t.cancel_requested AND NOT %s, 'CANCELLED', %s) "
        "WHERE t.id = %s AND t.claim = %s AND t.state = 'RUNNING'"
    )
    with transaction.atomic(using=connection.alias, savepoint=False), connection.cursor() as cursor:
        cursor.execute(
            # By primary key: by an index on the state it would lock what other workers run.
            "SELECT id, claim, cancel_requested FROM django_taskq_task FORCE INDEX (PRIMARY) "
            f"WHERE id IN ({marks}) AND state = 'RUNNING' ORDER BY id FOR UPDATE",
            ids,
        )
        cancelled = {read_id(row[0]): bool(row[2]) for row in cursor.fetchall() if claims[read_id(row[0])] == row[1]}
        held = [end for end in ends if end.id in cancelled]
        plain = [end for end in held if end.state is State.SUCCESSFUL and not end.error and end.metadata is None]
        _write_mysql_successes(connection, cursor, plain)
        successes = {end.id for end in plain}
        for end in held:
            if end.id in successes:
                continue
            ends_now = end.state.is_final
            has_succeeded = end.state is State.SUCCESSFUL
            cursor.execute(
                statement,
                [
                    ends_now,
                    end.state is State.SCHEDULED,
                    int(end.delay * 1_000_000),
                    ends_now,
                    ends_now,
                    end.result,
                    end.error,
                    end.metadata,
                    end.duration,
                    end.loss,
                    end.state is State.FAILED,
                    end.fingerprint,
                    end.log,
                    has_succeeded,
                    end.state.value,
                    id_param(connection, end.id),
                    end.claim,
                ],
            )
    return [
        (end.id, State.CANCELLED if cancelled[end.id] and end.state is not State.SUCCESSFUL else end.state)
        for end in held
    ]


def _write_mysql_successes(connection: BaseDatabaseWrapper, cursor: Any, ends: Sequence[End]) -> None:
    """Plain successes, already locked, in one statement per 100: one each would cost a round trip each."""
    for start in range(0, len(ends), 100):
        chunk = ends[start : start + 100]
        results: list[Any] = []
        durations: list[Any] = []
        ids = []
        for end in chunk:
            task_id = id_param(connection, end.id)
            results += [task_id, end.result]
            durations += [task_id, end.duration]
            ids.append(task_id)
        cases = " ".join(["WHEN %s THEN %s"] * len(chunk))
        logs = [param for task_id, end in zip(ids, chunk, strict=True) if end.log for param in (task_id, end.log)]
        logged = " ".join(["WHEN %s THEN %s"] * (len(logs) // 2))
        log = f", log = RIGHT(CONCAT(log, CASE id {logged} ELSE '' END), {MAX_LOG})" if logs else ""
        cursor.execute(
            "UPDATE django_taskq_task FORCE INDEX (PRIMARY) SET state = 'SUCCESSFUL', finished_at = UTC_TIMESTAMP(6), "
            "published_at = NULL, "
            f"result = CASE id {cases} END, duration = CASE id {cases} END{log} "
            f"WHERE id IN ({', '.join(['%s'] * len(chunk))}) AND state = 'RUNNING'",
            [*results, *durations, *logs, *ids],
        )


def _delete(using: str, ends: Sequence[End]) -> dict[str, State]:
    """The end of tasks that keep no record: a success leaves no row."""
    written: dict[str, State] = {}
    with transaction.atomic(using=using, savepoint=False):
        by_claim: dict[int, list[End]] = defaultdict(list)
        for end in ends:
            by_claim[end.claim].append(end)
        for claim, group in by_claim.items():
            rows = TaskRecord.objects.using(using).filter(
                id__in=[end.id for end in group], claim=claim, state=State.RUNNING
            )
            # Locked: what was RUNNING when it was read is what is deleted. In order, so that two of these don't deadlock.
            held = {str(pk) for pk in rows.select_for_update().order_by("pk").values_list("pk", flat=True)}
            rows._raw_delete(using)  # noqa: SLF001  # no signals, no cascades: nothing points at these rows
            written |= {end.id: end.state for end in group if end.id in held}
    if written:
        notify(using, DONE_CHANNEL, _payload(ends))
    return written


def _columns(end: End) -> tuple[Any, ...]:
    return (
        end.id,
        end.claim,
        end.state.value,
        end.result,
        end.error,
        end.delay,
        end.metadata,
        end.duration,
        end.loss,
        end.log,
        end.fingerprint,
    )


def _payload(ends: Sequence[End]) -> str:
    payload = " ".join(end.id for end in ends)
    return payload if len(payload) <= MAX_PAYLOAD else "*"
