"""What is wrong with the ``OPTIONS`` of one alias, as messages of Django's checks."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004  # Django's own name

from .broker_url import missing_modules, transport_of
from .conf import BackendOptions, OptionsError, parse_option
from .core.options import nearest
from .exceptions import OptionError, ResultStoreError
from .option_values import path_of
from .result_url import QUEUE, missing_broker_modules, missing_store_modules, scheme_of, store_type
from .results.keyvalue import KeyValueStore, StoreConfigError
from .results.registry import make_shelf, safe_name
from .routes import load_router, queues_of
from .topology_options import ignored_arguments

#: ids of keys that have one of their own
_IDS = {
    "broker": "django_taskq.E003",
    "results": "django_taskq.E004",
    **dict.fromkeys(("exchanges", "queues", "queue_defaults"), "django_taskq.E015"),
    "routes": "django_taskq.E016",
}
_UNKNOWN_KEY = "django_taskq.E001"
_BAD_VALUE = "django_taskq.E002"
_NOT_A_DICT = "django_taskq.E005"
_MISSING_CLIENT = "django_taskq.E014"
_QUEUES = "django_taskq.E017"
_IGNORED_ARGUMENTS = "django_taskq.W002"
_ONE_PROCESS = "django_taskq.W003"
_MISSING_STORE_CLIENT = "django_taskq.E018"
_BAD_STORE = "django_taskq.E019"
_NO_EXPIRY = "django_taskq.E020"
_PRIVATE_STORE = "django_taskq.W004"
_SMALL_CACHE = "django_taskq.W005"
_NO_RETENTION = "django_taskq.W010"

#: seconds: RabbitMQ counts the milliseconds until a queue goes in 32 bits (rabbit_misc:check_expiry)
_LONGEST_QUEUE = (2**32 - 1) / 1000
#: entries below which a cache is taken for one that nobody has thought of (Django's MAX_ENTRIES is 300)
_FEW_ENTRIES = 10_000


def check_options(alias: str, options: object) -> Iterator[CheckMessage]:
    """Everything that is wrong, not only the first thing. No message repeats a URL: it may hold a password."""
    if not isinstance(options, dict):
        yield Error(
            f"TASKS[{alias!r}]: OPTIONS must be a dict, not {type(options).__name__}.",
            hint='For example "OPTIONS": {"broker": "database://"}.',
            id=_NOT_A_DICT,
        )
        return
    is_sound = True
    for key, value in options.items():
        try:
            parse_option(key, value)
        except OptionsError as error:
            is_sound = False
            yield _message(alias, key, error)
    if not is_sound:
        # How keys go together can be told only of keys that can be.
        return
    try:
        parsed = BackendOptions.parse(options)
    except OptionsError as error:
        yield _message(alias, error.key, error)
        return
    yield from _check_broker(alias, parsed)
    yield from _check_results(alias, parsed)
    if parsed.result_ttl is None and parsed.failure_ttl is None:
        yield Warning(
            f"TASKS[{alias!r}]: rows and results stay for ever, since {path_of('result_ttl')} and "
            f"{path_of('failure_ttl')} are None.",
            hint="Give at least one of them, or run manage.py cleartasks regularly and silence this.",
            id=_NO_RETENTION,
        )
    try:
        load_router(parsed.routes)
    except OptionError as error:
        yield Error(
            f"TASKS[{alias!r}]: {error}", hint="Give the path of a function in a module.", id="django_taskq.E016"
        )


def check_queue_names(alias: str, allowed: Collection[str], options: object) -> Iterator[CheckMessage]:
    """Queues that ``OPTIONS`` speaks of and ``QUEUES`` does not allow."""
    try:
        parsed = BackendOptions.parse(options)  # type: ignore[arg-type]  # anything else is refused
    except OptionsError:
        # Said by check_options.
        return
    if not allowed:
        return
    topology = parsed.topology
    # Nobody sends tasks to where dead letters go.
    exempt = {dead.name for queue in topology.queues.values() for dead in topology.dead_letters_of(queue)}
    exempt |= {dead.name for dead in topology.dead_letters_of(topology.default)}
    found = [("queues", name) for name in topology.queue_names if name not in exempt]
    found += [("routes", name) for name in queues_of(parsed.routes)]
    for key, name in found:
        if name not in allowed:
            yield Error(
                f"TASKS[{alias!r}]: {path_of(key)} has the queue {name!r}, and QUEUES does not"
                f"{nearest(name, allowed) or '.'}",
                hint='Add it to QUEUES, or write "QUEUES": [] to allow any.',
                id=_QUEUES,
            )


def _check_broker(alias: str, options: BackendOptions) -> Iterator[CheckMessage]:
    transport = transport_of(options.broker)
    missing = missing_modules(transport)
    if missing:
        yield Error(
            f"TASKS[{alias!r}]: the broker {transport.name}:// needs {' and '.join(missing)}, not installed here.",
            hint=f'pip install "{transport.install}".',
            id=_MISSING_CLIENT,
        )
    if transport.name == "memory":
        yield Warning(
            f"TASKS[{alias!r}]: the broker is this process's memory: workers see nothing of it.",
            hint="A worker is a process of its own; memory:// is for tests.",
            id=_ONE_PROCESS,
        )
    ignored = ignored_arguments(options.topology, transport)
    if ignored:
        yield Warning(
            f"TASKS[{alias!r}]: the broker {transport.name}:// ignores {', '.join(ignored)}.",
            hint="Only RabbitMQ knows these arguments of queues.",
            id=_IGNORED_ARGUMENTS,
        )


def _check_results(alias: str, options: BackendOptions) -> Iterator[CheckMessage]:
    scheme = options.results.partition("://")[0]
    missing, install = missing_broker_modules(options.results)
    if missing:
        yield Error(
            f"TASKS[{alias!r}]: results over {scheme}:// need {' and '.join(missing)}, not installed here.",
            hint=f'pip install "{install}".',
            id=_MISSING_CLIENT,
        )
    if scheme_of(options.results) == QUEUE:
        yield from _check_queue_ttls(alias, options)
    kind = store_type(options.results, options.result_stores)
    if kind is None:
        return
    missing = missing_store_modules(kind)
    if missing:
        yield Error(
            f"TASKS[{alias!r}]: results in {scheme}:// need {' and '.join(missing)}, not installed here.",
            hint=f'pip install "{kind.install}".',
            id=_MISSING_STORE_CLIENT,
        )
        return
    try:
        store = make_shelf(options).store
    except (StoreConfigError, ResultStoreError) as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001  # a client may refuse what it is told in words of its own, secrets included
        known = isinstance(error, ImportError) and not kind.extra
        reason = (
            f"{kind.path} cannot be imported." if known else f"{scheme}:// cannot be used ({type(error).__name__})."
        )
    else:
        yield from _check_store(alias, options, store)
        store.close()
        return
    yield Error(
        f"TASKS[{alias!r}]: {path_of('results')}: {reason}",
        hint="The reference of results says how the URL of this store is written, and which result_options it takes.",
        id=_BAD_STORE,
    )


def _check_queue_ttls(alias: str, options: BackendOptions) -> Iterator[CheckMessage]:
    for key in ("result_ttl", "failure_ttl"):
        ttl: float | None = getattr(options, key)
        if ttl is None or ttl > _LONGEST_QUEUE:
            found = "None" if ttl is None else f"{ttl:.0f} seconds"
            yield Error(
                f"TASKS[{alias!r}]: results in amqp:// are a queue for each task, which has to go some day, and "
                f"{path_of(key)} is {found}.",
                hint=f"Write up to {_LONGEST_QUEUE:.0f} seconds (49 days), or keep results elsewhere.",
                id=_NO_EXPIRY,
            )


def _check_store(alias: str, options: BackendOptions, store: KeyValueStore) -> Iterator[CheckMessage]:
    # Only what is behind Django's own aliases can be so.
    name = safe_name(options.results)
    culls_at: int | None = getattr(store, "culls_at", None)
    if getattr(store, "is_private", False):
        yield Warning(
            f"TASKS[{alias!r}]: only this process sees what is in {name}, or nobody: callers get no results from there.",
            hint="A worker is a process of its own; take one that all of them share.",
            id=_PRIVATE_STORE,
        )
    elif culls_at is not None and culls_at < _FEW_ENTRIES:
        yield Warning(
            f"TASKS[{alias!r}]: {name} has room for {culls_at} entries, and deletes results that nobody has read when "
            "there are more.",
            hint='Give the cache "OPTIONS": {"MAX_ENTRIES": …}, more than there are results in result_ttl.',
            id=_SMALL_CACHE,
        )


def _message(alias: str, key: Any, error: OptionsError) -> CheckMessage:
    known = BackendOptions.__dataclass_fields__
    return Error(
        f"TASKS[{alias!r}]: {error.message}",
        hint=error.hint or "The reference of settings says what this option takes.",
        id=_IDS.get(key, _BAD_VALUE) if key in known else _UNKNOWN_KEY,
    )
