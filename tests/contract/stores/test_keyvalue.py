"""Every server that keeps values offers the same primitives, and fails in time."""

from __future__ import annotations

import os
import re
import select
import signal
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any
from urllib.parse import unquote

import pytest
from django.utils.module_loading import import_string

from django_taskq.result_url import store_type
from django_taskq.results.keyvalue import CONNECT_TIMEOUT, OPERATION_TIMEOUT, KeyValueStore
from tests.contract.stores.kind import Served, StoreKind
from tests.contract.stores.kinds import KINDS
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.once,
    pytest.mark.databases("sqlite"),
    # What is under test: a store of its own in a child of a process that has threads.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
    # Celery's own store for Redis.
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
]

ALL_BYTES = bytes(range(256))
#: Seconds that this machine may be late.
MARGIN = 2.0
#: How much of something is enough for an emulator, which is slower than what it stands for by a factor of ten, and for
#: Celery's databases, which connect for each value.
FEWER = 10
#: Servers that delete what is over when they come to it: minutes later, or days. Until then it is read as before.
EXPIRE_LATER = {"dynamodb", "mongodb"}
#: Servers that tell of what is put.
TELLERS = [kind for kind in KINDS if kind.name in {"redis", "rediss", "sentinel"}]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> StoreKind:
    """Each kind; all tests with one run after each other, so that one server at a time is enough."""
    found: StoreKind = request.param
    return found


@pytest.fixture(scope="module")
def served(kind: StoreKind) -> Iterator[Served]:
    """A server for all tests that leave it as it is."""
    with kind.serve() as served:
        yield served


@pytest.fixture(scope="module")
def spare_server(kind: StoreKind) -> Iterator[Served]:
    """A server that nobody has used when the first test of a kind takes it, and that its last one stops."""
    with kind.serve() as served:
        yield served


@pytest.fixture
def own_server(kind: StoreKind) -> Iterator[Served]:
    """A server for this test alone, that nobody has used."""
    with kind.serve() as served:
        yield served


@pytest.fixture
def store(served: Served) -> Iterator[KeyValueStore]:
    with closing(make(served)) as store:
        yield store


@pytest.fixture
def key() -> str:
    return new_key()


def make(served: Served) -> KeyValueStore:
    found = store_type(served.url, {})
    assert found is not None
    store: KeyValueStore = import_string(found.path)(served.url, served.options)
    return store


def is_fast(kind: StoreKind) -> bool:
    return kind.proof == "server" and "db+" not in kind.name


def new_key() -> str:
    # All the characters there are in keys, and as long as they get.
    return f"Taskq-_.{uuid.uuid4()}".ljust(100, "x")


