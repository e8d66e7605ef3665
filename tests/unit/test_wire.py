"""Messages: what is published comes back, Celery's are understood, and everything else is refused with a reason."""

from __future__ import annotations

import json
import pickle
import random
import sys
import zlib
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from django_taskq.core import codec
from django_taskq.core.extras import MAX_EXTRAS
from django_taskq.core.outcome import AttemptError
from django_taskq.core.untrusted import glimpse
from django_taskq.core.wire import (
    MAX_BODY,
    BadMessage,
    Call,
    CallForm,
    Reference,
    Wire,
    decode,
    encode_call,
    encode_reference,
)

ID = "019aa1f2-8301-7a3d-b966-37b0f09e91d2"
NOW = datetime(2026, 11, 20, 16, 10, 53, 146960, UTC)
#: naive, as transports read timestamps
FIRST, LAST = NOW.min, NOW.max

#: As Celery 5.7.0 published them to a ``memory://`` broker; only the names of the sender and its reply queue are changed.
CELERY_ID = "6fecc895-514c-40a8-9d86-cbc677397f85"
CELERY_QUEUE = "55ea798a-8c55-3762-845a-0aaad4c617ba"
CELERY_BODY = b'[[2], {"b": 3}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
CELERY_HEADERS: dict[str, Any] = {
    "lang": "py",
    "task": "shop.tasks.add",
    "id": CELERY_ID,
    "shadow": None,
    "eta": "2026-11-20T16:10:53.146960+00:00",
    "expires": "2026-11-20T16:11:53.146960+00:00",
    "group": None,
    "group_index": None,
    "retries": 0,
    "timelimit": [None, None],
    "root_id": CELERY_ID,
    "parent_id": None,
    "argsrepr": "(2,)",
    "kwargsrepr": "{'b': 3}",
    "origin": "gen1@host",
    "ignore_result": False,
    "replaced_task_nesting": 0,
    "stamped_headers": None,
    "stamps": {},
}
CELERY_PROPERTIES: dict[str, Any] = {
    "correlation_id": CELERY_ID,
    "reply_to": CELERY_QUEUE,
    "delivery_mode": 2,
    "delivery_info": {"exchange": "", "routing_key": "celery"},
    "expiration": "120000",
    "priority": 5,
    "body_encoding": "base64",
    "delivery_tag": "93bfe348-04f0-4e25-acba-28ae40f6e1d9",
}
#: ``chain(add.s(1, 2), add.s(3))``
CELERY_CHAIN = (
    b'[[1, 2], {}, {"callbacks": null, "errbacks": null, "chain": [{"task": "shop.tasks.add", "args": [3], "kwargs": '
    b'{}, "options": {"task_id": "cf6c02bf-a6c3-4044-b7a0-8e25c0b63990", "reply_to": '
    b'"55ea798a-8c55-3762-845a-0aaad4c617ba"}, "subtask_type": null, "immutable": false}], "chord": null}]'
)
#: ``add.apply_async((1, 2), link=add.s(3))``
CELERY_LINK = (
    b'[[1, 2], {}, {"callbacks": [{"task": "shop.tasks.add", "args": [3], "kwargs": {}, "options": {}, '
    b'"subtask_type": null, "immutable": false}], "errbacks": null, "chain": null, "chord": null}]'
)
#: with ``task_protocol = 1``; it has no headers
CELERY_PROTOCOL_1 = (
    b'{"task": "shop.tasks.add", "id": "6fecc895-514c-40a8-9d86-cbc677397f85", "args": [2, 3], "kwargs": {}, "group": '
    b'null, "group_index": null, "retries": 0, "eta": null, "expires": null, "utc": true, "callbacks": null, '
    b'"errbacks": null, "timelimit": [null, null], "taskset": null, "chord": null}'
)

CALL = Call(id=ID, name="shop.tasks.add", arguments='[[2,"Ü🙂"],{"b":[null,1.5]}]', correlation_id=ID)
FULL = replace(
    CALL,
    retries=2,
    expires=NOW + timedelta(hours=1),
    eta=NOW,
    reply_to="taskq.reply.7",
    correlation_id="another",
    root_id=CELERY_ID,
    parent_id="the-parent",
    options='{"max_attempts":5,"retry_on":["builtins.OSError"]}',
    metadata='{"tenant":"ä"}',
    enqueued_at=NOW - timedelta(seconds=1),
    acks_late=False,
    max_deliveries=7,
    priority=-100,
    errors=AttemptError(exception_class_path="builtins.OSError", message='no "way"\n', traceback="a\nb\u2028").line(
        attempt=1, worker="host-1", at=NOW
    )
    * 2,
    worker_ids="host-1\nhost-2\n",
)
FIELDS = [field.name for field in fields(Call)]


def read(
    body: object = CELERY_BODY,
    *,
    content_type: object = "application/json",
    content_encoding: object = "utf-8",
    headers: object = CELERY_HEADERS,
    properties: object = CELERY_PROPERTIES,
    max_body: int = MAX_BODY,
) -> Reference | Call:
    return decode(
        body,
        content_type=content_type,
        content_encoding=content_encoding,
        headers=headers,
        properties=properties,
        max_body=max_body,
    )


