"""Results as replies, over a broker in trouble: right or a clear error, and in time."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_taskq.models import TaskRecord
from tests.acceptance.callers import Caller, check_holdings, reply_queues
from tests.acceptance.load import broker
from tests.acceptance.process import Process
from tests.acceptance.project import Project
from tests.acceptance.workers import Gate, start_worker
from tests.servers import RabbitMQServer, TCPProxy
from tests.waiting import LATE, allowed, let_pass, wait_until

logger = logging.getLogger(__name__)

pytestmark = [pytest.mark.once, pytest.mark.databases("sqlite")]

#: Seconds that connections are cut for; the project's promise is about 40.
LONG = float(os.environ.get("TASKQ_TEST_FAULT_SECONDS", "8"))
#: Seconds between two cuts.
BETWEEN = 2.0
#: Share of the calls that may hear nothing.
LOST = 0.0005
#: Seconds that a call may take.
TIMEOUT = allowed(5.0)
#: Errors that say what is wrong.
CLEAR = {"ResultStoreError", "ResultTimeout"}


@pytest.fixture
def proxy(private_rabbitmq: RabbitMQServer) -> Iterator[TCPProxy]:
    with TCPProxy(private_rabbitmq.port) as proxy:
        yield proxy


@pytest.fixture
def project(private_rabbitmq: RabbitMQServer, make_project: Callable[..., Project]) -> Project:
    return make_project(tasks=broker(private_rabbitmq.url(), results="rpc://", lease=3.0))


@pytest.fixture
def far_project(private_rabbitmq: RabbitMQServer, proxy: TCPProxy, make_project: Callable[..., Project]) -> Project:
    """A project whose callers, and workers, are behind a network that breaks."""
    return make_project(tasks=broker(private_rabbitmq.url(port=proxy.port), results="rpc://", lease=3.0))


def near_worker(project: Project, url: str) -> Process:
    """Start a worker of the project whose own way to the broker nobody breaks."""
    file = project.directory / "near.json"
    settings = json.loads((project.directory / "settings.json").read_text())
    settings["TASKS"]["default"]["OPTIONS"]["broker"] = url
    file.write_text(json.dumps(settings))
    environment = project.environment
    project.environment = {**environment, "TASKQ_PROJECT": str(file)}
    try:
        return start_worker(project, "--threads=8")
    finally:
        project.environment = environment


@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["closed by the broker", pytest.param("cut", marks=pytest.mark.timing)])
def test_connections_that_end_again_and_again(
    how: str, request: pytest.FixtureRequest, private_rabbitmq: RabbitMQServer, proxy: TCPProxy
) -> None:
    """Those of callers and of workers."""
    project = request.getfixturevalue("far_project" if how == "cut" else "project")
    start_worker(project, processes=2)
    caller = Caller(project, "load", threads=8, timeout=TIMEOUT)
    wait_until(lambda: reply_queues(private_rabbitmq, "/"), what="the first calls")
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        let_pass(BETWEEN)
        if how == "cut":
            proxy.cut()
        else:
            private_rabbitmq.close_all_connections()
    caller.tell("stop")
    found = caller.report()
    calls = found["right"] + found["wrong"] + sum(found["errors"].values())
    logger.info("%s: %d calls, %s", how, calls, found)
    assert found["wrong"] == 0
    assert calls > LONG
    assert set(found["errors"]) <= CLEAR, found
    # Of few calls one more.
    assert sum(found["errors"].values()) <= max(calls * LOST, 1), found
    assert found["late"] <= LATE
    if how != "cut":
        check_holdings(private_rabbitmq, "/", caller.process.pid)
    caller.leave()


def _check(outcome: dict[str, Any], timeout: float) -> None:
    assert outcome["error"] == "ResultStoreError", outcome
    assert "The broker cannot be reached" in outcome["words"]
    assert "taskq:" not in outcome["words"], "no password"
    assert outcome["seconds"] <= timeout + LATE


@pytest.mark.timing
@pytest.mark.parametrize("fault", ["refuse", "swallow"])
@pytest.mark.parametrize("is_recorded", [True, False])
def test_a_broker_that_was_never_there(fault: str, is_recorded: bool, far_project: Project, proxy: TCPProxy) -> None:
    getattr(proxy, fault)()
    options = {"record": is_recorded}
    caller = Caller(
        far_project,
        "calls",
        calls=[
            {"task": "add", "args": [1, 2], "options": options, "timeout": timeout, "is_async": is_async}
            for timeout in (0.2, 1.0, 2.0)
            for is_async in (False, True)
        ],
    )
    outcomes = caller.run()
    for outcome, timeout in zip(outcomes, (0.2, 0.2, 1.0, 1.0, 2.0, 2.0), strict=True):
        _check(outcome, timeout)


@pytest.mark.parametrize("fault", ["refuse", "swallow", "frozen"])
def test_a_broker_that_goes_between_the_call_and_the_reply(
    fault: str, far_project: Project, proxy: TCPProxy, private_rabbitmq: RabbitMQServer, tmp_path: Any
) -> None:
    """And takes the reply along: those who give a timeout hear of it then, the others once it is back."""
    gate = Gate(tmp_path / "gate")
    near_worker(far_project, private_rabbitmq.url())
    hold = {"task": "hold", "options": {"record": False}}
    timeouts = [0.3, 1.0, 3.0, 8.0]
    caller = Caller(
        far_project,
        "calls",
        calls=[
            *({**hold, "args": [gate.path, str(timeout)], "timeout": timeout} for timeout in timeouts),
            {**hold, "args": [gate.path, "patient"], "timeout": None},
            {**hold, "args": [gate.path, "coroutine"], "timeout": None, "is_async": True},
            {"task": "hold", "args": [gate.path, "recorded"], "timeout": 60},
        ],
    )
    caller.wait_for("enqueued")
    gate.wait_for("coroutine", "recorded", *map(str, timeouts))
    if fault == "frozen":
        private_rabbitmq.freeze()
    else:
        getattr(proxy, fault)()
        if fault == "refuse":
            proxy.cut()
    let_pass(9.0)
    if fault == "frozen":
        private_rabbitmq.thaw()
    else:
        proxy.cut()
        proxy.resume()
    gate.open()
    outcomes = caller.run()
    for outcome, timeout in zip(outcomes, timeouts, strict=False):
        assert outcome["error"] in CLEAR, outcome
        assert outcome["seconds"] <= timeout + LATE, outcome
        if fault == "refuse":
            _check(outcome, timeout)
    assert [outcome.get("value") for outcome in outcomes[4:]] == ["patient", "coroutine", "recorded"]


def test_a_recorded_task_is_heard_of_without_the_broker(
    far_project: Project, proxy: TCPProxy, private_rabbitmq: RabbitMQServer, tmp_path: Any
) -> None:
    """Its row says how it ended."""
    gate = Gate(tmp_path / "gate")
    near_worker(far_project, private_rabbitmq.url())
    caller = Caller(
        far_project,
        "calls",
        calls=[
            {"task": "hold", "args": [gate.path, name], "timeout": 20, "is_async": name == "coroutine"}
            for name in ("thread", "coroutine")
        ],
    )
    caller.wait_for("enqueued")
    gate.wait_for("thread", "coroutine")
    proxy.refuse()
    proxy.cut()
    gate.open()
    outcomes = caller.run()
    assert [outcome.get("value") for outcome in outcomes] == ["thread", "coroutine"]
    assert max(outcome["seconds"] for outcome in outcomes) < 15


def test_calls_go_on_after_a_restart_and_a_wiped_broker(project: Project, private_rabbitmq: RabbitMQServer) -> None:
    """The queue of replies is gone with the rest, and is made anew."""
    start_worker(project, processes=2)
    caller = Caller(project, "load", threads=4, timeout=TIMEOUT, pause=0.005)
    let_pass(1.0)
    private_rabbitmq.reset()
    let_pass(3.0)
    private_rabbitmq.stop()
    let_pass(2.0)
    private_rabbitmq.start()
    let_pass(6.0)
    caller.tell("stop")
    found = caller.report()
    logger.info("Wiped and restarted: %s", found)
    assert found["wrong"] == 0
    assert set(found["errors"]) <= CLEAR
    assert found["late"] <= LATE
    caller.leave()
    again = Caller(project, "threads", threads=4, calls=25).run()
    assert (again["right"], again["wrong"], again["errors"]) == (100, 0, {})


def test_a_caller_that_is_killed_takes_nobody_along(project: Project, private_rabbitmq: RabbitMQServer) -> None:
    worker = start_worker(project)
    caller = Caller(project, "load", threads=8, timeout=TIMEOUT)
    let_pass(1.0)
    caller.process.send(signal.SIGKILL)
    caller.process.wait()
    again = Caller(project, "threads", threads=4, calls=25).run()
    assert (again["right"], again["wrong"], again["errors"]) == (100, 0, {})
    wait_until(lambda: private_rabbitmq.queue_info()["default"].messages == 0, what="its calls to have run")
    assert not TaskRecord.objects.exists()
    assert worker.returncode is None
    assert "Traceback" not in worker.text()
