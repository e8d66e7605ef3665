"""Processes that call tasks and wait for them, and what they hold at the broker meanwhile."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import psutil

from tests.acceptance.process import Process
from tests.acceptance.project import Project
from tests.servers import QueueInfo, RabbitMQ
from tests.waiting import wait_until

#: What the project promises of each process, whatever it does.
MOST_QUEUES, MOST_CONNECTIONS = 2, 4
PREFIX = "taskq.reply."


class Caller:
    """A process that plays a scenario of ``tests.acceptance.caller``; one at a time in a project."""

    def __init__(self, project: Project, scenario: str, **arguments: Any) -> None:
        self._project = project
        self.process: Process = project.start(
            sys.executable, "-m", "tests.acceptance.caller", scenario, json.dumps(arguments)
        )

    def tell(self, word: str) -> None:
        """Say a word that the scenario waits for."""
        (self._project.directory / word).touch()

    def wait_for(self, word: str, deadline: float = 60.0) -> str:
        """Wait for the scenario's word, and return what it has to say about it."""
        file = self._project.directory / word
        self._wait(file.exists, deadline, word)
        return file.read_text()

    def report(self, deadline: float = 90.0, *, pid: int = 0) -> Any:
        """Wait for the report of the process, or of one of its children, and return it."""
        file = self._project.directory / "reports" / str(pid or self.process.pid)
        self._wait(file.exists, deadline, "a report")
        return json.loads(file.read_text())

    def leave(self) -> None:
        """Let it end, which it must do well."""
        self.tell("leave")
        assert self.process.wait() == 0, self.process.text()
        for word in ("leave", "stop", "enqueued", "sent", "come"):
            (self._project.directory / word).unlink(missing_ok=True)

    def run(self, deadline: float = 90.0) -> Any:
        """Return its report, once it has ended."""
        found = self.report(deadline)
        self.leave()
        return found

    def _wait(self, condition: Callable[[], bool], deadline: float, what: str) -> None:
        def holds() -> bool:
            assert self.process.returncode in (None, 0), self.process.text()
            return condition()

        wait_until(holds, deadline, what=what)


def all_right(found: Mapping[str, Any], number: int) -> None:
    """Check that so many calls were made, and each got its own answer."""
    assert (found["right"], found["wrong"], found["errors"]) == (number, 0, {}), found


def reply_queues(broker: RabbitMQ, vhost: str) -> dict[str, QueueInfo]:
    """Return the queues in which callers wait."""
    return {name: info for name, info in broker.queue_info(vhost).items() if name.startswith(PREFIX)}


def connections_of(pid: int, port: int) -> int:
    """Return how many connections a process has to the broker at this port."""
    found = psutil.Process(pid).net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr.port == port and one.status == psutil.CONN_ESTABLISHED for one in found)


def _read_queues(broker: RabbitMQ, vhost: str) -> dict[str, QueueInfo]:
    return {name: info for name, info in reply_queues(broker, vhost).items() if info.consumers}


def check_holdings(broker: RabbitMQ, vhost: str, *pids: int) -> None:
    """Check what these processes, who are all that call in the virtual host, hold at the broker."""
    # One whose connection has just been lost makes it anew.
    queues = wait_until(lambda: _read_queues(broker, vhost), what="somebody to read the replies")
    assert len(queues) <= MOST_QUEUES * len(pids), queues
    held = {pid: connections_of(pid, broker.port) for pid in pids}
    assert max(held.values()) <= MOST_CONNECTIONS, held
