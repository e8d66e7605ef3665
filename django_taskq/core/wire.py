"""Messages on a broker: what is published, and what may be believed of what comes back.

A recorded task is a :class:`Reference`: ``{"version":1,"id":"<uuid>"}``; its row has the rest. An unrecorded one is
a :class:`Call`: Celery's message protocol 2 in JSON (docs.celeryq.dev, "Message Protocol", version 2), so that
Celery's producers and workers can share a broker with ours. What Celery has no word for travels in one header more,
``taskq``.

:func:`decode` reads JSON only, and refuses with :class:`BadMessage` what it cannot vouch for.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import cast

from ..exceptions import MAX_DELAY
from . import codec
from .call import Call
from .extras import decode_extras, encode_extras, padded
from .options import MAX_COUNT
from .record import record
from .untrusted import (
    JSON_ENCODING,
    JSON_TYPE,
    MAX_BODY,
    Ambiguous,
    BadMessage,
    Table,
    count_of,
    glimpse,
    kind_of,
    moment_of,
    parse,
    short_text_of,
    stored_text_of,
    table_of,
    text_of,
)

__all__ = [
    "CARRIED",
    "MAX_BODY",
    "BadMessage",
    "Call",
    "CallForm",
    "Reference",
    "Wire",
    "decode",
    "encode_call",
    "encode_reference",
]

#: headers of tracing: W3C Trace Context and Baggage, Sentry, Zipkin (B3), Jaeger and AWS X-Ray; and characters of each
#: (W3C Baggage, 3.3.2: 8,192 bytes)
CARRIED = frozenset(
    {"traceparent", "tracestate", "baggage", "sentry-trace", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid"}
    | {"x-b3-sampled", "x-b3-flags", "uber-trace-id", "x-amzn-trace-id"}
)
MAX_CARRIED = 8_192
#: characters of a task's name; the column's width
MAX_NAME = 255

_REFERENCE_HEAD, _REFERENCE_TAIL = '{"version":1,"id":"', '"}'
_REFERENCE_LENGTH = len(_REFERENCE_HEAD) + 36 + len(_REFERENCE_TAIL)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CALL_TAIL = ',{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'
_PROTOCOL_1 = "the message is in Celery's protocol 1, which is not read; let its producer set task_protocol = 2"
#: Celery's header ``timelimit`` has these two, in this order
_LIMITS = ("time_limit", "soft_time_limit")
_CANVAS = ("callbacks", "errbacks", "chain", "chord")


@record
class Wire:
    """A message as the transport takes it.

    ``properties``: ``content_type``, ``content_encoding`` and, where they are known, ``correlation_id`` and
    ``reply_to``. Both dicts belong to whoever asked for them.
    """

    body: bytes
    headers: Table
    properties: Table


@record
class Reference:
    """A recorded task; ``id``: its row's, as canonical text."""

    id: str


def encode_reference(task_id: str) -> Wire:
    """The message for a row; ``task_id``: a UUID as canonical text."""
    return Wire(
        body=f"{_REFERENCE_HEAD}{task_id}{_REFERENCE_TAIL}".encode(),
        headers={},
        properties={"content_type": JSON_TYPE, "content_encoding": JSON_ENCODING},
    )


def encode_call(call: Call) -> Wire:
    """The message for a task without a row.

    Raises ``ValueError`` for what :func:`decode` would not take back: a body over ``MAX_BODY``, options and metadata
    over ``MAX_EXTRAS``, a name that cannot be printed.
    """
    return CallForm(call).fill(call.id, call.arguments, call.enqueued_at)


