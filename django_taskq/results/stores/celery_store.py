"""Any of Celery's result backends, through Celery's own code."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

import celery
from celery.app.backends import by_url
from celery.app.defaults import SETTING_KEYS
from celery.backends.base import Backend, BaseKeyValueStoreBackend
from celery.exceptions import ImproperlyConfigured
from celery.states import READY_STATES

from ..address import only_known
from ..generations import Head, cut, decode_head, find
from ..keyvalue import CONNECT_TIMEOUT, OPERATION_TIMEOUT, KeyValueStore, StoreConfigError

#: What is ours to say: values are JSON, and end when we say so.
_OURS = {
    "result_backend",
    "result_serializer",
    "result_accept_content",
    "accept_content",
    "result_expires",
    "result_compression",
}
_KNOWN = SETTING_KEYS - _OURS
#: Not SUCCESS, over which Celery's backends write nothing more.
_STATE = "STORED"
#: In a table that Celery has results in, too, ours are told apart by it.
_PREFIX = "taskq-"
#: Bytes of one item, which takes a third more in base64. Celery's result is a BLOB to MySQL and MariaDB: 65,535 bytes.
_PART, _PARTS = 8 * 1024 * 1024, {"mysql": 45_000, "mariadb": 45_000}
#: How often others may store under a name first before a put gives up.
_ATTEMPTS = 10
#: Backends that answer to one process, or to nobody.
_NO_STORES = frozenset({"rpc", "amqp", "disabled", "cache+memory"})
_DATABASES = frozenset({"db", "database"})


class _Inert:
    """Before a backend's class: whatever is stored, reading it imports nothing and unpickles nothing."""

    #: With these Celery writes down when it was, which is what its cleanup, and our sweep, go by.
    READY_STATES = READY_STATES | {_STATE}

    def exception_to_python(self, exc: object) -> None:
        """An end that Celery stored is not for us; a class by its name even less."""

    def meta_from_decoded(self, meta: dict[str, Any]) -> dict[str, Any]:
        """As it is: without exceptions made of it."""
        return meta

    def _decode_stored_result(self, payload: Any) -> Any:
        # Celery 5.7 takes what is not JSON for a pickle of an older Celery.
        return cast(Any, self).decode(payload)


