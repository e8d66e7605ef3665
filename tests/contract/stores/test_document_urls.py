"""URLs and options of the stores of documents, with Celery's spellings; making a store connects to nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import pytest
from django.utils.module_loading import import_string

from django_taskq.result_url import store_type
from django_taskq.results.keyvalue import KeyValueStore, StoreConfigError

pytestmark = [pytest.mark.once, pytest.mark.databases("sqlite")]

#: Nobody answers there, RFC 5737.
HOST = "192.0.2.1"


def make(url: str, options: Mapping[str, Any]) -> KeyValueStore:
    found = store_type(url, {})
    assert found is not None
    store: KeyValueStore = import_string(found.path)(url, options)
    return store


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("mongodb://", {}),
        (f"mongodb://anne:s3cret@{HOST}:1,{HOST}/shop?replicaSet=rs0", {}),
        ("mongodb+srv://anne:s3cret@cluster.example.com/shop", {"tls": True}),
        (f"mongodb://{HOST}", {"database": "shop", "taskmeta_collection": "kept", "options": {"maxPoolSize": 5}}),
        (f"mongodb://{HOST}", {"user": "anne", "password": "s3cret"}),
        (f"cassandra://anne:s3cret@{HOST},other:9043/shop/kept", {}),
        (
            "cassandra://",
            {
                "cassandra_servers": [HOST],
                "cassandra_keyspace": "shop",
                "cassandra_table": "kept",
                "cassandra_read_consistency": "ONE",
                "cassandra_auth_provider": "PlainTextAuthProvider",
                "cassandra_auth_kwargs": {"username": "anne", "password": "s3cret"},
                "cassandra_options": {"protocol_version": 4},
            },
        ),
        ("cassandra://anne:s3cret@/shop", {"cassandra_secure_bundle_path": "/nowhere/bundle.zip"}),
        (f"elasticsearch://anne:s3cret@{HOST}:9201/shop/backend", {"timeout": 3, "max_retries": 1}),
        (f"elasticsearch+https://{HOST}", {"api_key": "s3cret"}),
        (f"couchbase://anne:s3cret@{HOST}:8091/shop", {}),
        ("couchbase://", {"host": HOST, "bucket": "shop", "username": "anne", "password": "s3cret"}),
        (f"couchbases://anne:s3cret@{HOST}/shop", {"scope": "one", "collection": "two"}),
        (f"arangodb://anne:s3cret@{HOST}:8529/shop/kept", {}),
        ("arangodb://", {"host": HOST, "database": "shop", "http_protocol": "https", "verify": False}),
        (f"consul://{HOST}:8500/shop", {}),
        (f"consul://{HOST}:8500/?one_client=1", {"token": "s3cret"}),
        ("ironcache://project:s3cret@", {}),
        ("ironcache://project:s3cret@/shop", {}),
        ("ironcache://", {"project_id": "project", "token": "s3cret"}),
        ("celery+redis://:s3cret@h/0", {"redis_socket_timeout": 3}),
        ("db+postgresql+psycopg://anne:s3cret@h/shop", {"database_engine_options": {"echo": False}}),
    ],
)
def test_can_be_as_celery_has_them(url: str, options: dict[str, Any]) -> None:
    with closing(make(url, options)) as store:
        assert "s3cret" not in repr(store)


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("mongodb://anne:s3cret/word@h/shop", {}, "%2F"),
        ("mongodb://h", {"maxPoolSise": 1}, "maxpoolsize"),
        ("cassandra://h", {}, "keyspace"),
        ("cassandra:///shop", {}, "hosts"),
        ("cassandra://h/shop", {"secure_bundle_path": "/x"}, "either"),
        ("cassandra://h:1,i:2/shop", {}, "port"),
        ("cassandra://h/shop/kept; DROP", {}, "no name"),
        ("cassandra://h/shop", {"read_consistency": "MOST"}, "MOST"),
        ("cassandra://h/shop", {"auth_provider": "Nobody"}, "Nobody"),
        ("cassandra://h/shop", {"auth_provider": "PlainTextAuthProvider", "keyspce": 1}, "keyspace"),
        ("elasticsearch://h", {"timeot": 1}, "timeot"),
        ("couchbase://h/shop", {}, "password"),
        ("couchbase://a:b@h/shop", {"buckt": "x"}, "bucket"),
        ("arangodb+ftp://h/shop", {}, "https"),
        ("arangodb://h/shop", {"http_protocol": "ftp"}, "ftp"),
        ("arangodb://h/shop", {"colection": "x"}, "collection"),
        ("consul://h/?one_cleint=1", {}, "one_client"),
        ("consul://h", {"tokn": "s3cret"}, "token"),
        ("ironcache://project@", {}, "token"),
        ("ironcache://project:s3cret@", {"protocl": "http"}, "protocol"),
    ],
)
def test_that_cannot_be_are_refused_with_what_to_write(url: str, options: dict[str, Any], words: str) -> None:
    scheme = url.partition("://")[0]
    path = store_type(scheme.partition("+")[0] + "://", {})
    assert path is not None
    with pytest.raises(StoreConfigError, match=words) as refused:
        import_string(path.path)(url, options)
    assert "s3cret" not in str(refused.value)
