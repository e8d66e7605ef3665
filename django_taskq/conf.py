"""``TASKS[alias]["OPTIONS"]`` parsed once into frozen values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS
from django.utils.module_loading import import_string

from .broker_url import DATABASE, database_of, parse_broker, parse_database, transport_of
from .core.options import nearest
from .option_values import OptionsError, flag, mapping, path_of, refuse, seconds, whole_number
from .result_url import DISABLED, check_results, parse_results, parse_stores, scheme_of
from .routes import Routes, parse_routes
from .schedule_options import parse_schedules

if TYPE_CHECKING:
    from .core.topology import Exchange, Topology

__all__ = ["BACKEND_PATHS", "BackendOptions", "OptionsError", "taskq_aliases", "tuned_databases"]

#: where ``TASKS[alias]["BACKEND"]`` points
BACKEND_PATHS = ("django_taskq.TaskqBackend", "django_taskq.backend.TaskqBackend")

_DAY = 86400.0

#: Loaded when somebody needs it: few web processes do, and all of them load this module.
_TOPOLOGY_OPTIONS = "django_taskq.topology_options"

#: AMQP 0-9-1: the heartbeat and the prefetch count are shorts
_MAX_SHORT = 2**16 - 1


# No slots: the topology is built once and kept.
@dataclass(frozen=True, kw_only=True)
class BackendOptions:
    """The options of one alias; durations in seconds.

    Equal options compare equal and have the same hash. The representation leaves out what may hold
    a password.

    ``broker``: how workers hear of tasks; a URL, or several with ``;`` between them.
    ``database``: the ``DATABASES`` alias of the rows with a kombu broker; "": the router's choice.
    ``broker_options``: kombu's ``transport_options``.
    ``confirm``: whether a publish waits for the broker's word. ``persistent``: whether messages survive its restart.
    ``prefetch``: how many messages a worker process holds; None: as many as it can start soon.
    ``heartbeat``: of AMQP connections; 0: none.
    ``exchanges``, ``queues``, ``queue_defaults``: what ``topology`` is made of.
    ``routes``: queues for tasks that name none.
    ``schedules``: schedules in code by name, as ``schedules.registry`` reads them.
    ``results``: where results are kept, or how they travel; a URL.
    ``result_options``: what the store's client is told. ``result_stores``: schemes of the project's own.
    ``imports``: modules beyond installed apps in which task names may be looked up.
    ``result_ttl``/``failure_ttl``: how long results and rows of finished and of failed tasks stay, unless the task says
    it; None: until somebody clears them.
    ``store_result``/``store_errors``: whether values and errors are kept of tasks that do not say it themselves.
    ``keep_logs``: whether lines that a task logs are kept with its row, of tasks that do not say it themselves.
    ``result_sweep``: seconds between two deletions of what is over, by a worker, from a store that does not do that by
    itself; None: only ``cleartasks`` does.
    ``lease``: how long a silent worker keeps its tasks.
    ``poll_interval``: the longest pause between two looks for tasks.
    ``tune_sqlite``: let SQLite's connections use the write-ahead log and IMMEDIATE transactions.
    """

    broker: str = field(default="database://", repr=False)
    database: str = ""
    broker_options: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)
    confirm: bool = True
    persistent: bool = True
    prefetch: int | None = None
    heartbeat: float = 10.0
    exchanges: Mapping[str, Exchange] = field(default_factory=dict, hash=False)
    queues: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    queue_defaults: Mapping[str, Any] = field(default_factory=dict, hash=False)
    routes: Routes = ()
    schedules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False, repr=False)
    results: str = field(default="database://", repr=False)
    result_options: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)
    result_stores: Mapping[str, str] = field(default_factory=dict, hash=False)
    imports: tuple[str, ...] = ()
    result_ttl: float | None = 7 * _DAY
    failure_ttl: float | None = 30 * _DAY
    store_result: bool = True
    store_errors: bool = True
    keep_logs: bool = True
    result_sweep: float | None = _DAY
    lease: float = 30.0
    poll_interval: float = 1.0
    tune_sqlite: bool = True

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> BackendOptions:
        """From the dict in settings; raises ``OptionsError`` for the first thing that cannot be."""
        if not isinstance(given, Mapping):
            raise OptionsError("OPTIONS", f"OPTIONS must be a dict, not {type(given).__name__}.", "For example {}.")
        options = cls(**{key: parse_option(key, value) for key, value in given.items()})
        options.check()
        return options

    def check(self) -> None:
        """Raise ``OptionsError`` for options that do not go together."""
        named = database_of(self.broker)
        if named and self.database and named != self.database:
            raise OptionsError(
                "database",
                f"{path_of('database')} is {self.database!r}, and {path_of('broker')} says {named!r}.",
                "Write one of them.",
            )
        if self.exchanges or self.queues or self.queue_defaults:
            _ = self.topology
        check_results("results", self.results, self.result_stores, self.broker)

    @cached_property
    def transport(self) -> str:
        """The broker's kind, whatever its URL's scheme is: ``amqp``, ``redis``, ``memory``, ``database`` and others."""
        return transport_of(self.broker).name

    @property
    def is_kombu(self) -> bool:
        """Whether messages travel through a broker of their own."""
        return self.transport != DATABASE

    @property
    def database_alias(self) -> str:
        """The ``DATABASES`` alias with the rows, or "" for the router's choice."""
        return database_of(self.broker) or self.database

    @cached_property
    def topology(self) -> Topology:
        """Exchanges and queues. Raises ``OptionsError`` for those that do not go together."""
        built: Topology = import_string(f"{_TOPOLOGY_OPTIONS}.build_topology")(
            self.exchanges,
            self.queues,
            self.queue_defaults,
            persistent=self.persistent,
            transport=transport_of(self.broker),
        )
        return built

    @cached_property
    def stores_results(self) -> bool:
        """Whether return values are kept of tasks that do not say it themselves."""
        return self.store_result and scheme_of(self.results) != DISABLED


