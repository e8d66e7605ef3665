"""A private Redis."""

from __future__ import annotations

import subprocess
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import ClassVar, Final

from tests.servers.programs import find, redis_server, search_path
from tests.servers.server import PATIENCE, Mode, Server, ServerFailed, accepts

#: Databases of the server: one for every test that asks, without anybody keeping count of those that are free.
DATABASES: Final = 1024


class Redis:
    """A Redis that runs on this machine, whoever started it."""

    def __init__(self, *, port: int, password: str) -> None:
        self.port = port
        self.password = password

    def url(self, db: int = 0, *, port: int | None = None) -> str:
        """Return kombu's URL of a database; another `port` is that of a proxy before the server."""
        return f"redis://:{self.password}@127.0.0.1:{port or self.port}/{db}"

    def command(self, *words: str, db: int = 0) -> str:
        """Return what redis-cli prints for one command."""
        done = subprocess.run(
            [
                *(find("redis-cli", package="redis-tools"), "-h", "127.0.0.1", "-p", str(self.port), "-n", str(db)),
                *("--no-auth-warning", "-e", *words),
            ],
            env={"PATH": search_path(), "REDISCLI_AUTH": self.password},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        if done.returncode:
            raise ServerFailed(f"{words[0]}: {done.stdout}{done.stderr}")
        return done.stdout.removesuffix("\n")

    def next_db(self) -> int:
        """Return the number of a database that no other test has, nor had since it was emptied. 0 is nobody's."""
        return (int(self.command("INCR", "taskq:databases")) - 1) % (DATABASES - 1) + 1

    def flushdb(self, db: int) -> None:
        """Empty one database."""
        self.command("FLUSHDB", db=db)

    def flushall(self) -> None:
        """Empty all databases."""
        self.command("FLUSHALL")


class RedisServer(Server, Redis):
    """A private Redis, which forgets everything at its end.

    With `appendonly` it keeps what it has acknowledged: over the death of its process, and with `durable` over a
    power cut.
    """

    vendor = "redis"
    accounts = ("redis",)
    # Redis has no signal for an immediate stop.
    endings: ClassVar[dict[Mode, Signals]] = {"fast": SIGTERM, "immediate": SIGKILL}

    def __init__(self, *, durable: bool = True, appendonly: bool = False) -> None:
        super().__init__(durable=durable)
        self.appendonly = appendonly

    def _initialise(self) -> None:
        options = {
            "bind": "127.0.0.1",
            "requirepass": self.password,
            "dir": self.directory,
            "databases": DATABASES,
            "save": '""',
            "appendonly": "yes" if self.appendonly else "no",
            "appendfsync": "always" if self.durable else "no",
        }
        # A file, where the list of processes does not show the password.
        path = self.directory / "redis.conf"
        path.touch(mode=0o600)
        self._own(path)
        path.write_text("".join(f"{name} {value}\n" for name, value in options.items()))

    def _command(self) -> list[str | Path]:
        return [redis_server(), self.directory / "redis.conf", "--port", str(self.port)]

    def _is_ready(self) -> bool:
        # While it reads its file it knows the password but answers PING with an error.
        return accepts(self.port, f"AUTH {self.password}\r\nPING\r\n".encode(), answer=b"+OK\r\n+PONG\r\n")
