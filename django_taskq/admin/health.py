"""How things stand, as sentences: what is wrong first, or that all is well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ..core.queues import QueueSelection
from ..exceptions import OptionError
from ..overview import Overview, QueueState
from .wording import in_full, in_short

#: seconds for which nothing waits in a queue that keeps up
LONG_WAIT = 60.0
#: seconds after which what was due should long have been made ready: the keeper looks every second
LONG_DUE = 30.0
#: of what ended lately: the share that FAILED, and how many of them, that are worth a word
MANY_FAILED, SOME_FAILED = 0.1, 5


class Severity(IntEnum):
    """How much somebody should look."""

    WELL = 0
    NOTE = 1
    WARNING = 2
    CRITICAL = 3

    @property
    def icon(self) -> str:
        """Its sign, since colours alone say nothing to some."""
        return "✓ℹ⚠✗"[self]

    @property
    def word(self) -> Promise:
        """Its word."""
        return _WORDS[self]


_WORDS = {
    Severity.WELL: gettext_lazy("Well"),
    Severity.NOTE: gettext_lazy("Note"),
    Severity.WARNING: gettext_lazy("Warning"),
    Severity.CRITICAL: gettext_lazy("Trouble"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence. ``kind`` stays the same while only its numbers change."""

    kind: str
    severity: Severity
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """What ended within so many seconds, and how many of them FAILED."""

    ended: int = 0
    failed: int = 0
    seconds: float = 0.0


def look_at(found: Overview, ends: Ends, *, most: int) -> list[Finding]:
    """All there is to say, the worst first; never nothing. ``most``: what was counted of a queue at most."""
    findings = sorted([*_troubles(found, most), *_failing(ends)], key=lambda one: -one.severity)
    if any(one.severity > Severity.NOTE for one in findings):
        return findings
    return [_peace(found), *findings]


def _troubles(found: Overview, most: int) -> Iterator[Finding]:
    waiting = [queue for queue in found.queues if queue.ready]
    moving = [queue for queue in waiting if not queue.is_paused]
    if moving and not found.alive:
        count = sum(queue.ready for queue in moving)
        text = ngettext(
            "Nothing runs: %(count)s task waits and no worker is alive.",
            "Nothing runs: %(count)s tasks wait and no worker is alive.",
            count,
        )
        yield _finding("no worker", Severity.CRITICAL, text, count=waiting_in(moving, most))
    elif moving:
        yield from _unserved(found, moving, most)
        yield from _slow(moving)
    yield from _paused([queue for queue in waiting if queue.is_paused], most)
    if found.next_due is not None and found.next_due < -LONG_DUE:
        text = _("Tasks that were due %(long)s ago are still not ready: no worker keeps house.")
        yield _finding("overdue", Severity.WARNING, text, long=in_short(-found.next_due))
    silent = len(found.workers) - found.alive
    if silent:
        text = ngettext(
            "%(count)s worker process was lost: it has not been heard of for longer than its lease.",
            "%(count)s worker processes were lost: they have not been heard of for longer than their lease.",
            silent,
        )
        yield _finding("lost", Severity.NOTE, text, count=in_full(silent))


def _unserved(found: Overview, moving: Sequence[QueueState], most: int) -> Iterator[Finding]:
    selections = [_selection(worker.queues) for worker in found.workers if worker.is_alive]
    alone = [queue for queue in moving if not queue.running and not any(queue.queue in one for one in selections)]
    if len(alone) == 1:
        text = ngettext(
            "No worker serves queue %(queue)s, where %(count)s task waits.",
            "No worker serves queue %(queue)s, where %(count)s tasks wait.",
            alone[0].ready,
        )
        yield _finding("unserved", Severity.CRITICAL, text, queue=alone[0].queue, count=waiting_in(alone, most))
    elif alone:
        text = _("No worker serves %(queues)s queues in which tasks wait: %(names)s.")
        yield _finding("unserved", Severity.CRITICAL, text, queues=len(alone), names=_names(alone))


def _slow(moving: Sequence[QueueState]) -> Iterator[Finding]:
    late = [queue for queue in moving if (queue.oldest_wait or 0.0) > LONG_WAIT]
    if late:
        worst = max(late, key=lambda queue: queue.oldest_wait or 0.0)
        text = _("Tasks wait long: for %(long)s in queue %(queue)s.")
        yield _finding("slow", Severity.WARNING, text, long=in_short(worst.oldest_wait or 0.0), queue=worst.queue)


def _paused(paused: Sequence[QueueState], most: int) -> Iterator[Finding]:
    if len(paused) == 1:
        text = ngettext(
            "Queue %(queue)s is paused with %(count)s task.",
            "Queue %(queue)s is paused with %(count)s tasks.",
            paused[0].ready,
        )
        yield _finding("paused", Severity.WARNING, text, queue=paused[0].queue, count=waiting_in(paused, most))
    elif paused:
        text = _("%(queues)s queues are paused with %(count)s tasks: %(names)s.")
        yield _finding(
            "paused",
            Severity.WARNING,
            text,
            queues=len(paused),
            count=waiting_in(paused, most),
            names=_names(paused),
        )


def _failing(ends: Ends) -> Iterator[Finding]:
    if ends.failed >= SOME_FAILED and ends.failed >= MANY_FAILED * ends.ended:
        text = _("Many tasks fail: %(failed)s of the %(ended)s that ended in the last %(long)s.")
        yield _finding(
            "failing",
            Severity.WARNING,
            text,
            failed=in_full(ends.failed),
            ended=in_full(ends.ended),
            long=in_short(ends.seconds),
        )


def _peace(found: Overview) -> Finding:
    alive = found.alive
    if not alive:
        return _finding("idle", Severity.NOTE, _("Nothing waits, and no worker is alive."))
    workers = ngettext("%(count)s worker process", "%(count)s worker processes", alive) % {"count": in_full(alive)}
    wait = max(
        (queue.oldest_wait or 0.0 for queue in found.queues if queue.ready and not queue.is_paused), default=None
    )
    if wait is None:
        return _finding("well", Severity.WELL, _("All is well: %(workers)s, nothing waits."), workers=workers)
    # Rounded up: a sentence that changes all the time is no peace.
    text = _("All is well: %(workers)s, nothing waits longer than %(long)s.")
    bound = next((step for step in (1.0, 2.0, 5.0, 10.0, 30.0) if wait <= step), LONG_WAIT)
    return _finding("well", Severity.WELL, text, workers=workers, long=in_short(bound))


def _finding(kind: str, severity: Severity, text: str, **values: object) -> Finding:
    return Finding(kind=kind, severity=severity, text=text % values)


def _selection(queues: str) -> QueueSelection:
    try:
        return QueueSelection.parse(queues) if queues else QueueSelection()
    except OptionError:
        # Somebody has spoilt the row; better no alarm than a false one.
        return QueueSelection()


def waiting_in(queues: Sequence[QueueState], most: int) -> str:
    """How many tasks are ready in these; ``most``: what was counted of each at most."""
    count = in_full(sum(queue.ready for queue in queues))
    return f"{count}+" if any(queue.ready >= most for queue in queues) else count


def _names(queues: Sequence[QueueState]) -> str:
    names = [queue.queue for queue in queues]
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
