"""What the doubles that speak HTTP have in common."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

#: One request at a time has the data.
_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request: its path in parts, unquoted; the first value of each name in its query."""

    method: str
    path: tuple[str, ...]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its body as JSON; raises ``ValueError``."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a body, which is JSON unless it is bytes."""

    status: int
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class WebDouble(BaseHTTPRequestHandler):
    """A double that speaks HTTP; ``answer`` is all there is to write."""

    protocol_version = "HTTP/1.1"
    #: Headers and body in one packet.
    wbufsize = -1
    content_type: ClassVar[str] = "application/json"

    def answer(self, request: Request) -> Answer:
        """What the server says. Anything raised is a 500."""
        raise NotImplementedError

    def handle_one_request(self) -> None:
        """As the base, for clients that go in the middle of it."""
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Nothing: a test's output is its own."""

    def _respond(self) -> None:
        url = urlsplit(self.path)
        request = Request(
            method=self.command,
            path=tuple(unquote(part) for part in url.path.strip("/").split("/")),
            query={name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()},
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
        )
        try:
            with _LOCK:
                answer = self.answer(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client hears of it
            answer = Answer(500, {"error": f"{type(error).__name__}: {error}"})
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in {"Content-Type": self.content_type, **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _respond  # noqa: N815 - the base's names
