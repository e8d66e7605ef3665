"""What tests do with a running server, or with a directory of SQLite files: one seam, three implementations."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol


class Databases(Protocol):
    """Where databases can be made and dropped.

    Names are plain identifiers; they are not quoted further than that.
    """

    def settings(self, name: str) -> dict[str, Any]:
        """Return the entry of Django's DATABASES for the database `name`."""
        ...

    def create_database(self, name: str) -> None:
        """Create an empty database."""
        ...

    def clone_database(self, template: str, name: str) -> None:
        """Create `name` with everything `template` holds; nobody may be connected to the template."""
        ...

    def drop_database(self, name: str) -> None:
        """Drop the database if it is there, whoever is connected to it."""
        ...


class SQLiteDatabases:
    """SQLite files in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.sqlite3"

    def settings(self, name: str) -> dict[str, Any]:
        """Return an entry without any option: users need none, so tests have none."""
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(self._path(name))}

    def create_database(self, name: str) -> None:
        """Leave the file to the first connection, as SQLite does."""
        self.drop_database(name)

    def clone_database(self, template: str, name: str) -> None:
        """Copy the file, after what may stand in a write-ahead log beside it has gone into it."""
        with closing(sqlite3.connect(self._path(template))) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.drop_database(name)
        shutil.copyfile(self._path(template), self._path(name))

    def drop_database(self, name: str) -> None:
        """Remove the file and what SQLite keeps beside it."""
        for suffix in ("", "-wal", "-shm", "-journal"):
            self._path(name).with_name(f"{name}.sqlite3{suffix}").unlink(missing_ok=True)
