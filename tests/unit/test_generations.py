"""A value in parts is read whole, or not at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from django_taskq.results.generations import Head, cut, decode_head, find

VALUE = bytes(range(256)) * 10


def nothing() -> None:
    pass


class Server:
    """Heads and parts under one key; ``then`` happens once, when parts are asked for."""

    def __init__(self) -> None:
        self.head: bytes | None = None
        self.parts: dict[str, list[bytes]] = {}
        self.then: Callable[[], None] = nothing

    def put(self, value: bytes, generation: str) -> None:
        head, parts = cut(value, 1000, generation)
        self.parts[generation] = parts
        self.head = head.encode()

    def get(self) -> bytes | None:
        def parts(head: Head) -> list[bytes]:
            then, self.then = self.then, nothing
            then()
            return self.parts.get(head.generation, [])

        return find(lambda: self.head, parts)


def test_parts_make_the_value() -> None:
    server = Server()
    assert server.get() is None
    server.put(VALUE, "a")
    assert [len(part) for part in server.parts["a"]] == [1000, 1000, 560]
    assert server.get() == VALUE


def test_a_small_value_is_its_own_head() -> None:
    server = Server()
    for value in (b"", b"v", VALUE):
        server.head = Head(inline=value).encode()
        assert server.get() == value


def test_half_a_value_is_none() -> None:
    server = Server()
    server.put(VALUE, "a")
    del server.parts["a"][1]
    assert server.get() is None
    server.put(VALUE, "b")
    server.parts["b"].reverse()
    assert server.get() is None


def test_a_reader_follows_a_faster_writer() -> None:
    server = Server()
    server.put(VALUE, "a")

    def overtake() -> None:
        server.put(VALUE[::-1], "b")
        del server.parts["a"]

    server.then = overtake
    assert server.get() == VALUE[::-1]


def test_a_value_deleted_while_it_is_read_is_none() -> None:
    server = Server()
    server.put(VALUE, "a")

    def delete() -> None:
        server.head = None
        server.parts.clear()

    server.then = delete
    assert server.get() is None


@pytest.mark.parametrize("data", [None, b"", b"x", b"p", b"p[]", b"p[1, 2, 3]", b'p["", 1, "x"]', b"p{}", b"p7"])
def test_what_is_no_head_is_none(data: bytes | None) -> None:
    assert decode_head(data) is None
