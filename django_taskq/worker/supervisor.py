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
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..bell import Bell
from ..database import close_for_fork
from .board import Board
from .budget import Budget
from .flow import MAX_CLAIM
from .gauges import Ledger, Sheet
from .health import Picture
from .logs import flush_output, keep_output
from .orders import Orders, leave_to_supervisor
from .overdue import died_of_task, kill_overdue, next_deadline, predecessor_of
from .process import BROKEN, DRAIN, GAVE_BACK, NOW, QUIET, REPLACED, RESUME, STACKS, STOPPED, WorkerProcess
from .pulse import Pulse, Retirement
from .reload import HASTE, Reloads
from .settings import WorkerSettings
from .signs import Signs
from .takeover import Predecessor

logger = logging.getLogger("django_taskq.worker")

#: processes in a row that died before they could work, until the worker gives up; and its exit status then
_STILLBORN, CANNOT_WORK = 10, 5

#: seconds processes get to give their tasks back, before they are killed
_FORCE = 1.5
#: seconds for the process that takes back the tasks of killed ones
_LAST_RESCUE = 1.0
#: seconds after which a process that was asked for its stacks is asked in a way it cannot fail to hear
_DEAF = 1.0
#: a process that lived shorter than this, and has run nothing, is started again with growing pauses, in seconds
_SHORT_LIFE, _PAUSE, _PAUSE_MAX = 1.0, 0.1, 2.0


@dataclass(slots=True, kw_only=True)
class _Child:
    index: int
    pid: int
    control: int
    board: Board
    pulse: Pulse
    gauges: Sheet
    #: those whose tasks it takes over first
    predecessors: Sequence[Predecessor] = ()
    started: float = field(default_factory=time.monotonic)
    #: nobody comes after it: its successor is there already
    is_succeeded: bool = False
    #: reports of stacks it will have given when it has answered all that were asked for
    stacks: int = 0
    #: when it was killed for a task that did not end (monotonic); 0 before
    killed_at: float = 0.0


class _Vacancy(NamedTuple):
    """A process to start at a moment. ``is_rescue``: only to take over the tasks of one that died."""

    at: float
    place: int
    is_rescue: bool = False


