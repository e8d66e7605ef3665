"""Private servers: in a temporary directory, on a free loopback port, gone without a trace.

``PostgresServer``, ``MariaDBServer``, ``RabbitMQServer``, ``RedisServer`` and ``MemcachedServer`` are servers to start,
stop, freeze, restart and kill, ``TCPProxy`` is a network to break; ``shared(vendor)`` and ``shared_broker(broker)`` are
the ones all tests of a run use, whoever started them. ``python -m tests.servers run -- command`` starts all around a
command.

Standard library only, and the servers' own client programs: the Makefile asks ``python3 -m tests.servers missing``
before there is a virtual environment. No Django and no test may be imported here.
"""

from tests.servers.databases import Databases, SQLiteDatabases
from tests.servers.mariadb import MariaDBServer
from tests.servers.memcached import MemcachedServer
from tests.servers.postgres import PostgresServer
from tests.servers.programs import MissingProgram
from tests.servers.proxy import TCPProxy
from tests.servers.rabbitmq import QueueInfo, RabbitMQ, RabbitMQServer
from tests.servers.redis import Redis, RedisServer
from tests.servers.server import DatabaseServer, Server, ServerFailed
from tests.servers.shared import BROKERS, SERVERS, VENDORS, Broker, Vendor, shared, shared_broker

__all__ = [
    "BROKERS",
    "SERVERS",
    "VENDORS",
    "Broker",
    "DatabaseServer",
    "Databases",
    "MariaDBServer",
    "MemcachedServer",
    "MissingProgram",
    "PostgresServer",
    "QueueInfo",
    "RabbitMQ",
    "RabbitMQServer",
    "Redis",
    "RedisServer",
    "SQLiteDatabases",
    "Server",
    "ServerFailed",
    "TCPProxy",
    "Vendor",
    "shared",
    "shared_broker",
]
