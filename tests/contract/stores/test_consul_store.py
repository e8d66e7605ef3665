"""What a value in several parts leaves behind on Consul: nothing that a sweep does not find."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from django_taskq.results.stores.consul import ConsulStore
from tests.servers.doubles import PASSWORD, Double

pytestmark = [pytest.mark.once, pytest.mark.databases("sqlite")]

#: Bytes: three parts.
LARGE = 1024 * 1024 + 1


class WriterDied(Exception):
    """Before it wrote the head."""


@pytest.fixture
def store() -> Iterator[ConsulStore]:
    with Double("consul") as double:
        url = f"consul://127.0.0.1:{double.port}/shop"
        with closing(ConsulStore(url, {"token": PASSWORD})) as store:
            yield store


def names(store: ConsulStore, of: str = "") -> list[str]:
    _, found = store._client.kv.get(f"shop/{of}", keys=True)
    return list(found or ())


def test_a_value_takes_the_parts_of_the_one_before_it_away(store: ConsulStore) -> None:
    for _ in range(3):
        store.put("key", os.urandom(LARGE), 60)
        assert len(names(store, "parts/")) == 3
    store.put("key", b"small", 60)
    assert names(store) == ["shop/heads/taskq-key"]


def test_a_writer_that_dies_changes_nothing_and_is_swept_up_after(
    store: ConsulStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("key", b"before", 1000)
    put = store._client.kv.put

    def die_at_the_head(name: str, *args: Any, **options: Any) -> Any:
        if "/heads/" in name:
            raise WriterDied
        return put(name, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(store._client.kv, "put", die_at_the_head)
        with pytest.raises(WriterDied):
            store.put("key", os.urandom(LARGE), 10)
    assert store.get("key") == b"before"
    assert len(names(store, "parts/")) == 3

    assert store.sweep(time.time() + 5, 1000) == 0
    assert len(names(store, "parts/")) == 3
    assert store.sweep(time.time() + 20, 1000) == 0
    assert names(store, "parts/") == []
    assert store.get("key") == b"before"


@pytest.mark.parametrize("part", [0, 1, 2])
def test_half_a_value_is_missing_and_can_be_deleted(store: ConsulStore, part: int) -> None:
    store.put("key", os.urandom(LARGE), None)
    store._client.kv.delete(names(store, "parts/")[part])
    assert store.get("key") is None
    store.delete("key")
    assert names(store) == []
