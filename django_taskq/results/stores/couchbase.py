"""Couchbase, by its SDK (4)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from couchbase.auth import PasswordAuthenticator
from couchbase.cluster import Cluster
from couchbase.collection import Collection
from couchbase.exceptions import DocumentNotFoundException
from couchbase.options import ClusterOptions, ClusterTimeoutOptions
from couchbase.transcoder import RawBinaryTranscoder

from ..address import only_known, parse_address
from ..client import SharedClient
from ..keyvalue import CONNECT_TIMEOUT, OPERATION_TIMEOUT, KeyValueStore, StoreConfigError

_FORM = "couchbase://user:password@host,host:port/bucket (couchbases:// for TLS)"
_KNOWN = frozenset(
    {"host", "port", "bucket", "username", "password", "scope", "collection", "cert_path", "cluster_options"}
)
#: The ports of the console, which is what Celery's store has in URLs; the SDK speaks to the data service.
_CONSOLE_PORTS = {8091, 18091}
#: Seconds: the server counts in 32 bits, and the SDKs let nothing end later.
_LONGEST_TTL = 50 * 365 * 24 * 3600


class CouchbaseStore(KeyValueStore):
    """``couchbase://user:password@host,host:port/bucket``, ``couchbases://…`` for TLS.

    A port is that of the data service; 8091, the console's, which is Celery's default, stands for no port. The bucket is
    "default" where none is named, and must be there.

    Options: ``host``, ``port``, ``bucket``, ``username`` and ``password``, as in Celery's ``couchbase_backend_settings``,
    where the URL does not say them; ``scope`` and ``collection``; ``cert_path`` (of the server's CA); ``cluster_options``, a
    dict for ``couchbase.options.ClusterOptions``.

    The server lets a value end by itself, in full seconds and up to 50 years; then it stays. A document has up to 20 MB:
    https://docs.couchbase.com/server/current/learn/clusters-and-availability/size-limitations.html
    """

    expires = True
    max_size = 20 * 1024 * 1024

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        only_known(options, _KNOWN, store="couchbase://")
        address = parse_address(url, form=_FORM)
        hosts = address.hosts or ((str(options.get("host", "localhost")), options.get("port")),)
        scheme = "couchbases" if address.scheme == "couchbases" else "couchbase"
        self._connection_string = f"{scheme}://" + ",".join(
            host if port is None or port in _CONSOLE_PORTS else f"{host}:{port}" for host, port in hosts
        )
        self._bucket = address.path[0] if address.path else options.get("bucket", "default")
        username = address.username or options.get("username")
        password = address.password or options.get("password")
        if not username or password is None:
            raise StoreConfigError(f"couchbase:// needs a user and a password; write {_FORM}.")
        self._place = (options.get("scope", "_default"), options.get("collection", "_default"))
        patience = timedelta(seconds=CONNECT_TIMEOUT + OPERATION_TIMEOUT)
        self._options = ClusterOptions(
            PasswordAuthenticator(username, password, cert_path=options.get("cert_path")),
            timeout_options=ClusterTimeoutOptions(
                bootstrap_timeout=patience,
                connect_timeout=timedelta(seconds=CONNECT_TIMEOUT),
                resolve_timeout=timedelta(seconds=CONNECT_TIMEOUT),
                kv_timeout=timedelta(seconds=OPERATION_TIMEOUT),
            ),
            **options.get("cluster_options", {}),
        )
        self._connection: SharedClient[tuple[Cluster, Collection]] = SharedClient(
            self._connect, lambda made: made[0].close()
        )
        self._transcoder = RawBinaryTranscoder()

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """See the base."""
        stays = ttl is None or ttl > _LONGEST_TTL
        # Without an expiry a document that had one has none any more.
        expiry = {} if stays else {"expiry": timedelta(seconds=max(1, math.ceil(ttl or 0)))}
        self._documents.upsert(key, value, transcoder=self._transcoder, **expiry)

    def get(self, key: str) -> bytes | None:
        """See the base."""
        try:
            return bytes(self._documents.get(key, transcoder=self._transcoder).value)
        except DocumentNotFoundException:
            return None

    def delete(self, key: str) -> None:
        """See the base."""
        try:
            self._documents.remove(key)
        except DocumentNotFoundException:
            return

    def close(self) -> None:
        """See the base."""
        self._connection.close()

    @property
    def _documents(self) -> Collection:
        return self._connection.get()[1]

    def _connect(self) -> tuple[Cluster, Collection]:
        cluster = Cluster(self._connection_string, self._options)
        try:
            scope, collection = self._place
            return cluster, cluster.bucket(self._bucket).scope(scope).collection(collection)
        except BaseException:
            cluster.close()
            raise
