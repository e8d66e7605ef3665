"""The arguments of queues that RabbitMQ knows, and what each may be."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from .core.options import nearest
from .option_values import arguments, flag, refuse, short_text, whole_number

Path = tuple[object, ...]

#: Arguments that say what a broker does with messages, and that only RabbitMQ listens to.
RABBITMQ_ONLY = (
    "x-queue-type",
    "x-message-ttl",
    "x-max-length",
    "x-max-length-bytes",
    "x-overflow",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-delivery-limit",
    "x-single-active-consumer",
)


def queue_arguments(path: Path, value: Any) -> dict[str, Any]:
    """A queue's arguments; those that nobody here knows may belong to a plugin. Raises ``OptionsError``."""
    given = arguments(path, value)
    for name, one in given.items():
        rule = _ARGUMENTS.get(name)
        if rule is not None:
            if one is not None:
                rule((*path, name), one)
            continue
        # Close enough to have been meant.
        close = difflib.get_close_matches(name, _ARGUMENTS, n=1, cutoff=0.85)
        if close:
            raise refuse((*path, name), f" is no argument; did you mean {close[0]!r}?", "RabbitMQ would not complain.")
    return given


def _at_least(least: int) -> Callable[[Path, Any], Any]:
    def check(path: Path, value: Any) -> int:
        return whole_number(path, value, least, 2**63 - 1)

    return check


def _one_of(*choices: object) -> Callable[[Path, Any], Any]:
    def check(path: Path, value: Any) -> Any:
        if isinstance(value, bool) or value not in choices:
            guess = (
                nearest(value, [choice for choice in choices if isinstance(choice, str)])
                if isinstance(value, str)
                else ""
            )
            raise refuse(path, f"={value!r} cannot be{guess or '.'}", f"One of {', '.join(map(repr, choices))}.")
        return value

    return check


def _queue_type(path: Path, value: Any) -> Any:
    if value == "stream":
        raise refuse(path, "='stream': a stream keeps what was consumed, and a task would run again.", "Use 'quorum'.")
    return _one_of("classic", "quorum")(path, value)


def _text(path: Path, value: Any) -> str:
    return short_text(path, value, empty=True)


def _argument_priority(path: Path, value: Any) -> int:
    return whole_number(path, value, 1, 255)


#: Of RabbitMQ ("Queues", "Optional Arguments"; "Quorum Queues", "Use with Optional Arguments"): times in milliseconds.
_ARGUMENTS: dict[str, Callable[[Path, Any], Any]] = {
    "x-queue-type": _queue_type,
    "x-queue-mode": _one_of("default", "lazy"),
    "x-queue-version": _one_of(1, 2),
    "x-queue-leader-locator": _one_of("client-local", "balanced"),
    "x-queue-master-locator": _one_of("client-local", "min-masters", "random"),
    "x-message-ttl": _at_least(0),
    "x-expires": _at_least(1),
    "x-max-length": _at_least(0),
    "x-max-length-bytes": _at_least(0),
    "x-max-priority": _argument_priority,
    "x-overflow": _one_of("drop-head", "reject-publish", "reject-publish-dlx"),
    "x-dead-letter-exchange": _text,
    "x-dead-letter-routing-key": _text,
    "x-dead-letter-strategy": _one_of("at-most-once", "at-least-once"),
    "x-delivery-limit": _at_least(-1),
    "x-single-active-consumer": flag,
    "x-quorum-initial-group-size": _at_least(1),
}
