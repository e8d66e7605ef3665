"""Pages of tasks, newest first, at a cost that does not grow with the table.

Ids begin with the time they were made at, so that the primary key is the order. A page is asked for by the id it
begins beyond, never by its number. What an index finds is found however old it is; else a bounded number of rows is
looked through, from the cursor on, and the page says where to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self
from uuid import UUID

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..core import codec
from ..database import id_param, read_id
from ..models import TaskRecord
from .lanes import TABLE, Lane, lanes_for
from .search import Search

#: rows that one page looks through where no index helps; the same where long columns are read
WINDOW, HEAVY_WINDOW = 50_000, 10_000
#: tasks whose content is looked at one by one for a page
_CANDIDATES = 500
#: parts of a search -> columns
_COLUMNS = {"state": "state", "task": "name", "queue": "queue_name", "worker": "worker_id", "group": "fingerprint"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where a page begins: tasks ``before`` this id are older, others newer."""

    id: str
    is_before: bool = True

    @classmethod
    def parse(cls, text: str) -> Self:
        """From an address; raises ``ValueError``."""
        if text[:1] not in ("a", "b"):
            raise ValueError("neither before nor after")
        return cls(id=str(UUID(text[1:])), is_before=text[0] == "b")

    def __str__(self) -> str:
        return f"{'b' if self.is_before else 'a'}{self.id.replace('-', '')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Tasks by id, newest first, and where older and newer ones are.

    ``is_cut``: not all were looked at that are between this page and the end; ``window`` were.
    """

    ids: Sequence[str] = ()
    older: Cursor | None = None
    newer: Cursor | None = None
    is_cut: bool = False
    window: int = 0


def find(
    using: str,
    search: Search,
    *,
    size: int,
    cursor: Cursor | None = None,
    verify: Callable[[TaskRecord, Search], bool] | None = None,
) -> Page:
    """A page of tasks. ``verify``: looks into those that a search may mean that reads content; without it, none is found.

    Raises the database's errors.
    """
    if search.is_nothing or (search.reads_content and verify is None):
        return Page()
    if search.id:
        lanes, search = (
            [Lane(where="id = %s", params=(id_param(connections[using], search.id),))],
            replace(search, id=""),
        )
    else:
        lanes = lanes_for(using, search)
    page = _page(_Look(using, search, lanes, cursor), size, cursor, verify)
    # The newest page is to be full, also on the way back to it.
    return page or _page(_Look(using, search, lanes, None), size, None, verify) or Page()


def _page(
    look: _Look, size: int, cursor: Cursor | None, verify: Callable[[TaskRecord, Search], bool] | None
) -> Page | None:
    """A page; None where it would be the newest and not full."""
    if verify is None or not look.search.reads_content:
        found, edge = look.take(size + 1)
    else:
        found, edge = _verified(look, size + 1, verify)
    is_more = len(found) > size
    ids = found[:size]
    end = ids[-1] if is_more else edge
    if cursor is not None and not cursor.is_before:
        if end is None and len(ids) < size and not look.search.reads_content:
            return None
        older: Cursor | None = Cursor(id=ids[0] if ids else cursor.id)
        newer = None if end is None else Cursor(id=end, is_before=False)
        ids.reverse()
    else:
        older = None if end is None else Cursor(id=end)
        newer = None if cursor is None else Cursor(id=ids[0] if ids else cursor.id, is_before=False)
    return Page(ids=ids, older=older, newer=newer, is_cut=not is_more and edge is not None, window=look.window)


class _Look:
    """One search from one cursor on."""

    def __init__(self, using: str, search: Search, lanes: Sequence[Lane], cursor: Cursor | None) -> None:
        self.using, self.search = using, search
        self.window = HEAVY_WINDOW if search.reads_content else WINDOW
        self.newest_first = cursor is None or cursor.is_before
        self._connection = connections[using]
        self._lanes = lanes
        self._start = None if cursor is None else id_param(self._connection, cursor.id)
        self._conditions = _conditions(self._connection, search)

    def take(self, limit: int) -> tuple[list[str], str | None]:
        """Up to ``limit`` ids in the order of the page, and how far was looked if that was not to the end."""
        parts: list[str] = []
        params: list[Any] = []
        for lane in self._lanes:
            part, values = self._part(lane, limit)
            parts.append(f"SELECT * FROM ({part}) AS lane{len(parts):d}")
            params += values
        with self._connection.cursor() as cursor:
            cursor.execute(" UNION ALL ".join(parts), params)
            ids = {read_id(row[0]) for row in cursor.fetchall()}
        found = sorted(ids, reverse=self.newest_first)[:limit]
        edge = None if len(found) >= limit else self._edge()
        if edge is not None:
            # What another lane has beyond this is found from there on.
            found = [one for one in found if (one >= edge if self.newest_first else one <= edge)]
        return found, edge

    def _part(self, lane: Lane, limit: int) -> tuple[str, list[Any]]:
        given, (beyond, start) = self._given(lane), self._beyond()
        inner = f"SELECT {self._columns} FROM {TABLE} WHERE {lane.where}"
        params = [*lane.params]
        if lane.order:
            inner = f"{inner} ORDER BY {lane.order}"
            given += [(beyond, start)] if beyond else []
        else:
            params += start
            inner = f"{inner}{' AND ' if beyond else ''}{beyond} ORDER BY id {self._direction} "
            inner = f"{inner} LIMIT {self.window if given else limit:d}"
        where = f"WHERE {' AND '.join(condition for condition, _ in given)} " if given else ""
        # SQLite reads a subquery in its own order, and would sort all of it for another.
        order = "" if self._connection.vendor == "sqlite" and not lane.order else f"ORDER BY id {self._direction} "
        params += [param for _, values in given for param in values]
        return f"SELECT id FROM ({inner}) AS looked {where}{order}LIMIT {limit:d}", params

    def _given(self, lane: Lane) -> list[tuple[str, list[Any]]]:
        """What rows of a lane have to meet."""
        own = [("state = %s", [lane.state])] if lane.state else []
        return [*own, *((sql, values) for name, sql, values in self._conditions if name not in lane.answers)]

    def _edge(self) -> str | None:
        """How far the lanes reach that are not looked through to their end; None when all are."""
        beyond, start = self._beyond()
        edges = []
        for lane in self._lanes:
            if lane.order or not self._given(lane):
                continue
            with self._connection.cursor() as cursor:
                cursor.execute(
                    f"SELECT id FROM {TABLE} WHERE {lane.where}{' AND ' if beyond else ''}{beyond} "
                    f"ORDER BY id {self._direction} LIMIT 1 OFFSET {self.window - 1:d}",
                    [*lane.params, *start],
                )
                row = cursor.fetchone()
            if row is not None:
                edges.append(read_id(row[0]))
        return (max if self.newest_first else min)(edges, default=None)

    def _beyond(self) -> tuple[str, list[Any]]:
        return ("", []) if self._start is None else (f"id {'<' if self.newest_first else '>'} %s", [self._start])

    @property
    def _columns(self) -> str:
        """Those that conditions look at: some databases write them all down first."""
        long = ("arguments", "errors") if self.search.reads_content else ()
        return ", ".join(("id", "state", "name", "queue_name", "worker_id", "fingerprint", *long))

    @property
    def _direction(self) -> str:
        return "DESC" if self.newest_first else "ASC"


def _conditions(connection: BaseDatabaseWrapper, search: Search) -> list[tuple[str, str, list[Any]]]:
    """What rows have to meet, by the part of the search it is for; the cheapest first."""
    position = "strpos" if connection.vendor == "postgresql" else "instr"
    found: list[tuple[str, str, list[Any]]] = []
    for name, column in _COLUMNS.items():
        if value := getattr(search, name):
            found.append((name, f"{column} = %s", [value]))
    if search.prefix:
        found.append(("prefix", "substr(name, 1, %s) = %s", [len(search.prefix), search.prefix]))
    if search.error:
        found.append(("error", f"{position}(lower(errors), lower(%s)) > 0", [_as_stored(search.error)]))
    for _, value in search.arguments:
        found.append(("arguments", f"{position}(arguments, %s) > 0", [_as_stored(value)]))
    return found


def _as_stored(text: str) -> str:
    """Text as it stands within stored JSON."""
    return codec.encode(text)[1:-1]


def _verified(look: _Look, limit: int, verify: Callable[[TaskRecord, Search], bool]) -> tuple[list[str], str | None]:
    """The same as ``look.take``, of tasks whose content is what is looked for, and may be seen."""
    candidates, edge = look.take(_CANDIDATES)
    if len(candidates) == _CANDIDATES:
        edge = candidates[-1]
    rows = TaskRecord.objects.using(look.using).defer("result", "log").in_bulk(candidates)
    found: list[str] = []
    for one in candidates:
        record = rows.get(UUID(one))
        if record is not None and verify(record, look.search):
            found.append(one)
            if len(found) == limit:
                return found, None
    return found, edge
