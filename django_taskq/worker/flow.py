"""How much to claim: enough to keep the slots busy, no more than can start soon."""

from __future__ import annotations

from dataclasses import dataclass

#: seconds; what cannot start within this is left for others
HORIZON = 0.1
#: tasks; one claim's upper bound, whatever the rate
MAX_CLAIM = 500
#: seconds a task is taken to last before one has been seen
_FIRST_GUESS = 0.01
#: weight of the newest duration; recent tasks tell most about the next
_WEIGHT = 0.1


@dataclass(slots=True)
class Flow:
    """The measured pace of one kind of slot, and what follows from it.

    ``strict``: nothing is claimed ahead, so that one slot keeps the exact order.
    """

    slots: int
    strict: bool = False
    mean: float = _FIRST_GUESS

    def finished(self, duration: float) -> None:
        """A task ran for ``duration`` seconds."""
        self.mean += (duration - self.mean) * _WEIGHT

    def ahead(self, longest_running: float) -> int:
        """Tasks to hold beyond those that run.

        ``longest_running``: seconds since the slots last took a task, 0 when one is free. A slot that
        is stuck in a long task says more than the mean of short ones before it.
        """
        if self.strict or longest_running > HORIZON / 2:
            return 0
        return min(int(self.slots * HORIZON / max(self.mean, 1e-6)), MAX_CLAIM)

    def wanted(self, held: int, longest_running: float) -> int:
        """Tasks to claim now, while ``held`` are running or waiting in this process.

        Nothing until half of what was claimed ahead is used up: fewer, larger claims.
        """
        ahead = self.ahead(longest_running)
        if held >= self.slots + ahead // 2:
            return 0
        return min(self.slots + ahead - held, MAX_CLAIM)
