"""Parts of a row as text for people: escaped, bounded, without what a task calls sensitive."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ..core import codec
from ..core.states import State
from ..models import TaskRecord
from ..models.task import STATE_LABELS
from ..sight import SPOILT, Sight, sight_of
from .permissions import may
from .wording import in_full

#: characters of one column that a page shows; beyond, the middle is left out
MAX_SHOWN = 100_000
#: characters of JSON that are read to be shown; more takes longer than a page may
_MAX_READ = 2_000_000

EMPTY = "-"

#: beside its name, since colours alone say nothing to some
ICONS = {
    State.WAITING: "◌",
    State.SCHEDULED: "◷",
    State.READY: "○",
    State.RUNNING: "▶",
    State.SUCCESSFUL: "✓",
    State.FAILED: "✗",
    State.CANCELLED: "⊘",
    State.EXPIRED: "⊖",
}


def show_moment(moment: datetime | None, timespec: str) -> str:
    """A moment in the project's time zone; Django's own format ends at minutes, and tasks take less.

    ``timespec``: as in ``datetime.isoformat``.
    """
    if moment is None:
        return EMPTY
    local = timezone.make_naive(moment) if timezone.is_aware(moment) else moment
    return format_html('<span class="taskq-moment">{}</span>', local.isoformat(" ", timespec))


def show_state(record: TaskRecord) -> str:
    """The state: its sign, its word, its colour."""
    return format_html(
        '<span class="taskq-state taskq-{}"><span aria-hidden="true">{}</span> {}</span>',
        record.state.lower(),
        ICONS.get(record.state, "?"),  # type: ignore[call-overload]  # a text that equals a state
        # Not get_state_display(), which hashes every label anew: a tenth of the time of a list.
        STATE_LABELS.get(record.state, record.state),  # type: ignore[call-overload]  # a text that equals a state
    )


def show_table(columns: Iterable[str], rows: Iterable[Iterable[object]], caption: str) -> SafeString:
    """A small table on a page; its caption is for screen readers."""
    head = format_html_join("", '<th scope="col">{}</th>', ((one,) for one in columns))
    cells = (format_html_join("", "<td>{}</td>", ((one,) for one in row)) for row in rows)
    return format_html(
        '<table class="taskq-runs"><caption class="taskq-hidden">{}</caption><thead><tr>{}</tr></thead>'
        "<tbody>{}</tbody></table>",
        caption,
        head,
        format_html_join("", "<tr>{}</tr>", ((one,) for one in cells)),
    )


def show_seconds(seconds: float | None) -> str:
    """A duration, as exact as it is of use."""
    if seconds is None:
        return EMPTY
    if seconds < 60:
        return f"{seconds:,.3f} s"
    days, rest = divmod(int(seconds), 86_400)
    time = str(timedelta(seconds=rest))
    if not days:
        return time
    return ngettext("%(days)s day, %(time)s", "%(days)s days, %(time)s", days) % {"days": in_full(days), "time": time}


def wait_of(record: TaskRecord, now: datetime | None) -> float | None:
    """Seconds from when a task could run first until it did, or until ``now``; None where it could not yet."""
    since: datetime = record.enqueued_at
    until: datetime | None = record.started_at or (now if record.state == State.READY else None)
    if until is None:
        return None
    # A retry has moved ``run_after`` beyond the first start.
    if record.run_after is not None and since < record.run_after <= until:
        since = record.run_after
    return max((until - since).total_seconds(), 0.0)


def shown_arguments(record: TaskRecord, request: HttpRequest) -> str:
    """The arguments as a JSON object of positional and keyword arguments, for who asks."""
    return show_arguments(record, sight_of(record)) if may(request, "view_payload") else masked()


def masked() -> str:
    """What stands where somebody may not look."""
    return format_html('<p class="taskq-masked">{}</p>', _("Only for those who may see arguments, results and errors."))


def show_arguments(record: TaskRecord, sight: Sight) -> str:
    """The arguments, as a JSON object of positional and keyword arguments."""
    if sight.arguments is None:
        return _unreadable(record, sight)
    shown = _block(indented(sight.arguments))
    if sight.is_known:
        return shown
    note = _("The code of this task is not here, so that nobody knows what is sensitive.")
    return format_html("{}<p>{}</p>", shown, note)


def show_json(text: str | None, sight: Sight) -> str:
    """JSON text, indented; as it stands where it is too long for that, or not JSON."""
    if not text:
        return EMPTY
    if len(text) > _MAX_READ:
        # Hidden first: of a secret at the cut a half would be left.
        return _block(sight.text(text))
    try:
        return _block(sight.text(indented(sight.value(codec.decode(text)))))
    except SPOILT:
        return _block(sight.text(text))


def indented(value: object) -> str:
    """JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def _unreadable(record: TaskRecord, sight: Sight) -> str:
    if sight.is_open:
        return _block(record.arguments)
    return _("Not readable, so that nobody knows what is sensitive.")


def _block(text: str) -> SafeString:
    return format_html('<pre class="taskq-text">{}</pre>', codec.shorten(text, MAX_SHOWN))


def dict_of(text: str) -> dict[str, Any]:
    """The JSON object of a column; empty where it holds none."""
    try:
        value = codec.decode(text) if text else {}
    except SPOILT:
        return {}
    return value if isinstance(value, dict) else {}
