"""How many messages a worker process asks a broker for."""

from __future__ import annotations

#: deliveries to ask for at least and at most, where they are not given
LEAST, MOST = 4, 1_000
#: a prefetch is changed when it is off by this factor: changing it costs a round trip and what is on its way
_STEP = 2
#: seconds from a change of the prefetch to more and to less, but for those to and from 0: what is short of work
#: should not be for long
_GROWTH_PAUSE, _SHRINK_PAUSE = 0.05, 1.0
#: seconds without free slots until what was delivered is left to others
_PATIENCE = 0.1
#: seconds without receiving after tasks came for which only a kind of slot is left that cannot run them: from, to.
#: Each round of that returns messages, and a quorum queue counts how often (RabbitMQ, "Poison Message Handling").
_REST, _REST_MAX = 1.0, 60.0


class Prefetch:
    """Follows the pace of the tasks; ``fixed``: what the user wants instead.

    ``count``: what to ask for now; 0 receives nothing.
    """

    def __init__(self, fixed: int | None) -> None:
        self.count = 0
        self._fixed = fixed
        self._changed_at = 0.0
        self._busy_since: float | None = None
        self._ahead = 0
        self._resting_until: float | None = None
        self._rest = _REST

    def decide(self, now: float, ahead: int, unsuited_since: float | None) -> bool:
        """Set ``count``; False when whatever was delivered is better off with others.

        ``ahead``: see ``Consumer.tend``. ``unsuited_since``: since when there are deliveries that no free slot can run.
        """
        if self._fixed is not None:
            self.count = self._fixed if ahead >= 0 else 0
            return ahead >= 0
        if ahead <= 0:
            if self._busy_since is None:
                self._busy_since = now
            if ahead < 0 or now - self._busy_since > _PATIENCE:
                # Nothing starts here soon.
                self.count = 0
            return self.count > 0
        self._busy_since = None
        if self._rests(now, ahead, unsuited_since):
            self.count = 0
            return False
        wanted = min(max(2 * ahead, LEAST), MOST)
        is_low = wanted > self.count * _STEP and now - self._changed_at > _GROWTH_PAUSE
        is_high = wanted * _STEP < self.count and now - self._changed_at > _SHRINK_PAUSE
        if not self.count or is_low or is_high:
            self.count = wanted
            self._changed_at = now
        return True

    @property
    def is_resting(self) -> bool:
        """Whether nothing is received though slots are free."""
        return self._resting_until is not None

    @property
    def due_at(self) -> float:
        """When to decide again at the latest."""
        if self._resting_until is not None:
            return self._resting_until
        return self._busy_since + _PATIENCE if self.count and self._busy_since is not None else float("inf")

    def suits(self) -> None:
        """Slots of every kind are free: the next rest is short again."""
        self._rest = _REST

    def _rests(self, now: float, ahead: int, unsuited_since: float | None) -> bool:
        """Whether the slots that are free are of a kind that cannot run what the queues bring.

        A message cannot be asked for by kind: what waits for a thread here, behind long tasks, keeps other workers
        from it. So it is returned, and nothing is received until another slot comes free (``ahead`` grows) or, for
        the sake of the free ones, a while later.
        """
        is_free = ahead > self._ahead
        self._ahead = ahead
        if self._resting_until is not None:
            if is_free or now >= self._resting_until:
                self._resting_until = None
        elif unsuited_since is not None and not is_free and now - unsuited_since > _PATIENCE:
            self._resting_until = now + self._rest
            self._rest = min(self._rest * 2, _REST_MAX)
        return self._resting_until is not None