class Supervisor:
    """Runs a worker until it is done or stopped.

    ``hang_up_stops``: SIGHUP stops it, as where a terminal is gone. Otherwise it ends it in order with
    ``is_reloading`` set, for whoever is to begin anew.
    """

    def __init__(self, settings: WorkerSettings, *, hang_up_stops: bool = True, stale_after: float = 60.0) -> None:
        self._settings = settings
        self._hang_up_stops = hang_up_stops
        self._stale_after = stale_after
        self._budget = None if settings.max_tasks is None else Budget(settings.max_tasks)
        self._children: dict[int, _Child] = {}
        #: what all processes have counted, for probes
        self.ledger = Ledger()
        self._vacancies: list[_Vacancy] = []
        self._orphaned: list[Predecessor] = []
        self._short_lives = 0
        self._stillborn = 0
        self._orders = Orders()
        self._told = 0
        self._is_quiet = False
        self._stacks_told = 0
        self._stacks_at: float | None = None
        self._force_at: float | None = None
        self._kill_at: float | None = None
        self._status = STOPPED
        self._ends: Counter[str] = Counter(dict.fromkeys(("crash", "memory", "tasks"), 0))
        self._signal_bell = Bell()
        self._signs = Signs(settings, self._picture, self.ledger.render)
        self._reloads = Reloads(self._orders, self._signs, self._fork_process, is_watching=settings.reload)

    @property
    def is_reloading(self) -> bool:
        """Whether it ended only to begin anew."""
        return self._orders.is_reloading and not self._orders.stops

    def run(self, stops: Sequence[int] = ()) -> int:
        """Fork, watch, stop; gives the exit status (see the documentation of ``runworker``).

        ``stops``: signals to stop that came before.
        """
        with self._orders.heard(self._signal_bell, hang_up_stops=self._hang_up_stops):
            self._orders.stops += len(stops)
            close_for_fork()
            # Memory that no child's collector touches stays shared with this process.
            gc.collect()
            gc.freeze()
            self._vacancies = [_Vacancy(0.0, index) for index in range(self._settings.processes)]
            while self._children or (self._vacancies and not self._orders.is_stopping):
                self._fill_vacancies()
                self._sleep()
                self._hear()
                kill_overdue(self._children.values())
                self._reap()
                self._reloads.tend(time.monotonic())
                self._succeed()
                self._give_up()
                self._pass_on_signals()
                self._pass_on_wishes()
            self._reloads.close()
            self._rescue_last()
            self._signs.close(is_reloading=self.is_reloading)
        if self._budget is not None:
            self._budget.close()
        return self._status

    def _picture(self) -> Picture:
        now = time.monotonic()
        return Picture(
            processes=self._settings.processes,
            vitals=[child.pulse.read(now, index=child.index, pid=child.pid) for child in self._children.values()],
            stale_after=self._stale_after,
            is_quiet=self._is_quiet,
            is_stopping=self._orders.is_stopping,
            ends=self._ends,
        )

    def _fill_vacancies(self) -> None:
        if self._orders.is_stopping:
            self._vacancies.clear()
        now = time.monotonic()
        for vacancy in [vacancy for vacancy in self._vacancies if vacancy.at <= now]:
            self._vacancies.remove(vacancy)
            self._fork(vacancy)

    def _sleep(self) -> None:
        now = time.monotonic()
        times = [vacancy.at for vacancy in self._vacancies]
        times += [at for at in (self._force_at, self._kill_at, self._stacks_at) if at is not None]
        times += next_deadline(self._children.values())
        waits = [at - now for at in times]
        waits += [wait for wait in (self._signs.due_in(now), self._reloads.due_in(now)) if wait is not None]
        timeout = max(min(waits), 0.0) if waits else None
        bell = self._signal_bell.watched
        readable, writable, _ = select.select([bell, *self._signs.reads], self._signs.writes, [], timeout)
        if bell in readable:
            self._signal_bell.quieten()
        self._signs.give([*readable, *writable], time.monotonic())

    def _fork(self, vacancy: _Vacancy) -> None:
        board, pulse = Board(self._settings.slots + 2 * MAX_CLAIM, self._signal_bell), Pulse()
        gauges = self.ledger.open()
        predecessors, self._orphaned = self._orphaned, []

        def work(control: int) -> int:
            process = WorkerProcess(
                self._settings,
                board,
                control,
                budget=self._budget,
                gauges=gauges,
                predecessors=predecessors,
                pulse=pulse,
                tell=self._signal_bell.ring,
            )
            signal.signal(signal.SIGTERM, lambda number, frame: process.drain())
            if vacancy.is_rescue:
                process.drain()
            return process.run()

        pid, control = self._fork_process(work)
        self._children[pid] = child = _Child(
            index=vacancy.place,
            pid=pid,
            control=control,
            board=board,
            pulse=pulse,
            gauges=gauges,
            predecessors=predecessors,
            is_succeeded=vacancy.is_rescue,
        )
        if self._is_quiet:
            self._tell(QUIET, [child])
        logger.debug("Worker process %d has pid %d.", vacancy.place, pid, extra={"action": "process_started"})

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
            for end in (control_out, *self._reloads.pipes, *(child.control for child in self._children.values())):
                os.close(end)
            self._signs.close_in_child()
            leave_to_supervisor()
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

    def _hear(self) -> None:
        """Stop, as for a first signal, when a process was told so through the database."""
        if not self._orders.stops and any(child.pulse.wants_stop for child in self._children.values()):
            self._orders.stops = 1

    def _reap(self) -> None:
        for pid in list(self._children):
            done, wait_status = os.waitpid(pid, os.WNOHANG)
            if done:
                # What it said last was for the worker.
                self._hear()
                self._buried(self._children.pop(pid), os.waitstatus_to_exitcode(wait_status))

    def _buried(self, child: _Child, status: int) -> None:
        os.close(child.control)
        is_stopping = self._orders.is_stopping
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
                "" if is_stopping else " It is replaced, and its tasks are taken over.",
                extra={"action": "process_died"},
            )
            self._stillborn = 0 if child.board.is_ready else self._stillborn + 1
            self._ends["crash"] += 1
            if not is_stopping:
                pause = 0.0 if died_of_task(child, was_replaced=status == REPLACED) else self._pause_after(child)
                # Where its successor is at work already, somebody has to take over its tasks all the same.
                at = time.monotonic() + pause
                self._vacancies.append(_Vacancy(at, child.index, is_rescue=child.is_succeeded))
        elif not is_stopping and not child.is_succeeded and (child.pulse.retirement or not self._is_done()):
            self._vacancies.append(_Vacancy(time.monotonic(), child.index))
        if child.pulse.retirement:
            self._ends[child.pulse.retirement.name.lower()] += 1
        child.board.close()
        child.pulse.close()
        self.ledger.bury(child.gauges)

    def _succeed(self) -> None:
        """Start the successors of processes that take no more tasks."""
        if self._orders.is_stopping or not self._settings.has_early_successors:
            return
        for child in self._children.values():
            if child.pulse.retirement is not Retirement.NONE and not child.is_succeeded:
                child.is_succeeded = True
                self._vacancies.append(_Vacancy(time.monotonic(), child.index))

    def _give_up(self) -> None:
        """Stop when no process gets as far as working: the next one would not, either."""
        if self._stillborn >= _STILLBORN and not self._orders.is_stopping:
            logger.critical(
                "%d worker processes in a row died before they could work; see above why.",
                self._stillborn,
                extra={"action": "gave_up"},
            )
            self._status = CANNOT_WORK
            self._orders.stops = 1

    def _is_done(self) -> bool:
        """Whether a process that ended by itself had a reason to."""
        return self._settings.burst or (self._budget is not None and self._budget.left == 0)

    def _pause_after(self, child: _Child) -> float:
        if time.monotonic() - child.started > _SHORT_LIFE or child.pulse.tasks or child.board.started():
            # What it died of is a task's doing, and no reason to keep the others waiting.
            self._short_lives = 0
            return 0.0
        self._short_lives += 1
        return min(_PAUSE * 2.0 ** min(self._short_lives - 1, 10), _PAUSE_MAX)

    def _pass_on_signals(self) -> None:
        now = time.monotonic()
        if self._orders.is_stopping and not self._told:
            logger.info(
                "%s: running tasks may end, none starts. Once more to stop at once.",
                "Reloading" if self.is_reloading else "Stopping",
                extra={"action": "stopping"},
            )
            if not self.is_reloading:
                self._signs.stopping()
            self._tell(DRAIN)
            timeouts = (self._settings.shutdown_timeout, HASTE if self._reloads.is_hasty else None)
            if any(timeout is not None for timeout in timeouts):
                self._force_at = now + min(timeout for timeout in timeouts if timeout is not None)
        if self._told < 2 and (self._orders.stops > 1 or (self._force_at is not None and now >= self._force_at)):
            logger.warning("Stopping at once: running tasks are given back.", extra={"action": "stopping_now"})
            self._force_at = None
            self._tell(NOW)
            self._told = 2
            self._kill_at = now + _FORCE
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            for child in self._children.values():
                os.kill(child.pid, signal.SIGKILL)
        self._told = max(self._told, int(self._orders.is_stopping))

    def _pass_on_wishes(self) -> None:
        """What signals ask for beside a stop."""
        now = time.monotonic()
        if self._orders.is_quiet is not self._is_quiet:
            self._is_quiet = self._orders.is_quiet
            logger.info(
                "Starts no more tasks until SIGCONT." if self._is_quiet else "Starts tasks again.",
                extra={"action": "quiet" if self._is_quiet else "resumed"},
            )
            self._tell(QUIET if self._is_quiet else RESUME)
        if self._orders.stacks > self._stacks_told:
            self._stacks_told = self._orders.stacks
            for child in self._children.values():
                child.stacks = child.pulse.stacks + 1
            self._tell(STACKS)
            self._stacks_at = now + _DEAF
        if self._stacks_at is not None and now >= self._stacks_at:
            self._stacks_at = None
            self._ask_the_deaf()

    def _ask_the_deaf(self) -> None:
        """Let processes whose interpreter is held up show their stacks from below it."""
        for child in self._children.values():
            if child.board.is_ready and child.pulse.stacks < child.stacks:
                logger.warning(
                    "Worker process %d (pid %d) does not answer. It has begun these tasks: %s. Its stacks follow.",
                    child.index,
                    child.pid,
                    ", ".join(sorted(child.board.started())) or "none",
                    extra={"action": "deaf"},
                )
                os.kill(child.pid, signal.SIGUSR1)

    def _tell(self, word: bytes, children: Iterable[_Child] | None = None) -> None:
        for child in self._children.values() if children is None else children:
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