class CeleryStore(KeyValueStore):
    """``celery+`` before any URL that Celery's ``result_backend`` takes; ``db+postgresql://…``, ``db+sqlite:///…`` without.

    Options are Celery's settings in lower case, such as ``redis_socket_timeout``, ``database_engine_options``,
    ``result_backend_transport_options``, ``mongodb_backend_settings``; none that says how results are written or for how long
    they stay. Celery's names of tables are one for a process: ``database_table_names`` here renames those of a Celery app of
    the same process, too, and without the option they are left as they are. They are not Celery results: Celery's own
    ``AsyncResult`` finds no use in them.

    Values end by themselves where Celery says that the backend does that (``supports_autoexpire``). ``sweep`` deletes ours
    from a database; elsewhere it is the backend's ``cleanup``, which deletes Celery's, too, that are older than ours may get.
    Both go by when a value was put. A value larger than 8 MB (to MySQL
    and MariaDB, 45 KB) is stored in parts. Celery connects to a database anew for each operation.

    From ``db+…`` before 5.7 Celery reads pickles, so that is refused.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._target = url.removeprefix("celery+")
        self._scheme = self._target.partition("://")[0]
        only_known(options, _KNOWN, store=f"{self._scheme}:// (by Celery)")
        if self._scheme in _NO_STORES:
            raise StoreConfigError(f"celery+{self._scheme}:// keeps no results that others can read.")
        self._is_database = self._scheme.partition("+")[0] in _DATABASES
        self._part = _part_size(self._target)
        self._settings = {**_timeouts(self._scheme, self._target), **options}
        self._lock = threading.Lock()
        self._idle: list[Backend] = []
        self._has_tables = False
        self._class, self._url, self._app = self._private_app()
        # So that a check finds what the backend's class has to say; it connects later.
        self._idle.append(self._make(None))

    @property
    def expires(self) -> bool:  # type: ignore[override]  # it depends on the backend
        """Whether the backend's server deletes values whose time is over by itself."""
        return bool(self._class.supports_autoexpire)

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """See the base."""
        head = Head(inline=value)
        with self._backend(ttl) as backend:
            if len(value) > self._part:
                head, parts = cut(value, self._part, secrets.token_hex(8))
                for number, part in enumerate(parts):
                    _store(backend, _part_name(key, head, number), part)
            # Parts of a head that was there end with their time.
            _store(backend, _name(key), head.encode())

    def get(self, key: str) -> bytes | None:
        """See the base."""
        with self._backend() as backend:

            def parts(head: Head) -> list[bytes]:
                found = (_load(backend, _part_name(key, head, number)) for number in range(head.count))
                return [part for part in found if part is not None]

            return find(lambda: _load(backend, _name(key)), parts)

    def delete(self, key: str) -> None:
        """See the base."""
        with self._backend() as backend:
            head = decode_head(_load(backend, _name(key)))
            _drop(backend, _name(key))
            if head is not None:
                for number in range(head.count):
                    _drop(backend, _part_name(key, head, number))

    def sweep(self, now: float, longest: float) -> int:
        """See the base."""
        if self.expires or not math.isfinite(longest):
            return 0
        if not self._is_database:
            # Of its own, as some remember for how long results are kept.
            self._make(longest).cleanup()
            return -1
        # Celery's cleanup would delete what a Celery app has in the same table and wants to keep for longer.
        cutoff = datetime.fromtimestamp(now - longest, UTC).replace(tzinfo=None)
        with self._backend() as backend, backend.ResultSession() as session:
            results = session.query(backend.task_cls)
            ours = results.filter(backend.task_cls.task_id.startswith(_PREFIX), backend.task_cls.date_done < cutoff)
            deleted = ours.delete(synchronize_session=False)
            session.commit()
        return int(deleted)

    def close(self) -> None:
        """See the base."""
        with self._lock:
            # Connections go with what holds them: Celery's backends have no common way to close.
            self._idle.clear()

    def _private_app(self) -> tuple[type[Backend], str, Any]:
        # Not the process's app, nor in its place; no fixup, which would bring in Django's settings or Celery's environment.
        app = celery.Celery("django_taskq", set_as_current=False, fixups=(), loader="celery.loaders.app:AppLoader")
        app.config_from_object(
            {
                **self._settings,
                "result_serializer": "json",
                "result_accept_content": ["json"],
                "accept_content": ["json"],
                "result_expires": None,
            }
        )
        try:
            backend, url = by_url(self._target, app.loader)
        except ImproperlyConfigured as error:
            # Celery has no such backend, or it does without its client library.
            raise _unusable(self._scheme, error) from None
        except ModuleNotFoundError as error:
            # A name that Celery does not know may be the path of a class.
            if error.name != self._scheme.partition("+")[0].partition(".")[0]:
                raise
            raise StoreConfigError(f"celery+{self._scheme}://: Celery has no such result backend.") from None
        return type(f"Private{backend.__name__}", (_Inert, backend), {}), url, app

    def _make(self, expires: float | None) -> Backend:
        try:
            backend = self._class(app=self._app, url=self._url, expires=expires)
        except ImproperlyConfigured as error:
            raise _unusable(self._scheme, error) from None
        return backend

    @contextmanager
    def _backend(self, ttl: float | None = None) -> Iterator[Backend]:
        """A backend for one operation of one thread: Celery's are not made for several, and remember when results end."""
        with self._lock:
            backend = self._idle.pop() if self._idle else None
        if backend is None:
            backend = self._make(None)
        if isinstance(backend, BaseKeyValueStoreBackend):
            backend.expires = None if ttl is None else max(1, math.ceil(ttl))
        if self._is_database:
            self._connect(backend)
        yield backend
        # Not one that failed: whatever state it is in, the next one is made anew.
        with self._lock:
            self._idle.append(backend)

    def _connect(self, backend: Backend) -> None:
        """Find out in time whether the database answers: while it has no tables yet, Celery tries eleven times to make them."""
        sessions = backend.session_manager
        if self._has_tables:
            sessions.prepared = True
        if not sessions.prepared:
            engine = sessions.get_engine(backend.url, **backend.engine_options)
            engine.connect().close()
            sessions.prepare_models(engine)
            self._has_tables = True


def _store(backend: Backend, name: str, data: bytes) -> None:
    text = base64.b64encode(data).decode("ascii")
    if isinstance(backend, BaseKeyValueStoreBackend):
        # As Celery writes results, since some backends read what they write over.
        backend.set(backend.get_key_for_task(name), json.dumps({"status": _STATE, "result": text}))
        return
    for attempt in range(_ATTEMPTS):
        try:
            backend.store_result(name, text, _STATE)
        except Exception as error:
            if attempt == _ATTEMPTS - 1 or not _is_rivalry(error):
                raise
        else:
            return


