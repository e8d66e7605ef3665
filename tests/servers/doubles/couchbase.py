"""A double of Couchbase's data service: one bucket, documents of its default collection, by the binary protocol.

As the server, it checks the password (SCRAM), takes documents of up to 20 MB, and lets them end: up to 30 days an expiry is
counted from now, beyond it is an instant.
https://github.com/couchbase/kv_engine/blob/master/docs/BinaryProtocol.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import struct
import threading
import time
from dataclasses import dataclass
from typing import Any

from tests.servers.doubles import PASSWORD, USER
from tests.servers.doubles.listening import Conversation, serve

#: The one bucket there is.
BUCKET = "results"
_LARGEST = 20 * 1024 * 1024
_THIRTY_DAYS = 30 * 24 * 3600
#: Statuses of answers.
_OK, _NOT_FOUND, _TOO_LARGE, _AUTH_ERROR, _AUTH_CONTINUE, _NO_ACCESS, _UNKNOWN = 0, 1, 3, 0x20, 0x21, 0x24, 0x81
#: Opcodes of what is done with documents.
_GET, _SET, _DELETE = 0x00, 0x01, 0x04
_COLLECTIONS = 0x12
#: Features of HELLO: TCP_NODELAY, XATTR, XERROR, SELECT_BUCKET, JSON, duplex, COLLECTIONS.
_FEATURES = frozenset({0x03, 0x06, 0x07, 0x08, 0x0B, 0x0C, _COLLECTIONS})
_JSON = 1
_ITERATIONS, _SALT = 4096, b"salt of the double"
_HASHES = {b"SCRAM-SHA1": "sha1", b"SCRAM-SHA256": "sha256", b"SCRAM-SHA512": "sha512"}
_CAS = itertools.count(1)
_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    value: bytes
    flags: bytes
    end: float
    cas: int


_DOCUMENTS: dict[bytes, _Document] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    opcode: int
    extras: bytes
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int = _OK
    extras: bytes = b""
    value: bytes = b""
    cas: int = 0
    datatype: int = 0


class _Client(Conversation):
    has_collections = False
    is_known = False

    def setup(self) -> None:
        super().setup()
        self._hash = ""
        self._said = b""

    def answer_one(self) -> None:
        head = self.read(24)
        magic, opcode, extras_size = head[0], head[1], head[4]
        (body_size, opaque) = struct.unpack_from(">II", head, 8)
        # In the other form the size of the key has given a byte to frames, which say what we may ignore.
        frames, key_size = (head[2], head[3]) if magic == 0x08 else (0, int.from_bytes(head[2:4]))
        body = self.read(body_size)[frames:]
        request = _Request(
            opcode=opcode,
            extras=body[:extras_size],
            key=body[extras_size : extras_size + key_size],
            value=body[extras_size + key_size :],
        )
        with _LOCK:
            answer = self._answer(request)
        size = len(answer.extras) + len(answer.value)
        self.wfile.write(
            struct.pack(">BBHBBH", 0x81, opcode, 0, len(answer.extras), answer.datatype, answer.status)
            + struct.pack(">IIQ", size, opaque, answer.cas)
            + answer.extras
            + answer.value
        )

    def _answer(self, request: _Request) -> _Answer:
        match request.opcode:
            case 0x1F:  # HELLO
                return self._hello(request)
            case 0x20:  # SASL_LIST_MECHS
                return _Answer(value=b" ".join(_HASHES))
            case 0x21:  # SASL_AUTH
                return self._begin(request)
            case 0x22:  # SASL_STEP
                return self._step(request)
            case 0xFE:  # GET_ERROR_MAP
                return _json({"version": 2, "revision": 1, "errors": {}})
        return self._answer_known(request) if self.is_known else _Answer(status=_NO_ACCESS)

    def _answer_known(self, request: _Request) -> _Answer:
        match request.opcode:
            case 0x89:  # SELECT_BUCKET
                return _Answer(status=_OK if request.key == BUCKET.encode() else _NO_ACCESS)
            case 0xB5:  # GET_CLUSTER_CONFIG
                return _json(_configuration(self.own_port))
            case 0xBA:  # COLLECTIONS_GET_MANIFEST
                collections = [{"name": "_default", "uid": "0"}]
                return _json({"uid": "0", "scopes": [{"name": "_default", "uid": "0", "collections": collections}]})
            case 0xBB:  # COLLECTIONS_GET_ID
                return _Answer(extras=struct.pack(">QI", 0, 0))
            case 0x0A:  # NOOP
                return _Answer()
        # The collection's number stands before the key: 0, in one byte.
        key = request.key[1:] if self.has_collections else request.key
        return _of_document(request, key)

    def _hello(self, request: _Request) -> _Answer:
        wanted = struct.unpack(f">{len(request.value) // 2}H", request.value)
        granted = [feature for feature in wanted if feature in _FEATURES]
        self.has_collections = _COLLECTIONS in granted
        return _Answer(value=struct.pack(f">{len(granted)}H", *granted))

    def _begin(self, request: _Request) -> _Answer:
        """SCRAM (RFC 5802): the client's name and nonce; ours, a salt and a count."""
        if request.key not in _HASHES:
            return _Answer(status=_AUTH_ERROR)
        self._hash = _HASHES[request.key]
        first = request.value.split(b",", 2)[2]
        name, nonce = (part.partition(b"=")[2] for part in first.split(b",")[:2])
        if name != USER.encode():
            return _Answer(status=_AUTH_ERROR)
        ours = b"r=" + nonce + b"double,s=" + base64.b64encode(_SALT) + b",i=" + str(_ITERATIONS).encode()
        self._said = first + b"," + ours
        return _Answer(status=_AUTH_CONTINUE, value=ours)

    def _step(self, request: _Request) -> _Answer:
        """SCRAM: the client's proof that it has the password; ours."""
        final, _, proof = request.value.rpartition(b",p=")
        said = self._said + b"," + final
        salted = hashlib.pbkdf2_hmac(self._hash, PASSWORD.encode(), _SALT, _ITERATIONS)
        client_key = hmac.digest(salted, b"Client Key", self._hash)
        signature = hmac.digest(hashlib.new(self._hash, client_key).digest(), said, self._hash)
        expected = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
        if base64.b64decode(proof) != expected:
            return _Answer(status=_AUTH_ERROR)
        self.is_known = True
        server_key = hmac.digest(salted, b"Server Key", self._hash)
        return _Answer(value=b"v=" + base64.b64encode(hmac.digest(server_key, said, self._hash)))


