"""Names of callers' queues, and what a row keeps of them."""

from __future__ import annotations

from uuid import uuid4

import pytest

from django_taskq.core.reply_queue import decode_address, encode_address, is_ours, is_reply_queue, new_reply_queue

ID = "0198b0d2-6f0c-7c1e-9b1e-5d0a1f6c2b7e"


def test_a_new_name_is_a_callers_and_nobody_elses() -> None:
    first, second = new_reply_queue(), new_reply_queue()
    assert first != second
    assert is_reply_queue(first)
    assert is_ours(first)


def test_celerys_names_are_callers_too() -> None:
    assert is_reply_queue(str(uuid4()))
    assert not is_ours(str(uuid4()))


@pytest.mark.parametrize(
    "name", ["", "default", "celery", "taskq.reply.", "taskq.reply.default", f"{ID}x", f"x{ID}", f"{ID}\n", ID.upper()]
)
def test_other_queues_are_not_replied_to(name: str) -> None:
    assert not is_reply_queue(name)


@pytest.mark.parametrize("correlation_id", ["", ID, "another", "with space"])
def test_an_address_comes_back(correlation_id: str) -> None:
    queue_name = new_reply_queue()
    address = encode_address(queue_name, correlation_id, ID)
    assert decode_address(address, ID) == (queue_name, correlation_id or ID)


def test_nobody_waits_at_no_address() -> None:
    assert not encode_address("", ID, ID)
