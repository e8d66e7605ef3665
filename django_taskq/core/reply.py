"""Replies to whoever waits for a task: Celery's result message in JSON, as its ``rpc://`` backend sends and reads it.

``{"task_id", "status", "result", "traceback", "children"}``; for a failure ``result`` is ``{"exc_type",
"exc_message", "exc_module"}`` (celery, ``backends/base.py``, ``prepare_exception``). An exception stays text here: no
class is looked up, and none is made. What Celery has no word for stands in one key more, ``taskq``. Stores of results
keep the same text.
"""

from __future__ import annotations

from datetime import datetime

from . import codec
from .options import MAX_COUNT
from .outcome import MAX_MESSAGE, MAX_TRACEBACK, AttemptError
from .record import record
from .states import State
from .untrusted import (
    JSON_ENCODING,
    JSON_TYPE,
    MAX_BODY,
    MAX_SHORT,
    Ambiguous,
    BadMessage,
    Table,
    count_of,
    kind_of,
    moment_of,
    parse,
    short_text_of,
    stored_text_of,
    table_of,
    text_of,
)
from .wire import Wire

_STATUS = {
    State.WAITING: "PENDING",
    State.SCHEDULED: "RETRY",
    State.READY: "PENDING",
    State.RUNNING: "STARTED",
    State.SUCCESSFUL: "SUCCESS",
    State.FAILED: "FAILURE",
    State.CANCELLED: "REVOKED",
    State.EXPIRED: "REVOKED",
}
_STATES = {
    "PENDING": State.READY,
    "RECEIVED": State.READY,
    "STARTED": State.RUNNING,
    "RETRY": State.SCHEDULED,
    "SUCCESS": State.SUCCESSFUL,
    "FAILURE": State.FAILED,
    "REVOKED": State.CANCELLED,
    "REJECTED": State.FAILED,
}
#: statuses of which Celery makes an exception from the result, and fails where it finds none
_WITH_EXCEPTION = frozenset({State.SCHEDULED, State.FAILED, State.CANCELLED, State.EXPIRED})
#: what a task ended with that has no error to tell of; Celery's own classes and words, where it has some
_UNTOLD = {
    State.SCHEDULED: ("celery.exceptions", "Retry", "The task will run again."),
    State.FAILED: ("django_taskq.exceptions", "TaskFailed", "The task failed."),
    State.CANCELLED: ("celery.exceptions", "TaskRevokedError", "revoked"),
    State.EXPIRED: ("celery.exceptions", "TaskRevokedError", "expired"),
}
_MOMENTS = ("enqueued_at", "started_at", "finished_at", "expires_at")


@record
class Reply:
    """What a worker says of a task, ours or Celery's.

    ``correlation_id``: whose answer it is, the task's id unless the caller chose another. ``state``: RUNNING also
    for what Celery's tasks call states of their own. ``result``: JSON text, None unless SUCCESSFUL. ``error``: None
    unless the task failed, was cancelled, expired, or will be tried again. ``name``, ``worker`` and ``attempt``
    (from 1) are "" and 0 where the worker does not say; so are the moments None. ``expires_at``: until when it is to be
    read; None: for ever.
    """

    task_id: str
    correlation_id: str = ""
    state: State
    result: str | None = None
    error: AttemptError | None = None
    name: str = ""
    worker: str = ""
    attempt: int = 0
    enqueued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None


def encode_body(reply: Reply, max_body: int = MAX_BODY) -> bytes:
    """How a task stands, as Celery's result message.

    Raises ``ValueError`` when the result is larger than ``max_body`` bytes.
    """
    result, error = reply.result, reply.error
    if reply.state in _WITH_EXCEPTION:
        result = codec.encode(_exception(reply.state, error))
    traceback = codec.clean(error.traceback) if error is not None else ""
    body = (
        f'{{"task_id":{codec.quoted(reply.task_id)},"status":"{_STATUS[reply.state]}","result":{result or "null"},'
        f'"traceback":{codec.quoted(traceback) if traceback else "null"},"children":[]{_extras(reply)}}}'
    ).encode()
    if len(body) > max_body:
        raise ValueError(f"The result takes {len(body)} bytes; at most {max_body} can be kept or sent.")
    return body


def encode_reply(reply: Reply) -> Wire:
    """The message that says how a task stands; see :func:`encode_body`."""
    return Wire(
        body=encode_body(reply),
        headers={},
        properties={
            "content_type": JSON_TYPE,
            "content_encoding": JSON_ENCODING,
            "correlation_id": reply.correlation_id or reply.task_id,
        },
    )


