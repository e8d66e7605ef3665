"""Durations and numbers in few characters, for cards, axes and sentences."""

from __future__ import annotations

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

#: units of a duration in seconds, each with the next smaller one beside it, and the name of both
_UNITS = (
    (86400, 3600, gettext_lazy("%s d"), gettext_lazy("%s h")),
    (3600, 60, gettext_lazy("%s h"), gettext_lazy("%s min")),
    (60, 1, gettext_lazy("%s min"), gettext_lazy("%s s")),
)


def in_short(seconds: float, *, is_rough: bool = False) -> str:
    """A duration in two units at most, as exact as it is of use at a glance; in one where it is to be rough."""
    if seconds < 0.9995:
        return _("%s ms") % round(seconds * 1000)
    if seconds < 9.95:
        return _("%s s") % _decimal(seconds)
    for unit, smaller, name, name_of_rest in _UNITS:
        # Rounded first: 59.7 s are a minute.
        count, rest = divmod(round(seconds / smaller), unit // smaller)
        if count:
            text = str(name % in_full(count))
            return f"{text} {name_of_rest % rest}" if rest and not is_rough else text
    return _("%s s") % round(seconds)


def in_full(count: float, most: int | None = None) -> str:
    """A whole number with its thousands apart; ``most``: where nobody has counted any further."""
    text = number_format(round(count), use_l10n=True, force_grouping=True)
    return f"{text}+" if most is not None and count >= most else text


def per_minute(rate: float) -> str:
    """Tasks a minute, with a decimal where there are few."""
    return _decimal(rate) if 0 < rate < 9.95 else in_full(rate)


def _decimal(value: float) -> str:
    return number_format(round(value, 1) if value >= 0.1 else round(value, 2), use_l10n=True).rstrip("0").rstrip(".,")
