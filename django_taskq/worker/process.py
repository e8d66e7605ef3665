"""One worker process: an I/O thread that claims and writes, and slots that run.

The I/O thread is the only one that touches the broker and the rows. Slots hand it outcomes over a
queue and ring a bell when it sleeps. Claims and ends travel in batches that nobody waits for: while
one statement is in flight, the next batch gathers.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from uuid import uuid4

from django.db import DatabaseError, InterfaceError, connections

from .. import registry
from ..aliases import taskq_backends
from ..announcements import announce, announce_lost, finish_announcing, uncounted
from ..backend import TaskqBackend
from ..bell import Bell
from ..core.message import Message
from ..core.outcome import Outcome
from ..instrument import flush
from ..signals import worker_ready, worker_stopping
from ..transitions import workers
from ..transitions.due import expire_overdue, promote_due
from ..transitions.finish import Held, release
from .board import Board
from .budget import Budget
from .burst import REMAINDER_LOOK, Remainder
from .consumers import open_consumers
from .flow import HORIZON
from .gauges import Sheet
from .intake import Intake
from .kept_log import keep_lines
from .lane import FastLane
from .lease import Lease
from .limits import Watch
from .pulse import Pulse, Retirement
from .recycle import Recycling, resident_memory
from .remote import Remote, Verb
from .replies import Replies
from .reports import Key, Reports
from .runner import Attempt
from .settings import WorkerSettings
from .slots import CoroutineSlots, ThreadSlots, Work
from .stacks import facts_text, show_stacks, stacks_text
from .statistics import Statistics
from .takeover import Predecessor, Takeover
from .tally import Tally
from .unrecorded import Settler
from .writer import PATIENCE, Writer

logger = logging.getLogger("django_taskq.worker")

#: what the supervisor says over the pipe; its end of file means that the supervisor is gone
DRAIN, NOW, QUIET, RESUME, STACKS = b"d", b"n", b"q", b"r", b"s"

#: exit statuses of a process; REPLACED: a task that does not end has taken one of its slots
STOPPED, BROKEN, GAVE_BACK, REPLACED = 0, 1, 4, 6

#: seconds that running tasks get once the supervisor is gone, before they are given back
_ORPHAN_GRACE = 1.0
#: seconds that receivers of the last signals get
_FAREWELL = 1.0
#: seconds between tries to reach the database again
_RECONNECT, _RECONNECT_MAX = 0.1, 2.0
#: what a database, its driver or a full packet may raise; anything else is a mistake of ours
_FAULTS = (DatabaseError, InterfaceError, OSError, ValueError, OverflowError)


class WorkerProcess:
    """The I/O thread's state. Slots touch the queue of outcomes, the board and the bell, and nothing else."""

    def __init__(
        self,
        settings: WorkerSettings,
        board: Board,
        control: int,
        *,
        budget: Budget | None = None,
        gauges: Sheet | None = None,
        predecessors: Sequence[Predecessor] = (),
        pulse: Pulse | None = None,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        """``tell``: called when the pulse says something that the supervisor should hear at once."""
        self._settings = settings
        self._board = board
        self._gauges = gauges or Sheet()
        self._gauges.set_slots(settings.threads, settings.coroutines)
        self._pulse = pulse or Pulse()
        self._tell = tell
        self._recycling = Recycling(settings.max_tasks_per_child, settings.max_memory_per_child)
        self._control: int | None = control
        self._predecessors = list(predecessors)
        #: all of this project's: a broker's queues may bring tasks of aliases that this worker was not told to serve
        self._backends = {backend.alias: backend for backend in taskq_backends(skip_broken=True)}
        keep_lines(self._backends.values())
        self._worker_id = self._new_id()
        served = [self._backends[alias] for alias in settings.backends]
        by_database: dict[str, list[TaskqBackend]] = {}
        for backend in served:
            by_database.setdefault(backend.database, []).append(backend)
        self._bell = Bell()
        self._replies = Replies(self._backends.__getitem__, self._ring)
        self._tally = Tally(self._gauges, Statistics(self._backends, served[0].database))
        self._lane = FastLane(
            self._replies, has_room=self._has_room, is_moving=self._is_moving, start=self._submit_directly
        )
        #: a lane keeps to no order, and to no count
        self._has_lane = not settings.strict and budget is None
        self._consumers = open_consumers(served, settings, lambda: self._worker_id, self._lane, called=self._on_words)
        self._leases = [Lease(using, self._worker_id, backends, settings) for using, backends in by_database.items()]
        self._intake = Intake(
            self._consumers, settings, budget, min(backend.config.poll_interval for backend in served)
        )
        self._remote = Remote(
            list(by_database),
            self._consumers,
            answer=self._answer,
            carry_out=self._carry_out,
            changed=self._intake.look_now,
        )
        self._writer = Writer(lambda alias: self._backends[alias].database, self._replies)
        self._settler = Settler(self._backends.__getitem__, self._replies)
        self._remainder = Remainder(served, self._consumers, settings.queues)
        #: a burst waits for what is on its way through a message broker
        self._is_awaited = False
        self._takeover = Takeover(
            self._backends.__getitem__,
            self._attempt,
            self._replies,
            self._tally.ended,
        )
        self._watch = Watch(board, self._on_overdue)
        home = str(Path.cwd())
        self._threads = ThreadSlots(settings.threads, home, self._on_start, self._on_end, self._watch)
        self._coroutines = CoroutineSlots(settings.coroutines, home, self._on_start, self._on_end, self._watch)
        #: a task was given up, so that this process has to end
        self._is_condemned = False
        #: tasks of this process whose end is not written, by id and claim: one that was taken from this
        #: process while it was silent may come back to it beside its first run
        self._held: dict[Key, Work] = {}
        self._coroutines_held = 0
        self._places = list(range(board.places))
        self._done: deque[tuple[Work, Outcome]] = deque()
        #: those that end without the I/O thread, which alone writes the sheet of counters
        self._uncounted: deque[tuple[Message, Outcome]] = deque()
        #: the I/O thread sleeps; deliveries wake it, too
        self._sleeping = self._is_receptive = False
        #: when it looks up by itself, and when consumers want to be tended again (monotonic)
        self._wakes_at = self._next_tending = 0.0
        self._reports = Reports()
        self._connected = False
        self._is_told_ready = self._is_told_stopping = False
        self._reconnect_pause = _RECONNECT
        #: nothing more is claimed: since this process is to end, to be succeeded, or since the supervisor said so
        self._draining = self._retiring = self._quiet = False
        self._deadline: float | None = None
        self._status = STOPPED
        self._over = threading.Event()

    # The main thread

    def run(self) -> int:
        """Work until told to stop; gives the exit status. A single thread slot runs tasks in this thread."""
        threading.Thread(target=self._io, name="taskq-io", daemon=True).start()
        self._threads.start()
        if self._threads.count == 1:
            self._threads.serve()
        self._over.wait()
        return self._status

    def drain(self) -> None:
        """Finish what runs and stop; safe in a signal handler."""
        self._draining = True
        self._bell.ring()

    @property
    def taken_over(self) -> int:
        """Tasks of predecessors that were given back, or ended."""
        return self._takeover.tasks

    # What slots call

    def _on_start(self, work: Work) -> None:
        # The sheet is for rows. A task without one is held by its delivery, under an id that may be any text.
        if work.message.delivery is None:
            self._board.note(work.place, work.message.id)

    def _reply(self, work: Work, outcome: Outcome) -> None:
        """A task has ended for good, and its slot is not done with it: who waits is answered now."""
        if work.message.delivery is None:
            return
        if work.on_told is None:
            self._replies.answer(work, outcome)
        else:
            self._lane.answer(work, outcome)

    def _on_end(self, work: Work, outcome: Outcome) -> None:
        if work.on_told is not None and self._lane.settle(work, outcome):
            self._intake.flow.finished(outcome.duration)
            self._uncounted.append((work.message, outcome))
            self._forget(work)
            for consumer in self._consumers:
                consumer.hand_over()
            if self._draining:
                self._bell.ring()
            return
        if work.message.delivery is None:
            self._board.note_end(work.place)
        else:
            self._replies.answer(work, outcome)
        self._done.append((work, outcome))
        if work.is_answered and not work.is_told and self._is_receptive:
            # All that is left is the ack, which waits for the broker to have the answer. A wake-up costs as much as the
            # task: so the next delivery's does for this one, too, or the one that tells of the answer.
            return
        # While more tasks wait here the I/O thread wakes by itself, and takes these together.
        if self._sleeping and (work.is_async or self._threads.is_empty()):
            self._bell.ring()

    def _on_overdue(self, work: Work, outcome: Outcome) -> None:
        """A task was given up: its slot does not come back."""
        work.is_overdue = True
        self._on_end(work, outcome)
        self._bell.ring()

    def _has_room(self) -> bool:
        """For any thread; the slots that are free may not be for long."""
        return (
            self._has_lane
            and self._connected
            and not self._takes_none()
            and self._recycling.room(len(self._places)) > 0
            and len(self._held) - self._coroutines_held < self._settings.threads
        )

    def _submit_directly(self, message: Message, on_told: Callable[[Work], None]) -> None:
        self._recycling.took(1, time.monotonic())
        self._submit(message, on_told)

    def _is_moving(self) -> bool:
        """For any thread. The I/O thread looks again in time, should a slot get stuck now."""
        now = time.monotonic()
        return (
            self._has_lane
            and self._connected
            and not self._takes_none()
            and now - self._threads.moved_at < HORIZON / 2
            and self._wakes_at < now + HORIZON
        )

    def _ring(self) -> None:
        if self._sleeping:
            self._bell.ring()

    def _report(self, message: Message, progress: str) -> None:
        self._reports.note(message, progress)
        self._ring()

    # The I/O thread

    def _io(self) -> None:
        try:
            while not self._finished():
                try:
                    self._step()
                    self._reconnect_pause = _RECONNECT
                except _FAULTS as error:
                    self._disconnect(error)
            self._leave()
        except BaseException:  # noqa: BLE001  # whatever it was, this process cannot go on
            try:
                logger.critical("The worker process cannot go on.", exc_info=True, extra={"action": "process_failed"})
                logging.shutdown()
            finally:
                # Also where a log handler raises: nobody would replace a process that only this thread has left.
                os._exit(BROKEN)
        self._threads.stop()
        self._over.set()

    def _finished(self) -> bool:
        # Who is condemned leaves otherwise: the main thread does not end with the others where it is stuck.
        return self._draining and not self._is_condemned and self._lane.is_over(self._has_nothing)

    def _has_nothing(self) -> bool:
        return not (self._held or self._done or self._predecessors) and self._settler.is_empty()

    def _step(self) -> None:
        """One turn: take outcomes, write ends, claim tasks; then sleep until something happens."""
        now = time.monotonic()
        self._pulse.beat(now)
        self._tell_stopping()
        if self._deadline is not None and now >= self._deadline:
            self._give_back_everything()
        if not self._connected:
            self._connect()
            if not self._connected:
                # Declared lost meanwhile: nothing is claimed before the new id is registered.
                return
        if not all([lease.keep(now) for lease in self._leases]):  # noqa: C419  # each of them, also after a lost one
            self._declared_lost()
            return
        self._remote.look(now, self._worker_id, is_listening=self._is_listening())
        self._collect(now)
        self._reports.pass_on(now, self._database_of)
        if self._writer.due_in(now, busy=self._is_busy()) == 0.0:
            for work in self._writer.write():
                self._forget(work)
            self._intake.used(now)
        self._replies.go_on(now, is_leaving=self._draining)
        for work in self._settler.settle():
            self._forget(work)
        self._give_back_waiting(now)
        self._make_room()
        for consumer in self._consumers:
            # Slots that have come free by the above.
            consumer.hand_over()
        self._pass_on_cancelled(now)
        self._recycle(now)
        self._tend(now)
        self._tally.statistics.write_due(now)
        if not self._claim(now) and not self._finished():
            self._sleep(now)

    def _on_words(self, settles_in: float) -> None:
        self._remote.hint(settles_in)

    def _is_listening(self) -> bool:
        """Whether what a consumer hears wakes this thread; while slots are full, it may not."""
        return not self._held and not self._takes_none()

    def _answer(self, verb: Verb) -> str:
        """What is said to an order."""
        if verb == "stacks":
            return stacks_text(self._held.values(), self._coroutines.tasks())
        quiet = (self._quiet or verb == "drain") and verb != "resume"
        return facts_text(
            self._held.values(),
            worker=self._worker_id,
            since=self._remote.since.isoformat(),
            quiet=quiet,
            stopping=self._draining or verb == "stop",
            memory=resident_memory(),
        )

    def _carry_out(self, verb: Verb) -> None:
        """Do what was ordered, once it is answered."""
        if verb == "drain":
            self._quiet = True
        elif verb == "resume":
            self._quiet = False
            self._intake.look_now()
        elif verb == "stop":
            self._pulse.ask_to_stop()
            self._draining = True
            self._tell()

    def _tell_stopping(self) -> None:
        if self._draining and self._is_told_ready and not self._is_told_stopping:
            self._is_told_stopping = True
            announce(worker_stopping, type(self), **self._picture())

    def _picture(self) -> dict[str, object]:
        """What signals say of this process."""
        settings = self._settings
        return {
            "worker_id": self._worker_id,
            "name": settings.name,
            "queues": str(settings.queues),
            "backends": settings.backends,
        }

    def _pass_on_cancelled(self, now: float) -> None:
        databases = [lease.using for lease in self._leases]
        self._reports.look_for_cancelled(now, self._worker_id, databases, is_idle=not self._held)
        if self._reports.cancelled:
            for work in list(self._held.values()):
                if work.message.id in self._reports.cancelled:
                    self._watch.cancel(work)

    def _is_busy(self) -> bool:
        """Whether more outcomes will come soon, so that those at hand may wait for them."""
        return not self._threads.is_empty() and not self._draining

    def _collect(self, now: float) -> None:
        ended = len(self._done) + len(self._uncounted)
        if ended:
            self._pulse.count(ended)
        while self._uncounted:
            message, outcome = self._uncounted.popleft()
            self._tally.ended(message, outcome)
        while uncounted:
            self._tally.lost(uncounted.popleft())
        while self._done:
            work, outcome = self._done.popleft()
            if not work.is_async:
                self._intake.flow.finished(outcome.duration)
            self._reports.ended((work.message.id, work.message.claim))
            self._tally.ended(work.message, outcome, is_cancelled=self._reports.is_cancelled(work.message))
            if work.message.delivery is None:
                self._writer.add(work, outcome, worker_id=self._worker_id, now=now)
            else:
                self._settler.add(work, outcome, worker_id=self._worker_id)

    def _forget(self, work: Work) -> None:
        """The task is not this process's any more."""
        # Not before its end is told: then this process has to go.
        self._is_condemned |= work.is_overdue
        self._board.wipe(work.place)
        self._places.append(work.place)
        key = (work.message.id, work.message.claim)
        del self._held[key]
        self._coroutines_held -= work.is_async
        self._reports.forget(key)

    def _tend(self, now: float) -> None:
        """Let the consumers know what could start, and do what is due with them."""
        ahead = -1 if self._takes_none() else self._intake.ahead(*self._slots_state(now))
        self._next_tending = min(consumer.tend(now, ahead) for consumer in self._consumers)
        self._pulse.set_brokers(all(consumer.is_connected for consumer in self._consumers))

    def _takes_none(self) -> bool:
        """Whether no task is claimed, however many slots are free."""
        return self._draining or self._retiring or self._quiet or self._is_condemned

    def _recycle(self, now: float) -> None:
        """Ask for a successor once this process has done enough."""
        if self._draining or self._retiring:
            return
        reason = self._recycling.verdict(now, is_idle=not self._held)
        if reason is Retirement.NONE:
            return
        self._retiring = True
        # What waits here is given back, before it makes memory grow; of tasks none was claimed that may not run.
        self._draining = reason is Retirement.MEMORY
        if reason is Retirement.MEMORY:
            why = f"uses {resident_memory() >> 20} MiB of memory"
        else:
            why = "has taken its number of tasks"
        logger.info("This worker process %s; it is succeeded.", why, extra={"action": "process_retires"})
        self._pulse.retire(reason)
        self._tell()

    def _slots_state(self, now: float) -> tuple[int, int, float]:
        """Tasks held for threads and for coroutines, and for how long no thread slot came free."""
        held = len(self._held) - self._coroutines_held
        busy = held >= self._settings.threads
        coroutines = self._settings.coroutines if self._coroutines.is_blocked else self._coroutines_held
        return held, coroutines, now - self._threads.moved_at if busy else 0.0

    def _claim(self, now: float) -> bool:
        """Claim what the slots can take; True when there is something to do at once."""
        if self._takes_none():
            if self._draining or self._is_condemned or not self._retiring or self._held:
                return False
            self._draining = True
            return True
        state = self._slots_state(now)
        may_end = self._settings.burst and not self._held
        if may_end:
            # Whatever the last look found: what ran since may have enqueued more.
            self._intake.look_now()
        if self._intake.look_in(now, *state) == 0.0:
            messages = self._intake.take(now, self._recycling.room(len(self._places)), *state)
            self._recycling.took(len(messages), now)
            for message in messages:
                self._submit(message)
            if messages:
                return True
            if self._intake.is_spent:
                self._draining = not self._held
                return self._draining
        return may_end and self._end_burst()

    def _end_burst(self) -> bool:
        """Nothing runs and nothing is ready: stop, unless something has come due meanwhile, or is on its way here.

        False when it is, and can be waited for.
        """
        more = 0
        for lease in self._leases:
            # What a keeper does elsewhere: where only bursts run, nobody else would.
            expire_overdue(lease.using)
            more += promote_due(lease.using)
            more += sum(self._rescue(lease, lost)[0] for lost in workers.remove_lost(lease.using))
            more += lease.fire_schedules()
        self._is_awaited = self._remainder.is_any()
        self._draining = not (more or self._is_awaited)
        return not self._is_awaited

    def _rescue(self, lease: Lease, worker_id: str, started: Collection[str] | None = None) -> tuple[int, int]:
        lost: list[workers.LostTask] = []
        counts = workers.rescue(lease.using, worker_id, started=started, lost=lost)
        announce_lost(lost)
        return counts

    def _submit(self, message: Message, on_told: Callable[[Work], None] | None = None) -> None:
        is_async = bool(self._settings.coroutines) and message.name in registry.coroutine_names()
        work = Work(message, self._attempt(message), self._places.pop(), is_async, on_told=on_told)
        self._held[message.id, message.claim] = work
        if is_async:
            self._coroutines_held += 1
            self._coroutines.submit(work)
        else:
            self._threads.submit(work)

    def _attempt(self, message: Message) -> Attempt:
        return Attempt(
            self._backends[message.backend],
            message,
            report=lambda progress: self._report(message, progress),
            is_cancelled=lambda: self._reports.is_cancelled(message),
            admit=None if message.delivery is None else lambda: message.delivery.consumer.admit(message),
            answer=self._reply,
            limits=(self._settings.soft_time_limit, self._settings.time_limit),
        )

    def _give_back_waiting(self, now: float) -> None:
        """Give back what waits behind long tasks, or when this process is to stop."""
        for slots in (self._threads, self._coroutines):
            if slots.is_empty() or not (self._draining or now - slots.moved_at > HORIZON):
                continue
            waiting = slots.take_back()
            # First off our list: should the statement fail, they are given back after reconnecting.
            for work in waiting:
                self._forget(work)
            self._give_back(waiting)
            self._intake.gave_back(len(waiting))
            self._recycling.gave_back(len(waiting))
            self._intake.look_now()

    def _database_of(self, key: Key) -> str | None:
        """Where the row of a task is that this process holds."""
        work = self._held.get(key)
        return None if work is None else self._backends[work.message.backend].database

    def _give_back(self, works: Iterable[Work]) -> None:
        """Let others run tasks that were not started; they are off our list already."""
        by_database: dict[str, list[Held]] = {}
        for work in works:
            one = work.message
            if one.delivery is not None:
                one.delivery.consumer.give_back([one])
            else:
                using = self._backends[one.backend].database
                by_database.setdefault(using, []).append(Held(one.id, one.claim, one.attempt, one.worker_ids))
        for using, held in by_database.items():
            release(using, held)

    def _sleep(self, now: float) -> None:
        """Until an outcome, a hint, a word from the supervisor, or the next duty."""
        held = len(self._held)
        self._gauges.set_busy(min(held - self._coroutines_held, self._settings.threads), self._coroutines_held)
        # From here on outcomes ring the bell; those that came before are looked for below.
        self._sleeping = True
        busy = self._is_busy()
        look = None if self._takes_none() else self._intake.look_in(now, *self._slots_state(now))
        self._is_receptive = look is not None
        waits = [
            self._writer.due_in(now, busy=busy),
            look,
            PATIENCE if not self._threads.is_empty() else None,
            # Slots that take tasks themselves may get stuck in one.
            HORIZON if self._has_lane and now - self._threads.moved_at < HORIZON else None,
            HORIZON if self._coroutines.is_blocked or not self._coroutines.is_empty() else None,
            0.0 if self._done and not busy else None,
            self._reports.due_in(now, is_idle=not self._held),
            self._recycling.due_in(now),
            self._remote.due_in(now, is_listening=self._is_listening()),
            self._replies.due_in(now),
            self._tally.statistics.due_in(now),
            None if self._deadline is None else self._deadline - now,
            self._next_tending - now,
            REMAINDER_LOOK if self._is_awaited else None,
            *(lease.next_duty() - now for lease in self._leases),
        ]
        timeout = max(min(wait for wait in waits if wait is not None), 0.0)
        if look is None:
            # No free slot: hints can wait, and must not wake this thread.
            self._wait(timeout)
            return
        if any(consumer.has_hints() for consumer in self._consumers):
            timeout = 0.0
        self._wait(timeout, [file for consumer in self._consumers for file in consumer.filenos()])
        self._intake.drain_hints()

    def _wait(self, timeout: float, files: Sequence[int] = ()) -> None:
        self._sleeping = True
        self._wakes_at = time.monotonic() + timeout
        watched = [self._bell.watched, *([] if self._control is None else [self._control]), *files]
        readable, _, _ = select.select(watched, [], [], timeout)
        self._sleeping = False
        self._wakes_at = 0.0
        if self._bell.watched in readable:
            self._bell.quieten()
        if self._control is not None and self._control in readable:
            self._obey(os.read(self._control, 16))

    def _obey(self, words: bytes) -> None:
        if STACKS in words:
            show_stacks(self._held.values(), self._coroutines.tasks())
            self._pulse.showed_stacks()
        if QUIET in words or RESUME in words:
            self._quiet = words.rfind(QUIET) > words.rfind(RESUME)
            self._intake.look_now()
        if not words or DRAIN in words or NOW in words:
            self._draining = True
        if not words:
            # The supervisor is gone: nobody would replace this process, or stop it.
            logger.warning("The supervisor is gone; this worker process ends.", extra={"action": "orphaned"})
            self._control = None
            self._deadline = time.monotonic() + _ORPHAN_GRACE
        elif NOW in words:
            self._deadline = time.monotonic()

    # Coming and going

    def _new_id(self) -> str:
        worker_id = f"{self._settings.name[:100]}-{uuid4().hex[:12]}"
        self._board.owner = worker_id
        return worker_id

    def _connect(self) -> None:
        for consumer in self._consumers:
            consumer.open()
        for lease in self._leases:
            if not lease.take(self._held):
                self._declared_lost()
                return
            for predecessor in self._predecessors:
                self._takeover.take(lease.using, predecessor)
        self._predecessors = []
        # Before anything is claimed: what was paused stays so for new workers.
        self._remote.begin_anew()
        self._remote.look(time.monotonic(), self._worker_id, is_listening=False)
        self._connected = True
        self._pulse.set_database(True)
        if not self._board.is_ready:
            self._board.set_ready()
            self._tell()
        if not (self._is_told_ready or self._draining):
            self._is_told_ready = True
            announce(worker_ready, type(self), **self._picture())
        self._intake.look_now()

    def _disconnect(self, error: Exception) -> None:
        """The database failed: keep what is done, let slots run on, and come back."""
        logger.warning(
            "The database failed (%s: %s); trying again in %.1f s.",
            type(error).__name__,
            str(error).strip(),
            self._reconnect_pause,
            exc_info=not isinstance(error, (DatabaseError, InterfaceError)),
            extra={"action": "database_failed"},
        )
        self._connected = False
        self._pulse.set_database(False)
        for consumer in self._consumers:
            consumer.disconnect()
        for lease in self._leases:
            connections[lease.using].close()
        self._wait(self._reconnect_pause)
        self._reconnect_pause = min(self._reconnect_pause * 2, _RECONNECT_MAX)
        if self._deadline is not None and time.monotonic() >= self._deadline:
            # Told to go at once, and nothing can be written: the lease runs out by itself.
            logger.error("Stopped while the database was away.", extra={"action": "stopped_without_database"})
            logging.shutdown()
            os._exit(GAVE_BACK)

    def _declared_lost(self) -> None:
        """This process was silent for longer than its lease; its tasks are somebody else's now."""
        old, self._worker_id = self._worker_id, self._new_id()
        logger.warning(
            "Worker %s was silent for too long and is taken for lost; going on as %s.",
            old,
            self._worker_id,
            extra={"action": "declared_lost"},
        )
        for work in [*self._threads.take_back(), *self._coroutines.take_back()]:
            self._forget(work)
            if work.message.delivery is not None:
                self._give_back([work])
        for consumer in self._consumers:
            consumer.worker_id = self._worker_id
        for lease in self._leases:
            lease.rename(self._worker_id)
        self._connected = False

    def _give_back_everything(self) -> None:
        """Leave at once: write what is done, give back the rest, end the process."""
        if not self._connected:
            self._connect()
        now = time.monotonic()
        self._collect(now)
        while not self._writer.is_empty():
            for work in self._writer.write():
                self._forget(work)
        for work in self._settler.settle():
            self._forget(work)
        self._give_back_waiting(now)
        started = {task_id for task_id, _ in list(self._held)}
        self._give_back([work for work in list(self._held.values()) if work.message.delivery is not None])
        self._tally.statistics.write_all()
        for consumer in self._consumers:
            consumer.close()
        for lease in self._leases:
            if started:
                self._rescue(lease, self._worker_id, started)
            lease.leave()
        if started:
            logger.warning("Gave back %d running tasks.", len(started), extra={"action": "gave_back"})
        finish_announcing(_FAREWELL / 2)
        flush(_FAREWELL / 2)
        logging.shutdown()
        os._exit(GAVE_BACK if started else STOPPED)

    def _make_room(self) -> None:
        """Where a slot is lost: end, so that a process with all its slots comes, which gives back what still runs here."""
        if not (self._is_condemned and self._lane.is_over(self._has_told_all)):
            return
        unrecorded = [work for work in list(self._held.values()) if work.message.delivery is not None]
        # Those that have begun and must not run twice were acked before.
        self._give_back([work for work in unrecorded if work.message.acks_late or not work.started])
        self._tally.statistics.write_all()
        for consumer in self._consumers:
            consumer.close()
        logging.shutdown()
        os._exit(REPLACED)

    def _has_told_all(self) -> bool:
        return not self._done and self._writer.is_empty() and self._settler.is_empty()

    def _leave(self) -> None:
        self._tell_stopping()
        self._collect(time.monotonic())
        self._tally.statistics.write_all()
        try:
            for consumer in self._consumers:
                consumer.close()
            for lease in self._leases:
                lease.leave()
            connections.close_all()
        except _FAULTS as error:
            logger.warning(
                "Could not sign off (%s); this worker's row goes with its lease.",
                error,
                extra={"action": "sign_off_failed"},
            )
        finish_announcing(_FAREWELL)
        flush(_FAREWELL)