def decode_body(text: str) -> Reply:
    """What a stored reply says; total, as :func:`django_taskq.core.wire.decode` is."""
    return _decode(text, "")


def _decode(text: str, correlation_id: str) -> Reply:
    value = parse(text)
    if not isinstance(value, dict) or isinstance(value, Ambiguous):
        raise BadMessage("the body is not an object with each key once")
    task_id = short_text_of(value.get("task_id"), "'task_id'")
    status = short_text_of(value.get("status"), "'status'")
    if not task_id or not status:
        raise BadMessage("the reply has no 'task_id' or no 'status'")
    state = _STATES.get(status, State.RUNNING)
    result = value.get("result")
    error = None
    if state in _WITH_EXCEPTION:
        error = _error(result, value.get("traceback"))
        if state is State.CANCELLED and error.message == "expired":
            state = State.EXPIRED
    ours = value.get("taskq")
    told: Table = ours if type(ours) is dict else {}
    return Reply(
        task_id=task_id,
        correlation_id=correlation_id or task_id,
        state=state,
        error=error,
        enqueued_at=moment_of(told.get("enqueued_at"), "'enqueued_at'"),
        started_at=moment_of(told.get("started_at"), "'started_at'"),
        finished_at=moment_of(told.get("finished_at"), "'finished_at'"),
        expires_at=moment_of(told.get("expires_at"), "'expires_at'"),
        name=short_text_of(told.get("name"), "'name'"),
        worker=short_text_of(told.get("worker"), "'worker'"),
        attempt=count_of(told.get("attempt"), "'attempt'", 0, MAX_COUNT) or 0,
        result=stored_text_of(result, "the result") if state is State.SUCCESSFUL else None,
    )


def decode_reply(
    body: object,
    *,
    content_type: object,
    content_encoding: object,
    headers: object,
    properties: object,
    max_body: int = MAX_BODY,
) -> Reply:
    """What a message says; total, too."""
    text = text_of(
        body, content_type=content_type, content_encoding=content_encoding, headers=headers, max_body=max_body
    )
    return _decode(text, short_text_of(table_of(properties, "properties").get("correlation_id"), "correlation_id"))


def _extras(reply: Reply) -> str:
    """What Celery has no word for, in a key that it does not look at."""
    parts = [
        f'"{name}":{codec.quoted(text)}' for name, text in (("name", reply.name), ("worker", reply.worker)) if text
    ]
    if reply.attempt:
        parts.append(f'"attempt":{reply.attempt}')
    parts += [f'"{name}":"{moment.isoformat()}"' for name in _MOMENTS if (moment := getattr(reply, name)) is not None]
    return f',"taskq":{{{",".join(parts)}}}' if parts else ""


def _exception(state: State, error: AttemptError | None) -> dict[str, object]:
    module, kind, message = _UNTOLD[state]
    # A cancelled or expired task may carry the errors of attempts before; they are not why it ended.
    if error is not None and state in {State.SCHEDULED, State.FAILED}:
        module, _, kind = codec.clean(error.exception_class_path).rpartition(".")
        message = codec.clean(error.message)
    return {"exc_type": kind or "Exception", "exc_message": [message], "exc_module": module or None}


def _error(result: object, traceback: object) -> AttemptError:
    """The error in a reply. Odd ones are told as they came: whoever waits must hear of the end."""
    if traceback is not None and not isinstance(traceback, str):
        raise BadMessage(f"'traceback' is {kind_of(traceback)}, not text")
    path, message = "", result
    if isinstance(result, dict):
        parts = [result.get(key) for key in ("exc_module", "exc_type")]
        path = ".".join(codec.clean(part) for part in parts if isinstance(part, str) and 0 < len(part) <= MAX_SHORT)
        message = result.get("exc_message")
    # Celery sends the exception's arguments; one of them alone is what str() would show.
    if isinstance(message, list) and len(message) <= 1:
        message = message[0] if message else ""
    return AttemptError(
        exception_class_path=path,
        message=codec.shorten(
            codec.clean(message) if isinstance(message, str) else stored_text_of(message, "the error"), MAX_MESSAGE
        ),
        traceback=codec.shorten(codec.clean(traceback or ""), MAX_TRACEBACK),
    )
