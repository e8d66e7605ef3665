"""What people can do to tasks: who may, in which states, and whether they are asked first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

from ..core.states import FINAL, PENDING, State
from ..transitions.operate import RETRIABLE

OPERATE, DELETE = "operate_tasks", "delete_tasks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One of them.

    ``name``: what operations call it; ``action``: what forms do. ``states``: in which a task's page offers it.
    ``is_asked``: a page comes before, with counts. ``question``: what that page says.
    """

    name: str
    action: str
    label: Any
    states: frozenset[State]
    permission: str = OPERATE
    is_asked: bool = False
    question: Any = ""


RETRY = Verb(name="retry", action="retry_tasks", label=_("Retry"), states=RETRIABLE)
RUN = Verb(name="run", action="run_tasks_now", label=_("Run now"), states=frozenset({State.SCHEDULED}))
CANCEL = Verb(name="cancel", action="cancel_tasks", label=_("Cancel"), states=PENDING | {State.RUNNING})
REQUEUE = Verb(
    name="requeue",
    action="requeue_tasks",
    label=_("Requeue"),
    states=frozenset({State.SCHEDULED, State.READY}),
    is_asked=True,
    question=_("Tasks that wait go to another queue, or get another priority. Those that are due later run now."),
)
DISCARD = Verb(
    name="discard",
    action="discard_tasks",
    label=_("Discard"),
    states=RETRIABLE,
    is_asked=True,
    question=_("Tasks that failed, were cancelled or expired are deleted, for good."),
)
REMOVE = Verb(
    name="delete",
    action="delete_tasks",
    label=_("Delete"),
    states=FINAL,
    permission=DELETE,
    is_asked=True,
    question=_("Tasks that have ended are deleted, for good, with their results."),
)

#: in the order of lists; duplicates are apart, see ``duplicates``
VERBS: Mapping[str, Verb] = {one.name: one for one in (RETRY, RUN, CANCEL, REQUEUE, DISCARD, REMOVE)}
