"""Redis, memcached, files, and Django's own caches and storages."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.test import override_settings

from tests.contract.stores.kind import Served, StoreKind
from tests.servers import MemcachedServer, RedisServer
from tests.servers.emulators.servers import MotoServer
from tests.servers.redis_variants import MASTER, ReplicatedRedisServer, SentinelServer, TLSRedisServer
from tests.waiting import wait_until


@contextmanager
def serve_redis() -> Iterator[Served]:
    with RedisServer(durable=False) as server:
        yield Served(url=server.url(7), stop=server.stop)


@contextmanager
def serve_redis_with_tls() -> Iterator[Served]:
    with TLSRedisServer(durable=False) as server:
        url = f"rediss://:{server.password}@127.0.0.1:{server.tls_port}/1?ssl_ca_certs={server.authority}"
        yield Served(url=url, stop=server.stop)


@contextmanager
def serve_replicated_redis() -> Iterator[tuple[Served, ReplicatedRedisServer, ReplicatedRedisServer]]:
    """Redis as sentinels see it: what serves, the master and its replica."""
    with (
        ReplicatedRedisServer(durable=False) as master,
        ReplicatedRedisServer(master, durable=False) as replica,
        SentinelServer(master) as sentinel,
    ):
        wait_until(lambda: "master_link_status:up" in replica.command("INFO", "replication"), what="the replica")
        # It asks a master every 10 s for its replicas, and cannot promote one that it has not heard of.
        wait_until(lambda: f":{replica.port}" in _status(sentinel), what="the sentinel to know the replica")

        def stop() -> None:
            for server in (sentinel, replica, master):
                if server.runs:
                    server.stop("immediate")

        # The first sentinel is nobody: the next one has to be asked.
        url = f"sentinel://:{master.password}@127.0.0.1:1/3;sentinel://127.0.0.1:{sentinel.port}/3"
        options = {"master_name": MASTER, "sentinel_kwargs": {"password": sentinel.password}}
        yield Served(url=url, options=options, stop=stop), master, replica


@contextmanager
def serve_sentinel() -> Iterator[Served]:
    with serve_replicated_redis() as (served, _, _):
        yield served


@contextmanager
def serve_memcached() -> Iterator[Served]:
    with MemcachedServer() as server:
        yield Served(url=f"cache+memcached://127.0.0.1:{server.port}/", stop=server.stop)


@contextmanager
def serve_two_memcacheds() -> Iterator[Served]:
    with MemcachedServer() as one, MemcachedServer() as other:

        def stop() -> None:
            one.stop()
            other.stop()

        yield Served(url=f"cache+memcached://127.0.0.1:{one.port};127.0.0.1:{other.port}/", stop=stop)


@contextmanager
def serve_files() -> Iterator[Served]:
    with _directory() as directory:
        yield Served(url=f"file://{directory}", stop=lambda: _take_away(directory))


@contextmanager
def serve_redis_cache() -> Iterator[Served]:
    with RedisServer(durable=False) as server:
        cache = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": server.url(5)}
        with _cache(cache) as url:
            yield Served(url=url, stop=server.stop)


@contextmanager
def serve_memcached_cache() -> Iterator[Served]:
    with MemcachedServer() as server:
        cache = {
            "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
            "LOCATION": f"127.0.0.1:{server.port}",
        }
        with _cache(cache) as url:
            yield Served(url=url, stop=server.stop)


@contextmanager
def serve_file_cache() -> Iterator[Served]:
    with _directory() as directory:
        cache = {
            "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
            "LOCATION": directory,
            "OPTIONS": {"MAX_ENTRIES": 100_000},
        }
        with _cache(cache) as url:
            yield Served(url=url, stop=lambda: _take_away(directory))


@contextmanager
def serve_file_storage() -> Iterator[Served]:
    with _directory() as directory:
        storage = {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(directory / "made" / "at first use")},
        }
        with _storage(storage) as url:
            yield Served(url=f"{url}/some/prefix", stop=lambda: _take_away(directory))


@contextmanager
def serve_s3_storage() -> Iterator[Served]:
    with MotoServer() as server:
        server.create_bucket("media")
        options = {
            "bucket_name": "media",
            "location": "below",
            "endpoint_url": server.url,
            "region_name": "us-east-1",
            "access_key": "a-key-of-nobody",
            "secret_key": "a-secret-of-nobody",
            # As for uploads, and not for results.
            "file_overwrite": False,
        }
        with _storage({"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}) as url:
            yield Served(url=f"{url}/results", stop=server.stop)


@contextmanager
def _directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="taskq-results-"))
    try:
        yield directory
    finally:
        if directory.is_dir():
            shutil.rmtree(directory)
        else:
            directory.unlink()


def _take_away(directory: Path) -> None:
    """What a disk that has gone looks like, also to root: nothing can be found or made there."""
    shutil.rmtree(directory)
    directory.touch()


@contextmanager
def _cache(entry: Mapping[str, Any]) -> Iterator[str]:
    with override_settings(CACHES={"results": entry}):
        yield "cache://results"


@contextmanager
def _storage(entry: Mapping[str, Any]) -> Iterator[str]:
    with override_settings(STORAGES={"results": entry}):
        yield "storage://results"


def _status(sentinel: SentinelServer) -> str:
    return sentinel.command("SENTINEL", "REPLICAS", MASTER)


KINDS = [
    StoreKind(name="redis", serve=serve_redis, proof="server"),
    StoreKind(name="rediss", serve=serve_redis_with_tls, proof="server"),
    StoreKind(name="sentinel", serve=serve_sentinel, proof="server"),
    StoreKind(name="memcached", serve=serve_memcached, proof="server"),
    StoreKind(name="two-memcacheds", serve=serve_two_memcacheds, proof="server"),
    StoreKind(name="file", serve=serve_files, proof="server"),
    StoreKind(name="cache-redis", serve=serve_redis_cache, proof="server"),
    StoreKind(name="cache-memcached", serve=serve_memcached_cache, proof="server"),
    StoreKind(name="cache-file", serve=serve_file_cache, proof="server"),
    StoreKind(name="storage-file", serve=serve_file_storage, proof="server"),
    StoreKind(name="storage-s3", serve=serve_s3_storage, proof="emulator"),
]
