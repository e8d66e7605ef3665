"""ArangoDB, by python-arango."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any, cast

from arango.client import ArangoClient
from arango.collection import StandardCollection
from arango.cursor import Cursor
from arango.database import StandardDatabase
from arango.exceptions import CollectionCreateError, DocumentDeleteError, DocumentGetError
from arango.http import DefaultHTTPClient

from ..address import only_known, parse_address
from ..keyvalue import OPERATION_TIMEOUT, KeyValueStore, StoreConfigError

_FORM = "arangodb://user:password@host:port/database/collection (arangodb+https:// for TLS)"
_KNOWN = frozenset({"host", "port", "database", "collection", "username", "password", "http_protocol", "verify"})
#: ArangoDB's error numbers: a collection that is not there, a name that is taken.
_NO_COLLECTION, _DUPLICATE_NAME = 1203, 1207
#: Before the key: "." and ".." alone are no names of documents, as they stand in paths.
_PREFIX = "taskq-"
#: Documents that one query of a sweep removes at most, so that it ends in time.
_SWEPT = 1000
# null is less than every number, so it has to be said that what stays is not over.
_SWEEP = """
FOR result IN @@collection
    FILTER result.expires_at != null AND result.expires_at < @now
    LIMIT @limit
    REMOVE result IN @@collection OPTIONS { ignoreErrors: true }
    RETURN 1
"""


class ArangoDBStore(KeyValueStore):
    """``arangodb://user:password@host:port/database/collection``, ``arangodb+https://…`` for TLS.

    Options, as in Celery's ``arangodb_backend_settings``: ``host``, ``port``, ``database`` ("taskq"), ``collection``
    ("taskq_results"), ``username`` and ``password`` where the URL does not say them; ``http_protocol`` ("http" or "https");
    ``verify`` (whether, or with which CA file, certificates are checked: True).

    The database must be there. The first put makes the collection unless it is there, with a TTL index, by which the
    server deletes values some time after their end: it does so when it is not busy. ``sweep`` does it now.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        only_known(options, _KNOWN, store="arangodb://")
        address = parse_address(url, form=_FORM, parts=2)
        path = (*address.path, None, None)
        protocol = address.scheme.partition("+")[2] or options.get("http_protocol", "http")
        if protocol not in {"http", "https"}:
            raise StoreConfigError(f"arangodb:// speaks http or https, not {protocol!r}; write {_FORM}.")
        host, port = address.host(str(options.get("host", "127.0.0.1")), int(options.get("port", 8529)))
        self._url = f"{protocol}://{host}:{port}"
        self._database: str = path[0] or options.get("database", "taskq")
        self._name: str = path[1] or options.get("collection", "taskq_results")
        self._username: str = address.username or options.get("username", "root")
        self._password: str = address.password or options.get("password", "")
        self._verify = options.get("verify", True)
        self._client: ArangoClient | None = None
        self._has_collection = False

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """See the base."""
        self._make_collection()
        document: dict[str, Any] = {"_key": _PREFIX + key, "value": base64.b64encode(value).decode("ascii")}
        if ttl is not None:
            document["expires_at"] = time.time() + ttl
        self._results().insert(document, overwrite_mode="replace", silent=True)

    def get(self, key: str) -> bytes | None:
        """See the base."""
        try:
            found = self._results().get(_PREFIX + key)
        except DocumentGetError as error:
            if error.error_code != _NO_COLLECTION:
                raise
            return None
        return base64.b64decode(cast(dict[str, Any], found)["value"]) if found else None

    def delete(self, key: str) -> None:
        """See the base."""
        try:
            self._results().delete(_PREFIX + key, ignore_missing=True, silent=True)
        except DocumentDeleteError as error:
            if error.error_code != _NO_COLLECTION:
                raise

    def sweep(self, now: float, longest: float) -> int:
        """See the base."""
        total = 0
        database = self._connected()
        if not database.has_collection(self._name):
            return 0
        while True:
            values: dict[str, Any] = {"@collection": self._name, "now": now, "limit": _SWEPT}
            removed = len(list(cast(Cursor, database.aql.execute(_SWEEP, bind_vars=values, batch_size=_SWEPT))))
            total += removed
            if removed < _SWEPT:
                return total

    def close(self) -> None:
        """See the base."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connected(self) -> StandardDatabase:
        # No race that matters: a client holds nothing but idle connections.
        client = self._client
        if client is None:
            # Another try would take as long as the first.
            http = DefaultHTTPClient(request_timeout=OPERATION_TIMEOUT, retry_attempts=0)
            client = self._client = ArangoClient(
                self._url,
                resolver_max_tries=1,
                http_client=http,
                verify_override=self._verify,
                request_timeout=OPERATION_TIMEOUT,
            )
        return client.db(self._database, username=self._username, password=self._password)

    def _results(self) -> StandardCollection:
        return self._connected().collection(self._name)

    def _make_collection(self) -> None:
        if self._has_collection:
            return
        database = self._connected()
        if not database.has_collection(self._name):
            try:
                database.create_collection(self._name)
            except CollectionCreateError as error:
                # Another process was faster.
                if error.error_code != _DUPLICATE_NAME:
                    raise
        # Making an index that is there, by whomever, changes nothing.
        database.collection(self._name).add_index({"type": "ttl", "fields": ["expires_at"], "expireAfter": 0})
        self._has_collection = True