def _of_document(request: _Request, key: bytes) -> _Answer:
    found = _DOCUMENTS.get(key)
    if found is not None and found.end <= time.time():
        del _DOCUMENTS[key]
        found = None
    if request.opcode == _SET:
        if len(request.value) > _LARGEST:
            return _Answer(status=_TOO_LARGE)
        (expiry,) = struct.unpack(">I", request.extras[4:])
        end = expiry + (time.time() if expiry <= _THIRTY_DAYS else 0.0) if expiry else float("inf")
        document = _Document(value=request.value, flags=request.extras[:4], end=end, cas=next(_CAS))
        _DOCUMENTS[key] = document
        return _Answer(cas=document.cas)
    if request.opcode not in {_GET, _DELETE}:
        return _Answer(status=_UNKNOWN)
    if found is None:
        return _Answer(status=_NOT_FOUND)
    if request.opcode == _DELETE:
        del _DOCUMENTS[key]
        return _Answer(cas=found.cas)
    return _Answer(extras=found.flags, value=found.value, cas=found.cas)


def _json(value: Any) -> _Answer:
    return _Answer(value=json.dumps(value).encode(), datatype=_JSON)


def _configuration(port: int) -> dict[str, Any]:
    """A cluster of one node that has the data service only."""
    return {
        "rev": 1,
        "revEpoch": 1,
        "name": BUCKET,
        "uuid": "d" * 32,
        "nodeLocator": "vbucket",
        "bucketType": "membase",
        "bucketCapabilitiesVer": "",
        "bucketCapabilities": ["collections", "cccp", "nodesExt", "xattr", "couchapi"],
        "collectionsManifestUid": "0",
        "nodes": [{"hostname": f"127.0.0.1:{port}", "ports": {"direct": port}}],
        "nodesExt": [{"services": {"kv": port}, "thisNode": True, "hostname": "127.0.0.1"}],
        "vBucketServerMap": {
            "hashAlgorithm": "CRC",
            "numReplicas": 0,
            "serverList": [f"127.0.0.1:{port}"],
            "vBucketMap": [[0]] * 64,
        },
        "clusterCapabilitiesVer": [1, 0],
        "clusterCapabilities": {},
    }


if __name__ == "__main__":
    serve(_Client)
