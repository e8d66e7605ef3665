"""Cassandra and Astra, by the DataStax driver."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cassandra.auth
from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.policies import DCAwareRoundRobinPolicy, ExponentialReconnectionPolicy, TokenAwarePolicy
from cassandra.query import PreparedStatement

from ..address import only_known, parse_address
from ..client import SharedClient
from ..keyvalue import CONNECT_TIMEOUT, OPERATION_TIMEOUT, KeyValueStore, StoreConfigError

_FORM = "cassandra://user:password@host,host:port/keyspace/table"
#: Celery's settings, with or without "cassandra_" before them.
_KNOWN = frozenset(
    {
        "servers",
        "port",
        "keyspace",
        "table",
        "read_consistency",
        "write_consistency",
        "auth_provider",
        "auth_kwargs",
        "secure_bundle_path",
        "options",
    }
)
#: Seconds: the longest TTL. https://cassandra.apache.org/doc/latest/cassandra/developing/cql/dml.html
_LONGEST_TTL = 20 * 365 * 24 * 3600
#: what stands before the table and what after it
_STATEMENTS = {
    "insert": ("INSERT INTO", "(id, value) VALUES (?, ?) USING TTL ?"),
    "select": ("SELECT value FROM", "WHERE id = ?"),
    "delete": ("DELETE FROM", "WHERE id = ?"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Connection:
    """A session, and what is said in it."""

    cluster: Cluster
    session: Session
    insert: PreparedStatement
    select: PreparedStatement
    delete: PreparedStatement


class CassandraStore(KeyValueStore):
    """``cassandra://user:password@host,host:port/keyspace/table``; ``cassandra:///keyspace/table`` for Astra.

    Options are Celery's settings, with or without their ``cassandra_``: ``servers``, ``port``, ``keyspace`` and ``table``
    where the URL does not say them (table: "taskq_results"), ``read_consistency`` and ``write_consistency``
    ("LOCAL_QUORUM"), ``auth_provider`` (a class of ``cassandra.auth``) with ``auth_kwargs``, ``secure_bundle_path`` (Astra's
    file; no servers then), ``options`` (a dict for ``cassandra.cluster.Cluster``).

    The keyspace must be there: how it is replicated is nobody's guess. The table is made at first use unless it is there,
    with the columns ``id text PRIMARY KEY, value blob``. The server lets a value end by itself (USING TTL, up to 20 years,
    then it stays). The latest write wins by its client's clock, so clocks must agree. Values have up to 10 MB, which Astra
    takes and Cassandra's default for a mutation (16 MB) does, too.
    """

    expires = True
    max_size = 10_000_000

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        given = {name.removeprefix("cassandra_"): value for name, value in options.items()}
        only_known(given, _KNOWN, store="cassandra://")
        address = parse_address(url, form=_FORM, parts=2)
        path = (*address.path, None, None)
        self._servers, port = _servers(address.hosts, given)
        self._keyspace = path[0] or given.get("keyspace")
        # Names that are not quoted are in lower case to the server, as in Celery's statements.
        self._table: str = (path[1] or given.get("table") or "taskq_results").lower()
        bundle = given.get("secure_bundle_path")
        if not self._keyspace:
            raise StoreConfigError(f"cassandra:// needs a keyspace; write {_FORM}.")
        if bool(self._servers) == bool(bundle):
            raise StoreConfigError("cassandra:// needs either hosts or the option secure_bundle_path.")
        for name in (self._keyspace, self._table):
            if not name.isidentifier():
                raise StoreConfigError(f"cassandra://: {name!r} is no name of a keyspace or a table.")
        self._read = _consistency(given, "read_consistency")
        self._write = _consistency(given, "write_consistency")
        self._settings: dict[str, Any] = {
            "connect_timeout": CONNECT_TIMEOUT,
            "control_connection_timeout": CONNECT_TIMEOUT,
            # A server that was away is looked for again soon; the driver's own longest pause is ten minutes.
            "reconnection_policy": ExponentialReconnectionPolicy(1.0, 10.0),
            "execution_profiles": {
                EXEC_PROFILE_DEFAULT: ExecutionProfile(
                    # The driver's own choice, which it wants to be said.
                    TokenAwarePolicy(DCAwareRoundRobinPolicy()),
                    request_timeout=OPERATION_TIMEOUT,
                )
            },
            "auth_provider": _auth_provider(address.username, address.password, given),
            **({"cloud": {"secure_connect_bundle": bundle}} if bundle else {"port": port}),
            **given.get("options", {}),
        }
        self._connection: SharedClient[_Connection] = SharedClient(self._connect, lambda made: made.cluster.shutdown())

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """See the base."""
        seconds = 0 if ttl is None or ttl > _LONGEST_TTL else max(1, math.ceil(ttl))  # 0: it stays
        connection = self._connection.get()
        connection.session.execute(connection.insert, (key, value, seconds))

    def get(self, key: str) -> bytes | None:
        """See the base."""
        connection = self._connection.get()
        row = connection.session.execute(connection.select, (key,)).one()
        return bytes(row[0]) if row else None

    def delete(self, key: str) -> None:
        """See the base."""
        connection = self._connection.get()
        connection.session.execute(connection.delete, (key,))

    def close(self) -> None:
        """See the base."""
        self._connection.close()

    def _connect(self) -> _Connection:
        cluster = Cluster(**({"contact_points": self._servers} if self._servers else {}), **self._settings)
        try:
            session = cluster.connect(self._keyspace)
            self._make_table(session)
            prepared = {
                name: session.prepare(f"{text} {self._table} {rest}") for name, (text, rest) in _STATEMENTS.items()
            }
            prepared["select"].consistency_level = self._read
            prepared["insert"].consistency_level = prepared["delete"].consistency_level = self._write
            return _Connection(cluster=cluster, session=session, **prepared)
        except BaseException:
            cluster.shutdown()
            raise

    def _make_table(self, session: Session) -> None:
        # First a look: whoever may not create, and has a table, needs no more; and schema changes by several at once,
        # even of the same table, are what Cassandra bears worst.
        look = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s AND table_name = %s"
        if session.execute(look, (self._keyspace, self._table)).one() is None:
            session.execute(f"CREATE TABLE IF NOT EXISTS {self._table} (id text PRIMARY KEY, value blob)")


def _servers(hosts: tuple[tuple[str, int | None], ...], given: Mapping[str, Any]) -> tuple[list[str], int]:
    ports = {port for _, port in hosts if port is not None}
    if len(ports) > 1:
        raise StoreConfigError("cassandra://: all hosts have the same port.")
    servers = given.get("servers", ())
    others = [servers] if isinstance(servers, str) else list(servers)
    return [name for name, _ in hosts] or others, ports.pop() if ports else given.get("port") or 9042


def _consistency(given: Mapping[str, Any], option: str) -> int:
    name = given.get(option) or "LOCAL_QUORUM"
    level = ConsistencyLevel.name_to_value.get(name)
    if level is None:
        raise StoreConfigError(f"cassandra://: {option} is {name!r}, which is no consistency level.")
    return int(level)


def _auth_provider(username: str | None, password: str | None, given: Mapping[str, Any]) -> Any:
    if name := given.get("auth_provider"):
        provider = getattr(cassandra.auth, name, None)
        if provider is None:
            raise StoreConfigError(f"cassandra://: auth_provider is {name!r}, which is no class of cassandra.auth.")
        return provider(**given.get("auth_kwargs", {}))
    if username is None:
        return None
    return cassandra.auth.PlainTextAuthProvider(username=username, password=password or "")
