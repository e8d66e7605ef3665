"""Ids that sort by the time they were made."""

from __future__ import annotations

import subprocess
import sys
import threading
from uuid import RFC_4122, UUID

import pytest

from django_taskq.core.ids import UUID7Generator, uuid7

NOW = 1_764_000_000.123


def test_an_id_is_a_uuid_of_version_7_with_its_millisecond() -> None:
    made = UUID7Generator()(NOW)
    assert made.version == 7
    assert made.variant == RFC_4122
    assert made.int >> 80 == int(NOW * 1000)


def test_ids_of_one_millisecond_increase() -> None:
    generator = UUID7Generator()
    made = [generator(NOW) for _ in range(10_000)]
    assert made == sorted(set(made))


def test_ids_increase_although_the_clock_goes_back() -> None:
    generator = UUID7Generator()
    made = [generator(now) for now in (NOW, NOW + 1, NOW - 3600, NOW + 0.5, NOW + 2)]
    assert made == sorted(set(made))


def test_ids_increase_when_the_counter_is_used_up() -> None:
    generator = UUID7Generator()
    before = generator(NOW)
    generator._counter = (1 << 42) - 2
    made = [generator(NOW) for _ in range(3)]
    assert [before, *made] == sorted({before, *made})
    assert [one.int >> 80 for one in made] == [int(NOW * 1000) + extra for extra in (0, 1, 1)]


@pytest.mark.parametrize("now", [0.0, NOW, (2**48 - 1) / 1000], ids=["1970", "today", "10889"])
def test_any_clock_will_do(now: float) -> None:
    assert UUID7Generator()(now).version == 7


def test_text_sorts_as_ids_do() -> None:
    made = [uuid7(NOW + step / 1000) for step in range(100)]
    assert [str(one) for one in made] == sorted(str(one) for one in made)


def test_text_is_an_id_as_str_has_it() -> None:
    texts = [uuid7.text(1_760_000_000.0) for _ in range(1_000)]
    assert [str(UUID(text)) for text in texts] == texts == sorted(set(texts))
    assert {UUID(text).version for text in texts} == {7}
    # Leading zeros stay.
    assert UUID7Generator().text(0.0).startswith("00000000-0000-7")


def test_threads_never_get_the_same() -> None:
    generator = UUID7Generator()
    made: list[list[UUID]] = []
    threads = [threading.Thread(target=lambda: made.append([generator(NOW) for _ in range(2_000)])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one for some in made for one in some}) == 8_000


#: A thread holds the lock at the fork; the child gets 10 s, in which it makes ids or waits for that thread in vain.
_FORK = """
import os, signal
from django_taskq.core.ids import uuid7
with uuid7._lock:
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        os.write(1, "\\n".join(str(uuid7(1.0)) for _ in range(100)).encode() + b"\\n")
        os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
print(*(uuid7(1.0) for _ in range(100)), sep="\\n")
"""


def test_a_forked_child_makes_ids_of_its_own_even_if_a_thread_was_just_making_one() -> None:
    done = subprocess.run([sys.executable, "-c", _FORK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(set(done.stdout.split())) == 200
