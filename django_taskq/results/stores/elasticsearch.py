"""Elasticsearch, by its own client (8 or 9)."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any

from elasticsearch import BadRequestError, Elasticsearch, NotFoundError

from ..address import parse_address
from ..keyvalue import OPERATION_TIMEOUT, KeyValueStore, StoreConfigError

_FORM = "elasticsearch://user:password@host:port/index (elasticsearch+https:// for TLS)"
_SCHEMES = {"elasticsearch": "http", "elasticsearch+http": "http", "elasticsearch+https": "https"}
#: Nothing is searched by its value. "binary" is base64 text that is neither indexed nor stored apart:
#: https://www.elastic.co/docs/reference/elasticsearch/mapping-reference/binary
_MAPPINGS = {
    "dynamic": False,
    "properties": {"value": {"type": "binary"}, "expires_at": {"type": "date", "format": "epoch_millis"}},
}
#: Before the key: "." and ".." alone are no names of documents, as they stand in paths.
_PREFIX = "taskq-"
#: Values that one request of a sweep deletes at most, so that it ends in time.
_SWEPT = 1000


class ElasticsearchStore(KeyValueStore):
    """``elasticsearch://user:password@host:port,host:port/index``, ``elasticsearch+https://…``.

    The index is "taskq_results" where none is named; a document type after it (``/index/doctype``) has no meaning to
    Elasticsearch since version 8 and is passed over.

    Options: ``timeout``, ``retry_on_timeout`` and ``max_retries`` as in Celery's ``elasticsearch_*`` settings, and all that
    ``elasticsearch.Elasticsearch`` takes (``ca_certs``, ``api_key``, …); it refuses what it does not know.

    The first put makes the index unless it is there. Nothing ends by itself: ``sweep`` deletes by query. A value is seen
    once it is put: get by id is realtime. Values have up to 75 MB, what HTTP's limit of 100 MB
    (``http.max_content_length``) leaves for base64.
    """

    max_size = 75 * 1024 * 1024 - 4096

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        address = parse_address(url, form=_FORM, parts=2)
        if address.scheme not in _SCHEMES:
            raise StoreConfigError(f"{address.scheme}:// is no URL of Elasticsearch; write {_FORM}.")
        self._index = address.path[0] if address.path else "taskq_results"
        protocol = _SCHEMES[address.scheme]
        hosts = [f"{protocol}://{host}:{port or 9200}" for host, port in address.hosts or (("localhost", None),)]
        given = dict(options)
        settings: dict[str, Any] = {
            # A put or a get may be repeated safely, but a second try would take as long as the first.
            "max_retries": 0,
            "retry_on_timeout": False,
            "request_timeout": given.pop("timeout", OPERATION_TIMEOUT),
        }
        if address.username is not None:
            settings["basic_auth"] = (address.username, address.password or "")
        self._settings = {**settings, **given}
        self._hosts = hosts
        try:
            # It connects at the first request.
            self._client = Elasticsearch(hosts, **self._settings)
        except (TypeError, ValueError) as error:
            raise StoreConfigError(f"elasticsearch:// (result store): {error}") from None
        self._has_index = False

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """See the base."""
        self._make_index()
        document: dict[str, Any] = {"value": base64.b64encode(value).decode("ascii")}
        if ttl is not None:
            document["expires_at"] = round((time.time() + ttl) * 1000)
        self._client.index(index=self._index, id=_PREFIX + key, document=document)

    def get(self, key: str) -> bytes | None:
        """See the base."""
        try:
            found = self._client.get(index=self._index, id=_PREFIX + key)
        except NotFoundError:
            # The document, or the index that nothing was put into.
            return None
        return base64.b64decode(found["_source"]["value"])

    def delete(self, key: str) -> None:
        """See the base."""
        try:
            self._client.delete(index=self._index, id=_PREFIX + key)
        except NotFoundError:
            return

    def sweep(self, now: float, longest: float) -> int:
        """See the base."""
        total = 0
        while True:
            try:
                done = self._client.delete_by_query(
                    index=self._index,
                    query={"range": {"expires_at": {"lt": round(now * 1000)}}},
                    max_docs=_SWEPT,
                    # What somebody has just put in the place of what is over stays.
                    conflicts="proceed",
                    refresh=True,
                )
            except NotFoundError:
                return total
            deleted = int(done["deleted"])
            total += deleted
            if deleted < _SWEPT:
                return total

    def close(self) -> None:
        """See the base."""
        # A client that is closed stays so; the next one connects when it is used.
        client, self._client = self._client, Elasticsearch(self._hosts, **self._settings)
        client.close()

    def _make_index(self) -> None:
        # First a look: who may not make indexes may have one.
        if self._has_index:
            return
        if not self._client.indices.exists(index=self._index):
            try:
                self._client.indices.create(index=self._index, mappings=_MAPPINGS)
            except BadRequestError as error:
                # Another process was faster.
                if error.error != "resource_already_exists_exception":
                    raise
        self._has_index = True
