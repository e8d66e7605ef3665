"""Durations on the command line."""

from __future__ import annotations

import pytest

from django_taskq.core.duration import parse_duration
from django_taskq.exceptions import OptionError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("90s", 90),
        ("15m", 900),
        ("1h", 3600),
        ("1.5h", 5400),
        ("7d", 604800),
        ("2w", 1209600),
        (" 7d ", 604800),
    ],
)
def test_a_number_with_a_unit_is_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text, "--older-than") == seconds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("90", "'90' has no unit"),
        ("0", "'0' has no unit"),
        ("1.5", "'1.5' has no unit"),
        ("-1h", "'-1h' is negative"),
        ("-90", "'-90' is negative"),
        ("", "'' is not a duration"),
        ("h", "'h' is not a duration"),
        ("7 d", "'7 d' is not a duration"),
        ("7D", "'7D' is not a duration"),
        ("1y", "'1y' is not a duration"),
        ("1h30m", "'1h30m' is not a duration"),
        ("1e3s", "'1e3s' is not a duration"),
        ("nans", "'nans' is not a duration"),
        ("infd", "'infd' is not a duration"),
        (".5h", "'.5h' is not a duration"),
        ("٣d", "'٣d' is not a duration"),
        ("1h; DROP TABLE", "is not a duration"),
        ("5300w", "'5300w' is longer than 100 years"),
        ("9" * 400 + "s", "is longer than 100 years"),
    ],
)
def test_anything_else_is_refused_with_the_option_and_the_reason(text: str, reason: str) -> None:
    with pytest.raises(OptionError) as refusal:
        parse_duration(text, "--older-than")
    assert str(refusal.value).startswith("--older-than: ")
    assert reason in str(refusal.value)
