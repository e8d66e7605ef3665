"""CouchDB, by its HTTP interface."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import urllib3
from urllib3.exceptions import HTTPError, ProtocolError

from ..address import only_known, parse_address
from ..client import SharedClient
from ..keyvalue import CONNECT_TIMEOUT, OPERATION_TIMEOUT, KeyValueStore, StoreConfigError

_FORM: Final = "couchdb://user:password@host:port/database"
_KNOWN: Final = frozenset({"database", "ca_certs", "verify"})
#: Before every key: names that begin with an underscore are the server's.
_PREFIX: Final = "taskq:"
#: Documents that one request of ``sweep`` deletes.
_BATCH: Final = 500
#: Connections that are kept; more threads than this connect anew for each request.
_CONNECTIONS: Final = 32


class CouchDBStore(KeyValueStore):
    """``couchdb://user:password@host:port/database``, or ``couchdbs://`` for HTTPS.

    Port 5984 (HTTPS: 6984) and the database "taskq" need not be said; the database is made at first use unless it is
    there. Options: ``database`` where the URL does not say it, ``ca_certs`` (a file of certificates) and ``verify``
    (False: trust any).

    Documents have the fields ``value`` (base64) and ``expires_at`` (seconds since 1970). Nothing expires by itself:
    ``sweep`` finds what is over by the second, and makes an index for that where the user may. Deleted documents leave
    their names and revisions behind, as ever with CouchDB. Values have up to 5.9 MB, since a document has 8 MB
    (https://docs.couchdb.org/en/stable/config/couchdb.html#couchdb/max_document_size); Cloudant takes 0.7 MB.
    """

    max_size = 5_900_000

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        only_known(options, _KNOWN, store="couchdb://")
        address = parse_address(url, form=_FORM)
        is_https = address.scheme == "couchdbs"
        host, port = address.host("localhost", 6984 if is_https else 5984)
        database = address.path[0] if address.path else options.get("database") or "taskq"
        self._database = "/" + quote(database, safe="")
        if (address.username is None) != (address.password is None):
            raise StoreConfigError(f"couchdb://: give both a user and a password, or neither; write {_FORM}.")
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if address.username is not None:
            credentials = f"{address.username}:{address.password}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(credentials).decode()
        settings: dict[str, Any] = {
            "headers": headers,
            "timeout": urllib3.Timeout(connect=CONNECT_TIMEOUT, read=OPERATION_TIMEOUT),
            "retries": False,
            "maxsize": _CONNECTIONS,
        }
        if is_https:
            verify = options.get("verify", True)
            settings |= {"ca_certs": options.get("ca_certs"), "cert_reqs": "CERT_REQUIRED" if verify else "CERT_NONE"}
        pool = urllib3.HTTPSConnectionPool if is_https else urllib3.HTTPConnectionPool
        self._make_pool = partial(pool, host, port, **settings)
        self._pool: SharedClient[urllib3.HTTPConnectionPool] = SharedClient(self._connect, lambda made: made.close())

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """See the base."""
        document = {
            "value": base64.b64encode(value).decode(),
            "expires_at": None if ttl is None else time.time() + ttl,
        }
        pool = self._pool.get()

        def store(revision: str | None) -> int:
            body = document if revision is None else {**document, "_rev": revision}
            return _ask(pool, "PUT", self._path(key), body, accept=(201, 202, 409))[0]

        # Most keys are new, so the first try does without a look.
        self._settle(pool, key, store, revision=None)

    def get(self, key: str) -> bytes | None:
        """See the base."""
        status, document = _ask(self._pool.get(), "GET", self._path(key), accept=(200, 404))
        if status == 404:
            _must_be_missing(document)
            return None
        return base64.b64decode(document["value"])

    def delete(self, key: str) -> None:
        """See the base."""
        pool = self._pool.get()

        def remove(revision: str | None) -> int:
            if revision is None:
                return 404
            return _ask(pool, "DELETE", f"{self._path(key)}?rev={revision}", accept=(200, 202, 404, 409))[0]

        self._settle(pool, key, remove, revision=self._revision(pool, key))

    def sweep(self, now: float, longest: float) -> int:
        """See the base."""
        pool = self._pool.get()
        self._make_index(pool)
        wanted = {"selector": {"expires_at": {"$gt": 0, "$lte": now}}, "fields": ["_id", "_rev"], "limit": _BATCH}
        deleted = 0
        while True:
            _, found = _ask(pool, "POST", f"{self._database}/_find", wanted)
            ends = [{**document, "_deleted": True} for document in found["docs"] if document["_id"].startswith(_PREFIX)]
            if not ends:
                return deleted
            _, answers = _ask(pool, "POST", f"{self._database}/_bulk_docs", {"docs": ends}, accept=(201, 202))
            # One that somebody has stored anew meanwhile is a conflict, and stays.
            done = sum("error" not in answer for answer in answers)
            deleted += done
            if not done:
                return deleted

    def close(self) -> None:
        """See the base."""
        self._pool.close()

    def _path(self, key: str) -> str:
        return f"{self._database}/{quote(_PREFIX + key, safe='')}"

    def _connect(self) -> urllib3.HTTPConnectionPool:
        """The pool, once the database is there.

        Pools are safe to share between threads: https://urllib3.readthedocs.io/en/stable/reference/urllib3.connectionpool.html
        """
        pool = self._make_pool()
        status, _ = _ask(pool, "GET", self._database, accept=(200, 404))
        if status == 404:
            # 412: somebody else has made it just now.
            _ask(pool, "PUT", self._database, accept=(201, 202, 412))
        return pool

    def _settle(
        self, pool: urllib3.HTTPConnectionPool, key: str, change: Callable[[str | None], int], *, revision: str | None
    ) -> None:
        """Make the change; after a conflict again, of the revision that is there by then."""
        deadline = time.monotonic() + OPERATION_TIMEOUT
        while change(revision) == 409:
            if time.monotonic() > deadline:
                raise HTTPError("CouchDB: others changed the document each time before we could.")
            revision = self._revision(pool, key)

    def _revision(self, pool: urllib3.HTTPConnectionPool, key: str) -> str | None:
        # Not HEAD: the ETag need not be the revision. Not GET: it brings the value.
        name = quote(json.dumps(_PREFIX + key))
        _, answer = _ask(pool, "GET", f"{self._database}/_all_docs?key={name}")
        rows = answer["rows"]
        return str(rows[0]["value"]["rev"]) if rows and "value" in rows[0] else None

    def _make_index(self, pool: urllib3.HTTPConnectionPool) -> None:
        index = {"index": {"fields": ["expires_at"]}, "ddoc": "taskq", "name": "expires_at", "type": "json"}
        # Who may not make one finds documents all the same, by looking at all of them.
        _ask(pool, "POST", f"{self._database}/_index", index, accept=(200, 201, 401, 403))


def _ask(
    pool: urllib3.HTTPConnectionPool, method: str, path: str, body: object = None, *, accept: tuple[int, ...] = (200,)
) -> tuple[int, Any]:
    """Status and answer of one request."""
    data = None if body is None else json.dumps(body).encode()
    try:
        answer = pool.request(method, path, body=data)
    except ProtocolError:
        # The server may close a connection just when we use it again. No harm in doing it twice: what was done already
        # is a conflict then, and settled as one.
        answer = pool.request(method, path, body=data)
    try:
        content = json.loads(answer.data)
    except ValueError:
        content = {}
    if answer.status not in accept:
        error = content if isinstance(content, dict) else {}
        raise HTTPError(f"CouchDB answered {answer.status} {error.get('error', '')}: {error.get('reason', '')}")
    return answer.status, content


def _must_be_missing(answer: Mapping[str, Any]) -> None:
    # The other reason for a 404 is that the database has gone.
    if answer.get("reason") not in {"missing", "deleted"}:
        raise HTTPError(f"CouchDB answered 404 {answer.get('error', '')}: {answer.get('reason', '')}")
