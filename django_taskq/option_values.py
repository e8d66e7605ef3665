"""Single values of ``OPTIONS``: what they must be, and the error that says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from math import isfinite
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from .core.options import nearest


class OptionsError(ImproperlyConfigured):
    """A key or value in ``OPTIONS`` that cannot be. ``key`` names it, ``hint`` says what to do."""

    def __init__(self, key: str, message: str, hint: str) -> None:
        self.key = key
        self.message = message
        self.hint = hint
        super().__init__(f"{message} {hint}")


def path_of(*keys: object) -> str:
    """How errors name a place in ``OPTIONS``: ``OPTIONS['queues']['mail']['bindings'][0]``."""
    return "OPTIONS" + "".join(f"[{key!r}]" for key in keys)


def refuse(path: tuple[object, ...], what: str, hint: str) -> OptionsError:
    """The error for the value at a place; ``what`` goes on from the place's name."""
    return OptionsError(str(path[0]), f"{path_of(*path)}{what}", hint)


def flag(path: tuple[object, ...], value: Any) -> bool:
    """True or False, and nothing that only looks like it."""
    if not isinstance(value, bool):
        raise refuse(path, f" must be True or False, not {value!r}.", "Write True or False.")
    return value


def seconds(path: tuple[object, ...], value: Any) -> float:
    """A duration above 0."""
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < float("inf"):
        raise refuse(path, f" must be more than 0 seconds, not {value!r}.", "Give a number or a timedelta.")
    return float(number)


def whole_number(path: tuple[object, ...], value: Any, least: int, most: int) -> int:
    """A whole number in a range."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise refuse(path, f" must be a whole number from {least} to {most}, not {value!r}.", "Write a number.")
    return value


def short_text(path: tuple[object, ...], value: Any, *, empty: bool = False) -> str:
    """A name or a key, as AMQP 0-9-1 can carry it (section 4.2.5.3, short strings: 255 bytes)."""
    if not isinstance(value, str) or not (value or empty):
        raise refuse(path, f" must be text, not {value!r}.", "Write a name.")
    try:
        length = len(value.encode())
    except UnicodeEncodeError:
        raise refuse(path, f" is not valid text: {value!r}.", "Write a name without surrogates.") from None
    if length > 255:
        raise refuse(path, f" has {length} bytes, and AMQP allows 255.", "Write a shorter one.")
    return value


def mapping(path: tuple[object, ...], value: Any, example: str) -> dict[str, Any]:
    """A dict with text as keys, copied."""
    if not isinstance(value, Mapping):
        raise refuse(path, f" must be a dict, not {type(value).__name__}.", f"For example {example}.")
    for key in value:
        if not isinstance(key, str):
            raise refuse(path, f" has the key {key!r}, which is not text.", f"For example {example}.")
    return dict(value)


def known_keys(path: tuple[object, ...], given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse keys that are not known, with the nearest one that is."""
    names = list(known)
    for key in given:
        if key not in names:
            raise refuse(path, f" has no key {key!r}{nearest(key, names) or '.'}", f"Known keys: {', '.join(names)}.")


def arguments(path: tuple[object, ...], value: Any) -> dict[str, Any]:
    """Arguments of an exchange, a queue or a binding, that a table of AMQP can carry."""
    given = mapping(path, value, "{'x-max-length': 1000}")
    for name, one in given.items():
        short_text((*path, name), name)
        _argument((*path, name), one)
    return given


def _argument(path: tuple[object, ...], value: Any) -> None:
    if isinstance(value, Mapping):
        arguments(path, value)
    elif isinstance(value, list | tuple):
        for index, one in enumerate(value):
            _argument((*path, index), one)
    elif isinstance(value, float) and not isfinite(value):
        # RabbitMQ closes the whole connection for it (541).
        raise refuse(path, f" is {value!r}, which is no number.", "Write a finite number.")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise refuse(path, f" is {value!r}, which is too large.", "Write a number of 64 bits.")
    elif value is not None and not isinstance(value, str | bool | int | float):
        raise refuse(path, f" is a {type(value).__name__}.", "Arguments are text, numbers, True, False, lists, dicts.")
