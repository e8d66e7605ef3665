"""Where to look for tasks: index ranges that hold few, or hold them in the order of their ids."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..core.states import AT_REST, UNSUCCESSFUL, State
from .search import Search

TABLE = "django_taskq_task"

#: tasks in one state that are all looked at, and put in order; where there are more, they are found in passing
FEW = 10_000
#: names of tasks that a search by their beginning follows one by one; and names that are looked at for that,
#: fewer than the steps after which MySQL ends a recursion (``cte_max_recursion_depth``)
_MANY_NAMES, _ALL_NAMES = 20, 500
_NAME = frozenset({"task", "prefix"})


def literal(states: Collection[State]) -> str:
    """The condition of a partial index, word for word as SQLite wants it."""
    return f"state IN ({', '.join(repr(state.value) for state in sorted(states))})"


AT_REST_SQL, UNSUCCESSFUL_SQL = literal(AT_REST), literal(UNSUCCESSFUL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """Rows to look through: those of ``where``, in as many steps as there are of them.

    ``order``: of the index that holds them; "": that of their ids. ``answers``: what of the search they all meet.
    ``state``: what they have to be in, apart from that.
    """

    where: str = "1 = 1"
    params: tuple[Any, ...] = ()
    order: str = ""
    answers: frozenset[str] = frozenset()
    state: str = ""


def lanes_for(using: str, search: Search) -> list[Lane]:
    """Lanes that together hold all that is looked for, each task once."""
    connection = connections[using]
    if search.group:
        # The index's own condition, which a statement has to repeat.
        where = "fingerprint = %s" if connection.vendor == "mysql" else f"{UNSUCCESSFUL_SQL} AND fingerprint = %s"
        return [Lane(where=where, params=(search.group,), answers=frozenset({"group"}))]
    if search.state:
        return [_few(connection, [State(search.state)]).get(State(search.state), Lane())]
    names = [search.task] if search.task else _names_beginning_with(connection, search.prefix) if search.prefix else []
    if not 0 < len(names) <= _MANY_NAMES:
        return [Lane()]
    if connection.vendor == "mysql":
        return [Lane(where="name = %s", params=(name,), answers=_NAME) for name in names]
    moving = sorted(frozenset(State) - AT_REST)
    few = _few(connection, moving)
    return [
        *(Lane(where=f"{AT_REST_SQL} AND name = %s", params=(name,), answers=_NAME) for name in names),
        *(few.get(state, Lane(state=state.value)) for state in moving),
    ]


def _few(connection: BaseDatabaseWrapper, states: Sequence[State]) -> dict[State, Lane]:
    """Lanes for those of these states in which there are few tasks."""
    lanes = {state: lane for state in states if (lane := _by_state(connection, state)) is not None}
    if not lanes:
        return {}
    counts = " UNION ALL ".join(
        f"SELECT '{state.value}', COUNT(*) FROM "
        f"(SELECT 1 FROM {TABLE} WHERE {lane.where} ORDER BY {lane.order} LIMIT {FEW + 1:d}) AS found"
        for state, lane in lanes.items()
    )
    with connection.cursor() as cursor:
        cursor.execute(counts)
        return {State(state): lanes[State(state)] for state, count in cursor.fetchall() if count <= FEW}


def _by_state(connection: BaseDatabaseWrapper, state: State) -> Lane | None:
    """What an index holds of a state; None where there is none."""
    alone = f"state = '{state.value}'"
    if state in UNSUCCESSFUL:
        if connection.vendor == "mysql":
            return Lane(where=alone, order="finished_at")
        has_failed = state is State.FAILED
        return Lane(
            where=f"{UNSUCCESSFUL_SQL} AND fingerprint IS {'NOT NULL' if has_failed else 'NULL'}",
            # NULL is the greatest on PostgreSQL; SQLite takes either direction.
            order="fingerprint, id" if has_failed else "fingerprint DESC, id DESC",
        )
    order = {
        State.READY: "backend, priority DESC, id",
        State.SCHEDULED: "run_after",
        State.RUNNING: "worker_id",
    }.get(state)
    return None if order is None else Lane(where=alone, order=order)


def _names_beginning_with(connection: BaseDatabaseWrapper, prefix: str) -> list[str]:
    """Names of tasks that wait or have ended, at most one more than are followed; hops from one name to the next."""
    where = "" if connection.vendor == "mysql" else f"{AT_REST_SQL} AND "
    size = len(prefix)
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE names (name, hops) AS ("
            f"SELECT * FROM (SELECT name, 1 FROM {TABLE} WHERE {where}name > '' ORDER BY name LIMIT 1) AS head "
            f"UNION ALL SELECT (SELECT t.name FROM {TABLE} AS t WHERE {where}t.name > names.name "
            f"ORDER BY t.name LIMIT 1), hops + 1 FROM names WHERE names.name IS NOT NULL AND hops < {_ALL_NAMES:d}) "
            f"SELECT name FROM names WHERE name IS NOT NULL AND substr(name, 1, %s) = %s LIMIT {_MANY_NAMES + 1:d}",
            [size, prefix],
        )
        return [row[0] for row in cursor.fetchall()]
