"""Stores of documents, by doubles, and Celery's own, on the servers themselves."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from tests.contract.stores.kind import Served, StoreKind
from tests.servers import MariaDBServer, PostgresServer, RedisServer
from tests.servers.doubles import PASSWORD, USER, Double

#: In URLs: the password has characters that have to be quoted.
_CREDENTIALS = f"{USER}:{quote(PASSWORD, safe='')}@"


@contextlib.contextmanager
def _doubled(name: str, url: str, options: dict[str, Any]) -> Iterator[Served]:
    with Double(name) as double:
        yield Served(url=url.format(host=f"127.0.0.1:{double.port}"), options=options, stop=double.stop)


def _double(name: str, url: str, **options: Any) -> StoreKind:
    serve: Callable[[], contextlib.AbstractContextManager[Served]] = functools.partial(_doubled, name, url, options)
    return StoreKind(name=name, serve=serve, proof="double")


@contextlib.contextmanager
def _celery_redis() -> Iterator[Served]:
    with RedisServer(durable=False) as server:
        yield Served(url=f"celery+{server.url(1)}", stop=functools.partial(server.stop, "immediate"))


@contextlib.contextmanager
def _celery_database(server_type: type[PostgresServer | MariaDBServer], dialect: str) -> Iterator[Served]:
    with server_type(durable=False) as server:
        server.create_database("results")
        entry = server.settings("results")
        yield Served(
            url=f"db+{dialect}://{entry['USER']}:{entry['PASSWORD']}@{entry['HOST']}:{entry['PORT']}/results",
            stop=functools.partial(server.stop, "immediate"),
        )


@contextlib.contextmanager
def _celery_sqlite() -> Iterator[Served]:
    with tempfile.TemporaryDirectory(prefix="taskq-sqlite-") as name:
        directory = Path(name) / "results"
        directory.mkdir()

        def stop() -> None:
            # A file has no server: what takes it away is a directory that is none any more.
            directory.rename(f"{directory}-gone")
            directory.write_text("")

        yield Served(url=f"celery+db+sqlite:///{directory}/results.sqlite3", stop=stop)


KINDS: Final[list[StoreKind]] = [
    _double("mongodb", "mongodb://{host}/results"),
    _double("cassandra", f"cassandra://{_CREDENTIALS}{{host}}/results/kept"),
    _double("elasticsearch", f"elasticsearch://{_CREDENTIALS}{{host}}/results/kept"),
    _double("couchbase", f"couchbase://{_CREDENTIALS}{{host}}/results"),
    _double("arangodb", f"arangodb://{_CREDENTIALS}{{host}}/results/kept"),
    _double("consul", "consul://{host}/results/kept?one_client=1", token=PASSWORD),
    _double("ironcache", f"ironcache://{_CREDENTIALS}{{host}}/results", protocol="http"),
    StoreKind(name="celery+redis", serve=_celery_redis, proof="server"),
    StoreKind(
        name="db+postgresql",
        serve=functools.partial(_celery_database, PostgresServer, "postgresql+psycopg"),
        proof="server",
    ),
    StoreKind(
        name="db+mysql", serve=functools.partial(_celery_database, MariaDBServer, "mysql+mysqldb"), proof="server"
    ),
    StoreKind(name="celery+db+sqlite", serve=_celery_sqlite, proof="server"),
]
