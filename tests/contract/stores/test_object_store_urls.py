"""URLs and options of the stores of clouds: what they mean, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest

from django_taskq.results.keyvalue import KeyValueStore, StoreConfigError
from django_taskq.results.stores.azureblob import AzureBlobStore
from django_taskq.results.stores.cosmosdb import CosmosDBStore
from django_taskq.results.stores.couchdb import CouchDBStore
from django_taskq.results.stores.dynamodb import DynamoDBStore
from django_taskq.results.stores.gcs import GCSStore
from django_taskq.results.stores.s3 import S3Store

STORES: dict[str, type[KeyValueStore]] = {
    "s3": S3Store,
    "gs": GCSStore,
    "azureblockblob": AzureBlobStore,
    "dynamodb": DynamoDBStore,
    "couchdb": CouchDBStore,
    "couchdbs": CouchDBStore,
    "cosmosdbsql": CosmosDBStore,
}
#: Appears in no message.
SECRET = "c2VjcmV0IG9mIG5vYm9keQ"
CONNECTION = f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={SECRET}==;EndpointSuffix=core.windows.net"


def make(url: str, **options: Any) -> Any:
    return STORES[url.partition(":")[0]](url, options)


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        (f"s3://id:{SECRET}@", {}, "needs a bucket"),
        ("s3://id@bucket", {}, "both an access key id and its secret"),
        (f"s3://id:{SECRET[:9]}/{SECRET}@bucket/path", {}, "%2F"),
        ("s3://bucket?region=x", {}, "unknown name 'region'"),
        ("s3://bucket", {"region": "x"}, "unknown result option 'region'; did you mean 'region_name'"),
        ("s3://bucket", {"s3_bukket": "x"}, "unknown result option"),
        ("s3://bucket", {"config": 1}, "config is a dict"),
        ("gs://", {}, "needs a bucket"),
        ("gs://bucket?gcs_projekt=x", {}, "did you mean 'gcs_project'"),
        ("gs://bucket?gcs_threadpool_maxsize=many", {}, "threadpool_maxsize must be a whole number"),
        ("gs://bucket", {"credentials": object(), "credentials_file": "key.json"}, "not both"),
        ("gs://bucket", {"tll": 1}, "did you mean 'ttl'"),
        ("azureblockblob://", {}, "no connection string"),
        (f"azureblockblob://AccountKey={SECRET}", {}, "no connection string"),
        (f"azureblockblob://{CONNECTION}", {"azureblockblob_container": "x"}, "did you mean 'container_name'"),
        (f"dynamodb://id:{SECRET}@eu-west-1/table/more", {}, "has 2 parts"),
        ("dynamodb://id@eu-west-1", {}, "both an access key id and its secret"),
        ("dynamodb://@eu-west-1?read=many", {}, "read is no whole number"),
        ("dynamodb://@eu-west-1?write=0", {}, "write must be at least 1"),
        ("dynamodb://@eu-west-1?ttl=5", {}, "unknown name 'ttl'"),
        (f"couchdb://user:{SECRET}@host/a/b", {}, "has 2 parts"),
        ("couchdb://user@host/a", {}, "both a user and a password"),
        (f"couchdb://user:{SECRET}@host/a", {"verfy": 1}, "did you mean 'verify'"),
        ("cosmosdbsql://host", {}, "needs the account's key"),
        (f"cosmosdbsql://:{SECRET}@", {}, "needs the account's host"),
        (f"cosmosdbsql://:{SECRET[:5]}/{SECRET}@host", {}, "%2F"),
        (f"cosmosdbsql://:{SECRET}@host", {"consistency_level": "Weak"}, "'Weak' is no consistency level"),
        (f"cosmosdbsql://:{SECRET}@host", {"database": "x"}, "did you mean 'database_name'"),
    ],
)
def test_say_what_is_wrong_and_no_secret(url: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(StoreConfigError) as refused:
        make(url, **options)
    assert message in str(refused.value)
    # The whole of it and what a part of it may have been taken for.
    assert SECRET[:5] not in str(refused.value)


class TestS3:
    def test_reads_credentials_bucket_and_path_from_the_url(self) -> None:
        store = make("s3://id:a%2Fb%2Bc@Bucket/some/path/", region_name="eu-west-1")
        assert (store._bucket, store._prefix) == ("Bucket", "some/path/taskq.")
        client = store._client.get()
        credentials = client._get_credentials()
        assert (credentials.access_key, credentials.secret_key) == ("id", "a/b+c")
        assert client.meta.region_name == "eu-west-1"
        store.close()

    def test_reads_celery_s_settings(self) -> None:
        store = make(
            "s3://",
            s3_bucket="bucket",
            s3_base_path="/prefix",
            s3_access_key_id="id",
            s3_secret_access_key="secret",
            s3_region="eu-west-1",
            s3_endpoint_url="https://s3.example.org",
        )
        assert (store._bucket, store._prefix) == ("bucket", "prefix/taskq.")
        client = store._client.get()
        assert client._get_credentials().secret_key == "secret"
        assert (client.meta.region_name, client.meta.endpoint_url) == ("eu-west-1", "https://s3.example.org")
        store.close()

    def test_leaves_credentials_to_boto3(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id of the environment")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret of the environment")
        store = make("s3://bucket", region_name="eu-west-1")
        assert store._client.get()._get_credentials().access_key == "id of the environment"
        store.close()

    def test_gives_config_to_botocore(self) -> None:
        store = make("s3://bucket", region_name="x", config={"s3": {"addressing_style": "path"}, "read_timeout": 1})
        config = store._client.get().meta.config
        assert (config.s3["addressing_style"], config.read_timeout, config.connect_timeout) == ("path", 1, 2)
        store.close()


@pytest.mark.parametrize(
    ("url", "settings", "table"),
    [
        (
            "dynamodb://id:a%2Fb@eu-west-1/results",
            {"region_name": "eu-west-1", "aws_access_key_id": "id", "aws_secret_access_key": "a/b"},
            "results",
        ),
        ("dynamodb://@us-east-1:8000/results?read=1&write=2&ttl_seconds=9", {"region_name": "us-east-1"}, "results"),
        ("dynamodb://", {}, "taskq"),
        ("dynamodb://@localhost:4567", {"region_name": "us-east-1", "endpoint_url": "http://localhost:4567"}, "taskq"),
        ("dynamodb://10.0.0.7", {"region_name": "us-east-1", "endpoint_url": "http://10.0.0.7:8000"}, "taskq"),
    ],
)
def test_dynamodb_is_where_the_url_says(url: str, settings: dict[str, str], table: str) -> None:
    store = make(url)
    assert (store._settings, store._table) == (settings, table)


def test_dynamodb_is_where_the_options_say() -> None:
    store = make("dynamodb://@eu-west-1", dynamodb_endpoint_url="https://example.org", table="results")
    assert store._settings == {"region_name": "eu-west-1", "endpoint_url": "https://example.org"}
    assert store._table == "results"


@pytest.mark.parametrize(
    "url",
    [
        "gs://bucket/some/folder?gcs_project=p&gcs_ttl=5&gcs_threadpool_maxsize=7&firestore_project=f",
        "gs://bucket/some/folder?project=p&ttl=5&threadpool_maxsize=7",
    ],
)
def test_gcs_takes_celery_s_names_in_the_url(url: str) -> None:
    store = make(url)
    assert (store._bucket, store._prefix, store._connections) == ("bucket", "some/folder/taskq.", 7)
    assert store._settings["project"] == "p"


def test_gcs_takes_celery_s_settings() -> None:
    store = make("gs://", gcs_bucket="bucket", gcs_base_path="/folder/", gcs_project="p", firestore_project="f")
    assert (store._bucket, store._prefix) == ("bucket", "folder/taskq.")


class TestAzure:
    def test_reads_a_connection_string(self) -> None:
        store = make(
            f"azureblockblob://{CONNECTION}", azureblockblob_container_name="results", azureblockblob_base_path="path/"
        )
        assert store._client.get().url == "https://a.blob.core.windows.net/results"
        assert store._prefix == "path/taskq."
        store.close()

    @pytest.mark.parametrize("name", ["DefaultAzureCredential", "ManagedIdentityCredential"])
    def test_reads_a_credential_and_an_account(self, name: str) -> None:
        store = make(f"azureblockblob://{name}@https://a.blob.core.windows.net")
        client = store._client.get()
        assert client.url == "https://a.blob.core.windows.net/taskq"
        assert type(client.credential).__name__ == name
        store.close()

    def test_takes_a_credential_beside_an_account(self) -> None:
        store = make("azureblockblob://https://a.blob.core.windows.net", credential=f"{SECRET}==")
        assert store._client.get().url == "https://a.blob.core.windows.net/taskq"
        store.close()


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "database"),
    [
        ("couchdb://user:a%40b@host:1234/Results", "http", "host", 1234, "/Results"),
        ("couchdb://", "http", "localhost", 5984, "/taskq"),
        ("couchdb://host", "http", "host", 5984, "/taskq"),
        ("couchdbs://host/a%2Fb", "https", "host", 6984, "/a%2Fb"),
    ],
)
def test_couchdb_is_where_the_url_says(url: str, scheme: str, host: str, port: int, database: str) -> None:
    store = make(url)
    assert (store._make_pool().scheme, store._make_pool().host, store._make_pool().port) == (scheme, host, port)
    assert store._database == database


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        ("a.documents.azure.com", "https://a.documents.azure.com:443"),
        ("a.documents.azure.com:443", "https://a.documents.azure.com:443"),
        ("localhost:8081", "http://localhost:8081"),
    ],
)
def test_cosmosdb_is_where_the_url_says(host: str, endpoint: str) -> None:
    store = make(f"cosmosdbsql://:a%2Fb%3D%3D@{host}", cosmosdbsql_database_name="d", cosmosdbsql_collection_name="c")
    assert (store._url, store._credential, store._database, store._collection) == (endpoint, "a/b==", "d", "c")
