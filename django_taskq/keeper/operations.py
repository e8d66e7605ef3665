"""The duty that carries on operations on very many tasks."""

from __future__ import annotations

import logging

from django.db import connections

from ..bulk import work_off
from ..database import CONNECTION_ERRORS
from ..transitions.operations import forget_operations

logger = logging.getLogger("django_taskq.keeper")

#: seconds to the next look where nothing tells of new operations; and where a hint does, which may get lost
_LOOK, _HINTED_LOOK = 2.0, 15.0
#: seconds after which the other duties have their turn
_TURN = 0.3
#: seconds until the next try at what the database did not do
_AGAIN = 5.0
#: seconds between two looks for old operations, and how old these are
_FORGET, _OLD = 3_600.0, 30 * 86_400.0


class Operations:
    """A duty; see ``duties``. ``is_hinted``: whether something tells of new ones."""

    def __init__(self, using: str, *, is_hinted: bool) -> None:
        self._using = using
        self._longest = _HINTED_LOOK if is_hinted else _LOOK
        self._forget_at = 0.0
        #: when it last looked (monotonic)
        self.looked_at = 0.0

    def __call__(self, now: float) -> float:
        """Carry on; gives the seconds to the next look."""
        self.looked_at = now
        if now >= self._forget_at:
            forget_operations(self._using, _OLD)
            self._forget_at = now + _FORGET
        try:
            is_more = work_off(self._using, seconds=_TURN)
        except CONNECTION_ERRORS as error:
            connection = connections[self._using]
            if connection.connection is None or not connection.is_usable():
                raise
            # Busy with others, or slow: the other duties go on meanwhile.
            logger.warning(
                "An operation has to wait (%s: %s).",
                type(error).__name__,
                str(error).strip(),
                extra={"action": "operation_waits"},
            )
            return _AGAIN
        return 0.0 if is_more else self._longest