def _is_rivalry(error: Exception) -> bool:
    """Whether somebody else stored under the same name at the same time: Celery looks first, and inserts then."""
    words = str(getattr(error, "orig", "")).lower()
    return type(error).__name__ == "IntegrityError" or "deadlock" in words or "locked" in words


def _load(backend: Backend, name: str) -> bytes | None:
    if isinstance(backend, BaseKeyValueStoreBackend):
        stored = backend.get(backend.get_key_for_task(name))
        found = json.loads(stored) if stored else {}
    else:
        found = backend.get_task_meta(name, cache=False)
    if found.get("status") != _STATE:
        return None
    return base64.b64decode(found["result"])


def _drop(backend: Backend, name: str) -> None:
    if isinstance(backend, BaseKeyValueStoreBackend):
        backend.delete(backend.get_key_for_task(name))
    else:
        backend.forget(name)


def _name(key: str) -> str:
    # Not the key: names of rows and files may be the same to some servers in upper and in lower case.
    return _PREFIX + hashlib.sha256(key.encode()).hexdigest()


def _part_name(key: str, head: Head, number: int) -> str:
    return f"{_name(key)}-{head.generation}-{number}"


def _part_size(target: str) -> int:
    scheme, _, rest = target.partition("://")[0].partition("+")
    return _PARTS.get(rest.partition("+")[0], _PART) if scheme in _DATABASES else _PART


def _unusable(scheme: str, error: ImproperlyConfigured) -> Exception:
    words = str(error)
    if "install" in words:
        return ImportError(f"celery+{scheme}://: {words}")
    # Words of Celery about a URL may quote it.
    return StoreConfigError(f"celery+{scheme}://: Celery has no such result backend, or refuses its settings.")


def _timeouts(scheme: str, target: str) -> dict[str, Any]:
    """Celery's settings that let an operation end in time."""
    settings: dict[str, Any] = {
        "result_backend_always_retry": False,
        "result_backend_transport_options": {"retry_policy": {"max_retries": 1, "timeout": OPERATION_TIMEOUT}},
        "redis_socket_connect_timeout": CONNECT_TIMEOUT,
        "redis_socket_timeout": OPERATION_TIMEOUT,
        "elasticsearch_timeout": OPERATION_TIMEOUT,
        "elasticsearch_max_retries": 0,
    }
    if scheme.partition("+")[0] in _DATABASES:
        settings |= _of_database(target.partition("+")[2])
    return settings


def _of_database(url: str) -> dict[str, Any]:
    # Both only here: the other backends do without.
    import sqlalchemy  # noqa: PLC0415
    from celery.backends.database.models import Task, TaskSet  # noqa: PLC0415

    if isinstance(Task.__table__.c.result.type, sqlalchemy.PickleType):
        raise StoreConfigError("db+…:// needs celery>=5.7: before, Celery unpickles what it reads.")
    try:
        dialect = sqlalchemy.make_url(url).get_dialect()
    except (sqlalchemy.exc.ArgumentError, sqlalchemy.exc.NoSuchModuleError, ValueError):
        raise StoreConfigError("db+…://: SQLAlchemy takes this URL not; write db+postgresql+psycopg://…") from None
    # An ImportError now, not at the first result.
    dialect.import_dbapi()
    connect, operation = round(CONNECT_TIMEOUT), round(OPERATION_TIMEOUT)
    arguments: dict[str, dict[str, Any]] = {
        "psycopg": {
            "connect_timeout": connect,
            "tcp_user_timeout": operation * 1000,
            # Without an offset, as Celery writes it, an instant is in the session's zone.
            "options": f"-c statement_timeout={operation * 1000} -c timezone=UTC",
        },
        "mysqldb": {"connect_timeout": connect, "read_timeout": operation, "write_timeout": operation},
        "mysqlconnector": {"connection_timeout": connect},
        "pysqlite": {"timeout": OPERATION_TIMEOUT},
    }
    arguments["psycopg2"], arguments["pymysql"] = arguments["psycopg"], arguments["mysqldb"]
    return {
        "database_engine_options": {"connect_args": arguments.get(dialect.driver, {})},
        # At the first result instead, by which time there is a server to connect to.
        "database_create_tables_at_setup": False,
        # Celery names its tables anew with each backend, for all of the process.
        "database_table_names": {"task": Task.__table__.name, "group": TaskSet.__table__.name},
        "database_table_schemas": {"task": Task.__table__.schema, "group": TaskSet.__table__.schema},
    }
