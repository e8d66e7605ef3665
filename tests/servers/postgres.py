"""A private PostgreSQL."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from signal import SIGINT, SIGQUIT, Signals
from typing import Any, ClassVar

from tests.servers.programs import postgres_directory, search_path
from tests.servers.server import DatabaseServer, Mode

#: Superuser of the private server; the password differs every time.
USER = "taskq"


class PostgresDatabases:
    """Databases of a PostgreSQL that runs on this machine."""

    def __init__(self, port: int, password: str) -> None:
        self._port = port
        self._password = password

    def settings(self, name: str) -> dict[str, Any]:
        """Return the entry of Django's DATABASES for the database `name`."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "USER": USER,
            "PASSWORD": self._password,
            "HOST": "127.0.0.1",
            "PORT": self._port,
        }

    def create_database(self, name: str) -> None:
        """Create an empty database."""
        self._execute(f'CREATE DATABASE "{name}"')

    def clone_database(self, template: str, name: str) -> None:
        """Copy the template's files, which is what CREATE DATABASE does anyway."""
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')

    def drop_database(self, name: str) -> None:
        """Drop the database if it is there, whoever is connected to it."""
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        subprocess.run(
            [
                *(postgres_directory() / "psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"),
                *("--host=127.0.0.1", f"--port={self._port}", f"--username={USER}", "--dbname=postgres"),
                f"--command={statement}",
            ],
            env={"PATH": search_path(), "PGPASSWORD": self._password, "PGOPTIONS": "-c client_min_messages=warning"},
            check=True,
        )


class PostgresServer(DatabaseServer):
    """A private PostgreSQL, initialised at its first start."""

    vendor = "postgres"
    accounts = ("postgres",)
    # https://www.postgresql.org/docs/current/server-shutdown.html
    endings: ClassVar[dict[Mode, Signals]] = {"fast": SIGINT, "immediate": SIGQUIT}

    @property
    def databases(self) -> PostgresDatabases:
        """Where databases of this server can be made and dropped."""
        return PostgresDatabases(self.port, self.password)

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _initialise(self) -> None:
        # A password, although only loopback is served: a superuser may run programs as this account.
        secret = self.directory / "secret"
        secret.touch(mode=0o600)
        self._own(secret)
        secret.write_text(self.password)
        self._run(
            [
                *(postgres_directory() / "initdb", "--pgdata", self._data, "--no-sync", "--encoding=UTF8"),
                *("--locale=C", f"--username={USER}", f"--pwfile={secret}", "--auth=scram-sha-256"),
            ]
        )

    def _command(self) -> list[str | Path]:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.directory,
            # Eight worker processes and a dozen threads each must find room beside the tests' own connections.
            "max_connections": 300,
        }
        if not self.durable:
            # A commit still reaches the operating system before it is confirmed.
            options |= {"fsync": "off", "full_page_writes": "off"}
        flags = [flag for name, value in options.items() for flag in ("-c", f"{name}={value}")]
        return [postgres_directory() / "postgres", "-D", self._data, *flags]

    def _is_ready(self) -> bool:
        # The line that pg_ctl --wait looks for (LOCK_FILE_LINE_PM_STATUS), under our own pid, not one of a last start.
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(self.pid)] and len(lines) > 7 and lines[7].strip() == "ready"

    def close(self) -> None:
        """End the server if it runs and remove its directory, and the shared memory that a kill leaves."""
        if self._process is None:
            self._free_shared_memory()
        super().close()

    def _free_shared_memory(self) -> None:
        """Remove the segment by which PostgreSQL knows whether a data directory is in use.

        Only a server that ended by SIGKILL leaves it: line 7 of the file it left too has its key and its id.
        """
        with contextlib.suppress(FileNotFoundError):
            segment = (self._data / "postmaster.pid").read_text().splitlines()[6].split()[1]
            subprocess.run(["ipcrm", "--shmem-id", segment], check=False, stderr=subprocess.DEVNULL)