def receive(wire: Wire) -> Reference | Call:
    """Decode a message after a transport had it; Redis and others pass headers on as JSON."""
    assert json.loads(json.dumps([wire.headers, wire.properties])) == [wire.headers, wire.properties]
    return read(
        wire.body,
        content_type=wire.properties["content_type"],
        content_encoding=wire.properties["content_encoding"],
        headers=wire.headers,
        properties=wire.properties,
    )


def refusal(*args: Any, **kwargs: Any) -> str:
    """Return why a message is refused, "" when it is not."""
    try:
        read(*args, **kwargs)
    except BadMessage as error:
        return str(error)
    return ""


def kind(value: object) -> str:
    """Name a parameter that is too long to be its own name."""
    return type(value).__name__


def read_call(*args: Any, **kwargs: Any) -> Call:
    found = read(*args, **kwargs)
    assert isinstance(found, Call)
    return found


def test_a_reference_comes_back() -> None:
    wire = encode_reference(ID)
    assert json.loads(wire.body) == {"version": 1, "id": ID}
    assert wire.headers == {}
    assert receive(wire) == Reference(id=ID)


@pytest.mark.parametrize(
    "body",
    [
        b'{"version": 1, "id": "019aa1f2-8301-7a3d-b966-37b0f09e91d2"}',
        b'{"id":"019aa1f2-8301-7a3d-b966-37b0f09e91d2","version":1}',
        b'{"version":1,"id":"019AA1F2-8301-7A3D-B966-37B0F09E91D2"}',
        b' {"version":1,"id":"\\u0030\\u00319aa1f2-8301-7a3d-b966-37b0f09e91d2"}\n',
    ],
)
def test_a_reference_may_be_written_in_other_ways(body: bytes) -> None:
    assert read(body, headers=None, properties=None) == Reference(id=ID)
    assert read(body.decode(), headers={}, properties={}) == Reference(id=ID)
    assert read(bytearray(body), headers={"x-death": [{"count": 1}]}) == Reference(id=ID)


@pytest.mark.parametrize("call", [CALL, FULL, replace(CALL, arguments="[[],{}]"), replace(CALL, root_id="")])
def test_a_call_comes_back(call: Call) -> None:
    assert receive(encode_call(call)) == call


@pytest.mark.parametrize(
    "field",
    [name for name in FIELDS if name != "retries" and getattr(CALL, name) != getattr(FULL, name)],
)
def test_each_field_of_a_call_comes_back_by_itself(field: str) -> None:
    call = replace(CALL, **{field: getattr(FULL, field)})
    assert receive(encode_call(call)) == call


def test_an_id_of_a_celery_producer_goes_on_to_its_retry() -> None:
    call = replace(CALL, id='my "own" id', correlation_id='my "own" id', retries=1, worker_ids="host-1\n")
    assert receive(encode_call(call)) == call


def test_each_attempt_before_has_a_worker_known_or_not() -> None:
    """Upstream counts the attempts by their workers."""
    celery = read_call(headers={**CELERY_HEADERS, "retries": 2})
    assert (celery.retries, celery.worker_ids) == (2, "unknown\nunknown\n")
    cut = receive(encode_call(replace(CALL, retries=3, worker_ids="host-3\n")))
    assert cut == replace(CALL, retries=3, worker_ids="unknown\nunknown\nhost-3\n")
    forged = read_call(headers={**CELERY_HEADERS, "retries": 2**31 - 2})
    assert forged.worker_ids.count("\n") == 1_000


def test_who_enqueued_itself_is_its_own_root() -> None:
    assert "root_id" not in encode_call(replace(CALL, root_id=ID)).headers


def test_a_call_has_what_a_celery_worker_reads_and_no_more_headers_than_that() -> None:
    wire = encode_call(FULL)
    assert json.loads(wire.body) == [
        [2, "Ü🙂"],
        {"b": [None, 1.5]},
        {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
    ]
    taskq = wire.headers.pop("taskq")
    assert isinstance(taskq, str)
    assert json.loads(taskq).keys() == {
        *("enqueued_at", "acks_late", "max_deliveries", "priority", "options", "metadata", "worker_ids", "errors")
    }
    assert wire.headers == {
        "lang": "py",
        "task": "shop.tasks.add",
        "id": ID,
        "root_id": CELERY_ID,
        "parent_id": "the-parent",
        "retries": 2,
        "eta": "2026-11-20T16:10:53.146960+00:00",
        "expires": "2026-11-20T17:10:53.146960+00:00",
        "argsrepr": "(...)",
        "kwargsrepr": "{...}",
    }
    assert wire.properties == {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "correlation_id": "another",
        "reply_to": "taskq.reply.7",
    }
    assert encode_call(CALL).headers.keys() == {"lang", "task", "id", "argsrepr", "kwargsrepr"}


def test_headers_do_not_tell_the_arguments() -> None:
    wire = encode_call(replace(FULL, arguments='[["hunter2"],{"password":"hunter2"}]'))
    assert "hunter2" not in repr((wire.headers, wire.properties))


def test_messages_share_nothing_that_a_publisher_may_change() -> None:
    for one, other in ((encode_reference(ID), encode_reference(ID)), (encode_call(CALL), encode_call(CALL))):
        one.headers["x"] = one.properties["x"] = 1
        assert "x" not in other.headers | other.properties


def test_a_message_of_a_celery_producer_is_understood() -> None:
    assert read() == Call(
        id=CELERY_ID,
        name="shop.tasks.add",
        arguments='[[2],{"b":3}]',
        eta=NOW,
        expires=NOW + timedelta(minutes=1),
        reply_to=CELERY_QUEUE,
        correlation_id=CELERY_ID,
        root_id=CELERY_ID,
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"timelimit": [None, None], "shadow": "x", "origin": None},
        {"group": "140c2251-0398-44ec-8835-0c9d6ecffc14", "group_index": 0},
        {"stamped_headers": ["foo"], "stamps": {"foo": "bar"}, "replaced_task_nesting": 3},
        {"compression": None, "x-death": [{"count": 1, "time": NOW}], "ignore_result": None},
        {"argsrepr": b"\xff", "kwargsrepr": Decimal("NaN"), b"bytes": {"table": [object()]}, 7: 7},
    ],
)
def test_headers_that_say_nothing_to_us_are_not_looked_at(changed: dict[Any, Any]) -> None:
    assert read(headers={**CELERY_HEADERS, **changed}) == read()


