"""A double of Cassandra 4: the native protocol, version 4, one keyspace, and statements on tables with one key.

As the server, it checks the credentials, knows no table before it is made, refuses statements it has not prepared and
mutations over 16 MB, and lets rows end by their TTL.
https://github.com/apache/cassandra/blob/trunk/doc/native_protocol_v4.spec
"""

from __future__ import annotations

import hashlib
import re
import struct
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.servers.doubles import PASSWORD, USER
from tests.servers.doubles.listening import Conversation, serve

#: The one keyspace there is.
KEYSPACE = "results"
_VERSION = 4
_LARGEST = 16 * 1024 * 1024
_LONGEST_TTL = 630_720_000
#: Opcodes of what we say.
_ERROR, _READY, _AUTHENTICATE, _SUPPORTED, _RESULT, _AUTH_SUCCESS = 0x00, 0x02, 0x03, 0x06, 0x08, 0x10
#: Opcodes of what a client says once it is known.
_QUERY, _PREPARE, _EXECUTE, _REGISTER = 0x07, 0x09, 0x0A, 0x0B
#: Numbers of errors.
_PROTOCOL, _BAD_CREDENTIALS, _INVALID, _UNPREPARED = 0x000A, 0x0100, 0x2200, 0x2500
#: Kinds of results.
_VOID, _ROWS, _SET_KEYSPACE, _PREPARED = (struct.pack(">i", kind) for kind in (1, 2, 3, 4))
_TYPES = {"blob": 0x03, "int": 0x09, "text": 0x0D, "uuid": 0x0C, "inet": 0x10}
_HOST = uuid.UUID(int=1)
_LOCK = threading.Lock()


