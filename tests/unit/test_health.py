"""What a worker's processes say makes it live and ready, or not; and who is told."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from django_taskq.worker.health import Picture, metrics
from django_taskq.worker.notify import Notifier
from django_taskq.worker.pulse import Pulse, Retirement, Vital

pytestmark = pytest.mark.once


def vital(
    index: int = 0,
    *,
    age: float = 0.1,
    database: bool = True,
    brokers: bool = True,
    retirement: Retirement = Retirement.NONE,
) -> Vital:
    return Vital(
        index=index, pid=os.getpid(), age=age, has_database=database, has_brokers=brokers, retirement=retirement
    )


def picture(*vitals: Vital, quiet: bool = False, stopping: bool = False) -> Picture:
    return Picture(processes=2, vitals=vitals, stale_after=60.0, is_quiet=quiet, is_stopping=stopping)


def test_a_worker_whose_processes_turn_is_live_and_ready() -> None:
    good = picture(vital(0), vital(1, age=59.0))
    assert (good.reasons_not_live(), good.reasons_not_ready()) == ([], [])


@pytest.mark.parametrize(
    ("worker", "reason"),
    [
        (picture(vital(0), vital(1, brokers=False)), "process 1 waits for its broker"),
        (picture(vital(0, age=300.0, database=False), vital(1)), "process 0 waits for its database"),
        (picture(vital(1)), "process 0 is not there"),
        (picture(vital(0), vital(1), quiet=True), "the worker was told to start nothing"),
        (picture(vital(0), vital(1), stopping=True), "the worker is stopping"),
    ],
)
def test_what_waits_is_not_ready_but_lives(worker: Picture, reason: str) -> None:
    assert worker.reasons_not_ready() == [reason]
    assert worker.reasons_not_live() == []


@pytest.mark.parametrize("silent", [vital(1, age=61.0), vital(1, age=601.0, database=False)])
def test_a_silent_process_makes_it_neither(silent: Vital) -> None:
    worker = picture(vital(0), silent)
    assert worker.reasons_not_live() == [f"process 1 (pid {os.getpid()}) has been silent for {silent.age:.0f} s"]
    assert worker.reasons_not_ready()


def test_who_retires_stands_in_for_its_successor() -> None:
    retiring = vital(0, retirement=Retirement.TASKS)
    assert picture(retiring, vital(0, database=False), vital(1)).reasons_not_ready() == []


def test_metrics_are_prometheus_text() -> None:
    lines = metrics(picture(vital(0), vital(1, brokers=False))).splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    assert all(
        re.fullmatch(r'taskq_worker_[a-z_]+(\{[a-z]+="\w+"(,[a-z]+="\w+")*\})? [0-9.e+-]+', one) for one in samples
    )
    assert {"taskq_worker_live 1", "taskq_worker_ready 0", "taskq_worker_processes 2"} <= set(samples)
    (memory,) = [line for line in samples if line.startswith('taskq_worker_process_resident_memory_bytes{process="1"')]
    assert float(memory.split()[-1]) > 1_000_000


def test_a_pulse_tells_what_was_written() -> None:
    pulse = Pulse()
    pulse.beat(100.0)
    pulse.set_database(True)
    pulse.count(3)
    pulse.count(4)
    pulse.retire(Retirement.MEMORY)
    pulse.showed_stacks()
    assert (pulse.tasks, pulse.stacks, pulse.retirement) == (7, 1, Retirement.MEMORY)
    assert pulse.read(102.5, index=1, pid=7) == Vital(
        index=1, pid=7, age=2.5, has_database=True, has_brokers=False, retirement=Retirement.MEMORY
    )


def test_systemd_is_told_by_its_socket_and_tasks_are_not(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(10)
        environment = {
            "NOTIFY_SOCKET": address,
            "WATCHDOG_USEC": "60000000",
            "WATCHDOG_PID": str(os.getpid()),
            "A": "b",
        }
        before = dict(environment)
        notifier = Notifier(environment)
        assert environment == {"A": "b"}
        assert notifier.watchdog_interval == 30.0
        notifier.ready()
        notifier.status("one")
        notifier.status("one")
        notifier.status("two")
        notifier.reloading()
        assert [systemd.recv(100) for _ in range(3)] == [b"READY=1", b"STATUS=one", b"STATUS=two"]
        assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", systemd.recv(100))
        notifier.give_back(environment)
        assert environment == before


def test_an_abstract_socket_is_found_and_one_that_is_gone_harms_nobody(tmp_path: Path) -> None:
    name = f"taskq-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name)
        systemd.settimeout(10)
        Notifier({"NOTIFY_SOCKET": "@" + name}).stopping()
        assert systemd.recv(100) == b"STOPPING=1"
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).alive()


@pytest.mark.parametrize(
    "environment", [{}, {"WATCHDOG_USEC": "1000"}, {"NOTIFY_SOCKET": "/x", "WATCHDOG_PID": "1", "WATCHDOG_USEC": "9"}]
)
def test_nobody_waits_for_signs_of_life_who_did_not_ask_for_them(environment: dict[str, str]) -> None:
    assert Notifier(environment).watchdog_interval is None
