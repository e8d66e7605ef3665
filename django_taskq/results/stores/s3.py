"""Amazon S3 and what speaks like it, by boto3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from botocore.exceptions import ClientError

from ..address import only_known, parse_address
from ..aws import AWS_OPTIONS, aws_settings, make_aws_client
from ..client import SharedClient
from ..keyvalue import KeyValueStore, StoreConfigError

_FORM: Final = "s3://key:secret@bucket/base/path"
#: Celery's settings whose names are not ours with "s3_" before them.
_CELERY: Final = {
    "s3_access_key_id": "aws_access_key_id",
    "s3_secret_access_key": "aws_secret_access_key",
    "s3_region": "region_name",
    "s3_bucket": "bucket",
    "s3_base_path": "base_path",
    "s3_endpoint_url": "endpoint_url",
}
_KNOWN: Final = AWS_OPTIONS | {"bucket", "base_path"}
#: What names begin with below the base path: ``sweep`` deletes nothing else, and no key makes a name like "..".
_PREFIX: Final = "taskq."
#: Objects that one request deletes at most, and that a page of a list has.
#: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
_BATCH: Final = 1000


class S3Store(KeyValueStore):
    """``s3://key:secret@bucket/base/path``, or ``s3://`` with options; the bucket must be there.

    Write ``/``, ``+`` and ``@`` in the secret as ``%2F``, ``%2B`` and ``%40``. Without credentials boto3 looks for some
    (environment, files, the machine's role). Options: ``bucket`` and ``base_path`` where the URL does not say them,
    boto3's ``aws_access_key_id``, ``aws_secret_access_key``, ``aws_session_token``, ``profile_name``, ``region_name``,
    ``endpoint_url``, ``verify``, and ``config``, a dict for ``botocore.config.Config``. Celery's settings ``s3_…`` are
    understood, too.

    Objects are stored below the base path, with names that begin with ``taskq.``. S3 is strongly consistent
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html#ConsistencyModel). It needs the permissions
    ``s3:GetObject``, ``PutObject``, ``DeleteObject`` and ``ListBucket``; without the last one S3 answers 403 for what is
    not there. Nothing expires by itself: ``sweep`` deletes what is older than the longest time, so aliases that keep
    results for different times need base paths of their own; a lifecycle rule of the bucket does the same for less.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        options = {_CELERY.get(name, name): value for name, value in options.items()}
        only_known(options, _KNOWN, store="s3://")
        address = parse_address(url, form=_FORM, parts=64)
        if any("@" in part for part in address.path):
            raise StoreConfigError(f"s3://: there is an @ in the path; write {_FORM}, and / in a secret as %2F.")
        self._bucket: str = address.host("", 0)[0] or options.get("bucket") or ""
        if not self._bucket:
            raise StoreConfigError(f"s3:// needs a bucket; write {_FORM}.")
        path = "/".join(address.path) or str(options.get("base_path") or "").strip("/")
        self._prefix = f"{path}/{_PREFIX}" if path else _PREFIX
        settings = aws_settings(address, options, store="s3://")
        self._client: SharedClient[Any] = SharedClient(
            lambda: make_aws_client("s3", settings), lambda client: client.close()
        )

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """See the base."""
        self._client.get().put_object(
            Bucket=self._bucket, Key=self._prefix + key, Body=value, ContentType="application/octet-stream"
        )

    def get(self, key: str) -> bytes | None:
        """See the base."""
        try:
            answer = self._client.get().get_object(Bucket=self._bucket, Key=self._prefix + key)
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise
        with answer["Body"] as body:
            value: bytes = body.read()
        return value

    def delete(self, key: str) -> None:
        """See the base."""
        # S3 answers 204 for what is not there, too.
        self._client.get().delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def sweep(self, now: float, longest: float) -> int:
        """See the base."""
        client = self._client.get()
        deleted = 0
        for names in self._older(client, now - longest):
            answer = client.delete_objects(
                Bucket=self._bucket, Delete={"Objects": [{"Key": name} for name in names], "Quiet": True}
            )
            refused = answer.get("Errors", [])
            deleted += len(names) - len(refused)
            if refused:
                raise RuntimeError(f"S3 did not delete {len(refused)} objects: {refused[0].get('Code')}.")
        return deleted

    def close(self) -> None:
        """See the base."""
        self._client.close()

    def _older(self, client: Any, limit: float) -> Iterator[list[str]]:
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix, PaginationConfig={"PageSize": _BATCH}
        )
        for page in pages:
            names = [entry["Key"] for entry in page.get("Contents", ()) if entry["LastModified"].timestamp() < limit]
            if names:
                yield names
