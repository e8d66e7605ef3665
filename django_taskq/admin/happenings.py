"""What happened to a task: its timeline, its errors, its log, where it comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import NamedTuple

from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..core import codec
from ..core.fingerprint import is_library
from ..core.outcome import AttemptError
from ..models import TaskRecord
from ..sight import SPOILT, Sight
from .display import EMPTY, MAX_SHOWN, dict_of, show_moment, show_seconds, show_state, show_table

#: a frame's first line in a traceback
_FRAME = re.compile(r'^\s*(?:\|\s*)*File "(?P<file>[^"]*)", line \d+')
#: a line as ``worker.kept_log`` writes it
_LOG_LINE = re.compile(r"^(?P<at>\d{4}-\S+Z) (?P<level>[A-Z]+) (?P<rest>.*)$")
#: attempts that a page shows; the newest
_MAX_ERRORS = 50


class _Event(NamedTuple):
    at: datetime
    rank: int
    kind: str
    text: str


def show_timeline(record: TaskRecord) -> str:
    """From its enqueue to its end: moments, and what happened then."""
    rows = []
    before: datetime | None = None
    for event in sorted(_events(record)):
        passed = "" if before is None else f"+{show_seconds((event.at - before).total_seconds())}"
        before = event.at
        rows.append((event.kind, show_moment(_local(event.at), "milliseconds"), passed, event.text))
    item = '<li class="taskq-{}">{} <span class="taskq-passed">{}</span> {}</li>'
    return format_html('<ol class="taskq-timeline">{}</ol>', format_html_join("", item, rows))


def _events(record: TaskRecord) -> Iterator[_Event]:
    yield _Event(_aware(record.enqueued_at), 0, "waiting", _("Enqueued"))
    errors = errors_of(record) or []
    failed = {error.attempt for error in errors}
    if record.run_after is not None and record.run_after != record.enqueued_at:
        yield _Event(_aware(record.run_after), 1, "waiting", _("Due"))
    if record.started_at is not None and record.started_at != record.last_attempted_at:
        worker = record.worker_ids.partition("\n")[0] or "?"
        yield _Event(_aware(record.started_at), 2, "running", _("Attempt 1 started on %(worker)s") % {"worker": worker})
    for error in errors:
        if (at := _parsed(error.at)) is not None:
            words = {"attempt": error.attempt, "error": error.exception_class_path, "worker": error.worker or "?"}
            yield _Event(at, 3, "failed", _("Attempt %(attempt)s failed on %(worker)s: %(error)s") % words)
    if record.last_attempted_at is not None and record.attempt:
        words = {"attempt": record.attempt, "worker": record.worker_id or _last_worker(record)}
        text = _("Attempt %(attempt)s started on %(worker)s") % words
        # Where it failed at the very moment at which it began.
        yield _Event(_aware(record.last_attempted_at), 2, "running", text)
    if record.expires_at is not None:
        yield _Event(_aware(record.expires_at), 4, "waiting", _("Expires unless it has started"))
    if record.finished_at is not None:
        state = f"{record.get_state_display()}"
        if record.attempt in failed and record.state == "FAILED":
            state = _("Failed for good")
        yield _Event(_aware(record.finished_at), 5, record.state.lower(), state)


def errors_of(record: TaskRecord) -> list[AttemptError] | None:
    """The errors of the failed attempts, oldest first; None where they cannot be read."""
    try:
        return record.attempt_errors
    except SPOILT:
        return None


def show_errors(record: TaskRecord, sight: Sight | None) -> str:
    """The errors of the failed attempts, the newest first; with their classes alone where nothing may be seen."""
    errors = errors_of(record)
    if errors is None:
        return EMPTY if sight is None else _block(sight.text(record.errors))
    if not errors:
        return EMPTY
    shown = [
        (_title(error), "" if sight is None else _error_text(error, sight)) for error in errors[: -_MAX_ERRORS - 1 : -1]
    ]
    if sight is None:
        shown = [
            (format_html("{}: {}", title, error.exception_class_path), "")
            for (title, _text), error in zip(shown, reversed(errors), strict=False)
        ]
    return format_html_join("", '<p class="taskq-attempt">{}</p>{}', shown)


def _title(error: AttemptError) -> str:
    at = _parsed(error.at)
    moment = error.at if at is None else show_moment(_local(at), "milliseconds")
    words = _("Attempt {attempt}, {moment}, {worker}")
    return format_html(words, attempt=error.attempt, moment=moment, worker=error.worker or "?")


def _error_text(error: AttemptError, sight: Sight) -> SafeString:
    text = sight.text(error.traceback or f"{error.exception_class_path}: {error.message}")
    return format_html('<pre class="taskq-text">{}</pre>', show_traceback(codec.shorten(text, MAX_SHOWN)))


def show_traceback(text: str) -> SafeString:
    """A traceback, in which the frames of libraries stand back behind the project's own."""
    in_library = False
    marked = []
    for line in text.split("\n"):
        if (frame := _FRAME.match(line)) is not None:
            in_library = is_library(frame["file"])
        elif not line.startswith((" ", "|")):
            in_library = False
        marked.append((in_library, line))
    parts = [(dim, "\n".join(line for _, line in lines)) for dim, lines in groupby(marked, key=lambda one: one[0])]
    spans = [format_html('<span class="taskq-library">{}</span>' if dim else "{}", part) for dim, part in parts]
    return format_html_join("\n", "{}", ((span,) for span in spans))


