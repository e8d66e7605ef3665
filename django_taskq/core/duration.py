"""Durations as people write them on a command line: ``90s``, ``1h``, ``7d``."""

from __future__ import annotations

import re

from ..exceptions import MAX_DELAY, OptionError

#: seconds per unit. No months and years: they differ in length.
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}

_FORM = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhdw])")
_EXAMPLES = "Write for example 90s, 15m, 1h, 7d or 2w."


def parse_duration(text: str, option: str) -> float:
    """The seconds ``text`` stands for: a number and one of the units s, m, h, d, w.

    Raises ``OptionError`` that names the ``option``. A number without a unit is refused: some tools
    take it for seconds, others for days, and who deletes rows should not have to guess.
    """
    given = text.strip()
    if given.startswith("-"):
        raise OptionError(f"{option}: {given!r} is negative. {_EXAMPLES}")
    form = _FORM.fullmatch(given)
    if form is None:
        reason = "has no unit" if re.fullmatch(r"[0-9.]+", given) else "is not a duration"
        raise OptionError(f"{option}: {given!r} {reason}. {_EXAMPLES}")
    seconds = float(form[1]) * UNITS[form[2]]
    if seconds > MAX_DELAY:
        raise OptionError(f"{option}: {given!r} is longer than 100 years.")
    return seconds
