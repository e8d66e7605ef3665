"""What is particular to Redis, memcached, files, and Django's caches and storages."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.files.storage import FileSystemStorage, Storage, storages
from django.core.management import call_command
from django.db import connection
from django.test import override_settings
from pymemcache.exceptions import MemcacheError
from redis.exceptions import RedisError

from django_taskq.results.keyvalue import CONNECT_TIMEOUT, OPERATION_TIMEOUT, StoreConfigError
from django_taskq.results.stores.cache import CacheStore
from django_taskq.results.stores.filesystem import FileStore
from django_taskq.results.stores.memcached import MemcachedStore
from django_taskq.results.stores.redis import RedisStore
from django_taskq.results.stores.storage import StorageStore
from tests.contract.stores.basic import serve_redis_with_tls, serve_replicated_redis
from tests.servers import MemcachedServer, RedisServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.once, pytest.mark.databases("sqlite")]

SECRET = "a/secret"


class TestRedisURLs:
    @pytest.mark.parametrize(
        ("url", "options", "said"),
        [
            (f"redis://:{SECRET}@host/0", {}, "quote special characters"),
            ("redis://host:many/0", {}, "host and port"),
            ("redis://host/first", {}, "db must be a whole number"),
            ("redis://host/0?ssl_cert_reqs=none", {}, "write rediss://"),
            ("rediss://host/0?ssl_cert_reqs=sometimes", {}, "required, optional or none"),
            ("redis://host/0?socket_timout=3", {}, "did you mean 'socket_timeout'"),
            ("redis://host/0", {"max_conections": 3}, "did you mean 'max_connections'"),
            ("redis://host/0", {"decode_responses": True}, "unknown option"),
            ("redis://host/0", {"socket_timeout": 0}, "seconds, more than 0"),
            ("redis://host/0", {"master_name": "mymaster"}, "for sentinel:// only"),
            ("sentinel://host/0", {}, "master_name"),
            ("redis+socket://", {}, "path of the socket"),
            ("valkey://host", {}, "is not one of"),
        ],
    )
    def test_that_cannot_be_are_refused(self, url: str, options: dict[str, Any], said: str) -> None:
        with pytest.raises(StoreConfigError, match=said) as refused:
            RedisStore(url, options)
        assert "secret" not in str(refused.value)
        assert refused.value.__cause__ is None
        assert refused.value.__suppress_context__ or refused.value.__context__ is None

    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("redis://", {"host": "localhost", "port": 6379, "db": 0, "socket_timeout": OPERATION_TIMEOUT}),
            ("redis://host", {"host": "host", "socket_connect_timeout": CONNECT_TIMEOUT}),
            ("redis://anne:p%40ss@host:1234/5", {"username": "anne", "password": "p@ss", "port": 1234, "db": 5}),
            ("redis://:pass@[::1]:1234//5", {"password": "pass", "host": "::1", "db": 5}),
            ("redis://host/1?socket_timeout=9&virtual_host=3", {"socket_timeout": 9.0, "db": 3}),
            ("redis+socket:///run/redis.sock?virtual_host=4", {"path": "/run/redis.sock", "db": 4}),
            ("rediss://host/0?ssl_cert_reqs=CERT_NONE", {"ssl_cert_reqs": "none", "ssl_check_hostname": False}),
            ("rediss://host/0?ssl_ca_certs=%2Fetc%2Fca.pem", {"ssl_ca_certs": "/etc/ca.pem"}),
        ],
    )
    def test_are_celerys(self, url: str, expected: dict[str, Any]) -> None:
        found = RedisStore(url, {})._pool.connection_kwargs
        assert {name: found[name] for name in expected} == expected

    def test_sentinels_may_be_many(self) -> None:
        url = "sentinel://:pass@one:1/2;sentinel://two:2/2;three"
        pool: Any = RedisStore(url, {"master_name": "m"})._pool
        addresses = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
        assert [(found["host"], found["port"]) for found in addresses] == [("one", 1), ("two", 2), ("three", 26379)]
        # The password is that of Redis.
        assert "pass" not in [found.get("password") for found in addresses]
        assert (pool.connection_kwargs["password"], pool.connection_kwargs["db"]) == ("pass", 2)


class SocketRedisServer(RedisServer):
    """A Redis that also listens on a socket in its directory."""

    @property
    def socket(self) -> Path:
        return self.directory / "socket"

    def _command(self) -> list[str | Path]:
        return [*super()._command(), "--unixsocket", self.socket]


class TestRedis:
    def test_is_reached_over_a_socket(self) -> None:
        with SocketRedisServer(durable=False) as server:
            url = f"redis+socket://:{server.password}@{server.socket}?virtual_host=2"
            with closing(RedisStore(url, {})) as store:
                store.put("key", b"value", 60)
                assert store.get("key") == b"value"
            assert server.command("GET", "key", db=2) == "value"

    def test_certificates_are_verified(self) -> None:
        with serve_redis_with_tls() as served:
            bare = served.url.partition("?")[0]
            # The name in the certificate, too.
            for url in (bare, f"{bare}?ssl_cert_reqs=required", served.url.replace("127.0.0.1", "localhost")):
                with closing(RedisStore(url, {})) as store, pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
                    store.get("key")
            with closing(RedisStore(f"{bare}?ssl_cert_reqs=none", {})) as store:
                assert store.get("key") is None

    def test_another_master_is_found(self) -> None:
        with (
            serve_replicated_redis() as (served, master, replica),
            closing(RedisStore(served.url, served.options)) as store,
        ):
            store.put("key", b"before", 60)
            wait_until(lambda: replica.command("DBSIZE", db=3) == "1", what="the replica to have it")
            master.kill()

            def works() -> bool:
                try:
                    store.put("key", b"after", 60)
                except RedisError:
                    return False
                return True

            wait_until(works, what="the sentinel to make the replica the master")
            assert store.get("key") == b"after"
            assert replica.command("GET", "key", db=3) == "after"

    def test_a_restart_is_not_noticed(self) -> None:
        with RedisServer(durable=False) as server, closing(RedisStore(server.url(), {})) as store:
            store.put("key", b"before", 60)
            server.restart()
            store.put("key", b"after", 60)
            assert store.get("key") == b"after"

    @pytest.mark.timing
    def test_a_server_that_hangs_is_given_up(self) -> None:
        with (
            RedisServer(durable=False) as server,
            closing(RedisStore(server.url(), {"socket_timeout": 0.5})) as store,
        ):
            store.put("key", b"before", 60)
            server.freeze()
            start = time.monotonic()
            with pytest.raises(RedisError):
                store.get("key")
            # Once, and not again: a second attempt would hang, too.
            assert time.monotonic() - start < 1.0
            server.thaw()
            assert store.get("key") == b"before"

    def test_connections_are_bounded(self) -> None:
        with (
            RedisServer(durable=False) as server,
            closing(RedisStore(server.url(), {"max_connections": 3})) as store,
            ThreadPoolExecutor(20) as threads,
        ):
            assert list(threads.map(lambda number: store.put(f"key{number}", b"value", 60), range(200))) == [None] * 200
            assert server.command("INFO", "clients").partition("connected_clients:")[2].split()[0] in ("3", "4")


class TestMemcached:
    @pytest.mark.parametrize(
        ("url", "options", "said"),
        [
            ("memcached://user:secret@host:1/", {}, "no user and password"),
            ("memcached://host:many/", {}, "is not host:port"),
            ("cache+memory://", {}, "not memory://"),
            ("memcached://host", {"max_pool_sice": 3}, "did you mean 'max_pool_size'"),
        ],
    )
    def test_urls_that_cannot_be_are_refused(self, url: str, options: dict[str, Any], said: str) -> None:
        with pytest.raises(StoreConfigError, match=said) as refused:
            MemcachedStore(url, options)
        assert "secret" not in str(refused.value)

    @pytest.mark.parametrize(
        ("url", "servers"),
        [
            ("cache+memcached://one:1;two:2/", ["one:1", "two:2"]),
            ("cache+memcached:///run/memcached.sock", ["/run/memcached.sock"]),
            ("cache+pylibmc://one", ["one"]),
            ("memcached://one:1", ["one:1"]),
            ("memcached://", ["127.0.0.1:11211"]),
        ],
    )
    def test_urls_are_celerys(self, url: str, servers: list[str]) -> None:
        assert list(MemcachedStore(url, {})._servers) == servers

    def test_a_value_of_which_a_part_is_gone_is_missing(self) -> None:
        with MemcachedServer() as server, closing(MemcachedStore(f"memcached://127.0.0.1:{server.port}", {})) as store:
            first, second = os.urandom(2_500_000), os.urandom(2_500_000)
            store.put("key", first, 60)
            head = store._servers[f"127.0.0.1:{server.port}"].run(lambda client: client.get("key"))
            store.put("key", second, 60)
            assert store.get("key") == second

            token = head[1:].decode().split()[0]
            client: Any = store._servers[f"127.0.0.1:{server.port}"]
            # The chunks of the first are still there, and not taken for the second's.
            assert client.run(lambda client: client.get(f"key.{token}.1")) == first[1_000_000:2_000_000]
            token = client.run(lambda client: client.get("key"))[1:].decode().split()[0]
            client.run(lambda client: client.delete(f"key.{token}.1"))
            assert store.get("key") is None

    def test_a_value_that_the_server_refuses_is_an_error(self) -> None:
        with MemcachedServer() as server:
            url = f"memcached://127.0.0.1:{server.port}"
            with closing(MemcachedStore(url, {"chunk_size": 2_000_000})) as store:
                with pytest.raises(MemcacheError, match="too large"):
                    store.put("key", bytes(1_500_000), 60)
                # The connection is still good for others.
                store.put("key", b"value", 60)
                assert store.get("key") == b"value"

    def test_a_restart_is_not_noticed(self) -> None:
        with MemcachedServer() as server, closing(MemcachedStore(f"memcached://127.0.0.1:{server.port}", {})) as store:
            store.put("key", b"before", 60)
            server.restart()
            assert store.get("key") is None
            store.put("key", b"after", 60)
            assert store.get("key") == b"after"

    def test_connections_are_bounded(self) -> None:
        with MemcachedServer() as server:
            store = MemcachedStore(f"memcached://127.0.0.1:{server.port}", {"max_pool_size": 3})
            with closing(store), ThreadPoolExecutor(20) as threads:
                assert (
                    list(threads.map(lambda number: store.put(f"key{number}", b"value", 60), range(200)))
                    == [None] * 200
                )
                stats = store._servers[f"127.0.0.1:{server.port}"].run(lambda client: client.client_pool)
                assert len(stats.free) <= 3


class TestFiles:
    @pytest.mark.parametrize(
        ("url", "options", "said"),
        [
            ("file://relative/path", {}, "'relative' stands where a host would"),
            ("file://", {}, "absolute path"),
            ("file:///path", {"moed": 0o600}, "did you mean 'mode'"),
            ("file:///path", {"mode": "0600"}, "must be a number"),
        ],
    )
    def test_urls_that_cannot_be_are_refused(self, url: str, options: dict[str, Any], said: str) -> None:
        with pytest.raises(StoreConfigError, match=said):
            FileStore(url, options)

    @pytest.mark.parametrize("host", ["", "localhost"])
    def test_are_where_the_url_says_and_their_owners_alone(self, tmp_path: Path, host: str) -> None:
        store = FileStore(f"file://{host}{tmp_path}", {})
        store.put("key", b"value", 60)
        (file,) = tmp_path.iterdir()
        assert (file.name, file.read_bytes()) == ("key.result", b"value")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_may_be_a_groups(self, tmp_path: Path) -> None:
        FileStore(f"file://{tmp_path}", {"mode": 0o660}).put("key", b"value", None)
        assert stat.S_IMODE((tmp_path / "key.result").stat().st_mode) == 0o660

    def test_a_directory_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        store = FileStore(f"file://{tmp_path}/missing", {})
        operations: list[Callable[[], object]] = [
            lambda: store.put("key", b"", 1),
            lambda: store.get("key"),
            lambda: store.delete("key"),
            lambda: store.sweep(0, 0),
        ]
        for operation in operations:
            with pytest.raises(FileNotFoundError, match="missing"):
                operation()

    def test_sweep_leaves_what_is_not_a_result(self, tmp_path: Path) -> None:
        store = FileStore(f"file://{tmp_path}", {})
        (tmp_path / "of-somebody-else").write_bytes(b"")
        os.utime(tmp_path / "of-somebody-else", (1, 1))
        (tmp_path / "directory").mkdir()
        (tmp_path / "stale.unfinished").write_bytes(b"")
        for number in range(3):
            store.put(f"key{number}", b"value", 10)
        store.put("stays", b"value", None)

        assert store.sweep(time.time() + 60, 10) == 3
        assert {path.name for path in tmp_path.iterdir()} == {
            *("of-somebody-else", "directory", "stale.unfinished", "stays.result"),
        }
        assert store.sweep(time.time() + 7200, 10) == 0
        assert not (tmp_path / "stale.unfinished").exists()

    def test_sweep_takes_nothing_that_is_new(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A value is put just after sweep has seen the old one."""
        store = FileStore(f"file://{tmp_path}", {})
        store.put("key", b"old", 10)
        rename = Path.rename

        def put_and_rename(path: Path, target: Path) -> Path:
            monkeypatch.setattr(Path, "rename", rename)
            store.put("key", b"new", 1000)
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", put_and_rename)
        assert store.sweep(time.time() + 60, 10) == 0
        assert store.get("key") == b"new"
        assert len(list(tmp_path.iterdir())) == 1

    def test_are_swept_put_and_deleted_at_once(self, tmp_path: Path) -> None:
        stores = [FileStore(f"file://{tmp_path}", {}) for _ in range(6)]

        def work(number: int) -> None:
            for turn in range(100):
                if number < 2:
                    stores[number].sweep(time.time() + 60, 10)
                elif number < 4:
                    stores[number].put(f"over{turn % 7}", b"over", 10)
                    stores[number].put(f"kept{number}{turn}", b"kept", 1000)
                else:
                    stores[number].delete(f"over{turn % 7}")

        with ThreadPoolExecutor(6) as threads:
            assert list(threads.map(work, range(6))) == [None] * 6
        stores[0].sweep(time.time() + 60, 10)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            f"kept{number}{turn}.result" for number in (2, 3) for turn in range(100)
        )