class _Refused(Exception):
    """A request fails. Its arguments: the number of the error, words, and what the error carries besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    kind: str
    table: str


#: Rows of tables: value and end (None: it stays), by their keys.
_TABLES: dict[str, dict[bytes, tuple[bytes, float | None]]] = {}
_STATEMENTS: dict[bytes, _Prepared] = {}
#: The statements that can be prepared. What is bound is always in this order: key, value, TTL.
_FORMS = {
    "insert": re.compile(r"INSERT INTO (\w+) \(id, value\) VALUES \(\?, \?\) USING TTL \?"),
    "select": re.compile(r"SELECT value FROM (\w+) WHERE id = \?"),
    "delete": re.compile(r"DELETE FROM (\w+) WHERE id = \?"),
}
_BOUND = {"insert": [("id", "text"), ("value", "blob"), ("[ttl]", "int")], "select": [("id", "text")]}
_CREATE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+) \(id text PRIMARY KEY, value blob\)")
_LOOK = re.compile(
    r"SELECT table_name FROM system_schema\.tables WHERE keyspace_name = '(\w+)' AND table_name = '(\w+)'"
)


def _string(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


def _bytes(value: bytes | None) -> bytes:
    return struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value


def _supported(options: Mapping[str, Sequence[str]]) -> bytes:
    lists = (
        _string(name) + struct.pack(">H", len(values)) + b"".join(map(_string, values))
        for name, values in options.items()
    )
    return struct.pack(">H", len(options)) + b"".join(lists)


def _columns(columns: Sequence[tuple[str, str]]) -> bytes:
    return b"".join(_string(name) + _type(kind) for name, kind in columns)


def _type(kind: str) -> bytes:
    if kind == "set<text>":
        return struct.pack(">HH", 0x22, _TYPES["text"])
    return struct.pack(">H", _TYPES[kind])


def _rows(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[bytes]]) -> bytes:
    # The table is the same for all columns (flag 1).
    head = _ROWS + struct.pack(">ii", 1, len(columns)) + _string(KEYSPACE) + _string("t") + _columns(columns)
    return head + struct.pack(">i", len(rows)) + b"".join(_bytes(value) for row in rows for value in row)


def _system_local() -> bytes:
    loopback = bytes([127, 0, 0, 1])
    local = {
        ("key", "text"): b"local",
        ("cluster_name", "text"): b"double",
        ("data_center", "text"): b"here",
        ("rack", "text"): b"here",
        ("host_id", "uuid"): _HOST.bytes,
        ("release_version", "text"): b"4.1.0",
        ("partitioner", "text"): b"org.apache.cassandra.dht.Murmur3Partitioner",
        ("schema_version", "uuid"): _HOST.bytes,
        ("rpc_address", "inet"): loopback,
        ("broadcast_address", "inet"): loopback,
        ("listen_address", "inet"): loopback,
        ("tokens", "set<text>"): struct.pack(">i", 1) + _bytes(b"0"),
    }
    return _rows(list(local), [list(local.values())])


def _query(statement: str) -> bytes:
    text = " ".join(statement.split()).rstrip("; ")
    if match := _LOOK.fullmatch(text):
        found = match[1] == KEYSPACE and match[2] in _TABLES
        return _rows([("table_name", "text")], [[match[2].encode()]] if found else [])
    if text.startswith("SELECT ") and "FROM system.local" in text:
        return _system_local()
    if text.startswith("SELECT ") and re.search(r" FROM system(_\w+)?\.\w+", text):
        # Other nodes, and the schema, of which the driver wants to know everything: nothing of the kind.
        return _rows([("peer", "inet")], [])
    if match := re.fullmatch(r'USE "?(\w+)"?', text):
        if match[1] != KEYSPACE:
            raise _Refused(_INVALID, f"Keyspace '{match[1]}' does not exist")
        return _SET_KEYSPACE + _string(KEYSPACE)
    if match := _CREATE.fullmatch(text):
        _TABLES.setdefault(match[1], {})
        return _VOID
    raise _Refused(_INVALID, f"the double knows no such statement: {text}")


def _prepare(statement: str) -> bytes:
    found = [(kind, match) for kind, form in _FORMS.items() if (match := form.fullmatch(statement.strip()))]
    if not found:
        raise _Refused(_INVALID, f"the double prepares no such statement: {statement}")
    ((kind, match),) = found
    if match[1] not in _TABLES:
        raise _Refused(_INVALID, f"table {match[1]} does not exist")
    name = hashlib.md5(statement.encode()).digest()
    _STATEMENTS[name] = _Prepared(kind=kind, table=match[1])
    bound = _BOUND.get(kind, [("id", "text")])
    # One column is the partition key, the first.
    wanted = struct.pack(">iiiH", 1, len(bound), 1, 0) + _string(KEYSPACE) + _string(match[1]) + _columns(bound)
    given = struct.pack(">ii", 4, 0)
    if kind == "select":
        given = struct.pack(">ii", 1, 1) + _string(KEYSPACE) + _string(match[1]) + _columns([("value", "blob")])
    return _PREPARED + struct.pack(">H", len(name)) + name + wanted + given


def _execute(body: bytes) -> bytes:
    (size,) = struct.unpack_from(">H", body)
    name = body[2 : 2 + size]
    statement = _STATEMENTS.get(name)
    if statement is None:
        raise _Refused(_UNPREPARED, "Prepared query not found", struct.pack(">H", size) + name)
    key, *values = _values(body[2 + size :])
    rows = _TABLES[statement.table]
    if statement.kind == "insert":
        value, (ttl,) = values[0], struct.unpack(">i", values[1])
        if len(value) > _LARGEST:
            raise _Refused(_INVALID, "Mutation is too large")
        if not 0 <= ttl <= _LONGEST_TTL:
            raise _Refused(_INVALID, f"ttl is out of bounds: {ttl}")
        rows[key] = (value, time.time() + ttl if ttl else None)
        return _VOID
    if statement.kind == "delete":
        rows.pop(key, None)
        return _VOID
    value, end = rows.get(key, (b"", 0.0))
    return _rows([("value", "blob")], [[value]] if end is None or end > time.time() else [])


def _values(parameters: bytes) -> list[bytes]:
    """What is bound: after a consistency and flags, of which the first says that there are values."""
    if not parameters[2] & 1:
        return []
    (count,) = struct.unpack_from(">H", parameters, 3)
    values, start = [], 5
    for _ in range(count):
        (size,) = struct.unpack_from(">i", parameters, start)
        values.append(parameters[start + 4 : start + 4 + size])
        start += 4 + size
    return values


class _Client(Conversation):
    is_known = False

    def answer_one(self) -> None:
        version, _, stream, opcode, size = struct.unpack(">BBhBI", self.read(9))
        body = self.read(size)
        try:
            with _LOCK:
                answer, data = self._answer(version, opcode, body)
        except _Refused as error:
            number, words, *rest = error.args
            answer, data = _ERROR, struct.pack(">i", number) + _string(words) + b"".join(rest)
        self.wfile.write(struct.pack(">BBhBI", 0x80 | _VERSION, 0, stream, answer, len(data)) + data)

    def _answer(self, version: int, opcode: int, body: bytes) -> tuple[int, bytes]:
        if version != _VERSION:
            raise _Refused(_PROTOCOL, "Invalid or unsupported protocol version; supported versions are (4/v4)")
        match opcode:
            case 0x05:  # OPTIONS
                return _SUPPORTED, _supported({"CQL_VERSION": ["3.4.5"], "COMPRESSION": []})
            case 0x01:  # STARTUP
                return _AUTHENTICATE, _string("org.apache.cassandra.auth.PasswordAuthenticator")
            case 0x0F:  # AUTH_RESPONSE
                if body[4:] != f"\0{USER}\0{PASSWORD}".encode():
                    raise _Refused(_BAD_CREDENTIALS, "Provided username and/or password are incorrect")
                self.is_known = True
                return _AUTH_SUCCESS, _bytes(None)
        if not self.is_known:
            raise _Refused(_BAD_CREDENTIALS, "You have not logged in")
        if opcode == _REGISTER:
            return _READY, b""
        return _RESULT, _result(opcode, body)


def _result(opcode: int, body: bytes) -> bytes:
    if opcode == _EXECUTE:
        return _execute(body)
    (size,) = struct.unpack_from(">I", body)
    statement = body[4 : 4 + size].decode()
    if opcode == _QUERY:
        return _query(statement)
    if opcode == _PREPARE:
        return _prepare(statement)
    raise _Refused(_PROTOCOL, f"the double knows no opcode {opcode}")


if __name__ == "__main__":
    serve(_Client)
