"""``OPTIONS["results"]``: which stores there are, and what each needs.

Nothing here repeats any part of a URL but its scheme: the rest may hold a password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from .broker_url import DATABASE, is_installed, missing_modules, parse_broker, transport_of
from .core.options import nearest
from .option_values import OptionsError, mapping, path_of

#: in the task's own row; nowhere; over a reply queue; in a queue for each task
ROW, DISABLED, RPC, QUEUE = "database", "disabled", "rpc", "amqp"

#: where packages name stores of their own: scheme = "module:Class"
ENTRY_POINTS = "django_taskq.results"

_STORES = "django_taskq.results.stores"
#: RFC 3986, section 3.1
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_AMQP = ("amqp", "amqps", "pyamqp")
_HINT = "Write a URL such as 'database://', 'rpc://' or 'redis://host:6379/1'."


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreType:
    """A kind of store.

    ``path``: of its class. ``modules``: what must be importable; ``extra``: what of this package brings it.
    """

    schemes: tuple[str, ...]
    path: str
    modules: tuple[str, ...] = ()
    extra: str = ""

    @property
    def install(self) -> str:
        """What ``pip install`` is told."""
        return f"django-taskq-kombu[{self.extra}]"


def _store(path: str, *schemes: str, modules: tuple[str, ...] = (), extra: str = "") -> StoreType:
    return StoreType(schemes=schemes, path=f"{_STORES}.{path}", modules=modules, extra=extra)


STORE_TYPES = (
    _store("cache.CacheStore", "cache"),
    _store("storage.StorageStore", "storage"),
    _store("filesystem.FileStore", "file"),
    _store(
        "redis.RedisStore",
        *("redis", "rediss", "redis+socket", "sentinel"),
        modules=("redis",),
        extra="redis",
    ),
    _store(
        "memcached.MemcachedStore",
        "memcached",
        "cache+memcached",
        "cache+memcache",
        "cache+pymemcache",
        "cache+pylibmc",
        modules=("pymemcache",),
        extra="memcached",
    ),
    _store("s3.S3Store", "s3", modules=("boto3",), extra="s3"),
    _store("gcs.GCSStore", "gs", modules=("google.cloud.storage",), extra="gcs"),
    _store("azureblob.AzureBlobStore", "azureblockblob", modules=("azure.storage.blob",), extra="azureblockblob"),
    _store("mongodb.MongoDBStore", "mongodb", "mongodb+srv", modules=("pymongo",), extra="mongodb"),
    _store("cassandra.CassandraStore", "cassandra", modules=("cassandra",), extra="cassandra"),
    _store(
        "elasticsearch.ElasticsearchStore",
        *("elasticsearch", "elasticsearch+http", "elasticsearch+https"),
        modules=("elasticsearch",),
        extra="elasticsearch",
    ),
    _store("couchbase.CouchbaseStore", "couchbase", "couchbases", modules=("couchbase",), extra="couchbase"),
    _store("couchdb.CouchDBStore", "couchdb", "couchdbs", modules=("urllib3",), extra="couchdb"),
    _store(
        "arangodb.ArangoDBStore", "arangodb", "arangodb+http", "arangodb+https", modules=("arango",), extra="arangodb"
    ),
    _store("cosmosdb.CosmosDBStore", "cosmosdbsql", modules=("azure.cosmos",), extra="cosmosdbsql"),
    _store("consul.ConsulStore", "consul", modules=("consul",), extra="consul"),
    _store("dynamodb.DynamoDBStore", "dynamodb", modules=("boto3",), extra="dynamodb"),
    _store("ironcache.IronCacheStore", "ironcache", modules=("requests",), extra="ironcache"),
)
_STORE_OF = {scheme: store for store in STORE_TYPES for scheme in store.schemes}
#: Celery's own code, for whatever it knows: ``celery+URL``, and its SQLAlchemy store as Celery spells it
_CELERY = _store("celery_store.CeleryStore", "celery", modules=("celery",), extra="celery")
_CELERY_DATABASE = _store("celery_store.CeleryStore", "db", modules=("celery", "sqlalchemy"), extra="celery-database")

SCHEMES = (ROW, DISABLED, RPC, QUEUE, *_STORE_OF, "celery+…", "db+…")


def parse_results(key: str, value: Any) -> str:
    """The URL; whether its scheme is known shows in :func:`check_results`. Raises ``OptionsError``."""
    scheme, separator, rest = value.partition("://") if isinstance(value, str) else ("", "", "")
    if not separator and isinstance(value, str) and value in ("rpc", "database", "disabled", "amqp"):
        # As Celery has them.
        return f"{value}://"
    if not separator or not _SCHEME.fullmatch(scheme):
        # The value stays unsaid: it may hold a password.
        raise OptionsError(key, f"{path_of(key)} is not a URL.", _HINT)
    if scheme in (ROW, DISABLED, RPC) and rest:
        raise OptionsError(key, f"{path_of(key)}: nothing stands behind {scheme}://.", _INSTEAD[scheme])
    broker = own_broker(value)
    if broker:
        transport = transport_of(parse_broker(key, broker))
        if transport.name == DATABASE:
            raise OptionsError(
                key, f"{path_of(key)}: replies need a message broker, not a database.", "For example 'rpc+amqp://…'."
            )
    return str(value)


def parse_stores(key: str, value: Any) -> dict[str, str]:
    """Stores of the project's own: scheme -> the path of a class."""
    given = mapping((key,), value, "{'vault': 'shop.results.VaultStore'}")
    for scheme, path in given.items():
        if not isinstance(path, str) or "." not in path or not _SCHEME.fullmatch(scheme):
            raise OptionsError(
                key,
                f"{path_of(key, scheme)} must be the path of a class.",
                "For example {'vault': 'shop.results.VaultStore'}, for 'vault://…'.",
            )
    return given


