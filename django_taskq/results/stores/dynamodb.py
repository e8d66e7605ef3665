"""Amazon DynamoDB, by boto3."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import random
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from ..address import Address, only_known, parse_address
from ..aws import AWS_OPTIONS, aws_settings, make_aws_client
from ..client import SharedClient
from ..keyvalue import OPERATION_TIMEOUT, KeyValueStore, StoreConfigError

_FORM: Final = "dynamodb://key:secret@region/table?read=n&write=m&ttl_seconds=n"
#: Bytes of one item's value: an item has 400 KB with the names and values of all its attributes.
#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
_CHUNK: Final = 384 * 1024
#: Items that one request writes at most (of 16 MB in all), and that one reads.
_WRITES, _READS = 25, 100
#: Seconds for a new table to become usable; Amazon's need about ten.
_TABLE_TIMEOUT: Final = 30.0


class DynamoDBStore(KeyValueStore):
    """``dynamodb://key:secret@region/table?read=n&write=m&ttl_seconds=n``; ``dynamodb://@region`` for boto3's credentials.

    A host in the place of the region, ``localhost:8000`` or an IP address, is that of DynamoDB local. The table ("taskq")
    is made at first use unless it is there, with the key ``id`` as Celery's has it: paid per request, or with the
    capacity of ``read`` and ``write``. Its TTL is switched on, on the attribute ``ttl``, unless ``ttl_seconds`` is
    negative, which leaves the table's setting alone; other numbers change nothing: ``result_ttl`` says how long results
    stay. Making the table takes some seconds.

    Options: ``table`` where the URL does not say it, boto3's ``aws_access_key_id``, ``aws_secret_access_key``,
    ``aws_session_token``, ``profile_name``, ``region_name``, ``endpoint_url``, ``verify``, and ``config``, a dict for
    ``botocore.config.Config``. Celery's ``dynamodb_endpoint_url`` is understood, too.

    Reads are strongly consistent. DynamoDB deletes what is over within days
    (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html). Values of more than 384 KB are stored in
    several items, up to 9 MB; of a value whose writer died half-way nothing is found, and its items end by the TTL.
    """

    expires = True
    max_size = _CHUNK * _WRITES

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        options = {name.removeprefix("dynamodb_"): value for name, value in options.items()}
        only_known(options, AWS_OPTIONS | {"table"}, store="dynamodb://")
        address = parse_address(url, form=_FORM, queries=("read", "write", "ttl_seconds"))
        self._table = address.path[0] if address.path else options.get("table") or "taskq"
        self._read, self._write = _number(address, "read", least=1), _number(address, "write", least=1)
        self._sets_ttl = (_number(address, "ttl_seconds") or 0) >= 0
        self._settings = {**_place(address), **aws_settings(address, options, store="dynamodb://")}
        self._client: SharedClient[Any] = SharedClient(self._connect, lambda client: client.close())

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """See the base."""
        client = self._client.get()
        over = {} if ttl is None else {"ttl": {"N": str(math.ceil(time.time() + ttl))}}
        head: dict[str, Any] = {"result": {"B": value}}
        generation = ""
        if len(value) > _CHUNK:
            generation = uuid.uuid4().hex
            chunks = [value[start : start + _CHUNK] for start in range(0, len(value), _CHUNK)]
            head = {"generation": {"S": generation}, "chunks": {"N": str(len(chunks))}}
            items = [
                {"id": {"S": name}, "result": {"B": chunk}, **over}
                for name, chunk in zip(_chunk_ids(key, head), chunks, strict=True)
            ]
            self._write_all(client, [{"PutRequest": {"Item": item}} for item in items])
        # From here on readers find the new value, whole.
        answer = client.put_item(
            TableName=self._table,
            Item={"id": {"S": key}, "timestamp": {"N": str(time.time())}, **head, **over},
            ReturnValues="ALL_OLD",
        )
        old = answer.get("Attributes", {})
        # boto3 may have sent it twice, and then what it took the place of is itself.
        if _generation(old) != generation:
            self._discard(client, key, old)

    def get(self, key: str) -> bytes | None:
        """See the base."""
        client = self._client.get()
        seen = ""
        while True:
            answer = client.get_item(TableName=self._table, Key={"id": {"S": key}}, ConsistentRead=True)
            head = answer.get("Item", {})
            generation = _generation(head)
            if not generation:
                value: bytes | None = head["result"]["B"] if "result" in head else None
                return value
            if generation == seen:
                # Still the same, and not all there: some of it has expired.
                return None
            ids = _chunk_ids(key, head)
            chunks = self._read_all(client, ids)
            if len(chunks) == len(ids):
                return b"".join(chunks[name] for name in ids)
            # Somebody may have replaced it between the two requests.
            seen = generation

    def delete(self, key: str) -> None:
        """See the base."""
        client = self._client.get()
        answer = client.delete_item(TableName=self._table, Key={"id": {"S": key}}, ReturnValues="ALL_OLD")
        self._discard(client, key, answer.get("Attributes", {}))

    def close(self) -> None:
        """See the base."""
        self._client.close()

    # Several items

    def _discard(self, client: Any, key: str, old: Mapping[str, Any]) -> None:
        self._write_all(client, [{"DeleteRequest": {"Key": {"id": {"S": name}}}} for name in _chunk_ids(key, old)])

    def _write_all(self, client: Any, requests: Sequence[Mapping[str, Any]]) -> None:
        patience = _Patience()
        waiting = list(requests)
        while waiting:
            now, waiting = waiting[:_WRITES], waiting[_WRITES:]
            left = client.batch_write_item(RequestItems={self._table: now})["UnprocessedItems"].get(self._table, [])
            if left:
                patience.wait()
            waiting = [*left, *waiting]

    def _read_all(self, client: Any, ids: Sequence[str]) -> dict[str, bytes]:
        patience = _Patience()
        found: dict[str, bytes] = {}
        waiting: list[Any] = [{"id": {"S": name}} for name in ids]
        while waiting:
            now, waiting = waiting[:_READS], waiting[_READS:]
            answer = client.batch_get_item(RequestItems={self._table: {"Keys": now, "ConsistentRead": True}})
            found |= {item["id"]["S"]: item["result"]["B"] for item in answer["Responses"].get(self._table, [])}
            left = answer["UnprocessedKeys"].get(self._table, {}).get("Keys", [])
            # An answer has 16 MB at most; nothing at all means that the table is asked too much of.
            if left and len(left) == len(now):
                patience.wait()
            waiting = [*left, *waiting]
        return found

    # The table

    def _connect(self) -> Any:
        client = make_aws_client("dynamodb", self._settings)
        if self._status(client) is None:
            self._make_table(client)
        deadline = time.monotonic() + _TABLE_TIMEOUT
        # UPDATING serves, too.
        while self._status(client) in {None, "CREATING"}:
            if time.monotonic() > deadline:
                raise TimeoutError(f"DynamoDB has not made the table {self._table} within {_TABLE_TIMEOUT:.0f} s.")
            time.sleep(0.2)
        if self._sets_ttl:
            self._switch_ttl_on(client)
        return client

    def _status(self, client: Any) -> str | None:
        try:
            status: str = client.describe_table(TableName=self._table)["Table"]["TableStatus"]
        except client.exceptions.ResourceNotFoundException:
            return None
        return status

    def _make_table(self, client: Any) -> None:
        paid: dict[str, Any] = {"BillingMode": "PAY_PER_REQUEST"}
        if self._read or self._write:
            units = {"ReadCapacityUnits": self._read or 1, "WriteCapacityUnits": self._write or 1}
            paid = {"ProvisionedThroughput": units}
        # In use: somebody else makes it just now.
        with contextlib.suppress(client.exceptions.ResourceInUseException):
            client.create_table(
                TableName=self._table,
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                **paid,
            )

    def _switch_ttl_on(self, client: Any) -> None:
        def state() -> tuple[str, str]:
            told = client.describe_time_to_live(TableName=self._table)["TimeToLiveDescription"]
            return told["TimeToLiveStatus"], told.get("AttributeName", "ttl")

        status, attribute = state()
        if status == "DISABLED":
            try:
                client.update_time_to_live(
                    TableName=self._table, TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"}
                )
            except ClientError:
                # Somebody else may have done it just now.
                status, attribute = state()
                if status == "DISABLED":
                    raise
        if attribute != "ttl":
            raise RuntimeError(
                f"The TTL of the DynamoDB table {self._table} is on the attribute {attribute!r}, not on 'ttl'. "
                "Give the results a table of their own, or add ?ttl_seconds=-1 to the URL."
            )


class _Patience:
    """Pauses between requests that a busy table has not done all of, longer and longer, until time is over."""

    def __init__(self) -> None:
        self._deadline = time.monotonic() + OPERATION_TIMEOUT
        self._pause = 0.05

    def wait(self) -> None:
        if time.monotonic() + self._pause > self._deadline:
            raise TimeoutError("The DynamoDB table has not the capacity for this value.")
        time.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311  # spreads clients, hides nothing
        self._pause *= 2


def _generation(head: Mapping[str, Any]) -> str:
    """What the value's other items are named after; "" where there are none."""
    generation: str = head.get("generation", {}).get("S", "")
    return generation


def _chunk_ids(key: str, head: Mapping[str, Any]) -> list[str]:
    # No key has a slash.
    count = int(head.get("chunks", {}).get("N", 0))
    return [f"{key}/{_generation(head)}/{number}" for number in range(count)]


def _number(address: Address, name: str, *, least: int | None = None) -> int | None:
    text = address.query.get(name)
    if text is None:
        return None
    try:
        number = int(text)
    except ValueError:
        raise StoreConfigError(f"dynamodb://: {name} is no whole number; write {_FORM}.") from None
    if least is not None and number < least:
        raise StoreConfigError(f"dynamodb://: {name} must be at least {least}.")
    return number


def _place(address: Address) -> dict[str, str]:
    """The region, or the endpoint that stands in its place."""
    name, port = address.hosts[0] if address.hosts else ("", None)
    if not name:
        return {}
    if name == "localhost" or _is_ip(name):
        return {"region_name": "us-east-1", "endpoint_url": f"http://{name}:{port or 8000}"}
    return {"region_name": name}


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
