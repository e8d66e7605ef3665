"""A program that enqueues tasks until it is told to stop: the load on a broker that a test breaks.

``python -m tests.acceptance.producer DIRECTORY PAUSE [BURST]``: one task, or ``BURST`` at once, every ``PAUSE`` seconds.
"""

from __future__ import annotations

import sys
import time
from itertools import count
from pathlib import Path

import django
from django.db import InterfaceError, OperationalError, connection

django.setup()

from tests.taskapp import tasks  # noqa: E402  # needs the project's apps


def main(directory: Path, pause: float, burst: int = 1) -> None:
    """Enqueue until there is a file ``stop``.

    ``enqueued`` gets a line with the number of each task and the seconds that its enqueue took, ``unknown`` the
    numbers of those of which a failing database does not tell whether they are there.
    """
    trace, stop = str(directory / "runs"), directory / "stop"
    for first in count(0, burst):
        if stop.exists():
            return
        numbers = range(first, first + burst)
        began = time.perf_counter()
        file, took = "enqueued", 0.0
        try:
            if burst == 1:
                tasks.mark.enqueue(trace, str(first))
            else:
                tasks.mark.enqueue_many([(trace, str(number)) for number in numbers])
            took = time.perf_counter() - began
        except (OperationalError, InterfaceError):
            file = "unknown"
            connection.close()
        for number in numbers:
            tasks.leave(str(directory / file), f"{number} {took:.4f}")
        time.sleep(pause)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), *map(int, sys.argv[3:]))
