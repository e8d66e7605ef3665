"""Waiting in tests: for a condition, with a deadline."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds by which somebody who waits may outlast the timeout it gave: the promise, as tests with the mark ``timing``
#: see it, which run alone. Side by side with others, on a machine that is busy with those, the same tests and the rest
#: only see that nobody waits for something else than that.
LATE = 4.0 if "PYTEST_XDIST_WORKER" in os.environ else 0.5

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
