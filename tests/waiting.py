"""Waiting in tests: for a condition, with a deadline."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Whether other tests run at the same time, for which this machine is busy, too.
IS_BESIDE_OTHERS = "PYTEST_XDIST_WORKER" in os.environ

#: Seconds by which somebody who waits may outlast the timeout it gave: the promise, as tests with the mark ``timing``
#: see it, which run alone. Side by side with others, on a machine that is busy with those, the same tests and the rest
#: only see that nobody waits for something else than that.
LATE = 4.0 if IS_BESIDE_OTHERS else 0.5

#: How many times longer a test may take beside others, and the seconds from which on a deadline is long enough for that.
_SLOWER, _LONG = 4, 120.0

#: Seconds between two looks: short against what tests wait for, long against a query.
_INTERVAL = 0.02


def allowed(deadline: float) -> float:
    """Return the seconds that something may take here which has `deadline` seconds when the test runs alone."""
    return min(deadline * _SLOWER, max(deadline, _LONG)) if IS_BESIDE_OTHERS else deadline


def wait_until(condition: Callable[[], T | None], deadline: float = 30.0, *, what: str = "the condition") -> T:
    """Return the first true value of `condition`; raise TimeoutError, with the last value, after `deadline` seconds.

    A test that runs beside others has more: see `allowed`.
    """
    deadline = allowed(deadline)
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"Waited {deadline} s for {what}; at last it was {value!r}")
        time.sleep(_INTERVAL)


def let_pass(seconds: float) -> None:
    """Let something last, or give what should not happen the time to."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= end, seconds + 1)
