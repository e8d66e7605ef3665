"""A store's connection is made once, and its failure is everybody's."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from django_taskq.results.client import SharedClient


class Clients:
    """Makes clients when it is let, and remembers them."""

    def __init__(self) -> None:
        self.made: list[object] = []
        self.dropped: list[object] = []
        self.may_make = threading.Event()
        self.fault: Exception | None = None
        self.calls = 0
        self.shared = SharedClient(self.make, self.drop)

    def make(self) -> object:
        self.calls += 1
        assert self.may_make.wait(30)
        if self.fault is not None:
            raise self.fault
        self.made.append(object())
        return self.made[-1]

    def drop(self, client: object) -> None:
        self.dropped.append(client)
        raise OSError("it has gone already")


def test_is_one_for_all_threads() -> None:
    clients = Clients()
    with ThreadPoolExecutor(8) as threads:
        futures = [threads.submit(clients.shared.get) for _ in range(8)]
        clients.may_make.set()
        assert {future.result() for future in futures} == set(clients.made)
    assert clients.calls == 1


def test_that_cannot_be_made_fails_for_all_who_wait_and_is_tried_again() -> None:
    clients = Clients()
    clients.fault = ConnectionError("down")
    arrived = threading.Barrier(9)

    def get() -> object:
        arrived.wait()
        return clients.shared.get()

    with ThreadPoolExecutor(8) as threads:
        futures = [threads.submit(get) for _ in range(8)]
        arrived.wait()
        clients.may_make.set()
        assert all(isinstance(future.exception(), ConnectionError) for future in futures)
    clients.fault = None
    assert clients.shared.get() is clients.shared.get()


def test_is_made_anew_after_it_was_dropped() -> None:
    clients = Clients()
    clients.may_make.set()
    clients.shared.close()
    first = clients.shared.get()
    clients.shared.close()
    clients.shared.close()
    assert clients.dropped == [first]
    assert clients.shared.get() is not first


def test_that_nobody_made_is_not_dropped() -> None:
    clients = Clients()
    clients.may_make.set()
    clients.fault = ConnectionError("down")
    with pytest.raises(ConnectionError):
        clients.shared.get()
    clients.shared.close()
    assert clients.dropped == []
