"""Replies: ours are Celery's, Celery's are understood, and no exception is ever built from one."""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import pytest

from django_taskq.core import codec
from django_taskq.core.outcome import AttemptError
from django_taskq.core.reply import Reply, decode_reply, encode_reply
from django_taskq.core.states import FINAL, State
from django_taskq.core.wire import MAX_BODY, BadMessage

ID = "6fecc895-514c-40a8-9d86-cbc677397f85"
ERROR = AttemptError(exception_class_path="shop.errors.Broken", message='no "way"\nÜ', traceback="Traceback\n  é\n")

#: As Celery 5.7.0's ``rpc://`` backend wrote them.
CELERY = {
    "SUCCESS": b'{"status": "SUCCESS", "result": {"a": 1}, "traceback": null, "children": [], "date_done": '
    b'"2026-11-20T16:20:54.382083+00:00", "task_id": "6fecc895-514c-40a8-9d86-cbc677397f85"}',
    "FAILURE": b'{"status": "FAILURE", "result": {"exc_type": "ValueError", "exc_message": ["bad", 2], "exc_module": '
    b'"builtins"}, "traceback": "Traceback\\u2026", "children": [], "date_done": '
    b'"2026-11-20T16:20:54.382478+00:00", "task_id": "6fecc895-514c-40a8-9d86-cbc677397f85"}',
    "REVOKED": b'{"status": "REVOKED", "result": {"exc_type": "TaskRevokedError", "exc_message": ["revoked"], '
    b'"exc_module": "celery.exceptions"}, "traceback": null, "children": [], "date_done": '
    b'"2026-11-20T16:20:54.382658+00:00", "task_id": "6fecc895-514c-40a8-9d86-cbc677397f85"}',
    "EXPIRED": b'{"status": "REVOKED", "result": {"exc_type": "TaskRevokedError", "exc_message": ["expired"], '
    b'"exc_module": "celery.exceptions"}, "traceback": null, "children": [], "date_done": '
    b'"2026-11-20T16:20:54.382601+00:00", "task_id": "6fecc895-514c-40a8-9d86-cbc677397f85"}',
    "STARTED": b'{"status": "STARTED", "result": {"pid": 1}, "traceback": null, "children": [], "date_done": null, '
    b'"task_id": "6fecc895-514c-40a8-9d86-cbc677397f85"}',
    "RETRY": b'{"status": "RETRY", "result": {"exc_type": "ValueError", "exc_message": ["x"], "exc_module": '
    b'"builtins"}, "traceback": "tb", "children": [], "date_done": null, '
    b'"task_id": "6fecc895-514c-40a8-9d86-cbc677397f85"}',
}


def read(
    body: object,
    *,
    content_type: object = "application/json",
    content_encoding: object = "utf-8",
    headers: object = None,
    properties: object = None,
    max_body: int = MAX_BODY,
) -> Reply:
    return decode_reply(
        body,
        content_type=content_type,
        content_encoding=content_encoding,
        headers=headers,
        properties=properties,
        max_body=max_body,
    )


def refusal(*args: Any, **kwargs: Any) -> str:
    """Return why a reply is refused, "" when it is not."""
    try:
        read(*args, **kwargs)
    except BadMessage as error:
        return str(error)
    return ""


def send(state: State, **kwargs: Any) -> Reply:
    wire = encode_reply(Reply(task_id=ID, state=state, **kwargs))
    return read(wire.body, headers=wire.headers, properties=wire.properties)


def error_of(path: str = "", message: str = "", traceback: str = "") -> AttemptError:
    return AttemptError(exception_class_path=path, message=message, traceback=traceback)


@pytest.mark.parametrize("result", ["null", "1", '"Ü🙂"', '{"a":[1,{"b":null}]}'])
def test_a_result_comes_back(result: str) -> None:
    assert send(State.SUCCESSFUL, result=result) == Reply(
        task_id=ID, correlation_id=ID, state=State.SUCCESSFUL, result=result
    )


def test_no_result_is_none() -> None:
    assert send(State.SUCCESSFUL).result == "null"


def test_a_failure_comes_back() -> None:
    assert send(State.FAILED, error=ERROR, correlation_id="another") == Reply(
        task_id=ID, correlation_id="another", state=State.FAILED, error=ERROR
    )
    assert send(State.SCHEDULED, error=ERROR).error == ERROR


