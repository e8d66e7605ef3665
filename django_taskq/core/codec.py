"""JSON as it is stored: strict, so that every database and every reader agrees on it.

Accepted is what upstream's ``normalize_json`` accepts (mappings, sequences, UTF-8 bytes, str,
int, float, bool, None). Refused, with the reason: other types, NaN and infinities, numbers beyond
a double's range, NUL and lone surrogates (PostgreSQL has no room for them), circular or too
deeply nested values. Keys that are numbers, booleans or None become strings, as in ``json.dumps``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"

_T = TypeVar("_T")

#: an unescaped ``\u0000``: an even number of backslashes, then the escape
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
#: levels; upstream copies arguments with two Python frames for each, of which there are 1,000
MAX_DEPTH = 200
_NO_CONTAINERS = frozenset({str, int, float, bool, bytes, type(None)})
#: 309 digits may exceed 1.8e308, the largest double (IEEE 754). Looked for where digits begin only: from each of them
#: it would take 17 s for 16 MB of runs of 308.
_LONG_NUMBER = re.compile(r"[0-9](?<![0-9].)[0-9]{308}", re.DOTALL)
#: what stands where :func:`shorten` has cut
_LEFT_OUT = re.compile(r"(\n… \d+ characters left out …\n)")
#: what text columns and terminals cannot carry: NUL and lone surrogates
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def _convert(value: object) -> object:
    """Upstream's reading of types that ``json`` does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"Unsupported value: {type(value)}") from error
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"Unsupported type: {type(value)}")


#: JSON's (RFC 8259, section 2)
_WHITE_SPACE = " \t\n\r"
_decoder = json.JSONDecoder()
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_convert)


def encode(value: object) -> str:
    """``value`` as compact JSON text that every supported database stores unchanged.

    Raises ``TypeError`` ("Unsupported type: …") for what is not JSON and ``ValueError`` for what
    JSON or a database cannot hold.
    """
    if value is None:
        # What most tasks return.
        return "null"
    try:
        text = _encoder.encode(value)
        if not text.isascii():
            text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("Unsupported value: a string with a lone surrogate cannot be stored.") from error
    except RecursionError as error:
        raise ValueError("Unsupported value: nested too deeply.") from error
    except TypeError as error:
        if str(error).startswith("Unsupported type"):
            raise
        raise TypeError(f"Unsupported type: {error}") from error
    except ValueError as error:
        if str(error).startswith("Unsupported value"):
            raise
        raise ValueError(f"Unsupported value: {error}") from error
    _check(text, value)
    return text


def _check(text: str, value: object) -> None:
    """Raise ``ValueError`` where JSON text has in it what not everybody can read or store; ``value``: what it says."""
    if len(text) > MAX_DEPTH and text.count("[") + text.count("{") > MAX_DEPTH:
        _refuse_depth(value)
    if "\\u0000" in text and _NUL.search(text):
        raise ValueError("Unsupported value: a string with a NUL character cannot be stored.")
    if len(text) >= 309 and _LONG_NUMBER.search(text):
        _refuse_huge_numbers(value)


def quoted(text: str) -> str:
    """:func:`encode` for a text: nearly all of ours need no escapes, which is seen sooner than looked for."""
    return f'"{text}"' if text.isprintable() and '"' not in text and "\\" not in text else encode(text)


def decode(text: str) -> JSON:
    """The value of JSON text made by :func:`encode`."""
    return decode_with(_decoder, text)


def decode_with(decoder: json.JSONDecoder, text: str) -> JSON:
    """``decoder.decode(text)``, less its looks for white space around the text: for a short one they take the longest."""
    value: JSON
    if text[:1] not in _WHITE_SPACE:
        value, end = decoder.raw_decode(text)
        if end == len(text):
            return value
    value = decoder.decode(text)
    return value


def decode_as(text: str, kind: type[_T]) -> _T | None:
    """The value of JSON text that somebody else wrote; None unless it is of this kind and can be written again."""
    try:
        value = decode(text)
        # What JSON has no words for, such as NaN, is read and not written.
        encode(value)
    except (TypeError, ValueError, RecursionError):
        return None
    return value if isinstance(value, kind) else None


def clean(text: str) -> str:
    """``text`` with NUL and lone surrogates written as escapes, so that any database takes it."""
    return _UNSTORABLE.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def shorten(text: str, limit: int) -> str:
    """``text`` with its middle left out where it has more than ``limit`` characters."""
    if len(text) <= limit:
        return text
    half = (limit - 40) // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def pieces(text: str) -> list[str]:
    """``text``, apart where :func:`shorten` has cut it: every second piece says how much is left out."""
    return _LEFT_OUT.split(text)


def _refuse_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [item for container in level for item in _items(container) if type(item) not in _NO_CONTAINERS]
        if not level:
            return
    raise ValueError(f"Unsupported value: nested more than {MAX_DEPTH} levels deep.")


def _items(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else ()


def _refuse_huge_numbers(value: object) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_huge_numbers(key)
            _refuse_huge_numbers(item)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            _refuse_huge_numbers(item)
    elif isinstance(value, int):
        try:
            float(value)
        except OverflowError as error:
            raise ValueError("Unsupported value: a number beyond the range of a JSON double.") from error
