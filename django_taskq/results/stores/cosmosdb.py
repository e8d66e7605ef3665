"""Azure Cosmos DB for NoSQL, by azure-cosmos."""

from __future__ import annotations

import base64
import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from azure.cosmos import ConsistencyLevel, ContainerProxy, CosmosClient, PartitionKey
from azure.cosmos.exceptions import CosmosResourceExistsError, CosmosResourceNotFoundError

from ..address import Address, only_known, parse_address
from ..client import SharedClient
from ..keyvalue import CONNECT_TIMEOUT, OPERATION_TIMEOUT, KeyValueStore, StoreConfigError

T = TypeVar("T")

_FORM: Final = "cosmosdbsql://:key@account.documents.azure.com"
#: Celery's settings without "cosmosdbsql_" before them, and what else may be given.
_KNOWN: Final = frozenset(
    {"database_name", "collection_name", "consistency_level", "max_retry_attempts", "max_retry_wait_time"}
    | {"credential", "client_options"}
)
#: What ids begin with, so that no key makes one like "..", which has another meaning in a URL.
_PREFIX: Final = "taskq."
#: Seconds for all requests and pauses of one operation, those after "429 too many requests" among them.
_TIMEOUT: Final = CONNECT_TIMEOUT + OPERATION_TIMEOUT
#: Seconds for the first question; the client waits for one answer as long as this, whatever it is told.
_FIRST_TIMEOUT: Final = 3
#: Seconds: the longest ttl of an item. https://learn.microsoft.com/azure/cosmos-db/nosql/time-to-live
_LONGEST_TTL: Final = 2**31 - 1
_LEVELS: Final = frozenset(name for name in vars(ConsistencyLevel) if name.isalpha())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Connection:
    client: CosmosClient
    container: ContainerProxy


class CosmosDBStore(KeyValueStore):
    """``cosmosdbsql://:key@account.documents.azure.com``; write ``/``, ``+`` and ``=`` of the key as %2F, %2B and %3D.

    As with Celery: HTTPS on port 443, or HTTP where the URL has another port. Options are Celery's settings, with or
    without their ``cosmosdbsql_``: ``database_name`` and ``collection_name`` ("taskq" both; made at first use unless they
    are there, with the partition key ``/id`` and a default ttl of -1), ``consistency_level`` (the account's own unless
    given), ``max_retry_attempts`` and ``max_retry_wait_time`` (after "too many requests"; 9, and what is left of an
    operation's time). ``credential``: one of azure-identity in the place of the key. ``client_options``: a dict for
    ``azure.cosmos.CosmosClient``.

    Items end by themselves by their ``ttl``; in a container that was there, with its own time to live switched on. With
    the levels Session and weaker another process may see a result some moments later than the one that stored it
    (https://learn.microsoft.com/azure/cosmos-db/consistency-levels). Values have up to 1.4 MB, since an item has 2 MB
    (https://learn.microsoft.com/azure/cosmos-db/concepts-limits).
    """

    expires = True
    max_size = 1_400_000

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        options = {name.removeprefix("cosmosdbsql_"): value for name, value in options.items()}
        only_known(options, _KNOWN, store="cosmosdbsql://")
        address = parse_address(url, form=_FORM, parts=0)
        self._url = _endpoint(address)
        self._credential: Any = address.password or options.get("credential")
        if not self._credential:
            raise StoreConfigError(f"cosmosdbsql:// needs the account's key; write {_FORM}.")
        self._database: str = options.get("database_name") or "taskq"
        self._collection: str = options.get("collection_name") or "taskq"
        level = options.get("consistency_level")
        if level is not None and level not in _LEVELS:
            raise StoreConfigError(f"cosmosdbsql://: {level!r} is no consistency level.")
        self._settings = {
            "consistency_level": level,
            # Of making the client, which asks for the account first, again and again.
            "timeout": _FIRST_TIMEOUT,
            "connection_timeout": CONNECT_TIMEOUT,
            "read_timeout": OPERATION_TIMEOUT,
            "retry_total": 1,
            "retry_connect": 1,
            # It has waited as long as it may, then.
            "retry_read": 0,
            "retry_backoff_factor": 0.2,
            "retry_throttle_total": options.get("max_retry_attempts") or 9,
            "retry_throttle_backoff_max": options.get("max_retry_wait_time") or math.floor(_TIMEOUT),
            **options.get("client_options", {}),
        }
        self._shared: SharedClient[_Connection] = SharedClient(self._connect, lambda made: made.client.close())

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """See the base."""
        # -1: it stays, also where the container has a time of its own. One more than asked for: Cosmos counts from the
        # beginning of the second in which it was stored.
        seconds = -1 if ttl is None or ttl >= _LONGEST_TTL else math.ceil(ttl) + 1
        item = {"id": _PREFIX + key, "value": base64.b64encode(value).decode(), "ttl": seconds}
        self._shared.get().container.upsert_item(item, timeout=_TIMEOUT, no_response=True)

    def get(self, key: str) -> bytes | None:
        """See the base."""
        container = self._shared.get().container
        name = _PREFIX + key
        try:
            item = container.read_item(name, partition_key=name, timeout=_TIMEOUT)
        except CosmosResourceNotFoundError:
            return None
        return base64.b64decode(item["value"])

    def delete(self, key: str) -> None:
        """See the base."""
        container = self._shared.get().container
        name = _PREFIX + key
        with contextlib.suppress(CosmosResourceNotFoundError):
            container.delete_item(name, partition_key=name, timeout=_TIMEOUT)

    def close(self) -> None:
        """See the base."""
        self._shared.close()

    def _connect(self) -> _Connection:
        """Clients are safe to share between threads: https://learn.microsoft.com/azure/cosmos-db/nosql/best-practice-python."""
        client = CosmosClient(self._url, self._credential, **self._settings)
        database = _made(lambda: client.create_database_if_not_exists(self._database, timeout=_TIMEOUT))
        container = _made(
            lambda: database.create_container_if_not_exists(
                self._collection, PartitionKey("/id"), default_ttl=-1, timeout=_TIMEOUT
            )
        )
        return _Connection(client=client, container=container)


def _made(make: Callable[[], T]) -> T:
    try:
        return make()
    except CosmosResourceExistsError:
        # Somebody else has made it between the client's look and its try.
        return make()


def _endpoint(address: Address) -> str:
    name, port = address.host("", 443)
    if not name:
        raise StoreConfigError(f"cosmosdbsql:// needs the account's host; write {_FORM}.")
    return f"{'https' if port == 443 else 'http'}://{name}:{port}"
