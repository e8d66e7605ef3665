"""Parts of a row as text for people: escaped, bounded, without what a task calls sensitive."""

from __future__ import annotations

import json
from datetime import datetime

from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..core import codec
from ..core.outcome import AttemptError
from ..core.sensitive import hide_all, hide_sensitive
from ..models import TaskRecord
from ..sight import SPOILT, sensitive_of

#: characters of one column that a page shows; beyond, the middle is left out
MAX_SHOWN = 100_000

_EMPTY = "-"


def show_moment(moment: datetime | None, timespec: str) -> str:
    """A moment in the project's time zone; Django's own format ends at minutes, and tasks take less.

    ``timespec``: as in ``datetime.isoformat``.
    """
    if moment is None:
        return _EMPTY
    local = timezone.make_naive(moment) if timezone.is_aware(moment) else moment
    return format_html('<span class="taskq-moment">{}</span>', local.isoformat(" ", timespec))


def show_state(record: TaskRecord) -> str:
    """The state, in its colour."""
    return format_html('<span class="taskq-state taskq-{}">{}</span>', record.state.lower(), record.get_state_display())


def show_json(text: str | None) -> str:
    """JSON text, indented; as it stands where it is too long for that, or not JSON."""
    if not text:
        return _EMPTY
    if len(text) > MAX_SHOWN:
        return _block(text)
    try:
        return _block(_indented(codec.decode(text)))
    except SPOILT:
        return _block(text)


def show_arguments(record: TaskRecord) -> str:
    """The arguments, as a JSON object of positional and keyword arguments."""
    known = sensitive_of(record)
    is_open = known is not None and not known[0]
    if len(record.arguments) > MAX_SHOWN:
        return _block(record.arguments) if is_open else _("Too long to be shown without the sensitive arguments.")
    try:
        args, kwargs = record.call_arguments
    except SPOILT:
        return _block(record.arguments) if is_open else _("Not readable, so that nobody knows what is sensitive.")
    if known is None:
        args, kwargs = hide_all(args, kwargs)
        note = _("The code of this task is not here, so that nobody knows what is sensitive.")
        return format_html("{}<p>{}</p>", _block(_indented({"args": args, "kwargs": kwargs})), note)
    args, kwargs = hide_sensitive(args, kwargs, *known)
    return _block(_indented({"args": args, "kwargs": kwargs}))


def show_text(text: str) -> str:
    """Lines as they are."""
    return _block(text) if text else _EMPTY


def show_errors(record: TaskRecord) -> str:
    """The errors of the failed attempts, the newest first."""
    try:
        errors = record.attempt_errors
    except SPOILT:
        return _block(record.errors)
    if not errors:
        return _EMPTY
    return format_html_join("", "<p>{}</p>{}", ((_title(error), _text(error)) for error in reversed(errors)))


def _title(error: AttemptError) -> str:
    try:
        at = show_moment(parse_datetime(error.at), "milliseconds")
    except ValueError:
        at = error.at
    return format_html(_("Attempt {}, {}, {}"), error.attempt, at, error.worker or "?")


def _text(error: AttemptError) -> SafeString:
    return _block(error.traceback or f"{error.exception_class_path}: {error.message}")


def _indented(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _block(text: str) -> SafeString:
    return format_html('<pre class="taskq-text">{}</pre>', codec.shorten(text, MAX_SHOWN))
