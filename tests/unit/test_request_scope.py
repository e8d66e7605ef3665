"""Request scopes: what a request holds, and when it lets go; as a block and as a middleware, under WSGI and ASGI."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.signals import request_finished
from django.db import close_old_connections
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.middleware.gzip import GZipMiddleware
from django.test import RequestFactory

from django_taskq import request_scope
from django_taskq.middleware import RequestScopeMiddleware
from django_taskq.results.scope import hold
from tests.unit.source import PACKAGE


@pytest.fixture(autouse=True)
def _leave_databases_alone() -> Iterator[None]:
    """A response that is closed ends its request, and with that connections that other tests may have left."""
    request_finished.disconnect(close_old_connections)
    yield
    request_finished.connect(close_old_connections)


class Reply:
    """Something to forget."""

    def __init__(self) -> None:
        self.forgotten = 0
        hold(self)

    def forget(self) -> None:
        self.forgotten += 1


def test_a_scope_forgets_once_at_its_end() -> None:
    outside = Reply()
    with request_scope():
        first = Reply()
        with request_scope():
            second = Reply()
            assert (first.forgotten, second.forgotten) == (0, 0)
        third = Reply()
        assert (first.forgotten, second.forgotten, third.forgotten) == (0, 1, 0)
    assert [reply.forgotten for reply in (outside, first, second, third, Reply())] == [0, 1, 1, 1, 0]


def test_a_scope_ends_with_an_exception_too() -> None:
    replies: list[Reply] = []

    def fail() -> None:
        with request_scope():
            replies.append(Reply())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert replies[0].forgotten == 1


def test_coroutines_and_their_threads_are_in_the_scope_and_others_are_not() -> None:
    async def request() -> list[Reply]:
        others: list[Reply] = []
        with request_scope():
            thread = threading.Thread(target=lambda: others.append(Reply()))
            thread.start()
            thread.join()
            inside = [Reply(), await asyncio.create_task(child()), await sync_to_async(Reply)()]
            assert [reply.forgotten for reply in inside] == [0, 0, 0]
        assert [reply.forgotten for reply in inside] == [1, 1, 1]
        assert others[0].forgotten == 0
        return inside

    async def child() -> Reply:
        return Reply()

    async def requests() -> None:
        await asyncio.gather(*(request() for _ in range(10)))

    asyncio.run(requests())


def test_what_comes_after_the_end_is_nobody_s() -> None:
    async def request() -> Reply:
        ended = asyncio.Event()

        async def late() -> Reply:
            await ended.wait()
            return Reply()

        with request_scope():
            task = asyncio.create_task(late())
        ended.set()
        return await task

    assert asyncio.run(request()).forgotten == 0


# The middleware


class Site:
    """A view of each kind behind the middleware, and what it enqueued."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []

    def view(self, request: HttpRequest) -> HttpResponse:
        self.replies.append(Reply())
        return HttpResponse("plain")

    def broken(self, request: HttpRequest) -> HttpResponse:
        self.replies.append(Reply())
        raise KeyError

    async def aview(self, request: HttpRequest) -> HttpResponse:
        self.replies.append(Reply())
        await asyncio.sleep(0)
        return HttpResponse("plain")

    async def abroken(self, request: HttpRequest) -> HttpResponse:
        self.replies.append(Reply())
        raise KeyError

    def stream(self, request: HttpRequest) -> StreamingHttpResponse:
        self.replies.append(Reply())

        def content() -> Iterator[str]:
            for _ in range(3):
                self.replies.append(Reply())
                yield "x"

        return StreamingHttpResponse(content())

    async def astream(self, request: HttpRequest) -> StreamingHttpResponse:
        self.replies.append(Reply())

        async def content() -> AsyncIterator[str]:
            for _ in range(3):
                self.replies.append(Reply())
                await asyncio.sleep(0)
                yield "x"

        return StreamingHttpResponse(content())

    def forgotten(self) -> list[int]:
        return [reply.forgotten for reply in self.replies]


