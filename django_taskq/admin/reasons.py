"""What became of tasks, in words for people."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..core.states import State
from ..models import TaskRecord
from .wording import in_full

#: what ``changes`` says became of tasks, as people are told
REASONS = {
    "cancelled": gettext_lazy("cancelled"),
    "asked to stop": gettext_lazy("asked to stop"),
    "ended meanwhile, or asked before": gettext_lazy("ended meanwhile, or asked before"),
    "ready again": gettext_lazy("ready again"),
    "ready now": gettext_lazy("ready now"),
    "published again": gettext_lazy("published again"),
    "given back by lost workers": gettext_lazy("given back by lost workers"),
    "left to a worker or a broker": gettext_lazy("left to a worker or a broker"),
    "deleted": gettext_lazy("deleted"),
    "changed meanwhile": gettext_lazy("changed meanwhile"),
    "changed or deleted meanwhile": gettext_lazy("changed or deleted meanwhile"),
}


def told(counts: Mapping[str, int]) -> str:
    """Counts by reason, as a part of a sentence."""
    return ", ".join(f"{in_full(count)} {reason_in_words(reason)}" for reason, count in counts.items() if count)


def reason_in_words(reason: str) -> str:
    """One reason; as it stands where it is none of ours."""
    state, _colon, rest = reason.partition(": ")
    if rest == "left alone":
        return _("%(state)s: left alone") % {"state": state_in_words(state)}
    if reason in REASONS:
        return str(REASONS[reason])
    start, _and, end = reason.partition(" and given priority ")
    if start.startswith("moved to "):
        moved = _("moved to %(queue)s") % {"queue": start.removeprefix("moved to ")}
        return _("%(moved)s and given priority %(priority)s") % {"moved": moved, "priority": end} if end else moved
    if reason.startswith("given priority "):
        return _("given priority %(priority)s") % {"priority": reason.removeprefix("given priority ")}
    return reason


def state_in_words(state: str) -> str:
    """The state as the list calls it, in capitals as on the command line where it is none."""
    labels = dict(TaskRecord.state.field.flatchoices)
    return str(labels.get(State(state), state)) if state in State.__members__ else state
