"""When a failed attempt is followed by another, and how long after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from ..exceptions import MAX_DELAY, OptionError


def seconds_of(value: object, option: str) -> float:
    """``value`` (seconds or ``timedelta``) as seconds; raises ``OptionError`` naming the ``option``."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError(f"{option}={value!r}: give seconds as a number, or a timedelta.")
    if not 0 <= value <= MAX_DELAY:
        raise OptionError(f"{option}={value!r}: must be between 0 and {MAX_DELAY:.0f} seconds.")
    return float(value)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds to wait after a failed attempt, as a formula.

    After failure number n (from 1) the delay is ``base + step * (n - 1)`` when ``factor`` is 1,
    else ``base * factor ** (n - 1)``, never more than ``cap``. With ``jitter`` it is drawn evenly
    between half of that and all of it, so that tasks that failed together don't return together.
    """

    base: float
    cap: float
    factor: float = 1.0
    step: float = 0.0
    jitter: bool = False

    def __post_init__(self) -> None:
        for name in ("base", "cap", "factor", "step"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_DELAY:
                raise OptionError(f"backoff: {name}={value!r} must be a number of seconds from 0 up.")

    def delay(self, failures: int, chance: float) -> float:
        """Seconds after the ``failures``-th failure (from 1); ``chance`` is a random number in [0, 1)."""
        try:
            wanted = self.base * self.factor ** (failures - 1) + self.step * (failures - 1)
        except OverflowError:
            wanted = self.cap
        wanted = min(wanted, self.cap)
        return wanted * (0.5 + chance / 2) if self.jitter else wanted


@dataclass(frozen=True, slots=True)
class Delays:
    """One delay per failure, in seconds; the last one repeats."""

    seconds: tuple[float, ...]

    def delay(self, failures: int, chance: float) -> float:
        """Seconds after the ``failures``-th failure (from 1)."""
        return self.seconds[min(failures, len(self.seconds)) - 1]


#: ``backoff(exception, task_result) -> seconds | timedelta | None``; None gives up
BackoffFunction: TypeAlias = Callable[..., "float | timedelta | None"]
Schedule: TypeAlias = Backoff | Delays | BackoffFunction


def exponential(
    base: float | timedelta = 1, cap: float | timedelta = 600, *, factor: float = 2, jitter: bool = True
) -> Backoff:
    """``base``, ``base * factor``, ``base * factor²`` … seconds, at most ``cap``, half of it random."""
    return Backoff(base=_delay(base, "base"), cap=_delay(cap, "cap"), factor=factor, jitter=jitter)


def linear(
    base: float | timedelta = 1, step: float | timedelta = 1, *, cap: float | timedelta = 600, jitter: bool = False
) -> Backoff:
    """``base``, ``base + step``, ``base + 2 * step`` … seconds, at most ``cap``."""
    return Backoff(base=_delay(base, "base"), cap=_delay(cap, "cap"), step=_delay(step, "step"), jitter=jitter)


def fixed(delay: float | timedelta) -> Backoff:
    """The same ``delay`` after every failure."""
    return Backoff(base=_delay(delay, "delay"), cap=_delay(delay, "delay"))


def _delay(value: object, name: str) -> float:
    return seconds_of(value, f"backoff: {name}")


def parse_backoff(value: object) -> Schedule:
    """What the option ``backoff`` may be: a formula, a function, seconds, ``timedelta``, or a list of these."""
    if isinstance(value, Backoff | Delays):
        return value
    if callable(value):
        return value
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        if not value:
            raise OptionError("backoff=[]: give at least one delay.")
        return Delays(tuple(seconds_of(item, "backoff") for item in value))
    return fixed(seconds_of(value, "backoff"))


def class_path(cls: type) -> str:
    """``module.qualname`` of a class, as tracebacks and stored errors name it."""
    return f"{cls.__module__}.{cls.__qualname__}"


def matches(exception: BaseException, paths: frozenset[str]) -> bool:
    """Whether the exception's class, or one it inherits from, is named in ``paths``.

    Compares names, so that names which came out of a row never need to be imported.
    """
    return any(class_path(cls) in paths for cls in type(exception).__mro__)


#: what a task has that was given ``max_attempts`` and no ``backoff``
DEFAULT_BACKOFF = exponential(1, 600)
