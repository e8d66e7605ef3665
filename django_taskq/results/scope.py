"""What a request has asked for, and is forgotten when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Forgettable(Protocol):
    """Something that nobody is going to ask for after the scope it belongs to."""

    def forget(self) -> None:
        """The scope has ended. Called once."""


class Scope:
    """Holds what belongs to it until its end; for all threads and coroutines that it is current in."""

    def __init__(self) -> None:
        self._held: list[Forgettable] = []
        self._is_over = False

    def hold(self, one: Forgettable) -> None:
        """Take something in. What comes after the end belongs to whoever brings it."""
        if not self._is_over:
            self._held.append(one)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Take in, within the block, what is asked for."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def end(self) -> None:
        """Forget all. Harmless the second time."""
        self._is_over = True
        held, self._held = self._held, []
        for one in held:
            one.forget()


_current: ContextVar[Scope | None] = ContextVar("taskq_request_scope", default=None)


def hold(one: Forgettable) -> None:
    """Let the innermost scope hold this, where there is one."""
    scope = _current.get()
    if scope is not None:
        scope.hold(one)


@contextmanager
def request_scope() -> Iterator[None]:
    """Forget, at the end of the block, the replies to tasks that were enqueued in it and that nobody has taken.

    Within the block ``Task.get_result(id)`` finds them. Scopes may be nested; tasks belong to the innermost. Coroutines
    and ``sync_to_async`` code that the block starts are in it, threads that it starts are not. For tasks whose alias
    has ``rpc://`` results; to others nothing happens.
    """
    scope = Scope()
    try:
        with scope.current():
            yield
    finally:
        scope.end()
