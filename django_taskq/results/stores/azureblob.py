"""Azure's blob storage, by azure-storage-blob."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import ContainerClient, LinearRetry

from ..address import only_known
from ..client import SharedClient
from ..keyvalue import CONNECT_TIMEOUT, OPERATION_TIMEOUT, KeyValueStore, StoreConfigError

_FORM: Final = "azureblockblob://<connection string> or azureblockblob://DefaultAzureCredential@<account's URL>"
#: Names of azure.identity that may stand before the account's URL.
_CREDENTIALS: Final = ("DefaultAzureCredential", "ManagedIdentityCredential")
_KNOWN: Final = frozenset({"container_name", "base_path", "connection_timeout", "read_timeout", "credential"})
#: What Celery's store has and ours settles by itself: an operation may not last longer than it may.
_IGNORED: Final = frozenset({"retry_initial_backoff_sec", "retry_increment_base", "retry_max_attempts"})
#: What names begin with below the base path: ``sweep`` deletes nothing else, and no key makes a name like "..".
_PREFIX: Final = "taskq."
#: Blobs that one request deletes at most. https://learn.microsoft.com/rest/api/storageservices/blob-batch
_BATCH: Final = 256
#: The name of a blob's metadata that says when it is over, in seconds since 1970.
_EXPIRES: Final = "expires_at"


class AzureBlobStore(KeyValueStore):
    """``azureblockblob://`` and a connection string, as Azure's portal shows it.

    Or, with azure-identity, ``azureblockblob://DefaultAzureCredential@https://account.blob.core.windows.net``, and
    ``ManagedIdentityCredential@…`` likewise, as with Celery; or the account's URL alone, and the option ``credential``:
    whatever ``azure.storage.blob.ContainerClient`` takes as one.

    Options are Celery's settings, with or without their ``azureblockblob_``: ``container_name`` ("taskq"; made at first
    use unless it is there), ``base_path``, ``connection_timeout`` (2 s) and ``read_timeout`` (2.5 s; what was not
    answered is sent once more). Those that begin with ``retry_`` change nothing.

    Blobs are stored below the base path, with names that begin with ``taskq.`` and the time they are over in their
    metadata. Azure is strongly consistent. Nothing expires by itself: ``sweep`` deletes what is over.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        options = {name.removeprefix("azureblockblob_"): value for name, value in options.items()}
        only_known(options, _KNOWN | _IGNORED, store="azureblockblob://")
        name, _, account = url.partition("://")[2].rpartition("@")
        if name not in _CREDENTIALS:
            name, account = "", url.partition("://")[2]
        self._account = account
        # Not at the top: azure-identity is needed for these URLs only.
        make = getattr(importlib.import_module("azure.identity"), name) if name else lambda: options.get("credential")
        self._credential: Any = make()
        self._container: str = options.get("container_name") or "taskq"
        path = str(options.get("base_path") or "").strip("/")
        self._prefix = f"{path}/{_PREFIX}" if path else _PREFIX
        self._settings = {
            "connection_timeout": options.get("connection_timeout", CONNECT_TIMEOUT),
            # Half of an operation's time, since what fails is tried again once.
            "read_timeout": options.get("read_timeout", OPERATION_TIMEOUT / 2),
            "retry_policy": LinearRetry(backoff=1, retry_total=1, random_jitter_range=1),
        }
        # For faults of the connection string to show now.
        self._make().close()
        self._client: SharedClient[ContainerClient] = SharedClient(self._make, lambda client: client.close())

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """See the base."""
        client = self._client.get()
        metadata = {} if ttl is None else {_EXPIRES: repr(time.time() + ttl)}
        try:
            client.upload_blob(self._prefix + key, value, overwrite=True, metadata=metadata)
        except ResourceNotFoundError:
            # There is no container. Who may store and make none needs no more than to have one.
            with contextlib.suppress(ResourceExistsError):
                client.create_container()
            client.upload_blob(self._prefix + key, value, overwrite=True, metadata=metadata)

    def get(self, key: str) -> bytes | None:
        """See the base."""
        try:
            return self._client.get().download_blob(self._prefix + key).readall()
        except ResourceNotFoundError as error:
            _must_be_missing(error)
            return None

    def delete(self, key: str) -> None:
        """See the base."""
        try:
            self._client.get().delete_blob(self._prefix + key)
        except ResourceNotFoundError as error:
            _must_be_missing(error)

    def sweep(self, now: float, longest: float) -> int:
        """See the base."""
        client = self._client.get()
        deleted = 0
        try:
            for blobs in self._over(client, now):
                # One that somebody has stored anew meanwhile has another tag, and stays.
                names = [
                    {"name": blob.name, "etag": blob.etag, "match_condition": MatchConditions.IfNotModified}
                    for blob in blobs
                ]
                answers = client.delete_blobs(*names, raise_on_any_failure=False)
                deleted += sum(answer.status_code == 202 for answer in answers)
        except ResourceNotFoundError as error:
            _must_be_missing(error)
        return deleted

    def close(self) -> None:
        """See the base."""
        self._client.close()

    def _over(self, client: ContainerClient, now: float) -> Iterator[list[Any]]:
        over = []
        for blob in client.list_blobs(name_starts_with=self._prefix, include=["metadata"]):
            text = (blob.metadata or {}).get(_EXPIRES)
            if text is not None and float(text) <= now:
                over.append(blob)
            if len(over) == _BATCH:
                yield over
                over = []
        if over:
            yield over

    def _make(self) -> ContainerClient:
        """A client; connects to nothing.

        Clients are safe to share between threads:
        https://learn.microsoft.com/azure/storage/blobs/storage-blob-client-management#client-immutability-and-thread-safety
        """
        if self._credential is not None:
            return ContainerClient(self._account, self._container, credential=self._credential, **self._settings)
        try:
            return ContainerClient.from_connection_string(self._account, self._container, **self._settings)
        except ValueError:
            # Its text may say what it has read.
            raise StoreConfigError(f"azureblockblob://: that is no connection string; write {_FORM}.") from None


def _must_be_missing(error: ResourceNotFoundError) -> None:
    # Others answer 404, too: a proxy, or whoever has the address of an account that has gone.
    if getattr(error, "error_code", None) not in {"BlobNotFound", "ContainerNotFound"}:
        raise error
