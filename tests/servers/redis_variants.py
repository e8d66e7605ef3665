"""Private Redis servers that are not alone or not in the clear: with TLS, with a replica, watched by a sentinel."""

from __future__ import annotations

from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import ClassVar, Final

from tests.servers.certificates import TLSServer
from tests.servers.programs import redis_server
from tests.servers.redis import Redis, RedisServer
from tests.servers.server import Mode, Server, accepts

#: What the sentinel calls the Redis it watches.
MASTER: Final = "mymaster"


class TLSRedisServer(TLSServer, RedisServer):
    """A private Redis that also listens with TLS, by a certificate of an authority of its own for 127.0.0.1."""

    vendor = "redis-tls"

    def _initialise(self) -> None:
        super()._initialise()
        self._certify()

    def _command(self) -> list[str | Path]:
        return [
            *(*super()._command(), "--tls-port", str(self.tls_port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", self._certificates.server, "--tls-key-file", self._certificates.key),
            *("--tls-ca-cert-file", self.authority),
        ]


class ReplicatedRedisServer(RedisServer):
    """A private Redis that has a replica or is one: of `master`, with its password."""

    vendor = "redis-replicated"

    def __init__(self, master: RedisServer | None = None, *, durable: bool = True) -> None:
        super().__init__(durable=durable)
        self._master = master
        if master is not None:
            self.password = master.password

    def _initialise(self) -> None:
        super()._initialise()
        with (self.directory / "redis.conf").open("a") as configuration:
            # For the other one, whichever is whose replica just now. A sentinel changes the file.
            configuration.write(f"masterauth {self.password}\nrepl-diskless-sync-delay 0\n")
            if self._master is not None:
                configuration.write(f"replicaof 127.0.0.1 {self._master.port}\n")


class SentinelServer(Server, Redis):
    """A private sentinel that watches `master` and, after half a second without it, makes its replica the master."""

    vendor = "sentinel"
    accounts = ("redis",)
    endings: ClassVar[dict[Mode, Signals]] = {"fast": SIGTERM, "immediate": SIGKILL}

    def __init__(self, master: RedisServer) -> None:
        super().__init__()
        self._master = master

    def _initialise(self) -> None:
        path = self.directory / "sentinel.conf"
        path.touch(mode=0o600)
        self._own(path)
        path.write_text(
            f"bind 127.0.0.1\ndir {self.directory}\nrequirepass {self.password}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {self._master.port} 1\n"
            f"sentinel auth-pass {MASTER} {self._master.password}\n"
            f"sentinel down-after-milliseconds {MASTER} 500\n"
            f"sentinel failover-timeout {MASTER} 2000\n"
        )

    def _command(self) -> list[str | Path]:
        return [redis_server(), self.directory / "sentinel.conf", "--sentinel", "--port", str(self.port)]

    def _is_ready(self) -> bool:
        return accepts(self.port, f"AUTH {self.password}\r\nPING\r\n".encode(), answer=b"+OK\r\n+PONG\r\n")
