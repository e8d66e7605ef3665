"""Which failures are the same one."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from django_taskq.core.fingerprint import LENGTH, fingerprint, general, is_library
from django_taskq.core.outcome import AttemptError


def charge(order_id: int) -> None:
    raise LookupError(f"order {order_id} of customer c-{order_id:x} is gone")


def read(text: str) -> None:
    json.loads(text)


def caught(function: Callable[..., None], *args: object) -> AttemptError:
    try:
        function(*args)
    except Exception as error:  # noqa: BLE001  # it is what is tested
        return AttemptError.of(error)
    raise AssertionError("nothing was raised")


def test_what_differs_by_numbers_and_ids_alone_is_the_same() -> None:
    assert caught(charge, 1).fingerprint("a") == caught(charge, 23456).fingerprint("b")
    assert len(caught(charge, 1).fingerprint("a")) == LENGTH


def test_another_class_place_or_message_is_another_failure() -> None:
    prints = {
        fingerprint("a.B", "shop.charge", "gone"),
        fingerprint("a.C", "shop.charge", "gone"),
        fingerprint("a.B", "shop.refund", "gone"),
        fingerprint("a.B", "shop.charge", "broken"),
    }
    assert len(prints) == 4


def test_the_place_is_the_innermost_function_of_the_project_s_own() -> None:
    error = caught(read, "{")
    assert error.exception_class_path == "json.decoder.JSONDecodeError"
    assert error.place == f"{__name__}.read"


def test_without_own_code_the_task_is_the_place() -> None:
    error = AttemptError.of(TimeoutError("too long"))
    assert error.place == ""
    assert error.fingerprint("shop.a") != error.fingerprint("shop.b")


def test_the_place_is_kept_with_the_error() -> None:
    error = caught(charge, 7)
    (found,) = AttemptError.parse(error.line(attempt=1, worker="w", at=datetime.now(UTC)))
    assert found.place == error.place
    assert found.fingerprint("x") == error.fingerprint("x")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Order 12 of 2026-11-28T10:00:00Z is gone", "Order # of # is gone"),
        ("host-4711-abcdef was lost", "# was lost"),
        ("id 0198b0d2-6f0c-7c1e-9b1e-5d0a1f6c2b7e", "id #"),
        ("no\n such   thing", "no such thing"),
        ("", ""),
    ],
)
def test_messages_without_numbers_and_ids(message: str, expected: str) -> None:
    assert general(message) == expected


def test_a_long_message_takes_no_long_time() -> None:
    assert len(general("a1." * 1_000_000)) <= 300


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("/srv/app/shop/tasks.py", False),
        ("/srv/venv/lib/python3.12/site-packages/requests/api.py", True),
        ("/usr/lib/python3.11/json/decoder.py", True),
        ("/usr/lib/python3/dist-packages/yaml/reader.py", True),
        ("C:\\Python312\\Lib\\json\\decoder.py", True),
        ("<frozen importlib._bootstrap>", True),
        ("/home/ann/library/tasks.py", False),
    ],
)
def test_what_is_a_library(filename: str, expected: bool) -> None:
    assert is_library(filename) is expected
