"""What can be said about a task besides its arguments: checked once, compared and carried as data."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from operator import attrgetter
from typing import TypeAlias

from ..exceptions import OptionError
from . import codec
from .retry import DEFAULT_BACKOFF, Backoff, Delays, Schedule, class_path, parse_backoff, seconds_of

#: ``int32``; databases with typed columns refuse more
MAX_COUNT = 2**31 - 1
#: ``int16``: the column's type
MAX_DELIVERIES_LIMIT = 2**15 - 1

Exceptions: TypeAlias = "type[BaseException] | str | Iterable[type[BaseException] | str]"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """A task's options in their one form.

    ``max_attempts``: how often the task may run in all; ``None``: a failure is final, while an
    explicit ``Retry`` is always granted. ``retry_on``/``give_up_on``: class paths; an empty
    ``retry_on`` means ``Exception``. ``expires``: seconds after the enqueue, or an aware datetime.
    ``store_result``, ``store_errors``, ``keep_logs``, ``result_ttl``, ``failure_ttl`` (seconds): None leaves it to
    the alias; what is said here wins over it. ``soft_time_limit``, ``time_limit``: seconds an attempt may run, None
    leaves them to the worker.
    """

    max_attempts: int | None = None
    backoff: Schedule = DEFAULT_BACKOFF
    retry_on: frozenset[str] = frozenset()
    give_up_on: frozenset[str] = frozenset()
    expires: float | datetime | None = None
    soft_time_limit: float | None = None
    time_limit: float | None = None
    acks_late: bool = True
    max_deliveries: int = 3
    record: bool = True
    store_result: bool | None = None
    store_errors: bool | None = None
    keep_logs: bool | None = None
    result_ttl: float | None = None
    failure_ttl: float | None = None
    sensitive: frozenset[str] = frozenset()
    metadata: Mapping[str, codec.JSON] = field(default_factory=dict, hash=False)

    @property
    def keeps_result(self) -> bool:
        """Whether somebody wants the value; the alias has had its say."""
        return self.store_result is not False

    @property
    def keeps_errors(self) -> bool:
        """Whether somebody wants to know what went wrong; as above."""
        return self.store_errors is not False

    @property
    def keeps_log(self) -> bool:
        """Whether lines that the task logs go into its row; as above, but that secrets may be in such lines."""
        return self.keep_logs is True or (self.keep_logs is None and not self.sensitive)


#: the options' names, in the order of the reference
OPTION_NAMES = tuple(option.name for option in fields(TaskOptions))

#: options that have no column of their own and so travel in the row's ``options``
CARRIED = (
    "max_attempts",
    "backoff",
    "retry_on",
    "give_up_on",
    "soft_time_limit",
    "time_limit",
    "record",
    "store_result",
    "store_errors",
    "keep_logs",
    "result_ttl",
    "failure_ttl",
    "sensitive",
)

#: their values, and those of all, with one call
_carried, _all = attrgetter(*CARRIED), attrgetter(*OPTION_NAMES)


def parse_options(given: Mapping[str, object]) -> TaskOptions:
    """The options of a task from what its author wrote; raises ``OptionError`` naming the option."""
    parsed: dict[str, object] = {}
    for name, value in given.items():
        parsed[name] = _PARSERS[name](name, value)
    options = TaskOptions(**parsed)  # type: ignore[arg-type]  # each parser returns its field's type
    check_limits(options.soft_time_limit, options.time_limit)
    return options


def check_limits(
    soft: float | None, hard: float | None, names: tuple[str, str] = ("soft_time_limit", "time_limit")
) -> None:
    """Raise ``OptionError`` for a soft limit that never came into play. ``names``: how the error calls the two."""
    if soft is not None and hard is not None and soft >= hard:
        raise OptionError(f"{names[0]}={soft:g}: must be less than {names[1]}={hard:g}, or the task never hears of it.")


def nearest(name: str, known: Iterable[str]) -> str:
    """What an error says of a misspelt name: "; did you mean …?", or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def encode_overrides(options: TaskOptions, base: TaskOptions) -> str:
    """What one call changes in the options its task has in code, as JSON text; "" for nothing.

    Raises ``OptionError`` for a ``backoff`` function: it cannot travel in a row.
    """
    if options is base:
        return ""
    changed: dict[str, object] = {}
    for name, value, known in zip(CARRIED, _carried(options), _carried(base), strict=True):
        if value != known:
            changed[name] = _encode_backoff(value) if name == "backoff" else _plain(value)
    return codec.encode(changed) if changed else ""


#: texts of options that were read: what each is based on, and what came of it. Most calls of a task have the same ones.
_decoded: dict[str, tuple[TaskOptions, TaskOptions]] = {}
_MAX_DECODED, _MAX_DECODED_LENGTH = 500, 500


