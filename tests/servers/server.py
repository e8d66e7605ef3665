"""What every private server has in common: a directory, a port, a process, and an end without a trace."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from tests.reaper import reaper, started_at
from tests.servers.databases import Databases
from tests.servers.programs import search_path

#: How a server is asked to end: "fast" rolls back and closes in order, "immediate" leaves recovery to the next start.
Mode = Literal["fast", "immediate"]

#: Seconds to wait for a server to start or to end, on a busy machine.
PATIENCE = 60.0


class ServerFailed(Exception):
    """A server did not start or did not end."""


class Server(ABC):
    """A server of this test run alone.

    ``durable=False`` switches off what only a power cut would show (fsync). What was committed still outlives the
    death of the server's processes, so tests of a crash need no more; benchmarks leave it on.

    The port is chosen at the first start and kept over restarts. ``close`` (or the end of the ``with`` block, or the
    end of this process, however it comes) ends the server and removes its directory.
    """

    #: Used in names of environment variables and directories.
    vendor: ClassVar[str]
    #: Accounts to run the server under when we are root, which servers refuse or should not be.
    accounts: ClassVar[Sequence[str]]
    #: What `mode` is to this server.
    endings: ClassVar[dict[Mode, signal.Signals]]

    def __init__(self, *, durable: bool = True) -> None:
        self.durable = durable
        self.port = 0
        self.password = secrets.token_hex(16)
        self._account = _account(self.accounts)
        self._owner = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self.directory = Path(tempfile.mkdtemp(prefix=f"taskq-{self.vendor}-", dir=_parent_directory()))
        self._own(self.directory)
        reaper().remove(self.directory)

    # What a vendor fills in

    @abstractmethod
    def _initialise(self) -> None:
        """Write an empty data directory."""

    @abstractmethod
    def _command(self) -> list[str | Path]:
        """Return the command line that serves on `self.port`, in the foreground."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Tell whether the server that was just started accepts clients."""

    # Life

    @property
    def pid(self) -> int:
        """The server's main process."""
        return self._running().pid

    @property
    def runs(self) -> bool:
        """Whether it was started and neither stopped nor killed by us since."""
        return self._process is not None

    @property
    def log(self) -> Path:
        """What the server wrote on its standard streams, over all restarts."""
        return self.directory / "server.log"

    def start(self) -> Self:
        """Start the server, with the data of the last time if there was one; return when it accepts clients."""
        if self._process is not None:
            raise ServerFailed(f"{self.vendor} runs already, on port {self.port}")
        if self.port:
            self._start()
            return self
        self._initialise()
        for attempts_left in (2, 1, 0):
            # Somebody else may take the port between our look and the server's bind.
            self._choose_ports()
            try:
                self._start()
            except ServerFailed:
                if not attempts_left:
                    raise
            else:
                break
        return self

    def stop(self, mode: Mode = "fast") -> None:
        """End the server and keep its data for the next `start`."""
        self._end(self.endings[mode])

    def kill(self) -> None:
        """End the server's main process as ``kill -9`` does; return when its other processes have noticed."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop every process of the server where it is: connections stay open, and nobody answers."""
        # The main process first: from then on there are no new ones.
        os.kill(self.pid, signal.SIGSTOP)
        self._signal(_descendants(self.pid), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the server go on after `freeze`."""
        self._signal([*_descendants(self.pid), self.pid], signal.SIGCONT)

    def restart(self, mode: Mode = "immediate") -> None:
        """End the server and start it again, on the same port and data."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """End the server if it runs and remove its directory. Does nothing in a forked child, or twice."""
        if os.getpid() != self._owner:
            return
        if self._process is not None:
            self.stop("immediate")
        # Children of a killed server may write for a moment longer.
        deadline = time.monotonic() + PATIENCE
        while self.directory.exists() and time.monotonic() < deadline:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def environment(self) -> dict[str, str]:
        """Return the variables by which `shared` finds this server in other processes."""
        prefix = f"TASKQ_TEST_{self.vendor.upper()}"
        return {f"{prefix}_PORT": str(self.port), f"{prefix}_PASSWORD": self.password}

    # Processes

    def _choose_ports(self) -> None:
        self.port = free_port()

    def _own(self, path: Path) -> None:
        """Give the file or directory to the account the server runs under."""
        if self._account is not None:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)

    def _spawn(self, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        as_account: dict[str, Any] = {}
        if self._account is not None:
            as_account = {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=self._environment(),
                start_new_session=True,
                **as_account,
            )

    def _environment(self) -> dict[str, str]:
        # Nothing of the caller's PG*, MYSQL* or RABBITMQ_* variables, and the same language everywhere.
        return {"PATH": search_path(), "LC_ALL": "C.UTF-8", "HOME": str(self.directory)}

    def _run(self, command: Sequence[str | Path]) -> None:
        """Run a program of the server to its end."""
        code = self._spawn(command).wait(PATIENCE)
        if code != 0:
            raise ServerFailed(f"{Path(command[0]).name} ended with {code}:\n{self._log_tail()}")

    def _start(self) -> None:
        self._process = self._spawn(self._command())
        reaper().watch(self._process.pid, ending=self.endings["immediate"])
        deadline = time.monotonic() + PATIENCE
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end(signal.SIGKILL)
                raise ServerFailed(f"{self.vendor} did not start on port {self.port}:\n{self._log_tail()}")
            time.sleep(0.02)

    def _end(self, number: signal.Signals) -> None:
        process = self._running()
        others = _descendants(process.pid)
        process.send_signal(number)
        # One that is frozen would not hear it.
        self._signal([*others, process.pid], signal.SIGCONT)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise ServerFailed(f"{self.vendor} did not end by {number.name}:\n{self._log_tail()}") from error
        reaper().release(process.pid)
        self._process = None
        # A start would be refused while one of them holds the shared memory or the port.
        deadline = time.monotonic() + PATIENCE
        while any(started_at(other) is not None for other in others):
            if time.monotonic() > deadline:
                raise ServerFailed(f"Processes of {self.vendor} outlive it: {others}")
            time.sleep(0.02)

    def _signal(self, pids: Sequence[int], number: signal.Signals) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerFailed(f"{self.vendor} does not run")
        return self._process

    def _log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])


class DatabaseServer(Server):
    """A server in which databases can be made."""

    @property
    @abstractmethod
    def databases(self) -> Databases:
        """Where databases of this server can be made and dropped."""

    def settings(self, name: str) -> dict[str, Any]:
        """Return the entry of Django's DATABASES for the database `name`."""
        return self.databases.settings(name)

    def create_database(self, name: str) -> None:
        """Create an empty database."""
        self.databases.create_database(name)

    def clone_database(self, template: str, name: str) -> None:
        """Create `name` with everything `template` holds; nobody may be connected to the template."""
        self.databases.clone_database(template, name)

    def drop_database(self, name: str) -> None:
        """Drop the database if it is there, whoever is connected to it."""
        self.databases.drop_database(name)


def _account(names: Sequence[str]) -> pwd.struct_passwd | None:
    """Return the first of the accounts that exists, or None when we are not root and stay who we are."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next(known[name] for name in (*names, "nobody") if name in known)


def _parent_directory() -> Path:
    """Return the temporary directory; where an unprivileged account cannot enter root's own, /tmp."""
    usual = Path(tempfile.gettempdir()).resolve()
    if os.geteuid() != 0 or all(path.stat().st_mode & 0o001 for path in (usual, *usual.parents)):
        return usual
    return Path("/tmp")


def free_port() -> int:
    """Return a port of the loopback interface that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _descendants(pid: int) -> list[int]:
    """Return the processes that `pid` and its children started; none for one that has ended."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        # A thread or a process may end while we look.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += [int(child) for child in (thread / "children").read_text().split()]
    return [*found, *(grandchild for child in found for grandchild in _descendants(child))]


def accepts(port: int, greeting: bytes, *, answer: bytes) -> bool:
    """Tell whether a server on loopback answers the greeting with something that begins with `answer`."""
    received = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(greeting)
            while len(received) < len(answer):
                data = connection.recv(4096)
                if not data:
                    return False
                received += data
    except OSError:
        return False
    return received.startswith(answer)
