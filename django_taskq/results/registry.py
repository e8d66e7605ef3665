"""From the URL in ``OPTIONS["results"]`` to where results are."""

from __future__ import annotations

import re
from functools import partial
from importlib import import_module
from typing import Any
from urllib.parse import unquote

from django.utils.module_loading import import_string

from ..conf import BackendOptions
from ..exceptions import ResultStoreError
from ..result_url import DISABLED, QUEUE, ROW, RPC, own_broker, scheme_of, store_type
from .base import ResultStore
from .database import DatabaseResults
from .kept import DEFAULT_PREFIX, KeptResults, Shelf
from .watcher import PerProcess

#: characters of a client's error that are shown
_MAX_DESCRIPTION = 300
#: names of options whose values are nobody's business
_SECRET = re.compile(r"pass|secret|token|key|credential|connection_string|account", re.IGNORECASE)
_HIDDEN = "***"
_PREFIX = re.compile(r"[A-Za-z0-9_.-]{0,60}")


def open_store(options: BackendOptions, using: str) -> ResultStore:
    """The results of an alias. With ``disabled://`` values are not kept, but ends still show in the row."""
    scheme = scheme_of(options.results)
    rows = DatabaseResults(using)
    if scheme in (ROW, DISABLED):
        return rows
    if scheme == RPC:
        # Who has no such results does not load kombu.
        results: ResultStore = import_module("django_taskq.results.rpc").RpcResults(reply_broker(options), rows)
        return results
    return KeptResults(partial(shelf_of, options), rows)


def reply_broker(options: BackendOptions) -> BackendOptions:
    """How the broker is reached over which this alias's replies travel.

    The broker's own topology stays, so that one publisher serves for tasks and replies.
    """
    broker = own_broker(options.results)
    if not broker:
        return options
    return BackendOptions(broker=broker, broker_options=options.result_options, heartbeat=options.heartbeat)


def shelf_of(options: BackendOptions) -> Shelf:
    """The store of an alias, one for each URL and process. Raises what making it raises; connects to nothing."""
    key = (options.results, repr(sorted(options.result_options.items())), repr(sorted(options.result_stores.items())))
    if scheme_of(options.results) == QUEUE:
        key = (*key, options.broker, options.result_ttl, options.failure_ttl)  # type: ignore[assignment]  # what its queues depend on
    shelf: Shelf = _shelves.of(key, options)
    return shelf


def make_shelf(options: BackendOptions) -> Shelf:
    """The store of an alias, made anew; see :func:`shelf_of`."""
    given = dict(options.result_options)
    prefix = given.pop("key_prefix", DEFAULT_PREFIX)
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise ResultStoreError("result_options: key_prefix must be up to 60 letters, digits, '_', '.' or '-'.")
    if scheme_of(options.results) == QUEUE:
        store = import_module("django_taskq.results.amqp").QueueStore(options)
    else:
        kind = store_type(options.results, options.result_stores)
        assert kind is not None  # the settings were checked
        store = import_string(kind.path)(options.results, given)
    secrets = _secrets(options.results, given)
    return Shelf(store, safe_name(options.results), prefix, lambda error: _describe(error, secrets))


def safe_name(results: str) -> str:
    """What people call a store: its URL as far as it can hold no secret."""
    scheme, _, rest = results.partition("://")
    if not rest or re.fullmatch(r"([A-Za-z0-9_.-]+(:[0-9]+)?)?(/[A-Za-z0-9_./-]*)?", rest):
        return f"{scheme}://{rest}"
    _, at, address = rest.rpartition("@")
    host = re.match(r"[A-Za-z0-9_.-]+(:[0-9]+)?", address)
    return f"{scheme}://{_HIDDEN}@{host.group()}" if at and host else f"{scheme}://{_HIDDEN}"


def _secrets(results: str, given: dict[str, Any]) -> list[str]:
    """What no message may show, as written and as meant; longest first."""
    rest = results.partition("://")[2]
    # Whatever stands before the last "@", and the values of a query or a connection string.
    pieces = re.split(r"[:;&@/?]", rest.rpartition("@")[0])
    pieces += [piece.partition("=")[2] for piece in re.split(r"[;&?]", rest)]
    pieces += [str(value) for name, value in given.items() if _SECRET.search(name) and isinstance(value, str)]
    found = {text for piece in pieces for text in (piece, unquote(piece)) if len(text) > 2}
    return sorted(found, key=len, reverse=True)


def _describe(error: BaseException, secrets: list[str]) -> str:
    """An error in one line, without secrets."""
    text = str(error)
    for secret in secrets:
        text = text.replace(secret, _HIDDEN)
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if len(text) > _MAX_DESCRIPTION:
        text = f"{text[:_MAX_DESCRIPTION]}…"
    name = type(error).__name__
    return f"{text} ({name})" if text else name


#: by URL and options
_shelves = PerProcess(make_shelf)
