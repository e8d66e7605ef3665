"""A kind of result store, as the contract suite sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server that runs, and how an alias names it.

    ``url``: ``OPTIONS["results"]``. ``options``: ``OPTIONS["result_options"]``. ``stop``: take the server away from under
    its clients, for good: connections end, and new ones are refused.
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict)
    stop: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreKind:
    """One row of the reference of stores.

    ``serve``: starts a private server and gives it; it and all its traces are gone after the block. ``proof``: what it
    is: the server itself, somebody's emulator of it, or our double, which shows that our calls are well formed and
    nothing about the server.
    """

    name: str
    serve: Callable[[], AbstractContextManager[Served]]
    proof: Literal["server", "emulator", "double"]