class CallForm:
    """What the messages of all calls of a task have in common: making it anew is half of what it takes to make one.

    Headers that a Celery worker has the same defaults for are left out: each costs a microsecond at either end. Those
    that stand for the arguments stay, as a Celery worker without them logs the arguments themselves.
    """

    __slots__ = ("_correlation_id", "_extras", "_headers", "_properties")

    def __init__(self, call: Call) -> None:
        """From one of these calls. Raises ``ValueError``, as :func:`encode_call` does."""
        if not call.name.isprintable():
            raise ValueError(f"The task name {glimpse(call.name)} cannot be printed.")
        headers: Table = {"lang": "py", "task": call.name, "id": "", "argsrepr": "(...)", "kwargsrepr": "{...}"}
        if call.retries:
            headers["retries"] = call.retries
        if call.root_id and call.root_id != call.id:
            headers["root_id"] = call.root_id
        if call.parent_id:
            headers["parent_id"] = call.parent_id
        if call.eta is not None:
            headers["eta"] = call.eta.isoformat()
        if call.expires is not None:
            headers["expires"] = call.expires.isoformat()
        if call.headers:
            headers |= _travelling(call.headers)
        if "time_limit" in call.options:
            headers["timelimit"] = _limits_of(call.options)
        self._headers = headers
        self._properties: Table = {"content_type": JSON_TYPE, "content_encoding": JSON_ENCODING}
        if call.reply_to:
            self._properties["reply_to"] = call.reply_to
        self._extras = encode_extras(call)
        #: "": the call's id
        self._correlation_id = "" if call.correlation_id == call.id else call.correlation_id

    def fill(self, call_id: str, arguments: str, enqueued_at: datetime | None) -> Wire:
        """The message for one of them; see :func:`encode_call`."""
        body = (arguments[:-1] + _CALL_TAIL).encode()
        if len(body) > MAX_BODY:
            raise ValueError(f"The arguments take {len(body)} bytes; a task without a record has at most {MAX_BODY}.")
        headers = {**self._headers, "id": call_id}
        if enqueued_at is not None:
            headers["taskq"] = f'{{"enqueued_at":"{enqueued_at.isoformat()}"{self._extras}}}'
        elif self._extras:
            headers["taskq"] = f"{{{self._extras[1:]}}}"
        return Wire(
            body=body,
            headers=headers,
            properties={**self._properties, "correlation_id": self._correlation_id or call_id},
        )


def decode(
    body: object,
    *,
    content_type: object,
    content_encoding: object,
    headers: object,
    properties: object,
    max_body: int = MAX_BODY,
) -> Reference | Call:
    """What a message asks for.

    Total: any input gives a value or raises ``BadMessage``, in time linear in its size. Nothing is imported,
    unpickled, decompressed or executed. What came in is what is returned: values that kombu's JSON marks with
    ``__type__`` stay the objects they are.
    """
    text = text_of(
        body, content_type=content_type, content_encoding=content_encoding, headers=headers, max_body=max_body
    )
    table = table_of(headers, "headers")
    task = table.get("task")
    if task is None:
        return _decode_reference(text)
    return _decode_call(text, task, table, table_of(properties, "properties"))


def _decode_reference(text: str) -> Reference:
    # As we write it: no need for a parser.
    if len(text) == _REFERENCE_LENGTH and text.startswith(_REFERENCE_HEAD) and text.endswith(_REFERENCE_TAIL):
        task_id = text[len(_REFERENCE_HEAD) : -len(_REFERENCE_TAIL)]
        if _UUID.fullmatch(task_id):
            return Reference(id=task_id)
    value = parse(text)
    if not isinstance(value, dict) or "version" not in value:
        raise BadMessage(_no_reference(value))
    version = value["version"]
    if type(version) is not int or version < 1:
        raise BadMessage("the reference's version is not a whole number from 1")
    if version > 1:
        raise BadMessage("a newer version of django_taskq published this reference; run the same version everywhere")
    given = value.get("id")
    if type(value) is Ambiguous or len(value) != 2 or type(given) is not str:
        raise BadMessage("a reference has 'version' and 'id' (text), each once, and nothing else")
    if not _UUID.fullmatch(given.lower()):
        raise BadMessage(f"the reference's id {glimpse(given)} is not a UUID")
    return Reference(id=given.lower())


def _no_reference(value: object) -> str:
    """Why a message without a header ``task`` asks for nothing."""
    if isinstance(value, list):
        return "the message has the body of a call, but no header 'task'"
    if not isinstance(value, dict):
        return f"the body is {kind_of(value)}, neither a reference nor a call"
    if "task" in value:
        return _PROTOCOL_1
    return "the body is an object without 'version', so no reference, and no header 'task' makes it a call"