def taskq_aliases() -> dict[str, Mapping[str, Any]]:
    """The aliases of ``TASKS`` that use this backend by its own path, with their settings.

    Reads the settings alone, so that it is safe before the apps are ready.
    """
    configured: Mapping[str, Mapping[str, Any]] = getattr(settings, "TASKS", None) or {}
    return {alias: params for alias, params in configured.items() if params.get("BACKEND") in BACKEND_PATHS}


def tuned_databases() -> frozenset[str]:
    """The ``DATABASES`` aliases whose SQLite connections we may tune."""
    aliases = set()
    for params in taskq_aliases().values():
        try:
            options = BackendOptions.parse(params.get("OPTIONS") or {})
        except OptionsError:
            # Reported by the checks; a connection that opens before them must not fail for it.
            continue
        if options.tune_sqlite:
            aliases.add(options.database_alias or DEFAULT_DB_ALIAS)
    return frozenset(aliases)


def parse_option(key: str, value: Any) -> Any:
    """One key by itself. Raises ``OptionsError``."""
    parser = _PARSERS.get(key)
    if parser is None:
        raise OptionsError(
            str(key),
            f"OPTIONS has no key {key!r}{nearest(str(key), _PARSERS) or '.'}",
            f"Known keys: {', '.join(_PARSERS)}.",
        )
    return parser(key, value)


def _broker_options(key: str, value: Any) -> dict[str, Any]:
    given = mapping((key,), value, "{'visibility_timeout': 43200}")
    if "confirm_publish" in given:
        raise refuse((key, "confirm_publish"), " is said elsewhere.", f"Write {path_of('confirm')}.")
    return given


def _result_options(key: str, value: Any) -> dict[str, Any]:
    return mapping((key,), value, "{'socket_timeout': 2}")


def _imports(key: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable) or not all(isinstance(name, str) for name in value):
        raise OptionsError(key, f"{path_of(key)} must be a list of module names.", "For example ['shop.jobs'].")
    return tuple(value)


def _prefetch(key: str, value: Any) -> int | None:
    return None if value is None else whole_number((key,), value, 1, _MAX_SHORT)


def _heartbeat(key: str, value: Any) -> float:
    if value == 0 and not isinstance(value, bool):
        return 0.0
    given = seconds((key,), value)
    if not 1 <= given <= _MAX_SHORT:
        raise OptionsError(
            key,
            f"{path_of(key)} must be 0 (none), or from 1 to {_MAX_SHORT} seconds, not {value!r}.",
            "A broker counts whole seconds, and closes the connection after two of them without a beat.",
        )
    return given


def _seconds(key: str, value: Any) -> float:
    return seconds((key,), value)


def _optional_seconds(key: str, value: Any) -> float | None:
    return None if value is None else seconds((key,), value)


def _lease(key: str, value: Any) -> float:
    given = seconds((key,), value)
    if given < 3:
        raise OptionsError(
            key,
            f"{path_of(key)} must be at least 3 seconds, not {value!r}.",
            "A busy machine can keep a live worker silent for a second.",
        )
    return given


def _flag(key: str, value: Any) -> bool:
    return flag((key,), value)


def _by(name: str) -> Callable[[str, Any], Any]:
    def parse(key: str, value: Any) -> Any:
        return import_string(f"{_TOPOLOGY_OPTIONS}.{name}")(key, value)

    return parse


_PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "broker": parse_broker,
    "database": parse_database,
    "broker_options": _broker_options,
    "confirm": _flag,
    "persistent": _flag,
    "prefetch": _prefetch,
    "heartbeat": _heartbeat,
    "exchanges": _by("parse_exchanges"),
    "queues": _by("parse_queues"),
    "queue_defaults": _by("parse_queue_defaults"),
    "routes": parse_routes,
    "schedules": parse_schedules,
    "results": parse_results,
    "result_options": _result_options,
    "result_stores": parse_stores,
    "imports": _imports,
    "result_ttl": _optional_seconds,
    "failure_ttl": _optional_seconds,
    "store_result": _flag,
    "store_errors": _flag,
    "keep_logs": _flag,
    "result_sweep": _optional_seconds,
    "lease": _lease,
    "poll_interval": _seconds,
    "tune_sqlite": _flag,
}