def decode_overrides(text: str, base: TaskOptions) -> TaskOptions:
    """The options of one call: ``base`` with what :func:`encode_overrides` wrote. Raises ``OptionError``."""
    if not text:
        return base
    known = _decoded.get(text)
    if known is not None and known[0] is base:
        return known[1]
    options = _decode_overrides(text, base)
    if len(text) <= _MAX_DECODED_LENGTH:
        if len(_decoded) >= _MAX_DECODED:
            _decoded.clear()
        _decoded[text] = base, options
    return options


def _decode_overrides(text: str, base: TaskOptions) -> TaskOptions:
    changed = codec.decode(text)
    if not isinstance(changed, dict):
        raise OptionError(f"Stored options must be a JSON object, not {type(changed).__name__}.")
    values = dict(zip(OPTION_NAMES, _all(base), strict=True))
    for name, value in changed.items():
        if name not in CARRIED:
            raise OptionError(f"Stored option {name!r} is not known here.")
        values[name] = _decode_backoff(value) if name == "backoff" else _PARSERS[name](name, value)
    return TaskOptions(**values)


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else value


def _encode_backoff(value: object) -> object:
    if isinstance(value, Backoff):
        return [value.base, value.cap, value.factor, value.step, value.jitter]
    if isinstance(value, Delays):
        return {"seconds": list(value.seconds)}
    raise OptionError(
        "backoff: a function cannot be given per call; give it to @task, or use exponential(), linear(), fixed()."
    )


def _decode_backoff(value: object) -> Schedule:
    if isinstance(value, list) and len(value) == 5:
        base, cap, factor, step, jitter = value
        return Backoff(base=base, cap=cap, factor=factor, step=step, jitter=bool(jitter))
    if isinstance(value, dict) and isinstance(value.get("seconds"), list):
        return parse_backoff(value["seconds"])
    raise OptionError(f"Stored backoff {value!r} is not known here.")


def _count(name: str, value: object, limit: int = MAX_COUNT) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= limit:
        raise OptionError(f"{name}={value!r}: must be a whole number from 1 to {limit}.")
    return value


def _optional_count(name: str, value: object) -> int | None:
    return None if value is None else _count(name, value)


def _deliveries(name: str, value: object) -> int:
    return _count(name, value, MAX_DELIVERIES_LIMIT)


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise OptionError(f"{name}={value!r}: must be True or False.")
    return value


def _optional_flag(name: str, value: object) -> bool | None:
    return None if value is None else _flag(name, value)


def _ttl(name: str, value: object) -> float | None:
    if value is None:
        return None
    seconds = seconds_of(value, name)
    if not seconds:
        raise OptionError(f"{name}={value!r}: must be more than 0 seconds; store_result=False keeps no value at all.")
    return seconds


def _limit(name: str, value: object) -> float | None:
    if value is None:
        return None
    seconds = seconds_of(value, name)
    if not seconds:
        raise OptionError(f"{name}={value!r}: must be more than 0 seconds; None is no limit.")
    return seconds


def _backoff(name: str, value: object) -> Schedule:
    return DEFAULT_BACKOFF if value is None else parse_backoff(value)


def _exceptions(name: str, value: object) -> frozenset[str]:
    items = [value] if isinstance(value, str | type) else value
    if not isinstance(items, Iterable):
        raise OptionError(f"{name}={value!r}: give exception classes.")
    paths = set()
    for item in items:
        if isinstance(item, type) and issubclass(item, BaseException):
            paths.add(class_path(item))
        elif isinstance(item, str) and item:
            paths.add(item)
        else:
            raise OptionError(f"{name}={value!r}: {item!r} is not an exception class.")
    return frozenset(paths)


def _expires(name: str, value: object) -> float | datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    if isinstance(value, int | float | timedelta):
        return seconds_of(value, name)
    raise OptionError(f"{name}={value!r}: give an aware datetime, a timedelta or seconds.")


def _names(name: str, value: object) -> frozenset[str]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, Iterable):
        raise OptionError(f"{name}={value!r}: give argument names.")
    names = list(items)
    if not all(isinstance(item, str) for item in names):
        raise OptionError(f"{name}={value!r}: argument names are strings.")
    return frozenset(names)


def _metadata(name: str, value: object) -> Mapping[str, codec.JSON]:
    if not isinstance(value, Mapping):
        raise OptionError(f"{name}={value!r}: give a dict that is JSON.")
    try:
        copy = codec.decode(codec.encode(value))
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name}: {error}") from error
    if not isinstance(copy, dict):
        raise OptionError(f"{name}={value!r}: give a dict that is JSON.")
    return copy


_PARSERS = {
    "max_attempts": _optional_count,
    "backoff": _backoff,
    "retry_on": _exceptions,
    "give_up_on": _exceptions,
    "expires": _expires,
    "soft_time_limit": _limit,
    "time_limit": _limit,
    "acks_late": _flag,
    "max_deliveries": _deliveries,
    "record": _flag,
    "store_result": _optional_flag,
    "store_errors": _optional_flag,
    "keep_logs": _optional_flag,
    "result_ttl": _ttl,
    "failure_ttl": _ttl,
    "sensitive": _names,
    "metadata": _metadata,
}