@contextmanager
def cache(backend: str, **entry: Any) -> Iterator[CacheStore]:
    with override_settings(CACHES={"results": {"BACKEND": f"django.core.cache.backends.{backend}", **entry}}):
        yield CacheStore("cache://results", {})


class TestCaches:
    def test_unknown_aliases_are_refused(self) -> None:
        with override_settings(CACHES={"results": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}):
            with pytest.raises(StoreConfigError, match="no alias 'result'; did you mean 'results'"):
                CacheStore("cache://result", {})
            with pytest.raises(StoreConfigError, match="unknown result option 'timeout'"):
                CacheStore("cache://results", {"timeout": 3})
            with pytest.raises(StoreConfigError, match="write the alias"):
                CacheStore("cache://", {})

    def test_a_backend_that_cannot_be_made_is_refused(self) -> None:
        with (
            override_settings(CACHES={"results": {"BACKEND": "no.such.Cache"}}),
            pytest.raises(StoreConfigError, match="cannot be made"),
        ):
            CacheStore("cache://results", {})

    def test_memory_is_private(self) -> None:
        with cache("locmem.LocMemCache", OPTIONS={"MAX_ENTRIES": 1000}) as store:
            assert (store.is_private, store.culls_at) == (True, 1000)
            store.put("key", b"first", 60)
            store.put("key", b"value", 60)
            assert CacheStore("cache://results/", {}).get("key") == b"value"
            store.delete("key")
            store.delete("key")
            assert store.get("key") is None

    def test_a_cache_that_keeps_nothing_is_an_error(self) -> None:
        with cache("dummy.DummyCache") as store:
            assert store.is_private
            with pytest.raises(OSError, match="'results' did not keep a value"):
                store.put("key", b"value", 60)

    @pytest.mark.django_db(transaction=True)
    def test_a_database_keeps_values(self) -> None:
        with cache("db.DatabaseCache", LOCATION="results", OPTIONS={"MAX_ENTRIES": 5000}) as store:
            call_command("createcachetable", verbosity=0)
            try:
                assert (store.is_private, store.culls_at) == (False, 5000)
                value = bytes(range(256)) * 5000
                for ttl in (60, 60 * 86400.0, 1e12, None):
                    store.put("key", value, ttl)
                    assert store.get("key") == value
                    store.put("key", b"short", ttl)
                    assert store.get("key") == b"short"
                    store.delete("key")
                    store.delete("key")
                    assert store.get("key") is None
            finally:
                with connection.cursor() as cursor:
                    cursor.execute("DROP TABLE results")

    def test_a_value_that_is_not_set_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a database does that is locked: nothing."""
        with cache("locmem.LocMemCache") as store:
            store.put("key", b"old", 60)
            monkeypatch.setattr(LocMemCache, "set", lambda *_, **__: None)
            with pytest.raises(OSError, match="did not keep"):
                store.put("key", b"new", 60)

    def test_what_is_no_result_is_not_taken_for_one(self) -> None:
        with cache("locmem.LocMemCache") as store:
            caches["results"].set("key", {"a": 1})
            with pytest.raises(TypeError, match="has a dict where a result would be"):
                store.get("key")
            caches["results"].set("key", b"something else")
            with pytest.raises(ValueError, match="was not stored by this store"):
                store.get("key")


@contextmanager
def storage(backend: str, prefix: str = "", **options: Any) -> Iterator[StorageStore]:
    with override_settings(STORAGES={"results": {"BACKEND": backend, "OPTIONS": options}}):
        yield StorageStore(f"storage://results{prefix}", {})


class Renaming(Storage):
    """A storage like those of others: it renames what it finds, and has no paths."""

    def __init__(self, location: str) -> None:
        self._files = FileSystemStorage(location)

    def _open(self, name: str, mode: str = "rb") -> Any:
        return self._files.open(name, mode)

    def _save(self, name: str, content: Any) -> str:
        return self._files.save(name, content)

    def delete(self, name: str) -> None:
        self._files.delete(name)

    def exists(self, name: str) -> bool:
        return self._files.exists(name)


class TestStorages:
    def test_unknown_aliases_are_refused(self) -> None:
        with pytest.raises(StoreConfigError, match="no alias 'defualt'; did you mean 'default'"):
            StorageStore("storage://defualt/results", {})
        with pytest.raises(StoreConfigError, match="unknown result option"):
            StorageStore("storage://default/results", {"location": "/"})
        with pytest.raises(StoreConfigError, match="write the alias"):
            StorageStore("storage:///results", {})
        with pytest.raises(StoreConfigError, match="leads nowhere but down"):
            StorageStore("storage://default/../results", {})

    def test_a_backend_that_cannot_be_made_is_refused(self) -> None:
        with pytest.raises(StoreConfigError, match="cannot be made"), storage("no.such.Storage"):
            pass

    def test_files_are_below_the_prefix_and_swept_by_age(self, tmp_path: Path) -> None:
        with storage("django.core.files.storage.FileSystemStorage", "/some/prefix", location=str(tmp_path)) as store:
            assert store.sweep(time.time(), 0) == 0
            directory = tmp_path / "some" / "prefix"
            store.put("old", b"value", 10)
            store.put("new", b"value", 10)
            (directory / "of-somebody-else").write_bytes(b"")
            (directory / "left.unfinished").write_bytes(b"")
            for name in ("old.result", "of-somebody-else", "left.unfinished"):
                os.utime(directory / name, (time.time() - 7200,) * 2)
            assert not store.is_private
            assert store.sweep(time.time(), 3600) == 1
            assert {path.name for path in directory.iterdir()} == {"new.result", "of-somebody-else"}

    @pytest.mark.parametrize("use_tz", [True, False])
    @pytest.mark.parametrize("allow_overwrite", [True, False])
    def test_files_are_replaced(self, tmp_path: Path, allow_overwrite: bool, use_tz: bool) -> None:
        backend = "django.core.files.storage.FileSystemStorage"
        with (
            override_settings(USE_TZ=use_tz, TIME_ZONE="Asia/Tokyo"),
            storage(backend, location=str(tmp_path), allow_overwrite=allow_overwrite) as store,
        ):
            store.put("key", b"a long one", 10)
            store.put("key", b"short", 10)
            assert store.get("key") == b"short"
            assert [path.name for path in tmp_path.iterdir()] == ["key.result"]
            assert store.sweep(time.time() + 5, 10) == 0
            assert store.sweep(time.time() + 15, 10) == 1

    def test_memory_is_private(self) -> None:
        with storage("django.core.files.storage.InMemoryStorage", "/results") as store:
            assert store.is_private
            assert store.get("key") is None
            store.delete("key")
            for value in (b"a long one", b"short", b"", bytes(range(256))):
                store.put("key", value, 10)
                assert StorageStore("storage://results/results", {}).get("key") == value
            assert storages["results"].listdir("results") == ([], ["key.result"])
            assert store.sweep(time.time() + 5, 10) == 0
            assert store.sweep(time.time() + 15, 10) == 1
            assert store.get("key") is None
            store.delete("key")

    def test_a_storage_that_renames_is_made_to_replace(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A storage of nobody we know, in two processes."""
        with storage(f"{__name__}.Renaming", location=str(tmp_path)) as store:
            other = StorageStore("storage://results", {})
            others_turn = [True]
            save = Renaming.save

            def save_second(self: Renaming, *arguments: Any, **named: Any) -> Any:
                if others_turn.pop() if others_turn else False:
                    other.put("key", b"of the other", 10)
                return save(self, *arguments, **named)

            monkeypatch.setattr(Renaming, "save", save_second)
            store.put("key", b"ours", 10)
            assert store.get("key") == b"ours"
            assert [path.name for path in tmp_path.iterdir()] == ["key.result"]
