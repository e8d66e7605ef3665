"""What the stores of clouds do beyond what every store does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import boto3
import pytest
from azure.storage.blob import ContainerClient
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from django_taskq.results.keyvalue import CONNECT_TIMEOUT, OPERATION_TIMEOUT, KeyValueStore
from django_taskq.results.stores.azureblob import AzureBlobStore
from django_taskq.results.stores.cosmosdb import CosmosDBStore
from django_taskq.results.stores.couchdb import CouchDBStore
from django_taskq.results.stores.dynamodb import DynamoDBStore
from django_taskq.results.stores.gcs import GCSStore
from django_taskq.results.stores.s3 import S3Store
from tests.servers.emulators import AzuriteServer, CosmosServer, CouchDBServer, Emulator, GCSServer, MotoServer

pytestmark = [pytest.mark.once, pytest.mark.databases("sqlite")]

#: Seconds that this machine may be late.
MARGIN = 2.0
#: More than one item of DynamoDB has.
LARGE = 1_000_000
AWS = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        server.create_bucket("results")
        yield server


class Table:
    """A table of DynamoDB, seen past our store."""

    def __init__(self, moto: MotoServer, name: str) -> None:
        self.name = name
        self.url = f"dynamodb://key:secret@127.0.0.1:{moto.port}/{name}"
        self.client = boto3.client("dynamodb", endpoint_url=moto.url, **AWS)

    def store(self, query: str = "") -> DynamoDBStore:
        return DynamoDBStore(self.url + query, {})

    def items(self) -> dict[str, Mapping[str, Any]]:
        # A page has a megabyte.
        pages = self.client.get_paginator("scan").paginate(TableName=self.name)
        return {item["id"]["S"]: item for page in pages for item in page["Items"]}

    def chunks(self) -> list[str]:
        return [name for name in self.items() if "/" in name]

    def make(self) -> None:
        self.client.create_table(
            TableName=self.name,
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )

    def time_to_live(self) -> tuple[str, str | None]:
        told = self.client.describe_time_to_live(TableName=self.name)["TimeToLiveDescription"]
        return told["TimeToLiveStatus"], told.get("AttributeName")


@pytest.fixture
def table(moto: MotoServer, request: pytest.FixtureRequest) -> Iterator[Table]:
    table = Table(moto, "".join(char if char.isalnum() else "-" for char in request.node.name))
    with closing(table.client):
        yield table


class TestLargeValuesInDynamoDB:
    def test_are_several_items_that_all_expire(self, table: Table) -> None:
        start = time.time()
        with closing(table.store()) as store:
            store.put("key", os.urandom(LARGE), 100.5)
        items = table.items()
        assert len(items) == 4
        assert all(start + 100.5 <= int(item["ttl"]["N"]) < time.time() + 103 for item in items.values())

    def test_leave_nothing_behind(self, table: Table) -> None:
        with closing(table.store()) as store:
            store.put("key", os.urandom(LARGE), 60)
            store.put("key", os.urandom(LARGE), 60)
            assert len(table.chunks()) == 3
            store.put("key", b"small", 60)
            assert list(table.items()) == ["key"]
            store.put("key", os.urandom(LARGE), 60)
            store.delete("key")
            assert table.items() == {}

    def test_are_missing_when_a_part_is(self, table: Table) -> None:
        with closing(table.store()) as store:
            store.put("key", os.urandom(LARGE), 60)
            table.client.delete_item(TableName=table.name, Key={"id": {"S": table.chunks()[1]}})
            assert store.get("key") is None

    def test_of_a_writer_that_died_half_way_are_not_seen(self, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
        def die(**item: object) -> None:
            raise SystemExit

        with closing(table.store()) as store, closing(table.store()) as dying:
            store.put("key", b"before", 60)
            assert dying.get("key") == b"before"
            monkeypatch.setattr(dying._client.get(), "put_item", die)
            with pytest.raises(SystemExit):
                dying.put("key", os.urandom(LARGE), 60)
            assert len(table.chunks()) == 3
            assert store.get("key") == b"before"

    def test_survive_that_they_are_sent_twice(self, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
        """As boto3 does after a request whose answer got lost."""
        value = os.urandom(LARGE)
        with closing(table.store()) as store:
            client = store._client.get()
            put_item = client.put_item

            def put_twice(**item: object) -> object:
                put_item(**item)
                return put_item(**item)

            monkeypatch.setattr(client, "put_item", put_twice)
            store.put("key", value, 60)
            assert store.get("key") == value

    def test_are_whole_while_others_replace_them(self, table: Table) -> None:
        values = [bytes([number]) * LARGE for number in range(3)]

        def write() -> None:
            for turn in range(15):
                other.put("key", values[turn % 3], 60)

        with closing(table.store()) as store, closing(table.store()) as other, ThreadPoolExecutor(1) as threads:
            store.put("key", values[0], 60)
            writing = threads.submit(write)
            seen = set()
            while not writing.done():
                seen.add(store.get("key"))
            writing.result()
        assert seen <= set(values)


class TestTablesOfDynamoDB:
    def test_expire_by_the_attribute_ttl(self, table: Table) -> None:
        with closing(table.store("?ttl_seconds=60")) as store:
            store.put("key", b"value", None)
        assert table.time_to_live() == ("ENABLED", "ttl")
        assert "ttl" not in table.items()["key"]

    def test_are_left_as_they_are_if_asked(self, table: Table) -> None:
        with closing(table.store("?ttl_seconds=-1")) as store:
            store.put("key", b"value", 60)
        assert table.time_to_live() == ("DISABLED", None)

    def test_that_expire_by_something_else_are_refused(self, table: Table) -> None:
        table.make()
        table.client.update_time_to_live(
            TableName=table.name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "other"}
        )
        with closing(table.store()) as store, pytest.raises(RuntimeError, match="'other', not on 'ttl'"):
            store.get("key")
        with closing(table.store("?ttl_seconds=-1")) as store:
            assert store.get("key") is None

    def test_are_paid_as_the_url_says(self, table: Table) -> None:
        with closing(table.store("?read=3&write=7")) as store:
            assert store.get("key") is None
        paid = table.client.describe_table(TableName=table.name)["Table"]["ProvisionedThroughput"]
        assert (paid["ReadCapacityUnits"], paid["WriteCapacityUnits"]) == (3, 7)


class TestSweepLeavesWhatIsNotOurs:
    def test_in_s3(self, moto: MotoServer) -> None:
        client = boto3.client("s3", endpoint_url=moto.url, **AWS)
        others = ["path/celery-task-meta-1", "taskq.a", "path/", "path/more/taskq.a"]
        store = S3Store("s3://results/path", {**AWS, "endpoint_url": moto.url})
        with closing(client), closing(store):
            for name in others:
                client.put_object(Bucket="results", Key=name, Body=b"")
            store.put("key", b"value", 1)
            assert store.sweep(time.time() + 1000, 1) == 1
            left = client.list_objects_v2(Bucket="results")["Contents"]
        assert {entry["Key"] for entry in left} == set(others)

    def test_in_google_cloud_storage(self) -> None:
        with GCSServer(bucket="results") as server:
            wanted = {"credentials": AnonymousCredentials(), "client_options": {"api_endpoint": server.url}}  # type: ignore[no-untyped-call]  # google-auth has types in part
            client = storage.Client(project="taskq", **wanted)
            others = ["path/celery-task-meta-1", "taskq.a", "path/taskq.somebody"]
            store = GCSStore("gs://results/path", wanted)
            with closing(client), closing(store):
                for name in others:
                    client.bucket("results").blob(name).upload_from_string(b"")
                store.put("key", b"value", 1)
                assert store.sweep(time.time() + 1000, 1) == 1
                assert {blob.name for blob in client.list_blobs("results")} == set(others)

    def test_in_azure(self) -> None:
        with AzuriteServer() as server:
            client = ContainerClient.from_connection_string(server.connection_string, "results")
            others = ["path/celery-task-meta-1", "taskq.a", "path/taskq.somebody"]
            store = AzureBlobStore(
                f"azureblockblob://{server.connection_string}", {"container_name": "results", "base_path": "path"}
            )
            with closing(client), closing(store):
                store.put("key", b"value", 1)
                for name in others:
                    client.upload_blob(name, b"")
                assert store.sweep(time.time() + 1000, 1) == 1
                assert set(client.list_blob_names()) == set(others)

    def test_in_couchdb(self) -> None:
        with CouchDBServer() as server:
            url = f"couchdb://{server.USER}:{server.password}@127.0.0.1:{server.port}/results"
            with closing(CouchDBStore(url, {})) as store:
                store.put("key", b"value", 1)
                # A document of somebody else, whose name does not begin as ours do.
                store._pool.get().request("PUT", "/results/other", body=b'{"expires_at": 1}')
                assert store.sweep(time.time() + 1000, 1) == 1
                assert store._pool.get().request("GET", "/results/other").status == 200


def test_couchdb_says_that_a_password_is_wrong_and_not_which() -> None:
    with (
        CouchDBServer() as server,
        closing(CouchDBStore(f"couchdb://taskq:hunter2@127.0.0.1:{server.port}", {})) as store,
    ):
        with pytest.raises(Exception, match="CouchDB answered 401 unauthorized") as failed:
            store.get("key")
        assert "hunter2" not in repr(failed.value)


#: Servers that stop to answer, and stores of them.
SILENT: dict[str, tuple[Callable[[], Emulator], Callable[[Any], KeyValueStore]]] = {
    "s3": (MotoServer, lambda server: S3Store("s3://results", {**AWS, "endpoint_url": server.url})),
    "dynamodb": (MotoServer, lambda server: DynamoDBStore(f"dynamodb://key:secret@127.0.0.1:{server.port}", {})),
    "gcs": (
        lambda: GCSServer(bucket="results"),
        lambda server: GCSStore(
            "gs://results",
            {"credentials": AnonymousCredentials(), "client_options": {"api_endpoint": server.url}},  # type: ignore[no-untyped-call]  # google-auth has types in part
        ),
    ),
    "azure": (AzuriteServer, lambda server: AzureBlobStore(f"azureblockblob://{server.connection_string}", {})),
    "couchdb": (
        CouchDBServer,
        lambda server: CouchDBStore(f"couchdb://{server.USER}:{server.password}@127.0.0.1:{server.port}", {}),
    ),
    "cosmosdb": (CosmosServer, lambda server: CosmosDBStore(f"cosmosdbsql://:c2VjcmV0@127.0.0.1:{server.port}", {})),
}


@pytest.mark.timing
@pytest.mark.parametrize("name", SILENT)
def test_a_server_that_is_silent_is_given_up_in_time_by_all_threads(name: str) -> None:
    start_server, make = SILENT[name]
    with start_server() as server, closing(make(server)) as used, closing(make(server)) as unused:
        if isinstance(server, MotoServer):
            server.create_bucket("results")
        used.put("key", b"value", 60)
        server.freeze()

        def fail(operation: Callable[[], object]) -> float:
            start = time.monotonic()
            with pytest.raises(Exception):  # noqa: B017, PT011  # whatever the client raises
                operation()
            return time.monotonic() - start

        operations: list[Callable[[], object]] = []
        for store in (used, unused):
            operations += [lambda store=store: store.get("key")] * 4  # type: ignore[misc]  # mypy #12557
            operations += [lambda store=store: store.put("key", b"new", 60)] * 2  # type: ignore[misc]
            operations += [lambda store=store: store.delete("key")] * 2  # type: ignore[misc]
        with ThreadPoolExecutor(len(operations)) as threads:
            lasted = list(threads.map(fail, operations))
        assert max(lasted) < CONNECT_TIMEOUT + OPERATION_TIMEOUT + MARGIN
