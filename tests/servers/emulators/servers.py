"""Servers that stand for those of Amazon, Google, Microsoft and Apache CouchDB."""

from __future__ import annotations

import json
import sys
from http.client import HTTPConnection
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import ClassVar, Final

from tests.servers.emulators.packages import DIRECTORY, module, node
from tests.servers.server import PATIENCE, Mode, Server, ServerFailed, accepts


class Emulator(Server):
    """A server that keeps everything in memory and speaks HTTP."""

    accounts = ()
    # What it has it loses at its end, so there is nothing to close in order.
    endings: ClassVar[dict[Mode, Signals]] = {"fast": SIGTERM, "immediate": SIGKILL}

    def __init__(self, *, durable: bool = False) -> None:
        super().__init__(durable=durable)
        # Its program is the environment's or the checkout's, where another account need not be able to look.
        self._account = None

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self.port}"

    def _own(self, path: Path) -> None:
        """Leave it ours."""

    def _initialise(self) -> None:
        """There is nothing to write."""

    def _is_ready(self) -> bool:
        # Any answer will do: what it says to a stranger differs.
        return accepts(self.port, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", answer=b"HTTP/1.")


class MotoServer(Emulator):
    """Amazon's S3 and DynamoDB, by moto."""

    vendor = "moto"

    def _command(self) -> list[str | Path]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def create_bucket(self, name: str) -> None:
        """Make a bucket of S3."""
        self._ask("PUT", f"/{name}", {"Host": "s3.amazonaws.com"})

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise ServerFailed(f"{self.vendor}: {method} {path}: {answer.status}")
        finally:
            connection.close()


class GCSServer(Emulator):
    """Google Cloud Storage, by gcp-storage-emulator."""

    vendor = "gcs"

    def __init__(self, *, bucket: str) -> None:
        super().__init__()
        self.bucket = bucket

    def _command(self) -> list[str | Path]:
        start = ["start", "--host", "127.0.0.1", "--port", str(self.port), "--in-memory", "--quiet"]
        return [sys.executable, "-m", "gcp_storage_emulator", *start, "--default-bucket", self.bucket]


class AzuriteServer(Emulator):
    """Azure's blob storage, by azurite."""

    vendor = "azurite"

    #: The account and the key that every azurite has.
    ACCOUNT: Final = "devstoreaccount1"
    KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    @property
    def connection_string(self) -> str:
        """What Azure's portal would give."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.ACCOUNT};AccountKey={self.KEY};"
            f"BlobEndpoint={self.url}/{self.ACCOUNT};"
        )

    def _command(self) -> list[str | Path]:
        where = ["--blobHost", "127.0.0.1", "--blobPort", str(self.port)]
        # Clients are newer than what it knows of.
        how = ["--inMemoryPersistence", "--skipApiVersionCheck", "--silent"]
        return [node(), module("azurite/dist/src/blob/main.js"), *where, *how]


class CouchDBServer(Emulator):
    """CouchDB, by pouchdb-server; with one administrator, without whom nobody may do anything."""

    vendor = "pouchdb"
    USER: Final = "taskq"

    def _initialise(self) -> None:
        (self.directory / "config.json").write_text(
            json.dumps({"admins": {self.USER: self.password}, "couch_httpd_auth": {"require_valid_user": True}})
        )

    def _command(self) -> list[str | Path]:
        start = ["--in-memory", "--host", "127.0.0.1", "--port", str(self.port), "--no-stdout-logs", "--no-color"]
        return [node(), module("pouchdb-server/bin/pouchdb-server"), *start, "--dir", self.directory]


class CosmosServer(Emulator):
    """Azure's Cosmos DB, by @vercel/cosmosdb-server."""

    vendor = "cosmos"

    def _command(self) -> list[str | Path]:
        module("@vercel/cosmosdb-server")
        return [node(), Path(__file__).with_name("cosmos.js"), DIRECTORY / "node_modules", str(self.port)]
