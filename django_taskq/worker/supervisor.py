"""The parent: forks worker processes, replaces those that die, and tells them to stop.

After the first fork it never touches a database or a broker: nothing that hangs there can keep it
from its one duty. What a dead process had claimed is told to the next one.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..bell import Bell
from ..database import close_for_fork
from .board import Board
from .budget import Budget
from .flow import MAX_CLAIM
from .gauges import Ledger, Sheet
from .logs import flush_output, keep_output
from .overdue import died_of_task, kill_overdue, next_deadline, predecessor_of
from .process import BROKEN, DRAIN, GAVE_BACK, NOW, REPLACED, STOPPED, WorkerProcess
from .settings import WorkerSettings
from .takeover import Predecessor

logger = logging.getLogger("django_taskq.worker")

#: processes in a row that died before they could work, until the worker gives up; and its exit status then
_STILLBORN, CANNOT_WORK = 10, 5

#: seconds processes get to give their tasks back, before they are killed
_FORCE = 1.5
#: seconds for the process that takes back the tasks of killed ones
_LAST_RESCUE = 1.0
#: a process that lived shorter than this is started again with growing pauses, in seconds
_SHORT_LIFE, _PAUSE, _PAUSE_MAX = 1.0, 0.1, 2.0


@dataclass(slots=True, kw_only=True)
class _Child:
    index: int
    pid: int
    control: int
    board: Board
    gauges: Sheet
    #: those whose tasks it takes over first
    predecessors: Sequence[Predecessor] = ()
    started: float = field(default_factory=time.monotonic)
    #: when it was killed for a task that did not end (monotonic); 0 before
    killed_at: float = 0.0


class Supervisor:
    """Runs a worker until it is done or stopped."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._budget = None if settings.max_tasks is None else Budget(settings.max_tasks)
        self._children: dict[int, _Child] = {}
        #: what all processes have counted, for probes
        self.ledger = Ledger()
        self._vacancies: list[tuple[float, int]] = []
        self._orphaned: list[Predecessor] = []
        self._short_lives = 0
        self._stillborn = 0
        self._signals = 0
        self._told = 0
        self._force_at: float | None = None
        self._kill_at: float | None = None
        self._status = STOPPED
        self._signal_bell = Bell()

    def run(self, stops: Sequence[int] = ()) -> int:
        """Fork, watch, stop; gives the exit status (see the documentation of ``runworker``).

        ``stops``: signals to stop that came before.
        """
        with self._signal_handlers():
            self._signals += len(stops)
            close_for_fork()
            # Memory that no child's collector touches stays shared with this process.
            gc.collect()
            gc.freeze()
            self._vacancies = [(0.0, index) for index in range(self._settings.processes)]
            while self._children or (self._vacancies and not self._signals):
                self._fill_vacancies()
                self._sleep()
                kill_overdue(self._children.values())
                self._reap()
                self._give_up()
                self._pass_on_signals()
            self._rescue_last()
        if self._budget is not None:
            self._budget.close()
        return self._status

    @contextmanager
    def _signal_handlers(self) -> Iterator[None]:
        def count(number: int, frame: object) -> None:
            self._signals += 1

        before = {number: signal.signal(number, count) for number in (signal.SIGTERM, signal.SIGINT)}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda number, frame: None)
        wakeup = signal.set_wakeup_fd(self._signal_bell.rung, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _fill_vacancies(self) -> None:
        if self._signals:
            self._vacancies.clear()
        now = time.monotonic()
        for vacancy in [vacancy for vacancy in self._vacancies if vacancy[0] <= now]:
            self._vacancies.remove(vacancy)
            self._fork(vacancy[1])

    def _sleep(self) -> None:
        now = time.monotonic()
        times = [at for at, _ in self._vacancies]
        times += [at for at in (self._force_at, self._kill_at) if at is not None]
        times += next_deadline(self._children.values())
        timeout = max(min(times) - now, 0.0) if times else None
        if select.select([self._signal_bell.watched], [], [], timeout)[0]:
            self._signal_bell.quieten()

    def _fork(self, index: int) -> None:
        board = Board(self._settings.slots + 2 * MAX_CLAIM, self._signal_bell)
        gauges = self.ledger.open()
        predecessors, self._orphaned = self._orphaned, []

        def work(control: int) -> int:
            process = WorkerProcess(
                self._settings, board, control, budget=self._budget, gauges=gauges, predecessors=predecessors
            )
            signal.signal(signal.SIGTERM, lambda number, frame: process.drain())
            return process.run()

        pid, control = self._fork_process(work)
        self._children[pid] = _Child(
            index=index, pid=pid, control=control, board=board, gauges=gauges, predecessors=predecessors
        )
        logger.debug("Worker process %d has pid %d.", index, pid, extra={"action": "process_started"})

    def _fork_process(self, work: Callable[[int], int]) -> tuple[int, int]:
        """Run ``work(control)`` in a child; gives its pid and our end of its control pipe."""
        control_in, control_out = os.pipe()
        flush_output()
        pid = os.fork()
        if pid:
            os.close(control_in)
            return pid, control_out
        status = BROKEN
        try:
            # The pipes' other ends must be the supervisor's alone: their end tells that it is gone.
            for end in (control_out, *(child.control for child in self._children.values())):
                os.close(end)
            signal.set_wakeup_fd(-1)
            # Ctrl-C goes to the whole group; what it means is the supervisor's to say.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            keep_output()
            try:
                status = work(control_in)
            except BaseException:
                logger.critical("The worker process failed.", exc_info=True, extra={"action": "process_failed"})
            logging.shutdown()
            flush_output()
        finally:
            # Nothing of the parent's stack above may run a second time here, whatever was raised.
            os._exit(status)

    def _reap(self) -> None:
        for pid in list(self._children):
            done, wait_status = os.waitpid(pid, os.WNOHANG)
            if done:
                self._buried(self._children.pop(pid), os.waitstatus_to_exitcode(wait_status))

    def _buried(self, child: _Child, status: int) -> None:
        os.close(child.control)
        if status == GAVE_BACK and self._status == STOPPED:
            self._status = GAVE_BACK
        if status not in (STOPPED, GAVE_BACK):
            if not child.board.is_ready:
                # It died before it had taken over; nobody else would.
                self._orphaned += child.predecessors
            if child.board.owner:
                self._orphaned.append(predecessor_of(child.board, child.killed_at, was_replaced=status == REPLACED))
            logger.error(
                "Worker process %d (pid %d) %s%s",
                child.index,
                child.pid,
                f"was killed by signal {-status}." if status < 0 else f"ended with status {status}.",
                "" if self._signals else " It is replaced, and its tasks are taken over.",
                extra={"action": "process_died"},
            )
            self._stillborn = 0 if child.board.is_ready else self._stillborn + 1
            if not self._signals:
                is_well = died_of_task(child, was_replaced=status == REPLACED)
                pause = 0.0 if is_well else self._pause_after(child)
                self._vacancies.append((time.monotonic() + pause, child.index))
        elif not self._signals and not self._is_done():
            self._vacancies.append((time.monotonic(), child.index))
        child.board.close()
        self.ledger.bury(child.gauges)

    def _give_up(self) -> None:
        """Stop when no process gets as far as working: the next one would not, either."""
        if self._stillborn >= _STILLBORN and not self._signals:
            logger.critical(
                "%d worker processes in a row died before they could work; see above why.",
                self._stillborn,
                extra={"action": "gave_up"},
            )
            self._status = CANNOT_WORK
            self._signals = 1

    def _is_done(self) -> bool:
        """Whether a process that ended by itself had a reason to."""
        return self._settings.burst or (self._budget is not None and self._budget.left == 0)

    def _pause_after(self, child: _Child) -> float:
        if time.monotonic() - child.started > _SHORT_LIFE:
            self._short_lives = 0
            return 0.0
        self._short_lives += 1
        return min(_PAUSE * 2.0 ** min(self._short_lives - 1, 10), _PAUSE_MAX)

    def _pass_on_signals(self) -> None:
        now = time.monotonic()
        if self._signals and not self._told:
            logger.info(
                "Stopping: running tasks may end, none starts. Once more to stop at once.",
                extra={"action": "stopping"},
            )
            self._tell(DRAIN)
            if self._settings.shutdown_timeout is not None:
                self._force_at = now + self._settings.shutdown_timeout
        if self._told < 2 and (self._signals > 1 or (self._force_at is not None and now >= self._force_at)):
            logger.warning("Stopping at once: running tasks are given back.", extra={"action": "stopping_now"})
            self._force_at = None
            self._tell(NOW)
            self._told = 2
            self._kill_at = now + _FORCE
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            for child in self._children.values():
                os.kill(child.pid, signal.SIGKILL)
        self._told = max(self._told, min(self._signals, 1))

    def _tell(self, word: bytes) -> None:
        for child in self._children.values():
            try:
                os.write(child.control, word)
            except BrokenPipeError:
                # It has just died; the next round buries it.
                continue

    def _rescue_last(self) -> None:
        """Nobody succeeds the processes that died while stopping: one more takes their tasks back."""
        if not self._orphaned:
            return
        settings, orphaned = self._settings, self._orphaned

        def work(control: int) -> int:
            signal.setitimer(signal.ITIMER_REAL, _LAST_RESCUE)
            board = Board(1)
            process = WorkerProcess(settings, board, control, predecessors=orphaned)
            process.drain()
            status = process.run()
            return status or (GAVE_BACK if process.taken_over else STOPPED)

        pid, control = self._fork_process(work)
        if os.waitpid(pid, 0)[1]:
            # Also when it could not do it in time: then the lease does.
            self._status = self._status or GAVE_BACK
        os.close(control)
