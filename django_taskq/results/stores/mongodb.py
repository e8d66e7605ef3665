"""MongoDB, by pymongo."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from bson.binary import Binary
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import ConfigurationError, PyMongoError

from ..keyvalue import CONNECT_TIMEOUT, OPERATION_TIMEOUT, KeyValueStore, StoreConfigError

#: Milliseconds, as the client has them. ``timeoutMS`` is for an operation with its retries and the choice of a server.
_TIMEOUTS = {
    "connectTimeoutMS": round(CONNECT_TIMEOUT * 1000),
    "serverSelectionTimeoutMS": round(OPERATION_TIMEOUT * 1000),
    "timeoutMS": round(OPERATION_TIMEOUT * 1000),
}
#: A document with the field has its end there, when the index says 0 seconds: https://www.mongodb.com/docs/manual/core/index-ttl/
_END = "expires_at"


class MongoDBStore(KeyValueStore):
    """``mongodb://user:password@host:port,host:port/database?client options``, ``mongodb+srv://…``.

    Options: ``database`` (default: the URL's, else "taskq"), ``taskmeta_collection`` ("taskq_results"), and all that
    ``pymongo.MongoClient`` takes, here or, as in Celery's ``mongodb_backend_settings``, as a dict in ``options``, with
    ``user`` for ``username``; the client refuses what it does not know.

    The server deletes a value within about a minute of its end, by a TTL index that the first put makes. A document has
    at most 16 MB: https://www.mongodb.com/docs/manual/reference/limits/
    """

    expires = True
    # The document's own fields and names take less than the rest.
    max_size = 16 * 1024 * 1024 - 1024

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        given = {**options.get("options", {}), **options}
        given.pop("options", None)
        if "user" in given:
            given["username"] = given.pop("user")
        self._url = url + "localhost" if url == "mongodb://" else url
        self._database = given.pop("database", None)
        self._collection: str = given.pop("taskmeta_collection", "taskq_results")
        named = {name.lower() for name in given} | {
            pair.partition("=")[0].lower() for pair in url.partition("?")[2].replace(";", "&").split("&")
        }
        self._settings = {name: value for name, value in _TIMEOUTS.items() if name.lower() not in named} | given
        self._lock = threading.Lock()
        self._client: MongoClient[dict[str, Any]] | None = None
        self._has_index = False
        try:
            self._connect().close()
        except (PyMongoError, ValueError, TypeError) as error:
            # What the client says of a URL may quote a part of it that is a password; what it says of options does not.
            hint = f": {error}" if type(error) is ConfigurationError else ""
            raise StoreConfigError(
                f"mongodb:// (result store): the client takes this URL or these options not{hint}. Write "
                "mongodb://user:password@host:port/database, and characters as / and @ in a password as %2F and %40."
            ) from None

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """See the base."""
        document: dict[str, Any] = {"_id": key, "value": Binary(value)}
        if ttl is not None:
            # BSON cuts moments to milliseconds.
            document[_END] = datetime.now(UTC) + timedelta(seconds=ttl, milliseconds=1)
        results = self._results()
        self._make_index(results)
        results.replace_one({"_id": key}, document, upsert=True)

    def get(self, key: str) -> bytes | None:
        """See the base."""
        found = self._results().find_one({"_id": key}, {"value": True})
        return bytes(found["value"]) if found else None

    def delete(self, key: str) -> None:
        """See the base."""
        self._results().delete_one({"_id": key})

    def close(self) -> None:
        """See the base."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connect(self) -> MongoClient[dict[str, Any]]:
        # With connect=False it starts no thread and resolves no name before it is first used.
        return MongoClient(self._url, connect=False, **self._settings)

    def _results(self) -> Collection[dict[str, Any]]:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            client = self._client
        database = client[self._database] if self._database else client.get_default_database("taskq")
        return database[self._collection]

    def _make_index(self, results: Collection[dict[str, Any]]) -> None:
        # No race: making an index that is there, by whomever, changes nothing.
        if not self._has_index:
            results.create_index(_END, name="taskq_expiry", expireAfterSeconds=0)
            self._has_index = True
