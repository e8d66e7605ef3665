"""The pages for probes: what is asked in pieces, wrongly, or by many at once."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

import pytest

from django_taskq.worker.probe import Page, Probe

pytestmark = pytest.mark.once


@pytest.fixture
def probe() -> Iterator[Probe]:
    pages = {"/live": Page(200, "ok\n"), "/ready": Page(503, "no\n"), "/large": Page(200, "x" * 5_000_000)}
    probe = Probe("127.0.0.1", 0, pages.get)
    yield probe
    probe.close()


def turn(probe: Probe, seconds: float = 0.05) -> None:
    """Serve until nothing has happened for a moment."""
    while any(ready := select.select(probe.reads, probe.writes, [], seconds)):
        probe.serve([*ready[0], *ready[1]])


def dial(probe: Probe) -> socket.socket:
    return socket.create_connection(("127.0.0.1", probe.port), timeout=10)


def ask(probe: Probe, request: bytes) -> bytes:
    with dial(probe) as client:
        client.sendall(request)
        turn(probe)
        answer = b""
        while received := client.recv(65536):
            answer += received
    return answer


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        (b"GET /live HTTP/1.1", b"200 OK", b"ok\n"),
        (b"GET /live?verbose=1 HTTP/1.0", b"200 OK", b"ok\n"),
        (b"HEAD /live HTTP/1.1", b"200 OK", b""),
        (b"GET /ready HTTP/1.1", b"503 Service Unavailable", b"no\n"),
        (b"GET /elsewhere HTTP/1.1", b"404 Not Found", b"There are /live, /ready and /metrics.\n"),
        (b"POST /live HTTP/1.1", b"405 Method Not Allowed", b"Only GET and HEAD.\n"),
        (b"nonsense", b"400 Bad Request", b"This is not HTTP/1.1.\n"),
        (b"\xff\xfe \x00 HTTP/1.1", b"405 Method Not Allowed", b"Only GET and HEAD.\n"),
    ],
)
def test_each_request_has_its_answer(probe: Probe, request_line: bytes, status: bytes, body: bytes) -> None:
    head, _, got = ask(probe, request_line + b"\r\nHost: any\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status)
    assert got == body
    if not request_line.startswith(b"HEAD"):
        assert b"Content-Length: %d" % len(body) in head


def test_a_request_may_come_in_pieces_beside_others(probe: Probe) -> None:
    with dial(probe) as slow:
        for piece in (b"GET /li", b"ve HTTP/1.1\r\n", b"Host: any\r\n"):
            slow.sendall(piece)
            turn(probe)
        assert ask(probe, b"GET /live HTTP/1.1\r\n\r\n").endswith(b"ok\n")
        slow.sendall(b"\r\n")
        turn(probe)
        assert slow.recv(65536).endswith(b"ok\n")


def test_a_large_page_goes_out_as_fast_as_it_is_read(probe: Probe) -> None:
    with dial(probe) as client:
        client.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        read = 0
        turn(probe)
        assert probe.writes, "it does not fit at once, and nobody waits for it"
        while probe.writes:
            read += len(client.recv(1 << 20))
            turn(probe, 0.001)
        while received := client.recv(1 << 20):
            read += len(received)
    assert read > 5_000_000


def test_clients_that_go_away_or_send_too_much_leave_nothing(probe: Probe) -> None:
    for _ in range(100):
        dial(probe).close()
        turn(probe, 0.0)
    assert ask(probe, b"x" * 10_000).startswith(b"HTTP/1.1 400")
    turn(probe)
    assert (len(probe.reads), probe.writes) == (1, [])


def test_clients_that_say_nothing_are_let_go(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = []
    for _ in range(40):
        silent.append(dial(probe))
        turn(probe, 0.0)
    assert len(probe.reads) == 32, "the others wait in the kernel"
    now = time.monotonic()
    assert 0.0 < (probe.due_in(now) or 0.0) <= 5.0
    monkeypatch.setattr(time, "monotonic", lambda: now + 6.0)
    probe.serve([])
    monkeypatch.undo()
    turn(probe)
    for client in silent:
        client.close()
    turn(probe)
    assert ask(probe, b"GET /live HTTP/1.1\r\n\r\n").endswith(b"ok\n")
