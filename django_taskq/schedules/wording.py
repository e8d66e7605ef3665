"""When a schedule is due, in words for people."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module

from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _

from .cron import NICKNAMES
from .definition import Schedule


def in_words(schedule: Schedule) -> str:
    """A line about its time, in the language of who reads it; what cannot be read stands as it is."""
    match schedule.kind:
        case "cron":
            return f"{_cron(schedule.expression)} ({schedule.timezone})"
        case "interval":
            return _interval(schedule.expression)
        case "once":
            return _("once at %(moment)s") % {"moment": schedule.expression}
        case _:
            words = {
                "event": schedule.expression.replace("_", " "),
                "latitude": schedule.latitude,
                "longitude": schedule.longitude,
            }
            return _("%(event)s at %(latitude)s, %(longitude)s") % words


def _cron(line: str) -> str:
    if not (get_language() or "en").startswith("en"):
        # Its words are English. A line of cron is the same everywhere.
        return line
    try:
        # An extra: whoever has schedules of this kind has it, as a rule.
        cronsim = import_module("cronsim")
    except ImportError:
        return line
    try:
        words: str = cronsim.CronSim(NICKNAMES.get(line.lower(), line), datetime.now(UTC)).explain()
    except cronsim.CronSimError:
        return line
    return words[:1].lower() + words[1:]


def _interval(text: str) -> str:
    try:
        seconds = float(text)
    except ValueError:
        return text
    for size, words in _UNITS:
        count, rest = divmod(seconds, size)
        if count >= 1 and not rest:
            return words(int(count)) % {"count": int(count)}
    return _("every %(count)s seconds") % {"count": f"{seconds:g}"}


#: seconds, and what so many are called
_UNITS: tuple[tuple[int, Callable[[int], str]], ...] = (
    (604_800, lambda count: ngettext("every week", "every %(count)s weeks", count)),
    (86_400, lambda count: ngettext("every day", "every %(count)s days", count)),
    (3600, lambda count: ngettext("every hour", "every %(count)s hours", count)),
    (60, lambda count: ngettext("every minute", "every %(count)s minutes", count)),
    (1, lambda count: ngettext("every second", "every %(count)s seconds", count)),
)
