"""The states of a task and every legal move between them."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a task is in its life."""

    #: held by a workflow or a limit
    WAITING = "WAITING"
    #: due later; a retry waits here too
    SCHEDULED = "SCHEDULED"
    #: may be claimed now
    READY = "READY"
    #: claimed by a worker under its lease
    RUNNING = "RUNNING"
    SUCCESSFUL = "SUCCESSFUL"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"

    # The same number that Enum makes of the name, without its function in Python: each look-up by a state makes one.
    __hash__ = str.__hash__

    @property
    def is_final(self) -> bool:
        """Whether the task has ended."""
        return self in FINAL

    @property
    def upstream(self) -> str:
        """The name ``django.tasks.TaskResultStatus`` has for this state."""
        return _UPSTREAM[self]


FINAL = frozenset({State.SUCCESSFUL, State.FAILED, State.CANCELLED, State.EXPIRED})

#: states that are not left within moments where workers keep up
AT_REST = frozenset(State) - {State.READY, State.RUNNING}

UNSUCCESSFUL = FINAL - {State.SUCCESSFUL}

#: states in which nobody runs the task and it may still be cancelled or expire
PENDING = frozenset({State.WAITING, State.SCHEDULED, State.READY})

#: from -> to. READY comes back from the end only by an operator's "retry".
MOVES: dict[State, frozenset[State]] = {
    State.WAITING: frozenset({State.READY, State.SCHEDULED, State.CANCELLED, State.EXPIRED}),
    State.SCHEDULED: frozenset({State.READY, State.CANCELLED, State.EXPIRED}),
    State.READY: frozenset({State.RUNNING, State.CANCELLED, State.EXPIRED}),
    State.RUNNING: frozenset({State.READY, State.SCHEDULED, State.SUCCESSFUL, State.FAILED, State.CANCELLED}),
    State.SUCCESSFUL: frozenset(),
    State.FAILED: frozenset({State.READY}),
    State.CANCELLED: frozenset({State.READY}),
    State.EXPIRED: frozenset({State.READY}),
}

_UPSTREAM = {
    State.WAITING: "READY",
    State.SCHEDULED: "READY",
    State.READY: "READY",
    State.RUNNING: "RUNNING",
    State.SUCCESSFUL: "SUCCESSFUL",
    State.FAILED: "FAILED",
    State.CANCELLED: "FAILED",
    State.EXPIRED: "FAILED",
}
