"""Stores of clouds, and CouchDB: by emulators."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

from google.auth.credentials import AnonymousCredentials

from tests.contract.stores.kind import Served, StoreKind
from tests.servers.emulators import AzuriteServer, CosmosServer, CouchDBServer, GCSServer, MotoServer

#: Credentials with everything in them that a URL must quote.
_KEY_ID, _SECRET = "AKIATASKQ", "a/b+c@d:e=f%g"
#: Any base64 will do for the emulator, which does not look.
_COSMOS_KEY = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw=="


@contextlib.contextmanager
def _s3() -> Iterator[Served]:
    with MotoServer() as server:
        server.create_bucket("results")
        yield Served(
            url=f"s3://{_KEY_ID}:{quote(_SECRET, safe='')}@results/some/path",
            options={"endpoint_url": server.url, "region_name": "us-east-1"},
            stop=functools.partial(server.stop, "immediate"),
        )


@contextlib.contextmanager
def _dynamodb() -> Iterator[Served]:
    with MotoServer() as server:
        yield Served(
            url=f"dynamodb://{_KEY_ID}:{quote(_SECRET, safe='')}@127.0.0.1:{server.port}/results?read=5&write=5",
            stop=functools.partial(server.stop, "immediate"),
        )


@contextlib.contextmanager
def _gcs() -> Iterator[Served]:
    with GCSServer(bucket="results") as server:
        yield Served(
            url="gs://results/some/path?gcs_project=taskq",
            options={"credentials": AnonymousCredentials(), "client_options": {"api_endpoint": server.url}},  # type: ignore[no-untyped-call]  # google-auth has types in part
            stop=functools.partial(server.stop, "immediate"),
        )


@contextlib.contextmanager
def _azure() -> Iterator[Served]:
    with AzuriteServer() as server:
        yield Served(
            url=f"azureblockblob://{server.connection_string}",
            options={"azureblockblob_container_name": "results", "azureblockblob_base_path": "some/path"},
            stop=functools.partial(server.stop, "immediate"),
        )


@contextlib.contextmanager
def _couchdb() -> Iterator[Served]:
    with CouchDBServer() as server:
        yield Served(
            url=f"couchdb://{server.USER}:{server.password}@127.0.0.1:{server.port}/results",
            stop=functools.partial(server.stop, "immediate"),
        )


@contextlib.contextmanager
def _cosmosdb() -> Iterator[Served]:
    with CosmosServer() as server:
        yield Served(
            url=f"cosmosdbsql://:{quote(_COSMOS_KEY, safe='')}@127.0.0.1:{server.port}",
            options={"cosmosdbsql_database_name": "results"},
            stop=functools.partial(server.stop, "immediate"),
        )


KINDS: Final[list[StoreKind]] = [
    StoreKind(name="s3", serve=_s3, proof="emulator"),
    StoreKind(name="gcs", serve=_gcs, proof="emulator"),
    StoreKind(name="azureblob", serve=_azure, proof="emulator"),
    StoreKind(name="dynamodb", serve=_dynamodb, proof="emulator"),
    StoreKind(name="couchdb", serve=_couchdb, proof="emulator"),
    StoreKind(name="cosmosdb", serve=_cosmosdb, proof="emulator"),
]
