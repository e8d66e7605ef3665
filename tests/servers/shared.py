"""The one server of each kind that all tests of a run share, whoever started it."""

from __future__ import annotations

import atexit
import functools
import os
import tempfile
from pathlib import Path
from typing import Final, Literal, get_args, overload

from tests.reaper import reaper
from tests.servers.databases import Databases, SQLiteDatabases
from tests.servers.mariadb import MariaDBDatabases, MariaDBServer
from tests.servers.postgres import PostgresDatabases, PostgresServer
from tests.servers.rabbitmq import RabbitMQ, RabbitMQServer
from tests.servers.redis import Redis, RedisServer
from tests.servers.server import Server

#: The databases the suite knows; SQLite needs no server.
Vendor = Literal["sqlite", "postgres", "mariadb"]
VENDORS: Final[tuple[Vendor, ...]] = get_args(Vendor)

#: The class that starts a private server of the vendor.
SERVERS: Final[dict[str, type[PostgresServer | MariaDBServer]]] = {
    "postgres": PostgresServer,
    "mariadb": MariaDBServer,
}

#: The brokers that are servers, by the name they have in URLs.
Broker = Literal["amqp", "redis"]
BROKERS: Final[dict[str, type[RabbitMQServer | RedisServer]]] = {"amqp": RabbitMQServer, "redis": RedisServer}

_DATABASES: Final[dict[str, type[PostgresDatabases | MariaDBDatabases]]] = {
    "postgres": PostgresDatabases,
    "mariadb": MariaDBDatabases,
}


@functools.cache
def shared(vendor: Vendor) -> Databases:
    """Return where databases of this vendor can be made.

    SQLite's are files in a directory that goes with this process. With TASKQ_TEST_<VENDOR>_PORT in the environment
    that is the server it names. Without, a server is started now; it ends with this process, and the children of this
    process find it in their environment.
    """
    if vendor == "sqlite":
        directory = Path(tempfile.mkdtemp(prefix="taskq-sqlite-"))
        reaper().remove(directory)
        return SQLiteDatabases(directory)
    found = _found(vendor, SERVERS[vendor])
    return _DATABASES[vendor](int(found["PORT"]), found["PASSWORD"])


@overload
def shared_broker(broker: Literal["amqp"]) -> RabbitMQ: ...
@overload
def shared_broker(broker: Literal["redis"]) -> Redis: ...
def shared_broker(broker: Broker) -> RabbitMQ | Redis:
    """Return the run's broker of this kind, found or started as `shared` does it.

    It is everybody's: a test keeps to its own virtual host or database, and takes a server of its own to disturb.
    """
    found = _found(broker, BROKERS[broker])
    if broker == "redis":
        return Redis(port=int(found["PORT"]), password=found["PASSWORD"])
    return RabbitMQ(
        port=int(found["PORT"]),
        password=found["PASSWORD"],
        directory=Path(found["DIRECTORY"]),
        control_port=int(found["CONTROL_PORT"]),
        epmd_port=int(found["EPMD_PORT"]),
    )


def _found(vendor: str, start: type[Server]) -> dict[str, str]:
    """Return what the environment says about the server, after starting one if it says nothing."""
    prefix = f"TASKQ_TEST_{vendor.upper()}_"
    if f"{prefix}PORT" not in os.environ:
        server = start(durable=False)
        atexit.register(server.close)
        os.environ.update(server.start().environment())
    return {name.removeprefix(prefix): value for name, value in os.environ.items() if name.startswith(prefix)}
