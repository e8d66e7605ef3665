"""Google Cloud Storage, by google-cloud-storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.api_core.exceptions import NotFound
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.adapters import HTTPAdapter

from ..address import only_known, parse_address
from ..client import SharedClient
from ..keyvalue import CONNECT_TIMEOUT, OPERATION_TIMEOUT, KeyValueStore, StoreConfigError

_FORM: Final = "gs://bucket/folder?gcs_project=project"
#: Celery's settings, without "gcs_" before them; the client's own; and what Celery's needs for chords.
_KNOWN: Final = frozenset(
    {"bucket", "project", "base_path", "threadpool_maxsize", "ttl"}
    | {"credentials", "credentials_file", "client_options"}
    | {"firestore_project"}
)
#: What may stand in the URL, with or without "gcs_" before it.
_QUERIES: Final = ("project", "ttl", "base_path", "threadpool_maxsize")
#: What names begin with below the base path: ``sweep`` deletes nothing else, and no key makes a name like "..".
_PREFIX: Final = "taskq."
#: Objects that one request of ``sweep`` deletes; 100 at most: https://cloud.google.com/storage/docs/batch
_BATCH: Final = 50
#: Seconds for the server to answer: half of an operation's time, since what fails may be tried again once.
_TIMEOUT: Final = (CONNECT_TIMEOUT, OPERATION_TIMEOUT / 2)
#: Seconds after which nothing is tried again.
_RETRY: Final = DEFAULT_RETRY.with_timeout(3.5).with_delay(initial=0.2, maximum=1.0)


class GCSStore(KeyValueStore):
    """``gs://bucket/folder?gcs_project=project``, or ``gs://`` with options; the bucket must be there.

    Without ``credentials`` (an object of ``google.auth``) or ``credentials_file`` (the path of a service account's key)
    Google's library looks for some (Application Default Credentials). Other options, and names in the URL, are Celery's
    settings, with or without their ``gcs_``: ``bucket``, ``project`` (not needed here), ``base_path``,
    ``threadpool_maxsize`` (connections that are kept, 32); ``ttl`` and ``firestore_project`` change nothing:
    ``result_ttl`` says how long results stay, and nothing here needs Firestore. ``client_options``: a dict for
    ``google.cloud.storage.Client``, for instance with ``api_endpoint``.

    Objects are stored below the base path, with names that begin with ``taskq.`` and the time they are over as
    their Custom-Time. Cloud
    Storage is strongly consistent (https://cloud.google.com/storage/docs/consistency), and takes about one write per
    second and key. Nothing expires by itself: ``sweep`` deletes what is over; a lifecycle rule of the bucket with
    ``daysSinceCustomTime`` 0 does, too.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        options = {name.removeprefix("gcs_"): value for name, value in options.items()}
        only_known(options, _KNOWN, store="gs://")
        queries = {f"{prefix}{name}" for name in _QUERIES for prefix in ("", "gcs_")} | {"firestore_project"}
        address = parse_address(url, form=_FORM, queries=queries, parts=64)
        given = {**options, **{name.removeprefix("gcs_"): value for name, value in address.query.items()}}
        self._bucket: str = address.host("", 0)[0] or given.get("bucket") or ""
        if not self._bucket:
            raise StoreConfigError(f"gs:// needs a bucket; write {_FORM}.")
        if given.get("credentials") is not None and given.get("credentials_file"):
            raise StoreConfigError("gs://: give credentials or credentials_file, not both.")
        path = "/".join(address.path) or str(given.get("base_path") or "").strip("/")
        self._prefix = f"{path}/{_PREFIX}" if path else _PREFIX
        self._connections = _connections(given.get("threadpool_maxsize"))
        self._settings = given
        self._client: SharedClient[storage.Client] = SharedClient(self._connect, lambda client: client.close())

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """See the base."""
        blob = self._blob(key)
        if ttl is not None:
            blob.custom_time = datetime.now(UTC) + timedelta(seconds=ttl)
        blob.upload_from_string(value, content_type="application/octet-stream", timeout=_TIMEOUT, retry=_RETRY)

    def get(self, key: str) -> bytes | None:
        """See the base."""
        try:
            value: bytes = self._blob(key).download_as_bytes(timeout=_TIMEOUT, retry=_RETRY)
        except NotFound as error:
            if _is_of_bucket(error):
                raise
            return None
        return value

    def delete(self, key: str) -> None:
        """See the base."""
        try:
            self._blob(key).delete(timeout=_TIMEOUT, retry=_RETRY)
        except NotFound as error:
            if _is_of_bucket(error):
                raise

    def sweep(self, now: float, longest: float) -> int:
        """See the base."""
        client = self._client.get()
        deleted = 0
        for blobs in self._over(client, datetime.fromtimestamp(now, UTC)):
            # One that somebody has stored anew meanwhile has another generation, and stays.
            with client.batch(raise_exception=False) as batch:
                for blob in blobs:
                    blob.delete(if_generation_match=blob.generation, timeout=OPERATION_TIMEOUT)
            deleted += sum(answer.status_code // 100 == 2 for answer in batch._responses)  # noqa: SLF001
        return deleted

    def close(self) -> None:
        """See the base."""
        self._client.close()

    def _blob(self, key: str) -> Any:
        return self._client.get().bucket(self._bucket).blob(self._prefix + key)

    def _over(self, client: storage.Client, now: datetime) -> Iterator[list[Any]]:
        over = []
        for blob in client.list_blobs(
            self._bucket,
            prefix=self._prefix,
            fields="items(name,generation,customTime),nextPageToken",
            timeout=_TIMEOUT,
            retry=_RETRY,
        ):
            if blob.custom_time is not None and blob.custom_time <= now:
                over.append(blob)
            if len(over) == _BATCH:
                yield over
                over = []
        if over:
            yield over

    def _connect(self) -> storage.Client:
        """Clients are safe to share between threads: https://cloud.google.com/python/docs/reference/storage/latest."""
        given = self._settings
        # A project is only for who makes buckets; its name may cost a request to find out.
        wanted: dict[str, Any] = {"project": given.get("project"), "client_options": given.get("client_options")}
        if path := given.get("credentials_file"):
            client = storage.Client.from_service_account_json(path, **wanted)
        else:
            client = storage.Client(credentials=given.get("credentials"), **wanted)
        adapter = HTTPAdapter(pool_connections=self._connections, pool_maxsize=self._connections)
        for scheme in ("https://", "http://"):
            client._http.mount(scheme, adapter)  # noqa: SLF001  # there is no other way to more than ten
        return client


def _connections(given: object) -> int:
    try:
        number = int(str(given or 32))
    except ValueError:
        number = 0
    if number < 1:
        raise StoreConfigError("gs://: threadpool_maxsize must be a whole number of at least 1.")
    return number


def _is_of_bucket(error: NotFound) -> bool:
    """Whether the bucket is what was not found."""
    return "bucket does not exist" in str(error)
