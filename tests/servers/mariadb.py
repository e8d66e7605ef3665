"""A private MariaDB."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import Any, ClassVar

from tests.servers.programs import find, mariadb_server, search_path
from tests.servers.server import DatabaseServer, Mode

#: Account of the private server with all rights; the password differs every time.
USER = "taskq"


class MariaDBDatabases:
    """Databases of a MariaDB that runs on this machine."""

    def __init__(self, port: int, password: str) -> None:
        self._port = port
        self._password = password

    def settings(self, name: str) -> dict[str, Any]:
        """Return the entry of Django's DATABASES for the database `name`."""
        return {
            "ENGINE": "django.db.backends.mysql",
            "NAME": name,
            "USER": USER,
            "PASSWORD": self._password,
            "HOST": "127.0.0.1",
            "PORT": self._port,
        }

    def create_database(self, name: str) -> None:
        """Create an empty database."""
        self._client("mariadb", "--execute", f"CREATE DATABASE `{name}`")

    def clone_database(self, template: str, name: str) -> None:
        """Create the database from a dump of the template."""
        dump = self._client("mariadb-dump", "--single-transaction", "--skip-lock-tables", template)
        self.create_database(name)
        self._client("mariadb", name, text=dump)

    def drop_database(self, name: str) -> None:
        """Drop the database if it is there; a statement under way in it is let end first."""
        self._client("mariadb", "--execute", f"DROP DATABASE IF EXISTS `{name}`")

    def _client(self, program: str, *arguments: str, text: bytes | None = None) -> bytes:
        return subprocess.run(
            [
                *(find(program, package="mariadb-client"), "--no-defaults", "--protocol=tcp", "--host=127.0.0.1"),
                *(f"--port={self._port}", f"--user={USER}", "--default-character-set=utf8mb4", *arguments),
            ],
            input=text,
            env={"PATH": search_path(), "MYSQL_PWD": self._password},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout


class MariaDBServer(DatabaseServer):
    """A private MariaDB, initialised at its first start."""

    vendor = "mariadb"
    accounts = ("mysql",)
    # MariaDB has no signal for an immediate stop: killed, it recovers at the next start.
    endings: ClassVar[dict[Mode, Signals]] = {"fast": SIGTERM, "immediate": SIGKILL}

    @property
    def databases(self) -> MariaDBDatabases:
        """Where databases of this server can be made and dropped."""
        return MariaDBDatabases(self.port, self.password)

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _initialise(self) -> None:
        (self.directory / "tmp").mkdir()
        self._own(self.directory / "tmp")
        self._run(
            [
                *(find("mariadb-install-db", package="mariadb-server"), "--no-defaults", f"--datadir={self._data}"),
                *(f"--tmpdir={self.directory / 'tmp'}", "--skip-test-db", "--skip-name-resolve"),
            ]
        )
        accounts = self.directory / "accounts.sql"
        accounts.touch(mode=0o600)
        self._own(accounts)
        # The init-file runs at every start; one statement a line.
        accounts.write_text(
            f"CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n"
        )

    def _command(self) -> list[str | Path]:
        options = {
            "datadir": self._data,
            "tmpdir": self.directory / "tmp",
            "socket": self.directory / "socket",
            "pid-file": self.directory / "pid",
            "init-file": self.directory / "accounts.sql",
            "bind-address": "127.0.0.1",
            "port": self.port,
            "character-set-server": "utf8mb4",
            # Eight worker processes and a dozen threads each must find room beside the tests' own connections.
            "max-connections": 300,
        }
        if not self.durable:
            # A commit still reaches the operating system before it is confirmed; 0 would leave it in the process.
            options["innodb-flush-log-at-trx-commit"] = 2
        flags = [f"--{name}={value}" for name, value in options.items()]
        return [mariadb_server(), "--no-defaults", "--skip-name-resolve", *flags]

    def _is_ready(self) -> bool:
        # The kernel accepts for a server that still recovers; only one that is ready sends its greeting.
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                return bool(connection.recv(1))
        except OSError:
            return False