def scheme_of(results: str) -> str:
    """A URL's scheme; ``rpc`` for ``rpc+amqp://…``, ``amqp`` for all of AMQP's."""
    scheme = results.partition("://")[0]
    if scheme.startswith("rpc+"):
        return RPC
    return QUEUE if scheme in _AMQP else scheme


def own_broker(results: str) -> str:
    """The broker in ``rpc+amqp://…`` and ``amqp://host``; "" when replies go over the alias's own."""
    scheme, _, rest = results.partition("://")
    if scheme.startswith("rpc+"):
        return results.removeprefix("rpc+")
    return results if scheme in _AMQP and rest.strip("/") else ""


def store_type(results: str, stores: Mapping[str, str]) -> StoreType | None:
    """The kind of store behind a URL; None for those that are none, and for unknown ones."""
    scheme = results.partition("://")[0]
    if scheme in stores:
        return StoreType(schemes=(scheme,), path=stores[scheme])
    if scheme.startswith("celery+"):
        return _CELERY
    if scheme.startswith("db+"):
        return _CELERY_DATABASE
    found = _STORE_OF.get(scheme)
    return found if found is not None or scheme_of(results) in (ROW, DISABLED, RPC, QUEUE) else _installed(scheme)


def check_results(key: str, results: str, stores: Mapping[str, str], broker: str) -> None:
    """Raise ``OptionsError`` for results that cannot be with this broker."""
    scheme = scheme_of(results)
    if scheme in (RPC, QUEUE):
        if not own_broker(results) and transport_of(broker).name == DATABASE:
            raise OptionsError(
                key,
                f"{path_of(key)}: {scheme}:// goes over a message broker, and this alias has none.",
                f"Name one: '{'rpc+amqp' if scheme == RPC else 'amqp'}://user:password@host:5672//'.",
            )
        if scheme == QUEUE and transport_of(own_broker(results) or broker).name != "amqp":
            raise OptionsError(
                key, f"{path_of(key)}: amqp:// needs RabbitMQ.", "Name one, as in 'amqp://user:password@host:5672//'."
            )
        return
    if scheme not in (ROW, DISABLED) and store_type(results, stores) is None:
        raise OptionsError(
            key,
            f"{path_of(key)}: the scheme {scheme!r} is not known{nearest(scheme, SCHEMES) or '.'}",
            f"Known schemes: {', '.join((*SCHEMES, *stores))}.",
        )


def missing_store_modules(store: StoreType) -> list[str]:
    """What a store needs and this environment does not have."""
    return [name for name in store.modules if not is_installed(name)]


def missing_broker_modules(results: str) -> tuple[list[str], str]:
    """The same for a broker of the results' own, and what to install."""
    broker = own_broker(results)
    transport = transport_of(broker) if broker else None
    return (missing_modules(transport), transport.install) if transport is not None else ([], "")


@cache
def _installed(scheme: str) -> StoreType | None:
    """A store that another package brings."""
    for entry in entry_points(group=ENTRY_POINTS, name=scheme):
        return StoreType(schemes=(scheme,), path=entry.value.replace(":", "."))
    return None


_INSTEAD = {
    ROW: "Write 'database://'; the broker's URL, or 'database', says which database.",
    DISABLED: "Write 'disabled://'.",
    RPC: "Write 'rpc://' for the alias's own broker, or 'rpc+amqp://user:password@host:5672//' for another.",
}
