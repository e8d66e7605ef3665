"""When a worker process looks for tasks, and how many it takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from .. import registry
from ..brokers.base import Consumer
from ..core.message import Message
from ..wakeup import settling_pause
from .budget import Budget
from .flow import MAX_CLAIM, Flow
from .settings import WorkerSettings

#: without wake-ups: the pause between two looks is a share of how long nothing came, from this many seconds up
_FIRST_LOOK, _LOOK_SHARE = 0.005, 0.1
#: coroutine tasks to ask a broker for while none runs
_SPARE = 4
#: seconds between two looks for the tasks of one kind of slot while the other kind is full
_NAMED_LOOK = 0.05


@dataclass(frozen=True, slots=True)
class _Room:
    """How many ``tasks`` can be taken: of any kind (``names`` None), only those named, or all but those."""

    tasks: int
    names: frozenset[str] | None = None
    names_wanted: bool = False

    @property
    def is_none(self) -> bool:
        return self.tasks <= 0


class Intake:
    """Claims for the slots of one process; used by the I/O thread alone.

    Looks at once when a hint came or the last claim was full, and on a timer in any case.
    ``poll_interval``: the longest pause, in seconds, between two looks where no wake-ups exist.
    """

    def __init__(
        self, consumers: Sequence[Consumer], settings: WorkerSettings, budget: Budget | None, poll_interval: float
    ) -> None:
        self.consumers = consumers
        self.flow = Flow(slots=settings.threads, strict=settings.strict)
        self._settings = settings
        self._budget = budget
        self._poll_interval = poll_interval
        self._next_look = 0.0
        self._next_named_look = 0.0
        self._last_activity = time.monotonic()
        self._hinted_at = 0.0
        #: the last look found everything there was, so that only news are worth another
        self._is_settling = False
        #: --max-tasks is used up
        self.is_spent = False

    def look_in(self, now: float, threads_held: int, coroutines_held: int, stuck_for: float) -> float | None:
        """Seconds until the next look; None while there is no slot to fill."""
        room = self._room(threads_held, coroutines_held, stuck_for)
        if room.is_none:
            return None
        return max((self._next_look if room.names is None else self._next_named_look) - now, 0.0)

    def ahead(self, threads_held: int, coroutines_held: int, stuck_for: float) -> int:
        """Tasks that could run now or wait for a slot here; 0 while every slot is busy for longer."""
        ahead = self.flow.ahead(stuck_for)
        tasks = 0 if threads_held >= self.flow.slots and not ahead else self.flow.slots + ahead
        if self._settings.coroutines and registry.coroutine_names():
            # Twice what runs and some, not all that are free: a queue may bring none for them.
            tasks += min(max(self._settings.coroutines - coroutines_held, 0), coroutines_held + _SPARE)
        return tasks

    def take(self, now: float, limit: int, threads_held: int, coroutines_held: int, stuck_for: float) -> list[Message]:
        """Claim for all free slots, at most ``limit`` tasks; empty when there is nothing, or no slot.

        ``stuck_for``: seconds since a slot last took a task while all of them are busy, else 0.
        """
        room = self._room(threads_held, coroutines_held, stuck_for)
        has_news = any([consumer.has_news() for consumer in self.consumers])  # noqa: C419  # each remembers what it saw
        if self._is_settling and not has_news:
            # A hint came before what it tells of: nothing has been committed yet.
            self._next_look = self._next_named_look = now + self._pause(now)
            return []
        limit = self._reserve(min(room.tasks, limit, MAX_CLAIM), now)
        if limit <= 0:
            return []
        messages: list[Message] = []
        try:
            for consumer in self.consumers:
                if room.names is None:
                    messages += consumer.receive(limit - len(messages))
                else:
                    messages += consumer.receive(limit - len(messages), names=room.names, wanted=room.names_wanted)
                if len(messages) >= limit:
                    break
        finally:
            self.gave_back(limit - len(messages))
        if messages:
            self._last_activity = now
        self._is_settling = len(messages) < limit
        if room.names is not None:
            # A look at the tasks of one kind only, which says nothing of the others.
            self._next_named_look = now + (_NAMED_LOOK if len(messages) < limit else 0.0)
        elif len(messages) < limit:
            # Fewer than asked for: there are no more. What comes later brings its own hint.
            self._next_look = now + self._pause(now)
        return messages

    def used(self, now: float) -> None:
        """Ends were written: tasks of this process may be READY again, or may have enqueued others."""
        self._last_activity = now
        # Own commits are no news to the connection that made them.
        self._is_settling = False
        if not self.has_wakeups():
            self._next_look = min(self._next_look, now + _FIRST_LOOK)

    def gave_back(self, tasks: int) -> None:
        """Tasks that were reserved or taken, and not run."""
        if self._budget is not None:
            self._budget.give_back(tasks)

    def drain_hints(self) -> None:
        """Take the consumers' hints: is there one, it is time to look."""
        if any([consumer.drain_hints() for consumer in self.consumers]):  # noqa: C419  # drains them all
            self._hinted_at = time.monotonic()
            # Whatever the last look found, what has been committed since is news; where hints come late, look now.
            self._next_look = 0.0
            # While one kind of slot is full it may be a task for the other; hints may come faster than is worth it.
            self._next_named_look = min(self._next_named_look, self._hinted_at + _NAMED_LOOK)

    def look_now(self) -> None:
        """Forget that nothing was there."""
        self._is_settling = False
        self._next_look = 0.0

    def has_wakeups(self) -> bool:
        """Whether every consumer tells by itself when something comes."""
        return all(consumer.trusted_for is not None for consumer in self.consumers)

    def _reserve(self, tasks: int, now: float) -> int:
        """How many of ``tasks`` the budget allows; they are this process's until it gives them back."""
        if self._budget is None or tasks <= 0:
            return tasks
        allowed = self._budget.take(tasks)
        self.is_spent = allowed == 0
        if self.is_spent:
            self._next_look = self._next_named_look = now + _NAMED_LOOK
        return allowed

    def _room(self, threads_held: int, coroutines_held: int, stuck_for: float) -> _Room:
        """What could be taken now. While one kind of slot is full, its tasks are left to others."""
        wanted = self.flow.wanted(threads_held, stuck_for)
        if not self._settings.coroutines:
            return _Room(wanted)
        names = registry.coroutine_names()
        if not names:
            return _Room(wanted)
        free = max(self._settings.coroutines - coroutines_held, 0)
        if wanted:
            return _Room(wanted) if free else _Room(wanted, names, names_wanted=False)
        return _Room(free, names, names_wanted=True)

    def _pause(self, now: float) -> float:
        since_hint = now - self._hinted_at
        if since_hint < max(consumer.settles_in for consumer in self.consumers):
            return settling_pause(since_hint)
        self._is_settling = False
        trusted = [consumer.trusted_for for consumer in self.consumers]
        if trusted and None not in trusted:
            return max(min(seconds for seconds in trusted if seconds is not None), self._poll_interval)
        quiet = (now - self._last_activity) * _LOOK_SHARE
        return min(max(quiet, _FIRST_LOOK), self._poll_interval)