@pytest.mark.parametrize("state", State)
def test_every_state_can_be_told(state: State) -> None:
    found = send(state)
    assert found.state is {State.WAITING: State.READY}.get(state, state)
    assert (found.result is None) == (state is not State.SUCCESSFUL)
    assert (found.error is None) == (state not in FINAL - {State.SUCCESSFUL} | {State.SCHEDULED})


def test_a_reply_has_what_celery_reads() -> None:
    wire = encode_reply(Reply(task_id=ID, state=State.FAILED, error=ERROR))
    assert json.loads(wire.body) == {
        "task_id": ID,
        "status": "FAILURE",
        "result": {"exc_type": "Broken", "exc_message": ['no "way"\nÜ'], "exc_module": "shop.errors"},
        "traceback": "Traceback\n  é\n",
        "children": [],
    }
    assert wire.headers == {}
    assert wire.properties == {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "correlation_id": ID,
    }
    assert json.loads(encode_reply(Reply(task_id=ID, state=State.EXPIRED, error=ERROR)).body)["result"] == {
        "exc_type": "TaskRevokedError",
        "exc_message": ["expired"],
        "exc_module": "celery.exceptions",
    }


def test_ids_of_celery_callers_may_hold_anything_printable() -> None:
    wire = encode_reply(Reply(task_id='my "own" \\ id', state=State.SUCCESSFUL, result="1"))
    assert read(wire.body, properties=wire.properties).task_id == 'my "own" \\ id'


def test_an_error_that_cannot_be_stored_can_be_told() -> None:
    error = error_of("a\ud800.b\0", "\0", "\udfff")
    assert send(State.FAILED, error=error).error == error_of("a\\xd800.b\\x00", "\\x00", "\\xdfff")


def test_a_result_too_large_for_anybody_is_not_published() -> None:
    with pytest.raises(ValueError, match=f"at most {MAX_BODY}"):
        encode_reply(Reply(task_id=ID, state=State.SUCCESSFUL, result=codec.encode("x" * MAX_BODY)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SUCCESS", {"state": State.SUCCESSFUL, "result": '{"a":1}'}),
        ("FAILURE", {"state": State.FAILED, "error": error_of("builtins.ValueError", '["bad",2]', "Traceback…")}),
        ("REVOKED", {"state": State.CANCELLED, "error": error_of("celery.exceptions.TaskRevokedError", "revoked")}),
        ("EXPIRED", {"state": State.EXPIRED, "error": error_of("celery.exceptions.TaskRevokedError", "expired")}),
        ("STARTED", {"state": State.RUNNING}),
        ("RETRY", {"state": State.SCHEDULED, "error": error_of("builtins.ValueError", "x", "tb")}),
    ],
)
def test_a_reply_of_a_celery_worker_is_understood(name: str, expected: dict[str, Any]) -> None:
    assert read(CELERY[name], properties={"correlation_id": "c"}) == Reply(task_id=ID, correlation_id="c", **expected)


def test_a_state_of_the_tasks_own_says_that_it_runs() -> None:
    body = CELERY["STARTED"].replace(b"STARTED", b"PROGRESS")
    assert read(body) == Reply(task_id=ID, correlation_id=ID, state=State.RUNNING)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("null", error_of(message="null")),
        ('"text"', error_of(message="text")),
        ("[1,2]", error_of(message="[1,2]")),
        ("{}", error_of(message="null")),
        ('{"exc_type":7,"exc_message":[],"exc_module":["os"]}', error_of()),
        ('{"exc_type":"A","exc_message":"m","exc_module":null}', error_of("A", "m")),
        ('{"exc_type":"system","exc_message":["id"],"exc_module":"os"}', error_of("os.system", "id")),
        ('{"exc_type":"%s","exc_message":{"a":1}}' % ("x" * 256), error_of("", '{"a":1}')),
        ('{"exc_type":"a\\u0000","exc_message":["\\ud800"]}', error_of("a\\x00", "\\xd800")),
    ],
)
def test_whoever_waits_hears_of_an_end_that_is_told_oddly(result: str, expected: AttemptError) -> None:
    found = read(f'{{"task_id":"{ID}","status":"FAILURE","result":{result}}}')
    assert found == Reply(task_id=ID, correlation_id=ID, state=State.FAILED, error=expected)