def _decode_call(text: str, task: object, headers: Table, properties: Table) -> Call:
    name = _name(task)
    task_id = short_text_of(headers.get("id"), "header 'id'")
    if not task_id:
        raise BadMessage("header 'id' is missing or empty")
    arguments = _arguments(text)
    reply_to = short_text_of(properties.get("reply_to"), "reply_to")
    extras = headers.get("taskq")
    fields = {} if extras is None else decode_extras(extras)
    if headers.get("timelimit") is not None:
        # Whoever has options says it there, too.
        fields.setdefault("options", _limits(headers["timelimit"]))
    retries = count_of(headers.get("retries"), "header 'retries'", 0, MAX_COUNT - 1) or 0
    if retries:
        fields["worker_ids"] = padded(str(fields.get("worker_ids", "")), retries)
    carried = _carried(headers)
    return Call(
        id=task_id,
        name=name,
        arguments=arguments,
        retries=retries,
        expires=moment_of(headers.get("expires"), "header 'expires'"),
        eta=moment_of(headers.get("eta"), "header 'eta'"),
        # Celery's producers name their reply queue also where they do not want the result.
        reply_to="" if headers.get("ignore_result") is True else reply_to,
        correlation_id=short_text_of(properties.get("correlation_id"), "correlation_id") or task_id,
        root_id=short_text_of(headers.get("root_id"), "header 'root_id'"),
        parent_id=short_text_of(headers.get("parent_id"), "header 'parent_id'"),
        headers=codec.encode(carried) if carried else "",
        **fields,  # type: ignore[arg-type]  # each has its field's type
    )


def _travelling(headers: str) -> Table:
    """As headers of their own, where OpenTelemetry's instrumentation of Celery looks, and in one more for Sentry's."""
    carried = _carried(cast("Table", codec.decode(headers)))
    return {**carried, "headers": carried} if carried else {}


def _carried(headers: Table) -> Table:
    """What tracing has put there. No reason to refuse a task: what cannot be a trace's is left out."""
    if CARRIED.isdisjoint(headers):
        return {}
    return {
        name: value
        for name in sorted(CARRIED & headers.keys())
        if type(value := headers[name]) is str and 0 < len(value) <= MAX_CARRIED and codec.clean(value) == value
    }


def _limits_of(options: str) -> list[codec.JSON]:
    """For a Celery worker; ours go by the options."""
    given = cast("dict[str, codec.JSON]", codec.decode(options))
    return [given.get(name) for name in _LIMITS]


def _limits(value: object) -> str:
    """Celery's limits, hard then soft, as a row's options have them; 0 is none, as it is there."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise BadMessage(f"header 'timelimit' is {kind_of(value)}, not a list of two: the hard and the soft limit")
    options: dict[str, codec.JSON] = {}
    for name, seconds in zip(_LIMITS, value, strict=True):
        if seconds is None:
            continue
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_DELAY:
            raise BadMessage(f"header 'timelimit' has {kind_of(seconds)} where seconds are expected, at most 100 years")
        if seconds:
            options[name] = float(seconds)
    return codec.encode(options) if options else ""


def _arguments(text: str) -> str:
    """The arguments in the body of a call, as a row has them."""
    value = parse(text)
    if type(value) is not list or len(value) != 3:
        if isinstance(value, dict) and "args" in value:
            raise BadMessage(_PROTOCOL_1)
        raise BadMessage("the body of a call is not a list of three: arguments, keyword arguments, and what comes next")
    args, kwargs, embed = value
    if type(args) is not list:
        raise BadMessage(f"the arguments are {kind_of(args)}, not a list")
    if type(kwargs) is not dict:
        raise BadMessage(
            "a keyword argument is given twice"
            if isinstance(kwargs, Ambiguous)
            else f"the keyword arguments are {kind_of(kwargs)}, not an object"
        )
    if embed is not None and type(embed) is not dict:
        raise BadMessage("the third part of the body is not an object with each key once")
    if embed:
        found = [key for key in _CANVAS if embed.get(key)]
        if found:
            raise BadMessage(
                f"the message is part of a Celery canvas ({', '.join(found)}), which is not supported by this version"
            )
    return stored_text_of([args, kwargs], "the arguments")


def _name(value: object) -> str:
    if type(value) is not str:
        raise BadMessage(f"header 'task' is {kind_of(value)}, not text")
    if not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise BadMessage(f"header 'task' {glimpse(value)} is not a name of 1 to {MAX_NAME} printable characters")
    return value
