"""The private servers themselves: data outlives every kind of end, and nothing outlives the owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections
from django.db.utils import ConnectionHandler

from tests.databases import chosen
from tests.reaper import started_at
from tests.servers import SERVERS, DatabaseServer
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pytest_django import DjangoDbBlocker

pytestmark = [pytest.mark.once, pytest.mark.databases("postgres", "mariadb")]

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def server(django_db_blocker: DjangoDbBlocker) -> Iterator[DatabaseServer]:
    with django_db_blocker.unblock(), SERVERS[chosen()](durable=False) as server:
        yield server


def query(settings: dict[str, Any], statement: str) -> list[tuple[Any, ...]]:
    connection = ConnectionHandler({"default": settings})["default"]
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


@pytest.mark.parametrize(
    "end",
    [lambda server: server.stop("fast"), lambda server: server.stop("immediate"), DatabaseServer.kill],
    ids=["fast", "immediate", "kill"],
)
def test_what_was_committed_outlives_every_end(server: DatabaseServer, end: Any) -> None:
    server.create_database("ours")
    ours, port = server.settings("ours"), server.port
    query(ours, "CREATE TABLE numbers (number integer)")
    query(ours, "INSERT INTO numbers VALUES (1)")
    end(server)
    server.start()
    assert server.port == port
    assert query(ours, "SELECT number FROM numbers") == [(1,)]


def test_a_clone_has_what_its_template_has_and_goes_alone(server: DatabaseServer) -> None:
    server.create_database("ours")
    query(server.settings("ours"), "CREATE TABLE numbers (number integer)")
    server.clone_database("ours", "copy")
    query(server.settings("copy"), "INSERT INTO numbers VALUES (1)")
    server.drop_database("copy")
    server.drop_database("copy")
    assert query(server.settings("ours"), "SELECT number FROM numbers") == []


def test_a_closed_server_leaves_nothing(server: DatabaseServer) -> None:
    pid, directory = server.pid, server.directory
    server.close()
    assert started_at(pid) is None
    assert not directory.exists()


def test_a_server_does_not_outlive_an_owner_that_is_killed() -> None:
    program = f"""
        from tests.servers import SERVERS
        server = SERVERS[{chosen()!r}](durable=False).start()
        print(server.pid, server.directory, flush=True)
        input()
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", "\n".join(line.strip() for line in program.splitlines())],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        assert owner.stdout is not None
        pid, directory = owner.stdout.readline().split()
        owner.send_signal(signal.SIGKILL)
    wait_until(lambda: started_at(int(pid)) is None, what="the end of the server")
    wait_until(lambda: not Path(directory).exists(), what="the end of its directory")


def test_the_launcher_hands_its_servers_to_the_command_and_ends_them_after_it() -> None:
    prefix = f"TASKQ_TEST_{chosen().upper()}"
    program = f"import os; print(os.environ['{prefix}_PORT'], os.environ['{prefix}_PASSWORD'])"
    command = ["-m", "tests.servers", "run", "--only", chosen(), "--", sys.executable, "-c", program]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(prefix)}
    done = subprocess.run(
        [sys.executable, *command], cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    announced, told = done.stdout.splitlines()
    directory = announced.split()[-1]
    assert f"port {told.split()[0]}," in announced
    assert not Path(directory).exists()


def test_the_tests_run_on_the_database_that_was_chosen() -> None:
    assert connections["default"].vendor == {"postgres": "postgresql", "mariadb": "mysql"}[chosen()]
