"""Who keeps house in a database: an office with a term, for which any number of processes may stand."""

from __future__ import annotations

from collections.abc import Sequence

from ..backend import TaskqBackend
from ..transitions import workers
from .loop import Keeper

#: seconds an election holds at most, and its share of the lease: the tasks of a keeper that died with its
#: worker must find a new one in time
_TERM, _TERM_SHARE = 15.0, 0.5
#: tries to stay the keeper per term; the others try half as often
_ELECTIONS = 3


class Office:
    """One process's candidacy in one database; every method may raise the database's errors.

    ``holder``: what the process is called. ``backends``: those it serves, with rows there.
    """

    def __init__(self, using: str, holder: str, backends: Sequence[TaskqBackend]) -> None:
        self.holder = holder
        self._using = using
        self._backends = backends
        self._term = min(_TERM, min(backend.config.lease for backend in backends) * _TERM_SHARE)
        #: when :meth:`stand` has something to do (monotonic)
        self.next_at = 0.0
        self._keeper: Keeper | None = None

    @property
    def is_held(self) -> bool:
        """Whether this process keeps house."""
        return self._keeper is not None

    def stand(self, now: float) -> None:
        """Stand for election when it is time, and keep house while elected."""
        if now < self.next_at:
            return
        self.next_at = now + self._term / _ELECTIONS * (1 if self._keeper else 2)
        elected = workers.elect(self._using, self.holder, self._term)
        if elected and self._keeper is None:
            self._keeper = Keeper(self._using, self._backends)
            self._keeper.start()
        elif not elected and self._keeper is not None:
            self._keeper.stop()
            self._keeper = None

    def leave(self) -> None:
        """Let another process have it at once."""
        if self._keeper is not None:
            self._keeper.stop()
            self._keeper = None
            workers.resign(self._using, self.holder)
