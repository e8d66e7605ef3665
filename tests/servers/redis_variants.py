"""Private Redis servers that are not alone or not in the clear: with TLS, with a replica, watched by a sentinel."""

from __future__ import annotations

import subprocess
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import ClassVar, Final

from tests.servers.programs import find, redis_server
from tests.servers.redis import Redis, RedisServer
from tests.servers.server import Mode, Server, accepts, free_port

#: What the sentinel calls the Redis it watches.
MASTER: Final = "mymaster"

#: What Python 3.13 asks of certificates (VERIFY_X509_STRICT; RFC 5280, section 4.2.1).
_CERTIFICATES: Final = """\
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1
"""


class TLSRedisServer(RedisServer):
    """A private Redis that also listens with TLS, by a certificate of an authority of its own for 127.0.0.1."""

    vendor = "redis-tls"

    def __init__(self, *, durable: bool = True) -> None:
        super().__init__(durable=durable)
        self.tls_port = 0

    @property
    def authority(self) -> Path:
        """The authority's certificate."""
        return self.directory / "ca.pem"

    def _choose_ports(self) -> None:
        super()._choose_ports()
        self.tls_port = free_port()

    def _initialise(self) -> None:
        super()._initialise()
        (self.directory / "openssl.cnf").write_text(_CERTIFICATES)
        authority = ("-CA", self.authority, "-CAkey", self.directory / "ca.key")
        self._certify("authority", "-keyout", self.directory / "ca.key", "-out", self.authority)
        self._certify(
            *("server", "-keyout", self.directory / "server.key", "-out", self.directory / "server.pem", *authority)
        )
        self._own(self.directory / "server.key")

    def _certify(self, extensions: str, *arguments: str | Path) -> None:
        subprocess.run(
            [
                *(find("openssl", package="openssl"), "req", "-x509", "-newkey", "ec", "-days", "2", "-noenc"),
                *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-config", self.directory / "openssl.cnf"),
                *("-extensions", extensions, "-subj", f"/CN={extensions}", *arguments),
            ],
            capture_output=True,
            check=True,
        )

    def _command(self) -> list[str | Path]:
        return [
            *(*super()._command(), "--tls-port", str(self.tls_port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", self.directory / "server.pem", "--tls-key-file", self.directory / "server.key"),
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
