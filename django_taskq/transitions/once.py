"""Rows of which there is to be one, whoever makes it."""

from __future__ import annotations

from typing import TypeVar

from django.db.models import Model, QuerySet

from ..database import retry_conflicts

Record = TypeVar("Record", bound=Model)


def insert_once(rows: QuerySet[Record], row: Record) -> None:
    """Insert ``row`` into the table and database of ``rows`` unless there is one with its key, in a transaction of its own.

    However many do so at once, none fails: of several that find the key taken, MariaDB undoes some as deadlocked.
    """
    retry_conflicts(rows.db, lambda: rows.bulk_create([row], ignore_conflicts=True))
