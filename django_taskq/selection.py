"""Which tasks are meant: what command line and admin say before they say what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import BooleanField, Q
from django.db.models.expressions import RawSQL

from .core import codec
from .core.states import FINAL, UNSUCCESSFUL, State
from .database import Now
from .models import TaskQuerySet, TaskRecord

#: what makes a pattern of a name, as regular expressions
_WILDCARDS = {"*": ".*", "?": "."}


#: the condition of the index of failures, word for word, without which SQLite does not use it
_UNSUCCESSFUL = RawSQL(  # noqa: S611  # of constants alone
    f"state IN ({', '.join(repr(state.value) for state in sorted(UNSUCCESSFUL))})", (), BooleanField()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which tasks: those to which all that is given applies.

    ``task``, ``queue``: a name, or a pattern with ``*`` and ``?``. ``older_than``, ``newer_than``: seconds since a task
    was enqueued, or has ended. ``error``: what stands in an error, its class or its text.
    ``group``: the fingerprint of those that FAILED in the same way.
    """

    ids: tuple[str, ...] = ()
    states: frozenset[State] = frozenset()
    task: str = ""
    queue: str = ""
    older_than: float | None = None
    newer_than: float | None = None
    error: str = ""
    worker: str = ""
    group: str = ""
    backend: str = ""
    limit: int | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing but a limit and an alias is asked for, so that the whole history would be meant."""
        return self == Selection(backend=self.backend, limit=self.limit)

    def rows(self, using: str) -> TaskQuerySet:
        """Their rows, in no order; the oldest first where ``limit`` applies."""
        rows = TaskRecord.objects.using(using).filter(*self._conditions())
        return rows if self.limit is None else rows.order_by("pk")[: self.limit]

    def _conditions(self) -> Iterable[Q | RawSQL]:
        if self.ids:
            yield Q(pk__in=self.ids)
        if self.states:
            yield Q(state__in=sorted(self.states))
        if self.task:
            yield _named("name", self.task)
        if self.queue:
            yield _named("queue_name", self.queue)
        if self.older_than is not None:
            yield _since(lte=Now() - timedelta(seconds=self.older_than))
        if self.newer_than is not None:
            yield _since(gte=Now() - timedelta(seconds=self.newer_than))
        if self.error:
            yield Q(errors__icontains=codec.encode(self.error)[1:-1])
        if self.group:
            yield _UNSUCCESSFUL
        same = {"worker_id": self.worker, "fingerprint": self.group, "backend": self.backend}
        if chosen := {column: value for column, value in same.items() if value}:
            yield Q(**chosen)


def _named(column: str, name: str) -> Q:
    if not any(sign in _WILDCARDS for sign in name):
        return Q(**{column: name})
    # Not LIKE, which does not tell upper case from lower on SQLite.
    pattern = "".join(_WILDCARDS.get(sign) or re.escape(sign) for sign in name)
    return Q(**{f"{column}__regex": f"^{pattern}$"})


def _since(**bound: Any) -> Q:
    ((operator, moment),) = bound.items()
    ended = Q(state__in=sorted(FINAL))
    return (ended & Q(**{f"finished_at__{operator}": moment})) | (~ended & Q(**{f"enqueued_at__{operator}": moment}))
