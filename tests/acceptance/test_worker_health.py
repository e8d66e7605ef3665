"""What a worker tells of itself: to probes, to a file, to systemd, and on request where it is."""

from __future__ import annotations

import re
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from django_taskq.models import WorkerRecord
from tests.acceptance.load import broker
from tests.acceptance.process import Process
from tests.acceptance.project import Project
from tests.acceptance.workers import Gate, ended, is_gone, row, start_worker, states
from tests.servers import RabbitMQServer, TCPProxy
from tests.taskapp import tasks
from tests.waiting import wait_until

pytestmark = pytest.mark.once

#: Twice as long a process may be silent.
SHORT_LEASE = {"default": {"BACKEND": "django_taskq.TaskqBackend", "OPTIONS": {"lease": 3}}}


#: With an app of the test's own, to be written beside the settings.
WITH_SHOP = {
    "INSTALLED_APPS": ["django.contrib.contenttypes", "django.contrib.auth", "django_taskq", "tests.taskapp", "shop"]
}


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def port_of(worker: Process) -> int:
    worker.wait_for("Answers probes at")
    found = re.search(r"Answers probes at \S+ port (\d+)", worker.text())
    assert found is not None
    return int(found[1])


def page(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def wait_for_page(port: int, path: str, status: int, text: str = "", deadline: float = 30.0) -> str:
    def found() -> str:
        got, body = page(port, path)
        return body if got == status and text in body else ""

    return wait_until(found, deadline, what=f"/{path} to be {status} {text}")


@pytest.mark.databases("sqlite")
def test_a_worker_answers_probes_and_signals(make_project: Callable[..., Project], gate: Gate) -> None:
    project = make_project(tasks=SHORT_LEASE)
    file = project.directory / "alive"
    worker = start_worker(project, "--probe-port=0", f"--heartbeat-file={file}", "--threads=2", processes=2)
    port = port_of(worker)
    wait_for_page(port, "ready", 200, "ok")
    assert page(port, "live") == (200, "ok\n")
    before = file.stat().st_mtime
    wait_until(lambda: file.stat().st_mtime > before, what="a heartbeat")

    # Told to start nothing: what runs goes on, what comes waits.
    running = [tasks.hold.enqueue(gate.path, "thread"), tasks.ahold.enqueue(gate.path, "coroutine")]
    gate.wait_for("thread", "coroutine")
    worker.send(signal.SIGUSR2)
    wait_for_page(port, "ready", 503, "the worker was told to start nothing")
    assert page(port, "live")[0] == 200
    waiting = tasks.noop.enqueue()
    worker.send(signal.SIGUSR1)
    for result in running:
        worker.wait_for(f"id={result.id} for")
    worker.wait_for('tasks.py", line')
    wait_until(lambda: worker.text().count("Running tasks: ") == 2, what="the stacks of both processes")
    assert "in ahold" in worker.text()
    assert "does not answer" not in worker.text()
    assert row(waiting).state == "READY"
    # What a terminal sends to the whole group.
    worker.send_group(signal.SIGCONT)
    assert ended(waiting).state == "SUCCESSFUL"
    gate.open()
    assert {ended(result).attempt for result in running} == {1}

    # A process that dies, and one that cannot even hear.
    wait_for_page(port, "ready", 200)
    worker.children()[0].kill()
    wait_for_page(port, "metrics", 200, 'process_ends_total{cause="crash"} 1')
    wait_for_page(port, "ready", 200)
    # Acked early: the other process, which takes it for lost, does not run it, too.
    hog = tasks.hog.using(acks_late=False).enqueue(gate.path)
    gate.wait_for("hog")
    pid = gate.pid("hog")
    assert f"(pid {pid}) has been silent" in wait_for_page(port, "live", 503)
    worker.send(signal.SIGUSR1)
    worker.wait_for(f"(pid {pid}) does not answer. It has begun these tasks: {hog.id}")
    worker.wait_for("in hog")
    worker.send(signal.SIGQUIT)
    # 4 when nobody had taken it for lost before.
    assert worker.wait() in {0, 4}, worker.text()
    assert not file.exists()
    assert not project.living()


@pytest.mark.timing
@pytest.mark.databases("sqlite")
def test_a_probe_costs_next_to_nothing(project: Project) -> None:
    worker = start_worker(project, "--probe-port=0", processes=2)
    port = port_of(worker)
    wait_for_page(port, "ready", 200)
    supervisor = psutil.Process(worker.pid)
    for path in ("live", "ready", "metrics"):
        before = sum(supervisor.cpu_times()[:2])
        for _ in range(100):
            assert page(port, path)[0] == 200
        # The clock of CPU times ticks 100 times a second.
        assert (sum(supervisor.cpu_times()[:2]) - before) / 100 <= 0.002 + 0.0001
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0, worker.text()


@pytest.mark.databases("sqlite")
def test_signs_that_cannot_be_given_are_refused(project: Project, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        worker = project.runworker(f"--probe-port={taken.getsockname()[1]}")
        assert worker.wait() == 1
        assert "Address already in use" in worker.text()
        assert "Traceback" not in worker.text()
    worker = project.runworker(f"--heartbeat-file={tmp_path}/nowhere/alive")
    assert worker.wait() == 1
    assert "cannot be written" in worker.text()
    assert "Traceback" not in worker.text()


@pytest.mark.databases("postgres")
def test_a_worker_without_its_broker_lives_and_is_not_ready(
    make_project: Callable[..., Project], private_rabbitmq: RabbitMQServer
) -> None:
    with TCPProxy(private_rabbitmq.port) as proxy:
        project = make_project(tasks=broker(private_rabbitmq.url(port=proxy.port)))
        worker = start_worker(project, "--probe-port=0")
        port = port_of(worker)
        wait_for_page(port, "ready", 200)
        proxy.refuse()
        proxy.cut()
        assert wait_for_page(port, "ready", 503) == "process 0 waits for its broker\n"
        assert page(port, "live") == (200, "ok\n")
        proxy.resume()
        wait_for_page(port, "ready", 200)
        assert ended(tasks.add.enqueue(1, 2)).result == "3"


@pytest.mark.databases("sqlite")
def test_systemd_is_told_and_a_reload_brings_new_code_under_the_same_pid(
    make_project: Callable[..., Project], tmp_path: Path, gate: Gate
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)

        def wait_for(text: str) -> str:
            end = time.monotonic() + 30
            while text not in (said := systemd.recv(1000).decode()):
                assert time.monotonic() < end, f"{text} was never said"
            return said

        project = make_project(
            settings=WITH_SHOP,
            environment={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"},
        )
        module = project.directory / "shop" / "tasks.py"
        module.parent.mkdir()
        (module.parent / "__init__.py").touch()
        module.write_text("from django_taskq import task\n@task\ndef before(): ...\n")
        worker = start_worker(project)
        wait_for("READY=1")
        wait_for("STATUS=Ready.")
        wait_for("WATCHDOG=1")
        held = tasks.hold.enqueue(gate.path, "held")
        gate.wait_for("held")
        module.write_text("from django_taskq import task\n@task\ndef before(): ...\n@task\ndef after(): ...\n")
        (old,) = worker.children()
        for _ in range(2):
            worker.send(signal.SIGHUP)
        assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", wait_for("RELOADING=1"))
        worker.wait_for("Reloading: running tasks may end")
        assert not is_gone(old)
        gate.open()
        assert ended(held).attempt == 1
        wait_for("READY=1")
        assert worker.returncode is None, worker.text()
        known = [int(number) for number in re.findall(r"knows +(\d+) task", worker.text())]
        assert known == [known[0], known[0] + 1]
        assert is_gone(old)
        wait_until(lambda: WorkerRecord.objects.count() == 1)
        assert ended(tasks.add.enqueue(1, 2)).result == "3"
        wait_for("WATCHDOG=1")
        worker.send(signal.SIGTERM)
        wait_for("STOPPING=1")
        assert worker.wait() == 0, worker.text()
        assert states() == {"SUCCESSFUL": 2}