def test_a_long_error_is_cut() -> None:
    wire = encode_reply(Reply(task_id=ID, state=State.FAILED, error=error_of("a.B", "m" * 10**6, "t" * 10**6)))
    error = read(wire.body).error
    assert error is not None
    assert (len(error.message), len(error.traceback)) < (4_100, 32_100)


BODIES: dict[str, tuple[object, str]] = {
    "none": (None, "of type NoneType, not bytes"),
    "empty": (b"", "not JSON"),
    "a list": (b"[]", "not an object"),
    "a key twice": (b'{"task_id":"a","task_id":"b","status":"SUCCESS"}', "each key once"),
    "no id": (b'{"status":"SUCCESS"}', "no 'task_id'"),
    "no status": (b'{"task_id":"a"}', "no 'task_id' or no 'status'"),
    "an id as a number": (b'{"task_id":1,"status":"SUCCESS"}', "'task_id' is of type int"),
    "a status as a list": (b'{"task_id":"a","status":[]}', "'status' is of type list"),
    "a status of two lines": (b'{"task_id":"a","status":"a\\nb"}', "'status' 'a.*nb' is not text"),
    "a traceback as a list": (b'{"task_id":"a","status":"FAILURE","traceback":[]}', "'traceback' is of type list"),
    "NaN": (b'{"task_id":"a","status":"SUCCESS","result":NaN}', "not JSON: it has NaN"),
    "a NUL": (b'{"task_id":"a","status":"SUCCESS","result":"\\u0000"}', "the result: Unsupported value"),
    "a deep result": (b'{"task_id":"a","status":"SUCCESS","result":%s}' % (b"[" * 300 + b"]" * 300), "nested"),
    "a far too deep result": (b'{"a":' * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_no_reply_is_refused(name: str) -> None:
    body, reason = BODIES[name]
    with pytest.raises(BadMessage, match=reason):
        read(body)


def test_other_kinds_of_message_are_refused() -> None:
    body = CELERY["SUCCESS"]
    assert "content type" in refusal(body, content_type="application/x-python-serialize")
    assert "content encoding" in refusal(body, content_encoding="binary")
    assert "compressed" in refusal(body, headers={"compression": "zlib"})
    assert "properties are" in refusal(body, properties=[])
    assert "correlation_id" in refusal(body, properties={"correlation_id": b"a"})
    assert "more than the 10 allowed" in refusal(body, max_body=10)
    assert refusal(body) == ""


def test_whatever_comes_is_understood_or_refused(rng: random.Random) -> None:
    bodies = [*CELERY.values(), encode_reply(Reply(task_id=ID, state=State.FAILED, error=ERROR)).body]
    pieces = [b"null", b"1e999", b"[", b"{", b'"', b",", b"\\u0000", b"\\ud800", b"\xff", b"true", b"[]", b"{}", b"7"]
    understood = refused = 0
    for _ in range(4_000):
        body = bytearray(rng.choice(bodies))
        for _ in range(rng.randrange(3)):
            at = rng.randrange(len(body) + 1)
            body[at : at + rng.choice((0, 1, 5, 9, 200))] = rng.choice((*pieces, rng.randbytes(2)))
        reason = refusal(bytes(body))
        if reason:
            refused += 1
            assert reason.isprintable(), body
            assert len(reason) < 300, body
            continue
        understood += 1
        found = read(bytes(body))
        assert found.result is None or codec.encode(codec.decode(found.result)) == found.result
        wire = encode_reply(Reply(task_id=found.task_id, state=found.state, result=found.result, error=found.error))
        again = read(wire.body, properties=wire.properties)
        assert (again.task_id, again.state, again.result) == (found.task_id, found.state, found.result)
    assert min(understood, refused) > 500


def test_reading_a_reply_imports_nothing() -> None:
    before = set(sys.modules)
    body = CELERY["FAILURE"].replace(b'"exc_module": "builtins"', b'"exc_module": "antigravity"')
    error = read(body).error
    assert error is not None
    assert error.exception_class_path == "antigravity.ValueError"
    assert set(sys.modules) == before
