"""What Sentry's own SDK sends of tasks, taken from its transport."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from django_taskq import TaskResult, task
from django_taskq import instrument as seam
from django_taskq.models import TaskRecord
from django_taskq.monitoring.sentry import TaskqIntegration
from django_taskq.signals import task_lost
from django_taskq.testing import run_tasks
from tests.taskapp import tasks

pytestmark = [pytest.mark.django_db, pytest.mark.once]


class Kept(Transport):
    """Keeps what would go to a server."""

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.payloads: list[dict[str, Any]] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        for item in envelope.items:
            payload = item.payload.json or json.loads(item.get_bytes())
            self.payloads.append({"kind": item.type, **payload})


Init = Callable[..., Kept]


@pytest.fixture
def init() -> Iterator[Init]:
    """Return a function that initialises Sentry; afterwards there is none."""

    def initialise(*, report_retries: bool = False, **options: Any) -> Kept:
        transport = Kept()
        sentry_sdk.init(
            dsn="http://key@localhost/1",
            transport=transport,
            traces_sample_rate=1.0,
            auto_enabling_integrations=False,
            integrations=[TaskqIntegration(report_retries=report_retries)],
            **options,
        )
        return transport

    yield initialise
    sentry_sdk.get_client().close(timeout=0)
    sentry_sdk.get_global_scope().set_client(None)
    for watcher in [one for one in seam._watchers if type(one).__module__.endswith("sentry")]:
        seam.unwatch(watcher)
    task_lost.disconnect(dispatch_uid="django_taskq.sentry")
    for known in (sentry_sdk.integrations._processed_integrations, sentry_sdk.integrations._installed_integrations):
        known.discard(TaskqIntegration.identifier)


def of_kind(kept: Kept, kind: str) -> list[dict[str, Any]]:
    return [payload for payload in kept.payloads if payload["kind"] == kind]


@task(max_attempts=2, backoff=0)
def fail_twice() -> None:
    """Fail, whatever happens."""
    raise LookupError("not yet")


@task(sensitive=["secret"])
def fail_with(order: int, secret: str) -> None:
    """Fail with a secret in a variable."""
    copy = secret
    raise ValueError(f"order {order}: {len(copy)}")


@task
def fail_named(token: str, options: dict[str, str]) -> None:
    """Fail with a secret that only its name tells of."""
    del token, options
    raise ValueError("no")


def test_a_failure_is_one_event_with_its_task(init: Init) -> None:
    kept = init()
    result = tasks.fail.using(queue_name="default").enqueue("no such order")
    run_tasks()
    (event,) = of_kind(kept, "event")
    (exception,) = event["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("ValueError", "no such order")
    assert exception["mechanism"] == {"type": "django_taskq", "handled": False}
    assert {name: str(value) for name, value in event["tags"].items()} == {
        "task": "tests.taskapp.tasks.fail",
        "queue": "default",
        "attempt": "1",
        "task_id": result.id,
    }
    described = event["contexts"]["django_taskq"]
    assert (described["task"], described["task_id"], described["attempt"]) == (
        "tests.taskapp.tasks.fail",
        result.id,
        1,
    )
    assert "args" not in described


def test_a_trace_goes_on_from_the_enqueue_to_the_run(init: Init) -> None:
    kept = init()
    with sentry_sdk.start_transaction(name="request", op="http.server") as request:
        tasks.noop.enqueue()
    run_tasks()
    asked, ran = of_kind(kept, "transaction")
    assert ran["contexts"]["trace"]["trace_id"] == asked["contexts"]["trace"]["trace_id"] == request.trace_id
    (publish,) = [span for span in asked["spans"] if span["op"] == "queue.publish"]
    assert ran["contexts"]["trace"]["parent_span_id"] == publish["span_id"]
    assert (ran["transaction"], ran["contexts"]["trace"]["op"]) == (
        "tests.taskapp.tasks.noop",
        "queue.task.django_taskq",
    )
    (process,) = [span for span in ran["spans"] if span["op"] == "queue.process"]
    assert process["data"]["messaging.destination.name"] == "default"
    assert ran["contexts"]["trace"]["status"] == "ok"


def test_a_retry_is_not_reported_and_the_last_failure_is(init: Init) -> None:
    kept = init()
    fail_twice.enqueue()
    run_tasks()
    assert [str(event["tags"]["attempt"]) for event in of_kind(kept, "event")] == ["2"]
    statuses = [one["contexts"]["trace"]["status"] for one in of_kind(kept, "transaction")]
    assert statuses == ["aborted", "internal_error"]


def test_retries_are_reported_to_who_wants_them(init: Init) -> None:
    kept = init(report_retries=True)
    fail_twice.enqueue()
    run_tasks()
    assert len(of_kind(kept, "event")) == 2


@pytest.mark.filterwarnings("ignore:The send_default_pii option is deprecated:DeprecationWarning")
@pytest.mark.parametrize("options", [{"send_default_pii": True}, {"data_collection": {"queues": True}}])
def test_arguments_go_only_where_they_are_wanted_and_secrets_never(init: Init, options: dict[str, Any]) -> None:
    kept = init(**options)
    fail_with.enqueue(7, secret="hunter2")
    tasks.fail.using(sensitive=["message"]).enqueue("hunter2".upper())
    fail_named.enqueue("hunter2", {"api_key": "hunter2", "city": "x"})
    run_tasks()
    event, of_call, by_name = of_kind(kept, "event")
    assert by_name["contexts"]["django_taskq"]["args"] == ["••••••", {"api_key": "••••••", "city": "x"}]
    described = event["contexts"]["django_taskq"]
    assert (described["args"], described["kwargs"]) == ([7], {"secret": "••••••"})
    assert of_call["contexts"]["django_taskq"]["args"] == ["••••••"]
    assert "vars" not in json.dumps(of_call["exception"])
    assert "hunter2" not in json.dumps(kept.payloads)


def test_a_task_that_is_not_here_is_reported(init: Init) -> None:
    kept = init()
    result = tasks.noop.enqueue()
    TaskRecord.objects.filter(pk=result.id).update(name="no.such.task")
    run_tasks()
    (event,) = of_kind(kept, "event")
    assert event["message"].startswith("django_taskq.exceptions.UnknownTask: ")


def test_the_last_worker_that_was_lost_is_reported(init: Init) -> None:
    kept = init()
    result: TaskResult = tasks.noop.enqueue()
    task_lost.send_robust(object, task_result=result, worker_id="anne-1", runs_again=True)
    assert of_kind(kept, "event") == []
    task_lost.send_robust(object, task_result=result, worker_id="anne-1", runs_again=False)
    (event,) = of_kind(kept, "event")
    assert "anne-1" in event["message"]
    assert event["tags"]["task_id"] == result.id


def test_settings_may_set_it_up_before_django_is(tmp_path: Path) -> None:
    (tmp_path / "early_settings.py").write_text(
        "import sentry_sdk\n"
        "from django_taskq.monitoring.sentry import TaskqIntegration\n"
        "from django_taskq.monitoring.tracing import instrument\n"
        "sentry_sdk.init(integrations=[TaskqIntegration()])\n"
        "instrument()\n"
        "from tests.settings import *\n"
    )
    program = "import django; django.setup(); from django_taskq.instrument import is_watched; assert is_watched()"
    path = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[2])))
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "early_settings", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
