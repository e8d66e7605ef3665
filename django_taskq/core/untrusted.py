"""Reading what strangers wrote: values of a message's parts, or :class:`BadMessage` and never anything else.

Whoever can reach the broker can write anything there, so nothing here believes a type, a size or an encoding, and
all of it takes time linear in what it reads.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from math import isfinite
from typing import TypeAlias

from . import codec

#: bytes; larger bodies are refused unread. RabbitMQ 4 takes as many (its ``max_message_size``)
MAX_BODY = 16 * 2**20
#: bytes; a short string (AMQP 0-9-1, 4.2.5.3)
MAX_SHORT = 255

#: the type and the encoding of everything that is read and published
JSON_TYPE, JSON_ENCODING = "application/json", "utf-8"

#: what all databases keep, in any time zone; the producer has the same bounds
_FIRST_YEAR, _LAST_YEAR = 1001, 9998
#: characters of a message's text that an error may show
_SHOWN = 60
#: digits; Python refuses longer integers unless it was told not to, and reads them in quadratic time
_MAX_DIGITS = 4_300
#: what clients give as a body
_BODIES = (bytes, bytearray, str)
_ENCODINGS = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})

#: a message's headers or properties
Table: TypeAlias = "dict[str, object]"


class BadMessage(ValueError):
    """A message that cannot be a task; says why in one line, and shows no more than a glimpse of it."""


class Ambiguous(dict[str, object]):
    """A JSON object that had a key twice: readers may disagree which one counts."""


def text_of(
    body: object, *, content_type: object, content_encoding: object, headers: object, max_body: int = MAX_BODY
) -> str:
    """The text of a JSON message, as yet unread; raises ``BadMessage`` for any other kind of message."""
    if not isinstance(body, _BODIES):
        raise BadMessage(f"the body is {kind_of(body)}, not bytes")
    if len(body) > max_body:
        raise BadMessage(f"the body has {len(body)} bytes, more than the {max_body} allowed")
    if type(content_type) is not str or content_type != JSON_TYPE:
        _check_content_type(content_type)
    if type(content_encoding) is not str or content_encoding != JSON_ENCODING:
        _check_encoding(content_encoding)
    if table_of(headers, "headers").get("compression"):
        raise BadMessage("the message is compressed, and a small one may unpack to any size; publish without")
    try:
        return body if isinstance(body, str) else str(body, "utf-8")
    except UnicodeDecodeError as error:
        raise BadMessage(f"the body is not UTF-8 (byte {error.start})") from error


def parse(text: str, what: str = "the body") -> object:
    """The value of JSON text from outside; an object with a key twice comes as :class:`Ambiguous`.

    Raises ``BadMessage``.
    """
    decoder = _DECODER if len(text) <= _MAX_DIGITS else _LONG_DECODER
    try:
        return codec.decode_with(decoder, text)
    except RecursionError as error:
        raise BadMessage(f"{what} is nested too deeply") from error
    except MemoryError as error:
        raise BadMessage(f"{what} needs more memory than there is") from error
    except ValueError as error:
        raise BadMessage(f"{what} is not JSON: {error}") from error


def stored_text_of(value: object, what: str) -> str:
    """``value`` as stored JSON text; raises ``BadMessage`` for what a database cannot hold."""
    try:
        return codec.encode(value)
    except MemoryError as error:
        raise BadMessage(f"{what} need more memory than there is") from error
    except ValueError as error:
        raise BadMessage(f"{what}: {error}") from error


def short_text_of(value: object, what: str) -> str:
    """``value`` as a text that fits a short string; "" for None. Raises ``BadMessage``."""
    if value is None:
        return ""
    if type(value) is not str:
        raise BadMessage(f"{what} is {kind_of(value)}, not text")
    if len(value) > MAX_SHORT or not value.isprintable() or not (value.isascii() or len(value.encode()) <= MAX_SHORT):
        raise BadMessage(f"{what} {glimpse(value)} is not text of at most {MAX_SHORT} bytes that can be printed")
    return value


def flag_of(value: object, what: str) -> bool:
    """``value``, a truth value."""
    if type(value) is not bool:
        raise BadMessage(f"{what} is {kind_of(value)}, not true or false")
    return value


def count_of(value: object, what: str, least: int, most: int) -> int | None:
    """``value``, a whole number within bounds, or None."""
    if value is None:
        return None
    if type(value) is not int or not least <= value <= most:
        raise BadMessage(f"{what} is not a whole number from {least} to {most}")
    return value


def moment_of(value: object, what: str) -> datetime | None:
    """A moment in UTC: from ISO 8601 text, seconds since the epoch, a transport's own timestamp, or None.

    What names no time zone is in UTC, as Celery has it (``enable_utc``).
    """
    if value is None:
        return None
    try:
        if isinstance(value, str) and len(value) <= 64:
            moment = datetime.fromisoformat(value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
            moment = datetime.fromtimestamp(value, UTC)
        elif isinstance(value, datetime):
            moment = value
        else:
            raise BadMessage(f"{what} is {kind_of(value)}, not a moment")
        if moment.tzinfo is not UTC:
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        if isinstance(error, BadMessage):
            raise
        raise BadMessage(f"{what} is not a moment in ISO 8601") from error
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise BadMessage(f"{what} is not in the years {_FIRST_YEAR} to {_LAST_YEAR}")
    return moment


def table_of(value: object, what: str) -> Table:
    """``value``, a message's headers or properties; an empty table for None."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadMessage(f"the {what} are {kind_of(value)}, not a table")
    return value


def _check_content_type(value: object) -> None:
    if not isinstance(value, str) or not value:
        raise BadMessage("the message has no content type; only application/json is read")
    kind, _, parameters = value[:MAX_SHORT].lower().partition(";")
    if kind.strip() != JSON_TYPE:
        raise BadMessage(f"content type {glimpse(value)} is not read, only application/json is")
    for parameter in parameters.split(";"):
        key, _, charset = parameter.partition("=")
        if key.strip() == "charset":
            _check_encoding(charset.strip().strip('"'))


def _check_encoding(value: object) -> None:
    if value is not None and (not isinstance(value, str) or value.lower() not in _ENCODINGS):
        raise BadMessage(f"content encoding {glimpse(value)} is not read, only utf-8 is")


def glimpse(value: object) -> str:
    """The beginning of a text, safe to log; the type of anything else."""
    return repr(value[:_SHOWN]) if isinstance(value, str) else kind_of(value)


def kind_of(value: object) -> str:
    """What a refusal says of a value of the wrong type."""
    return f"of type {type(value).__name__[:_SHOWN]}"


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Ambiguous(found)


def _constant(name: str) -> object:
    raise ValueError(f"it has {name}")


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"it has a number of {len(digits)} digits")
    return int(digits)


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)
_LONG_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_int=_integer)