def ask(get_response: Callable[..., Any]) -> HttpResponseBase:
    """Let a request through the middleware, as WSGI or ASGI does it."""
    middleware = RequestScopeMiddleware(get_response)
    assert iscoroutinefunction(middleware) is iscoroutinefunction(get_response)
    answer = middleware(RequestFactory().get("/"))
    if iscoroutinefunction(middleware):

        async def awaited() -> HttpResponseBase:
            return await cast("Awaitable[HttpResponseBase]", answer)

        return asyncio.run(awaited())
    return cast("HttpResponseBase", answer)


@pytest.mark.parametrize("view", ["view", "aview"])
def test_a_request_forgets_at_its_end(view: str) -> None:
    site = Site()
    ask(getattr(site, view))
    assert site.forgotten() == [1]


@pytest.mark.parametrize("view", ["broken", "abroken"])
def test_a_request_that_fails_forgets_too(view: str) -> None:
    site = Site()
    with pytest.raises(KeyError):
        ask(getattr(site, view))
    assert site.forgotten() == [1]


def test_a_stream_forgets_when_it_is_closed() -> None:
    site = Site()
    response = cast("StreamingHttpResponse", ask(site.stream))
    assert site.forgotten() == [0]
    assert b"".join(cast("Iterator[bytes]", response)) == b"xxx"
    assert site.forgotten() == [0, 0, 0, 0]
    outside = Reply()
    response.close()
    assert site.forgotten() == [1, 1, 1, 1]
    assert outside.forgotten == 0


def test_a_stream_of_coroutines_forgets_when_it_is_closed() -> None:
    site = Site()

    async def request() -> None:
        middleware = RequestScopeMiddleware(site.astream)
        response = await cast("Awaitable[HttpResponseBase]", middleware(RequestFactory().get("/")))
        assert b"".join([chunk async for chunk in cast("AsyncIterator[bytes]", response)]) == b"xxx"
        assert site.forgotten() == [0, 0, 0, 0]
        assert Reply().forgotten == 0
        response.close()

    asyncio.run(request())
    assert site.forgotten() == [1, 1, 1, 1]


def test_a_stream_whose_reader_has_gone_forgets() -> None:
    site = Site()
    response = cast("StreamingHttpResponse", ask(site.stream))
    next(iter(cast("Iterator[bytes]", response)))
    response.close()
    assert site.forgotten() == [1, 1]


def test_streams_of_both_kinds_are_served_by_the_other_kind_of_server() -> None:
    site = Site()

    async def request() -> None:
        async def view(request: HttpRequest) -> StreamingHttpResponse:
            return site.stream(request)

        middleware = RequestScopeMiddleware(view)
        response = await cast("Awaitable[HttpResponseBase]", middleware(RequestFactory().get("/")))
        with pytest.warns(Warning, match="StreamingHttpResponse must consume synchronous iterators"):
            assert [chunk async for chunk in cast("AsyncIterator[bytes]", response)] == [b"x"] * 3
        assert site.forgotten() == [0, 0, 0, 0]
        response.close()

    asyncio.run(request())
    assert site.forgotten() == [1, 1, 1, 1]


def test_other_middleware_may_replace_the_content() -> None:
    site = Site()
    inner = RequestScopeMiddleware(site.stream)
    outer = GZipMiddleware(lambda request: cast("HttpResponse", inner(request)))
    response = cast("StreamingHttpResponse", outer(RequestFactory().get("/", headers={"accept-encoding": "gzip"})))
    assert len(b"".join(cast("Iterator[bytes]", response))) > 3
    assert site.forgotten() == [0, 0, 0, 0]
    response.close()
    assert site.forgotten() == [1, 1, 1, 1]


def test_a_file_is_left_to_the_server(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    replies: list[Reply] = []

    def view(request: HttpRequest) -> FileResponse:
        replies.append(Reply())
        return FileResponse(file.open("rb"))

    response = cast("FileResponse", ask(view))
    assert response.file_to_stream is not None
    assert replies[0].forgotten == 1
    assert b"".join(cast("Iterator[bytes]", response)) == b"content"
    response.close()


def test_nobody_loads_kombu_for_it() -> None:
    program = (
        "import sys, django_taskq, django_taskq.middleware\n"
        "with django_taskq.request_scope(): pass\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('kombu', 'amqp')])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=PACKAGE.parent, stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode().strip() == "[]"
