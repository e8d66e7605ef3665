"""Publishing without waiting for the broker's word, where something else tells: a reply, or a row in the outbox.

The thread that posts writes to the connection itself, when it stands, little is under way and nobody else is writing:
a reply is on its way some 20 µs later, instead of after another thread has woken up. The confirms are read along with
those of the next message, or some milliseconds later by a thread of the poster's, which also publishes anew what was
under way on a connection that has ended.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .outgoing import POSTER, Outgoing
from .sender import Letter, Sender

if TYPE_CHECKING:
    from .publisher import Publisher

logger = logging.getLogger("django_taskq.broker")

#: seconds between two looks for confirms that nobody else has read
_TICK = 0.02
#: seconds without a confirm after which a connection is taken for dead
_PATIENCE = 1.0
#: seconds without anything under way until the thread looks less often, and between two looks from then on
_RESTLESS, _REST = 1.0, 0.05
#: seconds without anything under way until the thread ends
_IDLE = 5.0
#: messages under way from which on the thread sends what comes, many with one write: it takes longer for each, and
#: all of them half as long
_FEW = 4


class _Batch:
    """Messages that were posted together. ``sender``: under way on which connection; None: not yet."""

    __slots__ = ("done", "letters", "messages", "posted_at", "sender")

    def __init__(self, messages: Sequence[Outgoing], letters: list[Letter], done: Callable[[list[bool]], None]) -> None:
        self.messages = messages
        self.letters = letters
        self.done = done
        self.sender: Sender | None = None
        self.posted_at = time.monotonic()

    def is_taken(self) -> bool | None:
        """Whether the broker has all of it; None: not yet known."""
        is_taken = True
        for letter in self.letters:
            if letter.result is None:
                return None
            is_taken = is_taken and letter.result
        return is_taken


class Poster:
    """Posts to one publisher's broker; for any thread of the process that made it."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        # Recursive, because a signal may post in the thread that holds it. Never held while waiting.
        self._lock = threading.RLock()
        self._batches: deque[_Batch] = deque()
        #: one turn at a time: two would publish what is left over twice
        self._turning = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def post(self, messages: Sequence[Outgoing], letters: list[Letter], done: Callable[[list[bool]], None]) -> None:
        """See ``Publisher.post``."""
        batch = _Batch(messages, letters, done)
        if len(self._batches) < _FEW:
            batch.sender = self._publisher.write(letters, wait=False)
        with self._lock:
            self._batches.append(batch)
            is_first = self._thread is None
            if is_first:
                self._thread = threading.Thread(target=self._run, name=POSTER, daemon=True)
            settled = self._settled(is_poster=False)
        if is_first:
            assert self._thread is not None
            self._thread.start()
        if batch.sender is None:
            self._wake.set()
        for each in settled:
            _tell(each)

    def flush(self) -> None:
        """Settle what is under way, now; waits for the broker's word on it."""
        with self._turning:
            self._turn(is_last=True)

    def _run(self) -> None:
        unused_since = time.monotonic()
        while True:
            now = time.monotonic()
            if self._batches:
                unused_since = now
                if self._is_due(now):
                    with self._turning:
                        self._turn()
                self._wake.wait(_TICK)
            else:
                with self._lock:
                    if not self._batches and now - unused_since >= _IDLE:
                        self._thread = None
                        return
                # By itself: to wake this thread takes whoever posts longer than posting.
                self._wake.wait(_TICK if now - unused_since < _RESTLESS else _REST)
            self._wake.clear()

    def _is_due(self, now: float) -> bool:
        """Whether there is something to send, or to read that whoever posts has not read for a while."""
        batches = list(self._batches)
        return any(batch.sender is None or now - batch.posted_at >= _TICK for batch in batches)

    def _turn(self, *, is_last: bool = False) -> None:
        unsent = [batch for batch in list(self._batches) if batch.sender is None]
        if unsent:
            sender = self._publisher.write([letter for batch in unsent for letter in batch.letters], wait=True)
            for batch in unsent:
                batch.sender = sender
        for sender in {batch.sender for batch in list(self._batches) if batch.sender is not None}:
            self._publisher.collect(sender, wait=is_last)
        self._finish()
        now = time.monotonic()
        with self._lock:
            again = [
                batch
                for batch in self._batches
                if is_last
                or batch.sender is None
                or not self._publisher.is_current(batch.sender)
                or now - batch.posted_at > _PATIENCE
            ]
            for batch in again:
                self._batches.remove(batch)
        for sender in {batch.sender for batch in again if batch.sender is not None}:
            # Silent for too long: what else is under way there is published anew, too.
            self._publisher.drop(sender)
        self._publish(again)

    def _publish(self, batches: Sequence[_Batch]) -> None:
        """Once more, and this time wait for the broker's word."""
        left = [
            (letter, message)
            for batch in batches
            for letter, message in zip(batch.letters, batch.messages, strict=True)
            if letter.result is None
        ]
        if left:
            for (letter, _), is_taken in zip(
                left, self._publisher.publish([message for _, message in left]), strict=True
            ):
                letter.result = is_taken
        for batch in batches:
            _tell(batch)

    def _finish(self, *, is_poster: bool = True) -> None:
        """Tell of what is settled, oldest first: confirms come in this order, as good as always.

        Bad news are the poster's own thread's: who posts may be in the middle of a transaction, and what is
        written because of them must not be rolled back with it.
        """
        with self._lock:
            settled = self._settled(is_poster=is_poster)
        for batch in settled:
            _tell(batch)

    def _settled(self, *, is_poster: bool) -> list[_Batch]:
        """Take out what is settled. Holds the lock."""
        settled: list[_Batch] = []
        batches = self._batches
        while batches and (is_taken := batches[0].is_taken()) is not None:
            if not (is_poster or is_taken):
                self._wake.set()
                break
            settled.append(batches.popleft())
        return settled


def _tell(batch: _Batch) -> None:
    try:
        batch.done([letter.result is True for letter in batch.letters])
    except Exception:
        logger.exception("A message was posted, and its sender could not take note", extra={"action": "post_untold"})
