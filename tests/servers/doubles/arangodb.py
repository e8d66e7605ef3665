"""A double of ArangoDB 3.12: one database, collections, documents by key, a TTL index, and the query of our sweep.

As the server, it checks the credentials, has no collection before it is made, and knows null to be less than every number.
Its TTL index deletes nothing: when the server does it, it does not say. https://docs.arangodb.com/3.12/develop/http-api/
"""

from __future__ import annotations

import base64
from typing import Any

from tests.servers.doubles import PASSWORD, USER
from tests.servers.doubles.listening import serve
from tests.servers.doubles.web import Answer, Request, WebDouble

#: The one database there is, with its collections.
DATABASE = "results"
_CREDENTIALS = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
_COLLECTIONS: dict[str, dict[str, dict[str, Any]]] = {}
_INDEXES: dict[str, list[dict[str, Any]]] = {}
#: The query, without what is blank.
_SWEEP = (
    "FOR result IN @@collection FILTER result.expires_at != null AND result.expires_at < @now LIMIT @limit "
    "REMOVE result IN @@collection OPTIONS { ignoreErrors: true } RETURN 1"
)


def _error(status: int, number: int, words: str) -> Answer:
    return Answer(status, {"error": True, "code": status, "errorNum": number, "errorMessage": words})


def _described(name: str) -> dict[str, Any]:
    return {"name": name, "id": name, "status": 3, "type": 2, "isSystem": False}


class _ArangoDB(WebDouble):
    def answer(self, request: Request) -> Answer:
        """What the server says."""
        if request.headers.get("authorization") != _CREDENTIALS:
            return _error(401, 11, "not authorized to execute this request")
        if request.path[:2] != ("_db", DATABASE):
            return _error(404, 1228, "database not found")
        return _of_database(request)


def _of_database(request: Request) -> Answer:
    match request.method, request.path[2:]:
        case "GET", ("_api", "collection"):
            return Answer(200, {"result": [_described(name) for name in _COLLECTIONS], "error": False, "code": 200})
        case "POST", ("_api", "collection"):
            return _make_collection(request)
        case "POST", ("_api", "index"):
            return _make_index(request)
        case "POST", ("_api", "cursor"):
            return _query(request)
        case method, ("_api", "document", collection, *key):
            return _document(method, collection, key, request)
    return _error(404, 404, f"the double knows no {request.method} {request.path}")


def _make_collection(request: Request) -> Answer:
    name = request.json["name"]
    if name in _COLLECTIONS:
        return _error(409, 1207, "duplicate name")
    _COLLECTIONS[name] = {}
    return Answer(200, {**_described(name), "error": False, "code": 200})


def _make_index(request: Request) -> Answer:
    collection = request.query["collection"]
    if collection not in _COLLECTIONS:
        return _error(404, 1203, "collection or view not found")
    index = request.json
    if index["type"] != "ttl" or len(index["fields"]) != 1 or index["expireAfter"] != 0:
        return _error(400, 10, "the double has TTL indexes only")
    indexes = _INDEXES.setdefault(collection, [])
    is_new = index not in indexes
    if is_new:
        indexes.append(index)
    described = {**index, "id": f"{collection}/{indexes.index(index)}", "isNewlyCreated": is_new}
    return Answer(201 if is_new else 200, {**described, "error": False, "code": 201})


def _document(method: str, collection: str, key: list[str], request: Request) -> Answer:
    if collection not in _COLLECTIONS:
        return _error(404, 1203, "collection or view not found")
    documents = _COLLECTIONS[collection]
    match method, key:
        case "POST", []:
            return _insert(documents, request)
        case "GET" | "DELETE", [name]:
            if name not in documents:
                return _error(404, 1202, "document not found")
            document = documents[name]
            if method == "DELETE":
                del documents[name]
            return Answer(200, {**document, "_id": f"{collection}/{name}", "_rev": "1"})
    return _error(405, 405, "method not supported")


def _insert(documents: dict[str, dict[str, Any]], request: Request) -> Answer:
    document = request.json
    if document["_key"] in documents and request.query.get("overwriteMode") != "replace":
        return _error(409, 1210, "unique constraint violated")
    documents[document["_key"]] = document
    return Answer(202, {})


def _query(request: Request) -> Answer:
    query, values = request.json["query"], request.json["bindVars"]
    if " ".join(query.split()) != _SWEEP:
        return _error(400, 1501, "syntax error: the double knows one query")
    if values["@collection"] not in _COLLECTIONS:
        return _error(404, 1203, "collection or view not found")
    documents = _COLLECTIONS[values["@collection"]]
    over = [key for key, document in documents.items() if document.get("expires_at", values["now"]) < values["now"]]
    for key in over[: values["limit"]]:
        del documents[key]
    result = [1] * len(over[: values["limit"]])
    return Answer(201, {"result": result, "hasMore": False, "error": False, "code": 201, "extra": {}})


if __name__ == "__main__":
    serve(_ArangoDB)
