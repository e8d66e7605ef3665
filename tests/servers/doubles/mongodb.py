"""A double of MongoDB: OP_MSG (and OP_QUERY, for the first hello) with the commands of a store of results.

It replaces, finds and deletes by ``_id``, has TTL indexes, and refuses documents over 16 MB.
https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
"""

from __future__ import annotations

import struct
import threading
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import bson

from tests.servers.doubles.listening import Conversation, serve

_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_LARGEST = 16 * 1024 * 1024
#: What a server of version 7 says of itself.
_HELLO = {
    "ismaster": True,
    "isWritablePrimary": True,
    "helloOk": True,
    "minWireVersion": 0,
    "maxWireVersion": 21,
    "maxBsonObjectSize": _LARGEST,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "readOnly": False,
    "ok": 1,
}
_LOCK = threading.Lock()


class _Refused(Exception):
    """A command fails. Its arguments: MongoDB's number of the error, and words."""


class _Results:
    """A collection."""

    def __init__(self) -> None:
        self.documents: dict[Any, bytes] = {}
        self.indexes: dict[str, dict[str, Any]] = {}

    def expire(self) -> None:
        """What the server's TTL thread does every minute."""
        fields = [next(iter(index["key"])) for index in self.indexes.values() if index.get("expireAfterSeconds") == 0]
        if not fields:
            return
        now = datetime.now(UTC).replace(tzinfo=None)
        for key, data in list(self.documents.items()):
            document = bson.decode(data)
            if any(isinstance(document.get(name), datetime) and document[name] <= now for name in fields):
                del self.documents[key]

    def make_index(self, index: dict[str, Any]) -> None:
        there = self.indexes.setdefault(index["name"], index)
        if there != index:
            raise _Refused(85, f"An index with the name {index['name']} has other options")

    def update(self, update: dict[str, Any]) -> dict[str, Any]:
        query, document = update["q"], update["u"]
        if set(query) != {"_id"} or any(name.startswith("$") for name in document) or update.get("multi"):
            raise _Refused(9, "The double only replaces, by _id")
        data = bson.encode(document)
        if len(data) > _LARGEST:
            raise _Refused(10334, "BSONObj size is invalid")
        key = query["_id"]
        is_new = key not in self.documents
        if is_new and not update.get("upsert"):
            return {"n": 0, "nModified": 0, "ok": 1}
        self.documents[key] = data
        if is_new:
            return {"n": 1, "nModified": 0, "upserted": [{"index": 0, "_id": key}], "ok": 1}
        return {"n": 1, "nModified": 1, "ok": 1}

    def find(self, query: dict[str, Any], projection: dict[str, Any] | None) -> list[dict[str, Any]]:
        if set(query) != {"_id"}:
            raise _Refused(9, "The double only finds by _id")
        data = self.documents.get(query["_id"])
        if data is None:
            return []
        wanted = {"_id", *(projection or ())}
        return [{name: value for name, value in bson.decode(data).items() if not projection or name in wanted}]

    def delete(self, query: dict[str, Any]) -> int:
        if set(query) != {"_id"}:
            raise _Refused(9, "The double only deletes by _id")
        return int(self.documents.pop(query["_id"], None) is not None)


_COLLECTIONS: dict[tuple[str, str], _Results] = defaultdict(_Results)


def _run(command: dict[str, Any]) -> dict[str, Any]:
    """The answer to a command, which is the name that comes first."""
    name, target = next(iter(command.items()))
    match name.lower():
        case "hello" | "ismaster":
            return _HELLO
        case "ping" | "endsessions":
            return {"ok": 1}
    namespace = (command["$db"], str(target))
    results = _COLLECTIONS[namespace]
    results.expire()
    match name.lower():
        case "createindexes":
            for index in command["indexes"]:
                results.make_index(index)
            return {"ok": 1}
        case "update":
            (update,) = command["updates"]
            return results.update(update)
        case "find":
            found = results.find(command["filter"], command.get("projection"))
            return {"cursor": {"firstBatch": found, "id": 0, "ns": ".".join(namespace)}, "ok": 1}
        case "delete":
            return {"n": sum(results.delete(delete["q"]) for delete in command["deletes"]), "ok": 1}
    raise _Refused(59, f"no such command: '{name}'")


class _Client(Conversation):
    def answer_one(self) -> None:
        length, request_id, _, opcode = struct.unpack("<iiii", self.read(16))
        body = self.read(length - 16)
        command = _of_query(body) if opcode == _OP_QUERY else _of_message(body)
        try:
            with _LOCK:
                answer = _run(command)
        except _Refused as error:
            code, words = error.args
            answer = {"ok": 0, "code": code, "errmsg": words}
        data = bson.encode(answer)
        if opcode == _OP_QUERY:
            reply, data = _OP_REPLY, struct.pack("<iqii", 8, 0, 0, 1) + data
        else:
            reply, data = _OP_MSG, struct.pack("<IB", 0, 0) + data
        self.wfile.write(struct.pack("<iiii", 16 + len(data), 0, request_id, reply) + data)


def _of_query(body: bytes) -> dict[str, Any]:
    # flags, the collection's name with its end, two numbers, then the command.
    start = body.index(b"\0", 4) + 9
    return bson.decode(body[start:])


def _of_message(body: bytes) -> dict[str, Any]:
    (flags,) = struct.unpack_from("<I", body)
    end = len(body) - 4 if flags & 1 else len(body)
    command: dict[str, Any] = {}
    sequences: dict[str, list[dict[str, Any]]] = {}
    start = 4
    while start < end:
        kind = body[start]
        (size,) = struct.unpack_from("<i", body, start + 1)
        section = body[start + 1 : start + 1 + size]
        if kind == 0:
            command = bson.decode(section)
        else:
            name, _, documents = section[4:].partition(b"\0")
            sequences[name.decode()] = bson.decode_all(documents)
        start += 1 + size
    return {**command, **sequences}


if __name__ == "__main__":
    serve(_Client)
