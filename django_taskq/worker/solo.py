"""A worker in one process, for a debugger: nothing is forked, and each task runs on the main thread."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from types import FrameType

from .board import Board
from .budget import Budget
from .flow import MAX_CLAIM
from .process import DRAIN, NOW, QUIET, RESUME, STACKS, WorkerProcess
from .settings import WorkerSettings

#: what the supervisor would pass on
_WORDS = {
    signal.SIGTSTP: QUIET,
    signal.SIGUSR2: QUIET,
    signal.SIGCONT: RESUME,
    signal.SIGUSR1: STACKS,
    signal.SIGQUIT: NOW,
    signal.SIGHUP: DRAIN,
}


def run_solo(settings: WorkerSettings, stops: Sequence[int] = ()) -> int:
    """Work until told to stop; gives the exit status. ``stops``: signals to stop that came before.

    What kills a task's process ends the worker here, and leaves its tasks to the lease.
    """
    control, told = os.pipe()
    budget = None if settings.max_tasks is None else Budget(settings.max_tasks)
    process = WorkerProcess(settings, Board(settings.slots + 2 * MAX_CLAIM), control, budget=budget)
    times = 0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal times
        times += 1
        os.write(told, DRAIN if times == 1 else NOW)

    def pass_on(number: int, frame: FrameType | None) -> None:
        os.write(told, _WORDS[signal.Signals(number)])

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    for number in _WORDS:
        signal.signal(number, pass_on)
    if stops:
        os.write(told, DRAIN)
    status = process.run()
    if budget is not None:
        budget.close()
    return status