def show_log(record: TaskRecord, sight: Sight) -> str:
    """The newest lines that the task logged, by level."""
    if not record.log:
        return EMPTY
    lines = [_log_line(line) for line in codec.shorten(sight.text(record.log), MAX_SHOWN).rstrip("\n").split("\n")]
    return format_html('<pre class="taskq-text">{}</pre>', format_html_join("\n", "{}", ((line,) for line in lines)))


def _log_line(line: str) -> SafeString | str:
    found = _LOG_LINE.match(line)
    if found is None:
        return line
    level = found["level"].lower()
    return format_html(
        '<span class="taskq-at">{}</span> <span class="taskq-level-{}">{}</span> {}',
        found["at"],
        level if level in ("info", "warning", "error", "critical") else "other",
        found["level"],
        found["rest"],
    )


def trace_id_of(record: TaskRecord) -> str:
    """The trace that the task belongs to: W3C Trace Context or Sentry's; "" for none."""
    headers = dict_of(record.headers)
    parts = str(headers.get("traceparent", "")).split("-")
    if len(parts) >= 4:
        return parts[1]
    return str(headers.get("sentry-trace", "")).partition("-")[0]


def show_runs(record: TaskRecord, runs: list[tuple[TaskRecord, str]]) -> str:
    """Other tasks of this name, with their addresses, the newest first."""
    if not runs:
        return EMPTY
    longest = max((run.duration or 0.0 for run, _ in runs), default=0.0) or 1.0
    rows = (
        (
            format_html('<a href="{}">{}</a>', url, show_moment(run.enqueued_at, "seconds"))
            if run.pk != record.pk
            else format_html(
                '{} <span class="taskq-passed">{}</span>', show_moment(run.enqueued_at, "seconds"), _("this")
            ),
            show_state(run),
            run.attempt,
            show_seconds(run.duration),
            _bar(run, longest),
        )
        for run, url in runs
    )
    columns = (_("Enqueued"), _("State"), _("Attempts"), _("Duration"), _("Compared"))
    return show_table(columns, rows, _("The newest tasks of this name"))


def _bar(run: TaskRecord, longest: float) -> SafeString:
    width = f"{120 * min((run.duration or 0.0) / longest, 1.0):.1f}"
    return format_html(
        '<svg class="taskq-bar taskq-{}" width="120" height="10" aria-hidden="true" focusable="false">'
        '<rect width="{}" height="10"></rect></svg>',
        run.state.lower(),
        width,
    )


def _last_worker(record: TaskRecord) -> str:
    return record.worker_ids.rstrip("\n").rpartition("\n")[2] or "?"


def _block(text: str) -> SafeString:
    return format_html('<pre class="taskq-text">{}</pre>', codec.shorten(text, MAX_SHOWN))


def _parsed(text: str) -> datetime | None:
    try:
        moment = parse_datetime(text)
    except ValueError:
        return None
    if moment is None:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _aware(moment: datetime) -> datetime:
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)


def _local(moment: datetime) -> datetime:
    return timezone.make_naive(moment)
