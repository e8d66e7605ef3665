"""A double of Elasticsearch 9: one index with a mapping, documents by id, and delete by query of a range.

As the server, it has no index before it is made or something is put into it, makes a document seen by id at once, checks
the credentials, and takes 100 MB at most. https://www.elastic.co/docs/api/doc/elasticsearch/
"""

from __future__ import annotations

import base64
from typing import Any

from tests.servers.doubles import PASSWORD, USER
from tests.servers.doubles.listening import serve
from tests.servers.doubles.web import Answer, Request, WebDouble

_LARGEST = 100 * 1024 * 1024
_CREDENTIALS = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
_INDEXES: dict[str, dict[str, dict[str, Any]]] = {}


def _error(status: int, kind: str, reason: str) -> Answer:
    return Answer(status, {"error": {"type": kind, "reason": reason}, "status": status})


class _Elasticsearch(WebDouble):
    content_type = "application/vnd.elasticsearch+json;compatible-with=9"

    def end_headers(self) -> None:
        """With the product's name, by which the client knows it is not another's."""
        self.send_header("X-Elastic-Product", "Elasticsearch")
        super().end_headers()

    def answer(self, request: Request) -> Answer:
        """What the server says."""
        if request.headers.get("authorization") != _CREDENTIALS:
            return _error(401, "security_exception", "missing authentication credentials")
        if len(request.body) > _LARGEST:
            return _error(413, "content_too_long_exception", "entity content is too long")
        match request.method, request.path:
            case method, (index,):
                return _index(method, index, request)
            case method, (index, "_doc", key):
                return _document(method, index, key, request)
            case "POST", (index, "_delete_by_query"):
                return _delete_by_query(index, request)
        return _error(400, "illegal_argument_exception", f"the double knows no {request.method} {request.path}")


def _index(method: str, index: str, request: Request) -> Answer:
    if method == "HEAD":
        return Answer(200 if index in _INDEXES else 404)
    if method != "PUT":
        return _error(405, "illegal_argument_exception", method)
    if index in _INDEXES:
        return _error(400, "resource_already_exists_exception", f"index [{index}] already exists")
    properties = request.json["mappings"]["properties"]
    unknown = {str(field["type"]) for field in properties.values()} - {"binary", "date"}
    if unknown:
        return _error(400, "mapper_parsing_exception", f"the double has no fields of {unknown}")
    _INDEXES[index] = {}
    return Answer(200, {"acknowledged": True, "shards_acknowledged": True, "index": index})


def _document(method: str, index: str, key: str, request: Request) -> Answer:
    named = {"_index": index, "_id": key}
    if method == "PUT":
        document = request.json
        base64.b64decode(document["value"], validate=True)
        if not isinstance(document.get("expires_at", 0), int):
            return _error(400, "document_parsing_exception", "failed to parse date field with format [epoch_millis]")
        documents = _INDEXES.setdefault(index, {})
        is_new = key not in documents
        documents[key] = document
        return Answer(201 if is_new else 200, {**named, "result": "created" if is_new else "updated"})
    if index not in _INDEXES:
        return _error(404, "index_not_found_exception", f"no such index [{index}]")
    documents = _INDEXES[index]
    if key not in documents:
        return Answer(404, {**named, "found": False, "result": "not_found"})
    if method == "DELETE":
        del documents[key]
        return Answer(200, {**named, "result": "deleted"})
    return Answer(200, {**named, "found": True, "_source": documents[key]})


def _delete_by_query(index: str, request: Request) -> Answer:
    if index not in _INDEXES:
        return _error(404, "index_not_found_exception", f"no such index [{index}]")
    body = request.json
    ((field, bounds),) = body["query"]["range"].items()
    documents = _INDEXES[index]
    over = [key for key, document in documents.items() if field in document and document[field] < bounds["lt"]]
    over = over[: body.get("max_docs") or int(request.query.get("max_docs", len(over)))]
    for key in over:
        del documents[key]
    return Answer(200, {"deleted": len(over), "version_conflicts": 0, "failures": []})


if __name__ == "__main__":
    serve(_Elasticsearch)
