"""How much a database was asked, from outside: the reader's own questions are not counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection


class Counter:
    """Transactions of this database on PostgreSQL, statements of the whole server on MariaDB; nothing on SQLite."""

    #: The figure's key, None where nothing is counted.
    key: str | None = {"postgresql": "transactions", "mysql": "statements"}.get(connection.vendor)

    def __init__(self) -> None:
        self._own = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Leave out what this thread asks through Django's connection, outside of transactions."""
        with connection.execute_wrapper(self._count):
            yield

    def read(self) -> int:
        """Return the number until now; only differences mean something."""
        if connection.vendor == "postgresql":
            return self._transactions() - self._own
        if connection.vendor == "mysql":
            return self._statements() - self._own
        return 0

    def _count(self, execute: Any, *arguments: Any) -> Any:
        self._own += 1
        return execute(*arguments)

    def _transactions(self) -> int:
        import psycopg

        given = connection.settings_dict
        # From another database, whose transactions are counted elsewhere.
        with psycopg.connect(
            host=given["HOST"], port=given["PORT"], user=given["USER"], password=given["PASSWORD"], dbname="postgres"
        ) as observer:
            question = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s"
            row = observer.execute(question, [given["NAME"]]).fetchone()
        assert row is not None
        return int(row[0])

    def _statements(self) -> int:
        with connection.cursor() as cursor:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Questions'")
            return int(cursor.fetchone()[1])
