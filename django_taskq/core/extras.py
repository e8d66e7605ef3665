"""What Celery has no word for: the header ``taskq`` of an unrecorded task's message, a JSON object.

Most of it can grow: options, metadata, and what has become of the attempts before. All headers of a message must fit
one frame, so that of the attempts only the newest travel, with their longest texts cut.
"""

from __future__ import annotations

from typing import cast

from . import codec
from .call import Call
from .options import MAX_DELIVERIES_LIMIT
from .untrusted import BadMessage, Table, count_of, flag_of, kind_of, moment_of, parse, short_text_of, stored_text_of

__all__ = ["MAX_EXTRAS", "decode_extras", "encode_extras", "padded"]

#: bytes of the ``taskq`` header: all headers must fit one frame (AMQP 0-9-1, 4.2.6), which RabbitMQ has at 128 KiB
MAX_EXTRAS = 48 * 1024

#: lines of ``worker_ids`` that travel, the newest
_WORKER_IDS = 50
#: stands for those that were cut off, and for Celery's, which do not sign; up to so many
_UNKNOWN_WORKER, _MAX_LINES = "unknown\n", 1_000
#: bytes of one error line that travels; longer ones have their texts shortened to the characters below
_ERROR_LINE, _ERROR_MESSAGE, _ERROR_TRACEBACK = 8_192, 400, 1_600
#: bytes of the moment of the enqueue there, with a comma; and of a character in UTF-8 at most (RFC 3629)
_ENQUEUED_AT, _MOST_BYTES = len('"enqueued_at":"2000-01-01T00:00:00.000000+00:00",'), 4


def encode_extras(call: Call) -> str:
    """What is not as usual, for the header ``taskq``: a JSON object's members after the moment of the enqueue.

    Raises ``ValueError`` when it gets too long even without the errors.
    """
    # Options, metadata and errors are JSON already; what else is text here needs no escapes.
    parts = []
    if call.acks_late is not None:
        parts.append(f'"acks_late":{"true" if call.acks_late else "false"}')
    if call.max_deliveries is not None:
        parts.append(f'"max_deliveries":{call.max_deliveries}')
    if call.priority:
        parts.append(f'"priority":{call.priority}')
    if call.options:
        parts.append(f'"options":{call.options}')
    if call.metadata:
        parts.append(f'"metadata":{call.metadata}')
    room = MAX_EXTRAS - len("{}") - (0 if call.enqueued_at is None else _ENQUEUED_AT)
    if call.worker_ids or call.errors:
        parts += _encode_history(call, room - len(",".join(parts).encode()))
    text = ",".join(parts)
    if len(text) * _MOST_BYTES > room and len(text.encode()) > room:
        raise ValueError(
            f"Options and metadata of a task without a record travel in a header of at most {MAX_EXTRAS} bytes."
        )
    return f",{text}" if text else ""


def _encode_history(call: Call, room: int) -> list[str]:
    """What is left, for ``room`` bytes, of the attempts before: the newest of them."""
    workers = codec.encode(call.worker_ids.rstrip("\n").split("\n")[-_WORKER_IDS:] if call.worker_ids else [])
    room -= len(f',"worker_ids":{workers},"errors":[]'.encode())
    # Rather no history than no retry.
    return [f'"worker_ids":{workers}', f'"errors":[{",".join(_newest(call.errors, room))}]'] if room >= 0 else []


def _newest(errors: str, room: int) -> list[str]:
    """The newest lines of ``errors`` that fit ``room`` bytes, oldest first."""
    lines: list[str] = []
    for line in reversed(errors.rstrip("\n").split("\n") if errors else ()):
        short = line if len(line.encode()) <= _ERROR_LINE else _shorten(line)
        room -= len(short.encode()) + 1
        if room < 0:
            break
        lines.insert(0, short)
    return lines


def _shorten(line: str) -> str:
    entry = cast("dict[str, codec.JSON]", codec.decode(line))
    entry["message"] = codec.shorten(str(entry["message"]), _ERROR_MESSAGE)
    entry["traceback"] = codec.shorten(str(entry["traceback"]), _ERROR_TRACEBACK)
    return codec.encode(entry)


def decode_extras(text: object) -> Table:
    """Fields of :class:`Call` from the header ``taskq``; keys of versions to come are not ours to judge."""
    if type(text) is not str or len(text) > MAX_EXTRAS:
        raise BadMessage(f"header 'taskq' is not text of at most {MAX_EXTRAS} characters")
    value = parse(text, "header 'taskq'")
    if type(value) is not dict:
        raise BadMessage("header 'taskq' is not an object with each key once")
    fields: Table = {}
    for key, given in value.items():
        read = _EXTRAS.get(key)
        if read is not None:
            fields[key] = read(given, f"'{key}' in header 'taskq'")
    return fields


def _object(value: object, what: str) -> str:
    if type(value) is not dict:
        raise BadMessage(f"{what} is {kind_of(value)}, not an object with each key once")
    return stored_text_of(value, what) if value else ""


def _errors(value: object, what: str) -> str:
    """Lines of a row's ``errors``, of what :meth:`AttemptError.parse` can read."""
    if type(value) is not list:
        raise BadMessage(f"{what} is {kind_of(value)}, not a list")
    lines = []
    for entry in value:
        if not isinstance(entry, dict):
            raise BadMessage(f"{what} has {kind_of(entry)} in it")
        if type(entry.get("attempt", 0)) is not int:
            raise BadMessage(f"{what} has an attempt that is not a number")
        lines.append(stored_text_of(entry, what) + "\n")
    return "".join(lines)


def _lines(value: object, what: str) -> str:
    if type(value) is not list:
        raise BadMessage(f"{what} is {kind_of(value)}, not a list")
    # A line for each attempt: an empty one would not be counted.
    return "".join(f"{short_text_of(item, what)}\n" if item != "" else _UNKNOWN_WORKER for item in value)


def padded(worker_ids: str, retries: int) -> str:
    """A line for each of the attempts before, as in a row; of some it is not known who made them."""
    missing = min(retries, _MAX_LINES) - worker_ids.count("\n")
    return _UNKNOWN_WORKER * missing + worker_ids if missing > 0 else worker_ids


_EXTRAS = {
    "options": _object,
    "metadata": _object,
    "enqueued_at": moment_of,
    "acks_late": flag_of,
    "max_deliveries": lambda value, what: count_of(value, what, 1, MAX_DELIVERIES_LIMIT),
    "priority": lambda value, what: count_of(value, what, -100, 100) or 0,
    "errors": _errors,
    "worker_ids": _lines,
}