def in_child(action: Callable[[], object]) -> int:
    """Fork, and return the child's process id. It ends with 0 if the action raises nothing."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        action()
        code = 0
    except BaseException:  # noqa: BLE001  # it ends here, whatever it is
        traceback.print_exc()
    finally:
        os._exit(code)


def ending_of(pid: int) -> int:
    """Wait for a child; kill it if that takes too long."""
    ended: list[int] = []

    def has_ended() -> bool:
        found, status = os.waitpid(pid, os.WNOHANG)
        ended.append(status)
        return found == pid

    try:
        wait_until(has_ended, what="the child")
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return os.waitstatus_to_exitcode(ended[-1])


def secrets_of(served: Served) -> list[str]:
    """What nobody may see: a password in the URL, and options that are called so."""
    _, _, rest = served.url.partition("://")
    credentials = rest.rpartition("@")[0]
    found = re.split(r"[:;@/]", credentials)

    def collect(options: Mapping[str, Any]) -> None:
        for name, value in options.items():
            if isinstance(value, Mapping):
                collect(value)
            elif re.search("password|secret|token|key$", name) and isinstance(value, str):
                found.append(value)

    collect(served.options)
    # Shorter ones are parts of other words: a user's name, an empty password.
    return [text for secret in found for text in {secret, unquote(secret)} if len(text) >= 8]


class TestValues:
    def test_are_read_as_they_were_stored(self, store: KeyValueStore, key: str) -> None:
        store.put(key, ALL_BYTES, 60)
        assert store.get(key) == ALL_BYTES

    @pytest.mark.parametrize("value", [b"", b"\x00", b"\r\n", b" 7 "], ids=repr)
    def test_may_be_short_and_strange(self, store: KeyValueStore, key: str, value: bytes) -> None:
        store.put(key, value, 60)
        assert store.get(key) == value

    def test_that_are_missing_are_none(self, store: KeyValueStore, key: str) -> None:
        assert store.get(key) is None

    def test_take_the_place_of_others(self, store: KeyValueStore, key: str) -> None:
        store.put(key, b"a long one, of which nothing may be left", 60)
        store.put(key, b"short", 60)
        assert store.get(key) == b"short"

    def test_can_be_deleted_twice_and_stored_again(self, store: KeyValueStore, key: str) -> None:
        store.put(key, b"first", 60)
        store.delete(key)
        assert store.get(key) is None
        store.delete(key)
        assert store.get(key) is None
        store.put(key, b"second", 60)
        assert store.get(key) == b"second"

    def test_do_not_mix(self, store: KeyValueStore, key: str) -> None:
        store.put(key, b"one", 60)
        store.put(key[:-1], b"other", 60)
        store.put(key.swapcase(), b"third", 60)
        store.delete(key[:-1])
        assert (store.get(key), store.get(key[:-1]), store.get(key.swapcase())) == (b"one", None, b"third")

    @pytest.mark.parametrize("name", [".", "..", "-", "_", "con", "a.result", ".unfinished", "0"])
    def test_have_any_name(self, store: KeyValueStore, name: str) -> None:
        store.put(name, name.encode(), 60)
        assert store.get(name) == name.encode()
        store.delete(name)
        assert store.get(name) is None

    def test_are_seen_by_other_clients(self, served: Served, store: KeyValueStore, key: str) -> None:
        with closing(make(served)) as other:
            store.put(key, b"seen", 60)
            assert other.get(key) == b"seen"
            other.delete(key)
            assert store.get(key) is None

    def test_may_have_a_megabyte(self, store: KeyValueStore, key: str) -> None:
        # And the envelope around it.
        value = os.urandom(1024 * 1024 + 1024)
        store.put(key, value, 60)
        assert store.get(key) == value
        store.put(key, b"small again", 60)
        assert store.get(key) == b"small again"
        store.put(key, value[::-1], 60)
        assert store.get(key) == value[::-1]
        store.delete(key)
        assert store.get(key) is None


class TestTime:
    def test_is_never_cut_short_and_starts_anew_with_each_value(self, kind: StoreKind, store: KeyValueStore) -> None:
        short, longer, forever = new_key(), new_key(), new_key()
        for key, ttl in ((longer, 60), (forever, None)):
            store.put(key, b"short-lived", 0.2)
            store.put(key, b"stays", ttl)
        start = time.monotonic()
        store.put(short, b"short-lived", 1.2)

        def is_gone_or_may_be() -> bool:
            gone = store.get(short) is None
            # In this order: the answer was given before.
            late = time.monotonic() - start >= 1.2
            assert late or not gone
            return late

        wait_until(is_gone_or_may_be)
        if not store.expires:
            store.sweep(time.time() + 5, 60)
        elif kind.name not in EXPIRE_LATER:
            wait_until(lambda: store.get(short) is None, what="the value to expire")
        assert store.get(longer) == store.get(forever) == b"stays"

    @pytest.mark.parametrize("ttl", [None, 60 * 86400.0, 0.5, 1e10], ids=str)
    def test_may_be_long_or_short(self, store: KeyValueStore, key: str, ttl: float | None) -> None:
        began = time.monotonic()
        store.put(key, b"kept", ttl)
        kept = store.get(key) == b"kept"
        # A machine that is slow enough may be too late for half a second.
        assert kept or (ttl is not None and time.monotonic() - began > ttl)

    def test_is_what_sweep_goes_by(self, store: KeyValueStore) -> None:
        start, short, long, forever = time.time(), new_key(), new_key(), new_key()
        store.put(short, b"short", 10)
        store.put(long, b"long", 1000)
        store.put(forever, b"forever", None)

        store.sweep(start + 5, 1000)
        assert (store.get(short), store.get(long), store.get(forever)) == (b"short", b"long", b"forever")

        store.sweep(start + 500, 1000)
        assert (store.get(long), store.get(forever)) == (b"long", b"forever")

        swept = store.sweep(start + 2000, 1000)
        if store.expires:
            # By this machine's clock nothing is over.
            assert (store.get(short), store.get(long)) == (b"short", b"long")
        else:
            assert (store.get(short), store.get(long)) == (None, None)
            assert swept == -1 or swept >= 1


class TestManyAtOnce:
    def test_threads_share_a_store(self, kind: StoreKind, store: KeyValueStore) -> None:
        def work(number: int) -> None:
            for turn in range(20 if is_fast(kind) else FEWER):
                key = new_key()
                store.put(key, f"{number} {turn}".encode(), 60)
                assert store.get(key) == f"{number} {turn}".encode()

        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(work, range(8))) == [None] * 8

    def test_of_many_values_one_is_left_whole(self, kind: StoreKind, store: KeyValueStore, key: str) -> None:
        count = 30 if is_fast(kind) else FEWER
        values = [bytes([number]) * (1000 + 997 * number) for number in range(count)]
        start = threading.Barrier(len(values))

        def put(value: bytes) -> None:
            start.wait()
            store.put(key, value, 60)

        with ThreadPoolExecutor(len(values)) as threads:
            assert list(threads.map(put, values)) == [None] * len(values)
        assert store.get(key) in values

    def test_readers_see_whole_values_only(self, served: Served, store: KeyValueStore, key: str) -> None:
        # So large that none is written or sent in one piece.
        values = [bytes([number]) * 300_000 for number in range(4)]
        store.put(key, values[0], 60)
        written = threading.Event()
        seen: set[bytes | None] = set()

        def read() -> None:
            with closing(make(served)) as other:
                while not written.is_set():
                    seen.add(other.get(key))

        with ThreadPoolExecutor(2) as threads:
            reading = [threads.submit(read) for _ in range(2)]
            try:
                for turn in range(8):
                    store.put(key, values[turn % 4], 60)
            finally:
                written.set()
            for future in reading:
                future.result()
        assert seen <= set(values)

    def test_processes_may_both_be_the_first(self, spare_server: Served) -> None:
        keys = [new_key(), new_key()]
        waiting, go = os.pipe()

        def use(key: str) -> None:
            os.close(go)
            with closing(make(spare_server)) as store:
                os.read(waiting, 1)
                store.put(key, key.encode(), 60)
                assert store.get(key) == key.encode()

        def user_of(key: str) -> Callable[[], object]:
            return lambda: use(key)

        children = [in_child(user_of(key)) for key in keys]
        os.close(go)
        os.close(waiting)
        assert [ending_of(child) for child in children] == [0, 0]
        with closing(make(spare_server)) as store:
            assert [store.get(key) for key in keys] == [key.encode() for key in keys]


class TestProcesses:
    def test_a_forked_child_makes_a_store_of_its_own(self, served: Served, store: KeyValueStore, key: str) -> None:
        store.put(key, b"before", 60)
        of_child = new_key()

        def use() -> None:
            with closing(make(served)) as other:
                for turn in range(20):
                    other.put(of_child, b"%d" % turn, 60)
                    assert other.get(key) == b"before"
                    assert other.get(of_child) == b"%d" % turn

        child = in_child(use)
        # At the same time, over connections that the child has inherited.
        own = new_key()
        for turn in range(20):
            store.put(own, b"own %d" % turn, 60)
            assert store.get(own) == b"own %d" % turn
        assert ending_of(child) == 0
        assert (store.get(key), store.get(of_child)) == (b"before", b"19")

    def test_a_closed_store_opens_again(self, store: KeyValueStore, key: str) -> None:
        store.put(key, b"kept", 60)
        store.close()
        store.close()
        assert store.get(key) == b"kept"
        store.close()
        store.put(key, b"new", 60)
        assert store.get(key) == b"new"


def failure_of(operation: Callable[[], object]) -> tuple[BaseException, float]:
    """How it fails, and after how many seconds."""
    start = time.monotonic()
    with pytest.raises(Exception) as failed:  # noqa: PT011  # whatever the client raises
        operation()
    return failed.value, time.monotonic() - start


def texts_of(error: BaseException | None) -> list[str]:
    """What an error and those behind it may be shown as."""
    return [str(error), repr(error), *texts_of(error.__cause__ or error.__context__)] if error is not None else []


class TestServerDown:
    def test_every_primitive_fails_in_time_and_says_no_secret(self, spare_server: Served, key: str) -> None:
        secrets = secrets_of(spare_server)
        with closing(make(spare_server)) as used:
            used.put(key, b"kept", 60)
            assert used.get(key) == b"kept"
            spare_server.stop()

            # Making one connects to nothing.
            start = time.monotonic()
            unused = make(spare_server)
            assert time.monotonic() - start < MARGIN
            with closing(unused), ThreadPoolExecutor() as threads:
                operations: list[Callable[[], object]] = []
                for store in (used, unused):
                    # All at once: some take as long as they may.
                    operations += [
                        partial(store.put, key, b"new", 60),
                        partial(store.get, key),
                        partial(store.delete, key),
                    ]
                    if not store.expires:
                        operations.append(partial(store.sweep, time.time(), 60))
                failures = list(threads.map(failure_of, operations))
            for error, seconds in failures:
                assert seconds < CONNECT_TIMEOUT + OPERATION_TIMEOUT + MARGIN
                shown = " ".join([*texts_of(error), repr(used), str(used), repr(unused), str(unused)])
                assert not [secret for secret in secrets if secret in shown]


def readable(number: int, timeout: float) -> bool:
    return bool(select.select([number], [], [], timeout)[0])


def test_who_cannot_tell_has_no_listener(kind: StoreKind, store: KeyValueStore) -> None:
    listener = store.listener()
    assert (listener is not None) is (kind in TELLERS)
    if listener is not None:
        listener.close()
        listener.close()


@pytest.mark.parametrize("kind", TELLERS, indirect=True, ids=lambda kind: kind.name, scope="module")
class TestListeners:
    def test_hear_of_what_others_put(self, served: Served, store: KeyValueStore, key: str) -> None:
        listener = store.listener()
        assert listener is not None
        with closing(listener), closing(make(served)) as other:
            assert listener.drain() == set()
            other.put(key, b"before anybody listened", 60)
            listener.watch([key, new_key()])
            assert listener.drain() == set()
            assert not readable(listener.fileno(), 0)

            other.put(key, b"new", 60)
            assert readable(listener.fileno(), 5)
            assert listener.drain() == {key}
            assert listener.drain() == set()
            assert not readable(listener.fileno(), 0)

    def test_hear_nothing_of_what_they_forgot(self, store: KeyValueStore, key: str) -> None:
        listener = store.listener()
        assert listener is not None
        with closing(listener):
            forgotten = new_key()
            listener.watch([forgotten, key])
            listener.forget([forgotten, "never watched"])
            store.put(forgotten, b"new", 60)
            store.put(key, b"new", 60)
            heard: set[str] = set()

            def hear() -> bool:
                heard.update(listener.drain())
                return bool(heard)

            wait_until(hear)
            assert heard == {key}
            listener.watch([forgotten])
            store.put(forgotten, b"new", 60)
            assert readable(listener.fileno(), 5)
            wait_until(lambda: listener.drain() == {forgotten})

    def test_miss_nothing_while_they_watch_more(self, store: KeyValueStore) -> None:
        keys = [new_key() for _ in range(200)]
        listener = store.listener()
        assert listener is not None
        with closing(listener), ThreadPoolExecutor(1) as threads:
            listener.watch(keys[:100])
            putting = threads.submit(lambda: [store.put(key, b"new", 60) for key in keys[:100]])
            for key in keys[100:]:
                listener.watch([key])
            putting.result()
            heard: set[str] = set()
            deadline = time.monotonic() + 10
            while heard != set(keys[:100]):
                assert readable(listener.fileno(), max(0.0, deadline - time.monotonic()))
                heard |= listener.drain()

    def test_notice_that_the_server_has_gone(self, own_server: Served, key: str) -> None:
        with closing(make(own_server)) as store:
            listener = store.listener()
            assert listener is not None
            with closing(listener):
                listener.watch([key])
                own_server.stop()
                assert readable(listener.fileno(), 5)
                start = time.monotonic()
                with pytest.raises(Exception):  # noqa: B017, PT011  # whatever the client raises
                    listener.drain()
                assert time.monotonic() - start < CONNECT_TIMEOUT + OPERATION_TIMEOUT + MARGIN
            with pytest.raises(Exception):  # noqa: B017, PT011
                store.listener()
