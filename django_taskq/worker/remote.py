"""What a worker process is told through the database: what is paused, and what it is to do itself.

One statement per database and look tells both. PostgreSQL and SQLite hint when it is worth one; a word is heard within two
seconds in any case, unless a proxy swallows PostgreSQL's notifications: then within twenty.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias, get_args

from django.db import connections

from ..brokers.base import Consumer
from ..core.paused import NOTHING_PAUSED, Paused, PauseKind
from ..database import in_memory
from ..transitions.control import answer_order

logger = logging.getLogger("django_taskq.worker")

Verb: TypeAlias = Literal["ping", "drain", "resume", "stop", "stacks"]
VERBS: tuple[Verb, ...] = get_args(Verb)

#: seconds between two looks, so that every word is heard within two; and where hints tell of words
_LOOK, _LOOK_TOLD = 1.5, 20.0
_LONG_AGO = float("-inf")
#: characters of an answer
MAX_ANSWER = 100_000

_WORDS = (
    "SELECT kind, name, 0 FROM django_taskq_pause UNION ALL "
    "SELECT verb, '', id FROM django_taskq_order WHERE worker_id = %s AND answered_at IS NULL"
)


@dataclass(slots=True)
class _Ear:
    using: str
    #: of this database's consumers, one at least tells of words
    consumers: Sequence[Consumer]
    paused: Paused = NOTHING_PAUSED
    version: int | None = None

    @property
    def is_told(self) -> bool:
        return any(consumer.hears_words for consumer in self.consumers)


class Remote:
    """Used by the I/O thread. An order is answered before it is carried out, and so done once at most.

    ``answer``: what to say to an order; ``carry_out``: do it. ``changed``: called when something else is paused.
    """

    def __init__(
        self,
        databases: Collection[str],
        consumers: Sequence[Consumer],
        *,
        answer: Callable[[Verb], str],
        carry_out: Callable[[Verb], None],
        changed: Callable[[], None],
    ) -> None:
        self._ears = [_Ear(using, [one for one in consumers if one.using == using]) for using in databases]
        self._answer = answer
        self._carry_out = carry_out
        self._changed = changed
        #: when this process began
        self.since = datetime.now(UTC)
        self._looked_at = _LONG_AGO
        #: when something was hinted at, and is not looked for yet: from when on, and at last
        self._hinted_at: float | None = None
        self._settled_at = _LONG_AGO

    def hint(self, settles_in: float) -> None:
        """There may be something; it can be seen after so many seconds at the latest, 0: there is something."""
        self._settled_at = time.monotonic() + settles_in
        if self._hinted_at is None:
            self._hinted_at = self._settled_at
        if not settles_in:
            self._looked_at = _LONG_AGO

    def begin_anew(self) -> None:
        """The connections are others than before."""
        self._looked_at = _LONG_AGO
        for ear in self._ears:
            ear.version = None

    def due_in(self, now: float, *, is_listening: bool) -> float:
        """Seconds to the next look. ``is_listening``: hints of the consumers are heeded."""
        due_at = self._looked_at + _LOOK
        if is_listening and all(ear.is_told for ear in self._ears):
            # Hints may come faster than is worth a look: SQLite's tell of every commit.
            hinted_at = self._looked_at + _LOOK_TOLD if self._hinted_at is None else self._hinted_at
            due_at = max(due_at, hinted_at)
        return max(due_at - now, 0.0)

    def look(self, now: float, worker_id: str, *, is_listening: bool) -> None:
        """Heed what was said, when it is time to ask. Raises the database's errors."""
        if self.due_in(now, is_listening=is_listening):
            return
        # First: what is said while this looks is for the next look.
        self._looked_at = now
        if self._hinted_at is not None and now >= self._hinted_at:
            # What was hinted at since then may not be seen yet.
            self._hinted_at = self._settled_at if self._settled_at > now else None
        for ear in self._ears:
            if _has_news(ear):
                self._heed(ear, worker_id)

    def _heed(self, ear: _Ear, worker_id: str) -> None:
        with connections[ear.using].cursor() as cursor:
            cursor.execute(_WORDS, [worker_id])
            words = cursor.fetchall()
        paused = Paused(
            frozenset(name for kind, name, _ in words if kind == PauseKind.QUEUE),
            frozenset(name for kind, name, _ in words if kind == PauseKind.TASK),
        )
        if paused != ear.paused:
            self._pause(ear, paused)
        for verb, order_id in sorted(((word, key) for word, _, key in words if key), key=lambda word: word[1]):
            self._obey(ear.using, verb, order_id)

    def _pause(self, ear: _Ear, paused: Paused) -> None:
        ear.paused = paused
        for consumer in ear.consumers:
            consumer.pause(paused)
        logger.info(
            "Paused: %s.",
            ", ".join([*(f"queue {name}" for name in sorted(paused.queues)), *sorted(paused.tasks)]) or "nothing",
            extra={"action": "paused"},
        )
        self._changed()

    def _obey(self, using: str, verb: str, order_id: int) -> None:
        known = next((one for one in VERBS if one == verb), None)
        answer = f"This worker does not know how to {verb}." if known is None else self._answer(known)
        if answer_order(using, order_id, answer[:MAX_ANSWER]) and known is not None:
            if known not in {"ping", "stacks"}:
                logger.info("Told to %s.", known, extra={"action": "told"})
            self._carry_out(known)


def _has_news(ear: _Ear) -> bool:
    connection = connections[ear.using]
    if connection.vendor != "sqlite" or in_memory(connection):
        return True
    # Whether another connection has committed since (SQLite, "PRAGMA data_version"). Own ones give no orders.
    with connection.cursor() as cursor:
        (version,) = cursor.execute("PRAGMA data_version").fetchone()
    is_new = version != ear.version
    ear.version = version
    return bool(is_new)
