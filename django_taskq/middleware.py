"""Requests forget the replies they did not take: ``MIDDLEWARE = [..., "django_taskq.middleware.RequestScopeMiddleware"]``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse

from .results.scope import Scope

_GetResponse = Callable[[HttpRequest], HttpResponseBase] | Callable[[HttpRequest], Awaitable[HttpResponseBase]]


class RequestScopeMiddleware:
    """``request_scope()`` around each request, under WSGI and ASGI; see there for what it does.

    The scope of a streaming response ends when the response is closed: tasks that its content enqueues belong to it.
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: _GetResponse) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer."""
        if self._is_async:
            return self._answer(request)
        scope = Scope()
        try:
            with scope.current():
                response = cast("HttpResponseBase", self._get_response(request))
        except BaseException:
            scope.end()
            raise
        return _until_end(scope, response)

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        scope = Scope()
        try:
            with scope.current():
                response = await cast("Awaitable[HttpResponseBase]", self._get_response(request))
        except BaseException:
            scope.end()
            raise
        return _until_end(scope, response)


def _until_end(scope: Scope, response: HttpResponseBase) -> HttpResponseBase:
    # A file has no code of ours in it; left as it is, the server may send it by itself (PEP 3333, wsgi.file_wrapper).
    if not isinstance(response, StreamingHttpResponse) or getattr(response, "file_to_stream", None) is not None:
        scope.end()
        return response
    content = response.streaming_content
    # Django closes the content with the response, and what was the content before.
    response.streaming_content = (
        _AsyncContent(scope, content) if isinstance(content, AsyncIterator) else _Content(scope, content)
    )
    return response


class _Content:
    """A response's content, made within a scope."""

    def __init__(self, scope: Scope, content: Iterator[bytes]) -> None:
        self._scope = scope
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._scope.current():
            return next(self._content)

    def close(self) -> None:
        """The response has been sent, or whoever asked for it has gone."""
        self._scope.end()


class _AsyncContent:
    """The same of coroutines."""

    def __init__(self, scope: Scope, content: AsyncIterator[bytes]) -> None:
        self._scope = scope
        self._content = content

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        with self._scope.current():
            return await anext(self._content)

    def close(self) -> None:
        """The response has been sent, or whoever asked for it has gone."""
        self._scope.end()