@pytest.mark.parametrize(
    ("timelimit", "options"),
    [
        ([5, None], {"time_limit": 5}),
        ((5.5, 3), {"time_limit": 5.5, "soft_time_limit": 3}),
        ([None, 3], {"soft_time_limit": 3}),
        ([0, 0], {}),
    ],
)
def test_limits_of_a_celery_producer_are_options(timelimit: Any, options: dict[str, Any]) -> None:
    found = read(headers={**CELERY_HEADERS, "timelimit": timelimit})
    assert isinstance(found, Call)
    assert json.loads(found.options or "{}") == options


@pytest.mark.parametrize("timelimit", [5, [5], [5, 3, 1], "53", {"hard": 5}, [-1, None], [True, None], ["5", None]])
def test_limits_that_are_none_are_refused(timelimit: Any) -> None:
    with pytest.raises(BadMessage, match="timelimit"):
        read(headers={**CELERY_HEADERS, "timelimit": timelimit})


def test_limits_of_ours_are_told_to_celery_and_win_over_its_header() -> None:
    wire = encode_call(Call(id=CELERY_ID, name="shop.tasks.add", arguments="[[],{}]", options='{"time_limit":5.0}'))
    assert wire.headers["timelimit"] == [5.0, None]
    found = read(headers={**wire.headers, "timelimit": [9, 9]})
    assert isinstance(found, Call)
    assert json.loads(found.options) == {"time_limit": 5.0}


def test_the_fewest_headers_will_do() -> None:
    body = b'[[],{},{"callbacks":[],"another":1}]'
    assert read(body, headers={"task": "a", "id": "my-own-id"}, properties=None) == Call(
        id="my-own-id", name="a", arguments="[[],{}]", correlation_id="my-own-id"
    )
    assert read_call(body.replace(b'{"callbacks":[],"another":1}', b"null"), headers={"task": "a", "id": "b"}).id == "b"


def test_nobody_waits_for_a_result_that_is_to_be_ignored() -> None:
    assert read_call(headers={**CELERY_HEADERS, "ignore_result": True}).reply_to == ""


def test_what_kombu_marks_as_another_type_stays_as_it_came() -> None:
    marked = '{"__type__":"uuid","__value__":{"hex":"6fecc895514c40a89d86cbc677397f85"}}'
    assert read_call(f"[[{marked}],{{}},{{}}]").arguments == f"[[{marked}],{{}}]"


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", 'application/json;charset="UTF-8"']
)
@pytest.mark.parametrize("content_encoding", [None, "", "UTF-8", "utf8", "us-ascii", "ASCII"])
def test_json_goes_by_several_names(content_type: str, content_encoding: str | None) -> None:
    assert read(content_type=content_type, content_encoding=content_encoding) == read()


