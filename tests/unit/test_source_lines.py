"""Literals in lines of source that nobody is to see."""

from __future__ import annotations

import time

import pytest

from django_taskq.core.sensitive import HIDDEN
from django_taskq.core.source_lines import hide_literals


def is_hidden(name: str) -> bool:
    return "password" in name.lower() or "token" in name.lower()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('connect(user="ann", password="s3cret")', f'connect(user="ann", password={HIDDEN})'),
        ("PASSWORD = 's3cret'", f"PASSWORD = {HIDDEN}"),
        ('api_token: str | None = "s3cret"', f"api_token: str | None = {HIDDEN}"),
        ('{"password": "s3cret", "user": "ann"}', f'{{"password": {HIDDEN}, "user": "ann"}}'),
        ("settings['token'] = b's3cret'", f"settings['token'] = b{HIDDEN}"),
        ("password=1234, port=5432", f"password={HIDDEN}, port=5432"),
        ('password = "the rest is on another line', f"password = {HIDDEN}"),
        ("login(password=password)", "login(password=password)"),
        ('if name == "password":', 'if name == "password":'),
    ],
)
def test_literals_are_hidden_by_the_name_they_are_given_to(line: str, shown: str) -> None:
    assert hide_literals(f"  {line}\n  y = 'x'", is_hidden) == f"  {shown}\n  y = 'x'"


@pytest.mark.parametrize("part", ["password : ", "password", "password: a [", "password = '", " " * 10, "a:"])
def test_no_text_takes_long(part: str) -> None:
    text = (part * 100_000)[:100_000]
    since = time.perf_counter()
    hide_literals(text, is_hidden)
    assert time.perf_counter() - since < 5
