"""A store's connection to its server: made when it is needed, and one for all threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedClient(Generic[T]):
    """A client library's object that any thread may use, made by the first one that asks.

    ``make``: connects, and makes what the server needs before its first value. Who asks meanwhile waits for the one call
    that is under way and shares its error: with a server that does not answer, sixteen threads wait no longer than one.
    After an error the next one who asks tries again. ``drop``: gives the object's connections back; may raise.
    """

    def __init__(self, make: Callable[[], T], drop: Callable[[T], object]) -> None:
        self._make = make
        self._drop = drop
        self._lock = threading.Lock()
        self._future: Future[T] | None = None

    def get(self) -> T:
        """The object; raises what making it raised."""
        with self._lock:
            future = self._future
            if future is not None:
                mine = None
            else:
                mine = future = self._future = Future()
        if mine is not None:
            self._fill(mine)
        return future.result()

    def close(self) -> None:
        """Drop the object, if there is one. Never raises; the next :meth:`get` makes another."""
        with self._lock:
            future, self._future = self._future, None
        if future is not None and future.done() and future.exception() is None:
            with contextlib.suppress(Exception):
                self._drop(future.result())

    def _fill(self, future: Future[T]) -> None:
        try:
            made = self._make()
        except BaseException as error:
            with self._lock:
                if self._future is future:
                    self._future = None
            future.set_exception(error)
            raise
        future.set_result(made)