@pytest.mark.parametrize("header", ["eta", "expires"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ("2027-01-01T00:00:00", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2027-01-01T00:00:00Z", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2027-01-01T02:00:00.5+02:00", datetime(2027, 1, 1, 0, 0, 0, 500_000, UTC)),
        ("20270101T000000", datetime(2027, 1, 1, tzinfo=UTC)),
        (1_800_000_000, datetime(2027, 1, 15, 8, tzinfo=UTC)),
        (1_800_000_000.25, datetime(2027, 1, 15, 8, 0, 0, 250_000, UTC)),
        (datetime(2027, 1, 1), datetime(2027, 1, 1, tzinfo=UTC)),  # noqa: DTZ001  # as py-amqp reads a timestamp
        (datetime(2027, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_moment_has_many_forms_and_one_meaning(header: str, given: Any, expected: datetime | None) -> None:
    found = getattr(read_call(headers={**CELERY_HEADERS, header: given}), header)
    assert found == expected
    assert found is None or found.tzinfo is UTC


def deep(levels: int, opening: str = "[", closing: str = "]") -> str:
    return opening * levels + closing * levels


def body_of(args: str, kwargs: str = "{}", embed: str = "{}") -> str:
    return f"[{args},{kwargs},{embed}]"


BODIES: dict[str, tuple[object, str]] = {
    "none": (None, "the body is of type NoneType, not bytes"),
    "a table": ({}, "the body is of type dict"),
    "empty": (b"", "not JSON"),
    "spaces": (b" " * 1000, "not JSON"),
    "zeros": (bytes(1000), "not JSON"),
    "not UTF-8": (b'[["\xff"],{},{}]', r"not UTF-8 \(byte 3\)"),
    "UTF-16": (json.dumps([[], {}, {}]).encode("utf-16"), "not UTF-8"),
    "with a mark of its order": (b"\xef\xbb\xbf" + CELERY_BODY, "not JSON"),
    "cut off": (CELERY_BODY[:-1], "not JSON"),
    "twice": (CELERY_BODY * 2, "not JSON: Extra data"),
    "pickle": (pickle.dumps([[], {}, {}]), "not UTF-8"),
    "compressed": (zlib.compress(CELERY_BODY), "not UTF-8"),
    "yaml": (b"!!python/object/apply:os.system [id]", "not JSON"),
    "null": (b"null", "not a list of three"),
    "a number": (b"1", "not a list of three"),
    "NaN": (body_of("[NaN]"), "not JSON: it has NaN"),
    "infinity": (body_of("[-Infinity]"), "not JSON: it has -Infinity"),
    "a float beyond a double": (body_of("[1e999]"), "the arguments: Unsupported value: Out of range"),
    "an integer beyond a double": (body_of(f"[{10**309}]"), "the arguments: Unsupported value: a number beyond"),
    "an integer of a million digits": (body_of(f"[{'1' * 1_000_000}]"), "a number of 1000000 digits"),
    "a lone surrogate": (body_of('["\\ud800"]'), "the arguments: Unsupported value: a string with a lone"),
    "a raw surrogate": (body_of('["\udfff"]'), "the arguments: Unsupported value: a string with a lone"),
    "a NUL": (body_of('["\\u0000"]'), "the arguments: Unsupported value: a string with a NUL"),
    "a raw NUL": (body_of('["\0"]'), "not JSON: Invalid control character"),
    "deeper than arguments may be": (body_of(deep(codec.MAX_DEPTH + 1)), "nested more than 200 levels deep"),
    "much deeper": (body_of(deep(200_000)), "nested too deeply"),
    "much deeper objects": (b'{"a":' * 200_000, "nested too deeply"),
    "a string": (b'"text"', "not a list of three"),
    "two parts": (b"[[],{}]", "not a list of three"),
    "four parts": (b"[[],{},{},{}]", "not a list of three"),
    "no list of arguments": (body_of("{}"), "the arguments are of type dict, not a list"),
    "arguments as text": (body_of('"ab"'), "the arguments are of type str, not a list"),
    "no object of keyword arguments": (body_of("[]", "[]"), "the keyword arguments are of type list, not an object"),
    "no keyword arguments": (body_of("[]", "null"), "the keyword arguments are of type NoneType"),
    "a keyword twice": (body_of("[]", '{"a":1,"a":2}'), "a keyword argument is given twice"),
    "no object at the end": (body_of("[]", "{}", "[]"), "the third part"),
    "an ambiguous end": (body_of("[]", "{}", '{"chain":null,"chain":[]}'), "the third part"),
    "a chain": (CELERY_CHAIN, r"Celery canvas \(chain\), which is not supported by this version"),
    "a callback": (CELERY_LINK, r"Celery canvas \(callbacks\)"),
    "a chord": (body_of("[]", "{}", '{"chord":{"task":"a"},"errbacks":[1]}'), r"canvas \(errbacks, chord\)"),
    "protocol 1 and 2": (b'{"task":"a","id":"b","args":[],"kwargs":{}}', "task_protocol = 2"),
    "a reference as well": (encode_reference(ID).body, "not a list of three"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_no_call_is_refused(name: str) -> None:
    body, reason = BODIES[name]
    with pytest.raises(BadMessage, match=reason):
        read(body, headers={"task": "a", "id": "b"}, properties={})


REFERENCES: dict[str, tuple[bytes, str]] = {
    "a call": (CELERY_BODY, "no header 'task'"),
    "text": (b'"text"', "of type str, neither a reference nor a call"),
    "empty": (b"{}", "without 'version'"),
    "protocol 1": (CELERY_PROTOCOL_1, "Celery's protocol 1, which is not read; let its producer set task_protocol = 2"),
    "a newer version": (b'{"version":2,"task":[]}', "a newer version of django_taskq published"),
    "a far newer version": (b'{"version":%s}' % (b"9" * 4_000), "a newer version of django_taskq published"),
    "version 0": (b'{"version":0,"id":"%s"}' % ID.encode(), "version is not a whole number"),
    "version true": (b'{"version":true,"id":"%s"}' % ID.encode(), "version is not a whole number"),
    "version 1.0": (b'{"version":1.0,"id":"%s"}' % ID.encode(), "version is not a whole number"),
    "version as text": (b'{"version":"1","id":"%s"}' % ID.encode(), "version is not a whole number"),
    "no id": (b'{"version":1}', "has 'version' and 'id'"),
    "id null": (b'{"version":1,"id":null}', "has 'version' and 'id'"),
    "id twice": (b'{"version":1,"id":"%s","id":"%s"}' % (ID.encode(), CELERY_ID.encode()), "each once"),
    "more": (b'{"version":1,"id":"%s","args":[]}' % ID.encode(), "nothing else"),
    "no UUID": (b'{"version":1,"id":"17; DROP TABLE"}', "'17; DROP TABLE' is not a UUID"),
    "of its length": (b'{"version":1,"id":"%s"}' % (b"-" * 36), "is not a UUID"),
    "without hyphens": (b'{"version":1,"id":"%s"}' % ID.replace("-", "").encode(), "is not a UUID"),
    "in braces": (b'{"version":1,"id":"{%s}"}' % ID.encode(), "is not a UUID"),
    "with a line": (b'{"version":1,"id":"%s\\n"}' % ID.encode(), "is not a UUID"),
    "in other digits": (f'{{"version":1,"id":"{ID.replace("0", "٠")}"}}'.encode(), "is not a UUID"),
}


HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "compressed": ({"compression": "application/x-gzip"}, "compressed"),
    "compressed in some way": ({"compression": b"\x00"}, "compressed"),
    "task as a number": ({"task": 1}, "'task' is of type int, not text"),
    "task as bytes": ({"task": b"a"}, "'task' is of type bytes, not text"),
    "task as a table": ({"task": {"a": [Decimal(1)]}}, "'task' is of type dict, not text"),
    "no name": ({"task": ""}, "'task' '' is not a name"),
    "a long name": ({"task": "a" * 256}, "is not a name of 1 to 255"),
    "a name of two lines": ({"task": "a\nb"}, r"'a\\nb' is not a name"),
    "a name with a NUL": ({"task": "a\0"}, "is not a name"),
    "a name that turns the text around": ({"task": "a\u202eb"}, "is not a name"),
    "a name with a surrogate": ({"task": "a\ud800"}, r"'a\\ud800' is not a name"),
    "no id": ({"id": None}, "'id' is missing"),
    "an empty id": ({"id": ""}, "'id' is missing"),
    "an id as a number": ({"id": 7}, "'id' is of type int, not text"),
    "a long id": ({"id": "a" * 256}, "'id' 'aaa.* is not text of at most 255 bytes"),
    "an id of too many bytes": ({"id": "ä" * 128}, "is not text of at most 255 bytes"),
    "an id with a NUL": ({"id": "a\0"}, "is not text"),
    "an id with a surrogate": ({"id": "\udfff"}, "is not text"),
    "a negative count": ({"retries": -1}, "'retries' is not a whole number from 0"),
    "a huge count": ({"retries": 2**31}, "'retries' is not a whole number"),
    "a count that is a truth": ({"retries": True}, "'retries' is not a whole number"),
    "a count that is a float": ({"retries": 1.0}, "'retries' is not a whole number"),
    "a count as text": ({"retries": "1"}, "'retries' is not a whole number"),
    "no moment": ({"eta": "tomorrow"}, "'eta' is not a moment in ISO 8601"),
    "an empty moment": ({"eta": ""}, "'eta' is not a moment"),
    "a moment as a list": ({"eta": []}, "'eta' is of type list, not a moment"),
    "a moment as a truth": ({"expires": True}, "'expires' is of type bool, not a moment"),
    "a moment as bytes": ({"expires": b"2027-01-01"}, "'expires' is of type bytes, not a moment"),
    "a long moment": ({"expires": "2" * 10**6}, "'expires' is of type str, not a moment"),
    "a moment with a surrogate": ({"expires": "2027-01-01T00:00\ud800"}, "'expires' is not a moment"),
    "a moment that is none": ({"expires": float("nan")}, "'expires' is of type float, not a moment"),
    "a moment without end": ({"expires": float("inf")}, "'expires' is of type float, not a moment"),
    "a moment beyond time": ({"expires": 1e300}, "'expires' is not a moment"),
    "a moment beyond numbers": ({"expires": 10**400}, "'expires' is not a moment"),
    "a moment before time": ({"expires": -(10**15)}, "'expires' is not a moment"),
    "the first moment": ({"eta": "0001-01-01T00:00:00+14:00"}, "'eta' is not a moment"),
    "an early moment": ({"eta": "0900-01-01T00:00:00"}, "'eta' is not in the years 1001 to 9998"),
    "the last moment": ({"eta": LAST}, "'eta' is not in the years 1001 to 9998"),
    "the very last moment": ({"eta": "9999-12-31T23:59:59-14:00"}, "'eta' is not a moment"),
    "a root as a table": ({"root_id": {}}, "'root_id' is of type dict, not text"),
    "a parent as bytes": ({"parent_id": b"a"}, "'parent_id' is of type bytes, not text"),
    "a long parent": ({"parent_id": "a" * 256}, "'parent_id' 'aaa.* is not text of at most 255 bytes"),
    "extras as a table": ({"taskq": {}}, "'taskq' is not text"),
    "extras as bytes": ({"taskq": b"{}"}, "'taskq' is not text"),
    "long extras": ({"taskq": " " * MAX_EXTRAS + "{}"}, f"'taskq' is not text of at most {MAX_EXTRAS}"),
    "empty extras": ({"taskq": ""}, "'taskq' is not JSON"),
    "extras that are no JSON": ({"taskq": "{"}, "'taskq' is not JSON"),
    "deep extras": ({"taskq": deep(10_000)}, "'taskq' is nested too deeply"),
    "extras as a list": ({"taskq": "[]"}, "'taskq' is not an object"),
    "ambiguous extras": ({"taskq": '{"priority":1,"priority":2}'}, "'taskq' is not an object with each key once"),
}
EXTRAS: dict[str, tuple[str, str]] = {
    "a truth as a number": ('{"acks_late":1}', "'acks_late' in header 'taskq' is of type int"),
    "a truth as null": ('{"acks_late":null}', "'acks_late' in header 'taskq' is of type NoneType"),
    "no deliveries": ('{"max_deliveries":0}', "'max_deliveries' in header 'taskq' is not a whole number from 1"),
    "many deliveries": ('{"max_deliveries":40000}', "'max_deliveries' in header 'taskq' is not a whole number"),
    "a high priority": ('{"priority":101}', "'priority' in header 'taskq' is not a whole number from -100 to 100"),
    "a priority as a float": ('{"priority":1.0}', "'priority' in header 'taskq' is not"),
    "no moment": ('{"enqueued_at":"now"}', "'enqueued_at' in header 'taskq' is not a moment"),
    "options as text": ('{"options":"{}"}', "'options' in header 'taskq' is of type str, not an object"),
    "ambiguous options": ('{"options":{"a":1,"a":2}}', "'options' in header 'taskq' is of type Ambiguous"),
    "metadata as a list": ('{"metadata":[]}', "'metadata' in header 'taskq' is of type list, not an object"),
    "metadata with a NUL": ('{"metadata":{"a":"\\u0000"}}', "'metadata' in header 'taskq': Unsupported value"),
    "deep metadata": (f'{{"metadata":{{"a":{deep(300)}}}}}', "'metadata' in header 'taskq': Unsupported value"),
    "errors as text": ('{"errors":"{}"}', "'errors' in header 'taskq' is of type str, not a list"),
    "errors of numbers": ('{"errors":[1]}', "'errors' in header 'taskq' has of type int in it"),
    "an attempt as text": ('{"errors":[{"attempt":"first"}]}', "'errors' in header 'taskq' has an attempt that"),
    "an attempt as null": ('{"errors":[{"attempt":null}]}', "'errors' in header 'taskq' has an attempt that"),
    "workers as text": ('{"worker_ids":"a"}', "'worker_ids' in header 'taskq' is of type str, not a list"),
    "a worker of two lines": ('{"worker_ids":["a\\nb"]}', "'worker_ids' in header 'taskq' .* is not text"),
    "a worker as a list": ('{"worker_ids":[[]]}', "'worker_ids' in header 'taskq' is of type list"),
}
HEADERS |= {f"extras: {name}": ({"taskq": text}, reason) for name, (text, reason) in EXTRAS.items()}


@pytest.mark.parametrize("name", REFERENCES)
def test_a_body_that_is_no_reference_is_refused(name: str) -> None:
    body, reason = REFERENCES[name]
    with pytest.raises(BadMessage, match=reason):
        read(body, headers={})


@pytest.mark.parametrize("name", HEADERS)
def test_bad_headers_are_refused(name: str) -> None:
    changed, reason = HEADERS[name]
    with pytest.raises(BadMessage, match=reason):
        read(headers={**CELERY_HEADERS, **changed})


def test_a_compressed_reference_is_refused_too() -> None:
    with pytest.raises(BadMessage, match="compressed"):
        read(encode_reference(ID).body, headers={"compression": "zlib"})


def test_what_a_later_version_adds_to_our_header_is_not_in_the_way() -> None:
    call = read_call(headers={**CELERY_HEADERS, "taskq": '{"priority":3,"mood":{"good":true}}'})
    assert call == replace(read_call(), priority=3)


@pytest.mark.parametrize("given", ["text", b"{}", 1, [("task", "a")], Decimal(1)])
def test_headers_and_properties_that_are_no_tables_are_refused(given: object) -> None:
    with pytest.raises(BadMessage, match="the headers are of type"):
        read(headers=given)
    with pytest.raises(BadMessage, match="the properties are of type"):
        read(properties=given)


@pytest.mark.parametrize("key", ["reply_to", "correlation_id"])
@pytest.mark.parametrize("given", [1, b"a", {}, "a" * 256, "ä" * 128, "a\0", "a\nb", "\ud800"])
def test_properties_that_no_broker_would_take_back_are_refused(key: str, given: object) -> None:
    with pytest.raises(BadMessage, match=key):
        read(properties={**CELERY_PROPERTIES, key: given})


@pytest.mark.parametrize(
    "content_type",
    [
        *(None, "", b"application/json", 1, "text/plain", "application/x-python-serialize", "application/x-yaml"),
        *("application/x-msgpack", "application/data", "application/json-seq", "json", "application/jsonx; charset=x"),
        *("application/json; charset=utf-16", "application/json\0", "\ud800" * 10**6, "application/" + "x" * 10**6),
    ],
    ids=kind,
)
def test_other_content_types_are_refused_unread(content_type: object) -> None:
    with pytest.raises(BadMessage, match=r"content (type|encoding)") as refusal:
        read(content_type=content_type)
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize(
    "content_encoding", ["binary", "gzip", "utf-16", "latin-1", b"utf-8", 1, "\ud800" * 10**6], ids=kind
)
def test_other_encodings_are_refused(content_encoding: object) -> None:
    with pytest.raises(BadMessage, match=r"content encoding .* is not read, only utf-8 is"):
        read(content_encoding=content_encoding)


def test_a_large_body_is_refused_before_anything_looks_at_it() -> None:
    with pytest.raises(BadMessage, match=r"the body has 84 bytes, more than the 83 allowed"):
        read(b"\xff" * 84, content_type="application/x-python-serialize", headers=7, max_body=83)
    assert read(max_body=len(CELERY_BODY)) == read()


def test_the_largest_body_is_read() -> None:
    text = "x" * (MAX_BODY - len(body_of('[""]')))
    assert read_call(body_of(f'["{text}"]')).arguments == f'[["{text}"],{{}}]'


def test_long_integers_are_refused_also_where_python_was_told_to_read_them() -> None:
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        with pytest.raises(BadMessage, match="it has a number of 1000000 digits"):
            read(body_of(f"[{'1' * 1_000_000}]"))
    finally:
        sys.set_int_max_str_digits(limit)


def test_an_object_in_the_arguments_may_have_a_key_twice_as_our_own_encoder_writes_it() -> None:
    arguments = codec.encode([[{1: "a", "1": "b"}], {}])
    assert arguments.count('"1"') == 2
    call = receive(encode_call(replace(CALL, arguments=arguments)))
    assert isinstance(call, Call)
    assert call.arguments == '[[{"1":"b"}],{}]'


@pytest.mark.parametrize(
    "text", ["x" * 10**6, "\n\r\0\x1b[2J", "\ud800", "'\"\\", "🙂" * 100, b"x" * 10**6, 10**5000], ids=kind
)
def test_a_glimpse_fits_a_line_of_a_log(text: object) -> None:
    shown = glimpse(text)
    assert shown.isprintable()
    assert len(shown) <= 300


def error_line(size: int, attempt: int) -> str:
    error = AttemptError(exception_class_path="a.B", message="é" * size, traceback="é\n" * size)
    return error.line(attempt=attempt, worker="host-1", at=NOW)


def test_the_history_of_a_call_is_cut_to_what_a_header_carries() -> None:
    attempts = 400
    call = replace(
        FULL,
        errors="".join(error_line(attempt * 100, attempt) for attempt in range(attempts)),
        worker_ids="".join(f"host-{attempt}\n" for attempt in range(attempts)),
    )
    wire = encode_call(call)
    taskq = wire.headers["taskq"]
    assert isinstance(taskq, str)
    assert MAX_EXTRAS // 2 < len(taskq.encode()) <= MAX_EXTRAS
    found = receive(wire)
    assert isinstance(found, Call)
    assert found.worker_ids.split("\n")[-2] == f"host-{attempts - 1}"
    errors = AttemptError.parse(found.errors)
    assert len(errors) >= 4
    assert [error.attempt for error in errors] == [*range(attempts - len(errors), attempts)]
    assert "characters left out" in errors[-1].traceback
    assert replace(found, errors="", worker_ids="") == replace(call, errors="", worker_ids="")


@pytest.mark.parametrize("room", [-1, *range(0, 400, 13)])
def test_errors_give_way_to_metadata_to_the_last_byte(room: int) -> None:
    call = replace(CALL, worker_ids="host-1\nhost-2\n", errors=error_line(10, 1) + error_line(10, 2))
    filler = MAX_EXTRAS - len('{"metadata":{"a":""}}') - room
    call = replace(call, metadata=json.dumps({"a": "m" * filler}, separators=(",", ":")))
    if room < 0:
        with pytest.raises(ValueError, match=f"at most {MAX_EXTRAS} bytes"):
            encode_call(call)
    else:
        assert receive(encode_call(replace(call, errors="", worker_ids=""))) == replace(call, errors="", worker_ids="")
        found = receive(encode_call(call))
        assert isinstance(found, Call)
        assert found.errors in call.errors


def test_a_form_serves_all_calls_of_a_task() -> None:
    """Whatever has been filled in before, and in whatever is done with the message."""
    base = replace(FULL, id="", correlation_id="", root_id="")
    form = CallForm(base)
    for number in range(3):
        call = replace(
            base, id=f"{number}{ID[1:]}", arguments=f"[[{number}],{{}}]", enqueued_at=NOW + timedelta(number)
        )
        wire = form.fill(call.id, call.arguments, call.enqueued_at)
        assert wire == encode_call(call)
        assert wire.properties["correlation_id"] == call.id
        found = receive(wire)
        assert isinstance(found, Call)
        assert (found.id, found.arguments, found.enqueued_at) == (call.id, call.arguments, call.enqueued_at)
        wire.headers.clear()
        wire.properties.clear()


def test_a_form_of_nothing_unusual_says_at_most_when_its_calls_were_made() -> None:
    form = CallForm(replace(CALL, enqueued_at=None))
    assert "taskq" not in form.fill(ID, "[[],{}]", None).headers
    assert form.fill(ID, "[[],{}]", NOW).headers["taskq"] == f'{{"enqueued_at":"{NOW.isoformat()}"}}'


def test_a_call_of_the_same_task_may_be_too_large_where_others_are_not() -> None:
    form = CallForm(CALL)
    with pytest.raises(ValueError, match=f"at most {MAX_BODY}"):
        form.fill(ID, codec.encode([["x" * MAX_BODY], {}]), NOW)
    assert isinstance(receive(form.fill(ID, "[[],{}]", NOW)), Call)


def test_what_nobody_could_decode_is_not_published() -> None:
    with pytest.raises(ValueError, match=f"at most {MAX_BODY}"):
        encode_call(replace(CALL, arguments=codec.encode([["x" * MAX_BODY], {}])))
    with pytest.raises(ValueError, match="cannot be printed"):
        encode_call(replace(CALL, name="a\nb"))
    with pytest.raises(ValueError, match=f"at most {MAX_EXTRAS} bytes"):
        encode_call(replace(CALL, metadata=codec.encode({"a": "ä" * (MAX_EXTRAS // 2)})))


def any_value(rng: random.Random, depth: int = 3) -> Any:
    """Return what a table of AMQP, Redis' JSON or a careless transport may hold."""
    simple: list[Any] = [
        *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.0, float("nan"), float("inf"), 1e300),
        *("", "a", ID, "\0", "\ud800", "2027-01-01", "0001-01-01T00:00+14:00", "{}", "[]", "1", "application/json"),
        *(b"", b"\xff", Decimal("NaN"), Decimal(1), FIRST, LAST, NOW, "x" * 300, object()),
        *('{"errors":[{}]}', '{"options":{"a":1}}', '{"worker_ids":[""]}', deep(2000), CELERY_BODY, (), set()),
    ]
    kind = rng.randrange(12 if depth else 10)
    if kind == 10:
        return [any_value(rng, depth - 1) for _ in range(rng.randrange(3))]
    if kind == 11:
        return {rng.choice(["a", "task", "id", "\ud800"]): any_value(rng, depth - 1) for _ in range(rng.randrange(3))}
    return rng.choice(simple)


def mutated_bytes(rng: random.Random, body: bytes) -> bytes:
    pieces = [
        b"null",
        b"NaN",
        b"1e999",
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b",",
        b":",
        b"\\u0000",
        b"\\ud800",
        b"\xff",
        b"\0",
    ]
    pieces += [b'"a":1,', b"1" * 400, b'"chain":[1]', b"[" * 300, b"-", b"\\", b"\xef\xbb\xbf", b"true", b" "]
    changed = bytearray(body)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(changed) + 1)
        until = at + rng.choice((0, 0, 1, 1, 5, len(changed)))
        changed[at:until] = rng.choice((rng.choice(pieces), rng.randbytes(rng.randrange(4))))
    return bytes(changed)


def mutated_table(rng: random.Random, table: dict[str, Any], keys: list[str]) -> Any:
    if rng.random() < 0.02:
        return any_value(rng)
    changed = dict(table)
    for _ in range(rng.randrange(3)):
        key = rng.choice(keys)
        if rng.random() < 0.2:
            changed.pop(key, None)
        else:
            changed[key] = any_value(rng)
    return changed


def test_whatever_comes_is_understood_or_refused(rng: random.Random) -> None:
    """Never another exception; and what was understood can be stored, and published again."""
    full = encode_call(FULL)
    bodies = [CELERY_BODY, full.body, encode_reference(ID).body, CELERY_CHAIN, CELERY_PROTOCOL_1]
    headers: list[dict[str, Any]] = [CELERY_HEADERS, full.headers, {}]
    keys = [*CELERY_HEADERS, "taskq", "compression", "x"]
    understood = refused = 0
    for _ in range(8_000):
        body: Any = rng.choice(bodies)
        if rng.random() < 0.6:
            body = mutated_bytes(rng, body)
        given: dict[str, Any] = {
            "content_type": "application/json" if rng.random() < 0.95 else any_value(rng),
            "content_encoding": "utf-8" if rng.random() < 0.95 else any_value(rng),
            "headers": mutated_table(rng, rng.choice(headers), keys),
            "properties": mutated_table(rng, CELERY_PROPERTIES, ["reply_to", "correlation_id", "priority"]),
        }
        if rng.random() < 0.03:
            body = any_value(rng)
        reason = refusal(body, **given)
        if reason:
            refused += 1
            assert reason.isprintable(), given
            assert len(reason) < 500, given
            continue
        found = read(body, **given)
        understood += 1
        if isinstance(found, Reference):
            assert receive(encode_reference(found.id)) == found
            continue
        for text in filter(None, (found.arguments, found.options, found.metadata)):
            assert codec.encode(codec.decode(text)) == text
        assert isinstance(AttemptError.parse(found.errors), list)
        assert receive(encode_call(found)) == replace(found, root_id="" if found.root_id == found.id else found.root_id)
    assert min(understood, refused) > 300


def test_random_bytes_are_refused(rng: random.Random) -> None:
    for size in range(500):
        for headers in ({}, CELERY_HEADERS):
            with pytest.raises(BadMessage):
                read(rng.randbytes(size), headers=headers)


@pytest.mark.parametrize(
    "hostile",
    [
        lambda: "[" * 10**6,
        lambda: '{"a":' * 200_000,
        lambda: body_of("[" + "[]," * 100_000 + "1]"),
        lambda: body_of("[" + "1" * 10**6 + ".0]"),
        lambda: body_of("[1e" + "1" * 10**6 + "]"),
        lambda: body_of('["' + "\\\\" * 500_000 + '\\u0000"]'),
        lambda: body_of("[]", "{" + ",".join(f'"{key}":1' for key in range(50_000)) + "}"),
    ],
)
def test_a_megabyte_of_ill_will_ends_one_way_or_the_other(hostile: Callable[[], str]) -> None:
    assert len(refusal(hostile())) < 200


def test_reading_a_message_imports_nothing() -> None:
    before = set(sys.modules)
    for task in ("antigravity", "this.zen", "os.system"):
        assert read_call(headers={**CELERY_HEADERS, "task": task}).name == task
    assert set(sys.modules) == before
