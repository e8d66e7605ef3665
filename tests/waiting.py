"""Waiting in tests: for a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds between two looks: short against what tests wait for, long against a query.
_INTERVAL = 0.02


def wait_until(condition: Callable[[], T | None], deadline: float = 30.0, *, what: str = "the condition") -> T:
    """Return the first true value of `condition`; raise TimeoutError, with the last value, after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"Waited {deadline} s for {what}; at last it was {value!r}")
        time.sleep(_INTERVAL)
