"""A real Celery on the same RabbitMQ: its calls run here, ours run there, and each side reads the other's replies."""

from __future__ import annotations

import json
import signal
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import kombu
import pytest

from django_taskq import State, TaskExpired, TaskFailed, TaskqBackend
from django_taskq.brokers.kombu.outgoing import Outgoing
from django_taskq.compat import task_backends
from django_taskq.core.reply import Reply, decode_reply
from django_taskq.core.wire import Call, encode_call
from django_taskq.models import TaskRecord
from django_taskq.worker.rows import row_id
from tests.acceptance.process import Process
from tests.acceptance.project import Project
from tests.acceptance.workers import Gate, ended, lines, start_worker
from tests.celeryapp import ours
from tests.servers import QueueInfo, shared_broker
from tests.taskapp.tasks import add
from tests.waiting import wait_until

# What is tried is the broker's end of it; one database is enough.
pytestmark = [pytest.mark.once, pytest.mark.databases("sqlite")]

#: The queue that Celery's producers and workers use unless told otherwise.
CELERY = "celery"
#: A worker that waits for no other one at its start.
ALONE = ("--pool", "solo", "--without-gossip", "--without-mingle")
#: JSON's text of it takes 1 MB, more than eight frames of RabbitMQ's.
BIG = "ü" * 500_000
ODD = 'snowman ☃, quote ", NUL-free \t tab, \u2028, 𝄞'


@pytest.fixture
def start(amqp_url: str, make_project: Callable[..., Project]) -> Callable[..., Shop]:
    """Return a function that makes our project and Celery's on one virtual host; it takes more OPTIONS of ours."""

    def make(**options: Any) -> Shop:
        given = {"broker": amqp_url, "imports": ["tests.celeryapp.ours"], **options}
        project = make_project(
            tasks={"default": {"BACKEND": "django_taskq.TaskqBackend", "QUEUES": [], "OPTIONS": given}}
        )
        return Shop(project, amqp_url)

    return make


class Shop:
    """Our project and the Celery app beside it."""

    def __init__(self, project: Project, url: str) -> None:
        self.project = project
        self.url = url
        self.marks = project.directory / "marks"

    def _celery(self, *command: str, **settings: Any) -> Process:
        """Start something of Celery's, whose settings are as they come from the box but for those given."""
        environment = self.project.environment
        self.project.environment = {
            **environment,
            "TASKQ_CELERY": json.dumps({"broker_url": self.url, "result_backend": "rpc://", **settings}),
        }
        try:
            return self.project.start(sys.executable, "-m", *command)
        finally:
            self.project.environment = environment

    def celery_worker(
        self, queues: str = CELERY, arguments: Sequence[str] = ALONE, settings: Mapping[str, Any] | None = None
    ) -> Process:
        """Start a Celery worker, and wait until it receives."""
        worker = self._celery(
            *("celery", "--app", "tests.celeryapp.theirs", "worker", "--queues", queues, "--loglevel", "INFO"),
            *("--concurrency", "1", *arguments),
            **(settings or {}),
        )
        worker.wait_for(" ready.")
        return worker

    def caller(self, *calls: Mapping[str, Any], **settings: Any) -> Process:
        """Start a Celery caller: see ``tests.celeryapp.client``."""
        file = self.project.directory / f"calls-{len(self.project.processes)}.json"
        file.write_text(json.dumps(calls))
        return self._celery("tests.celeryapp.client", str(file), **settings)

    def call(self, *calls: Mapping[str, Any], **settings: Any) -> list[Any]:
        """Let a Celery caller make these calls, and return what it got for each."""
        return answers(self.caller(*calls, **settings))

    def marked(self) -> list[Any]:
        """Return what the tasks ``mark`` have left."""
        return [json.loads(line) for line in lines(self.marks)]

    def wait_for_marks(self, count: int) -> list[Any]:
        """Wait until so many tasks ``mark`` have run."""
        wait_until(lambda: len(self.marked()) >= count, what=f"{count} marks")
        return self.marked()

    def _queues(self) -> dict[str, QueueInfo]:
        return shared_broker("amqp").queue_info(self.url.rpartition("/")[2])

    def consumers(self, queue: str) -> int:
        """Return how many processes receive from a queue."""
        found = self._queues().get(queue)
        return 0 if found is None else found.consumers

    def unacked(self, queue: str) -> int:
        """Return how many messages of a queue somebody has and is not done with."""
        found = self._queues().get(queue)
        return 0 if found is None else found.unacked

    def left(self) -> dict[str, int]:
        """Return the queues that are not empty, but for those of callers."""
        return {name: info.messages for name, info in self._queues().items() if info.messages and len(name) != 36}


def answers(caller: Process) -> list[Any]:
    """Wait for a caller's end, and return what it got."""
    assert caller.wait(60.0) == 0, caller.text()
    return cast("list[Any]", json.loads(caller.stdout.read_text()))


def values(found: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return the values of calls that all succeeded."""
    assert [answer for answer in found if "value" not in answer] == []
    return [answer["value"] for answer in found]


# A Celery caller, our worker


def test_whatever_celery_sends_runs_here_and_celery_gets_the_value(start: Callable[..., Shop]) -> None:
    shop = start()
    start_worker(shop.project, f"--queues={CELERY}")
    own_id = f"order 42/ü {uuid.uuid4()}"
    found = shop.call(
        {"task": "shop.echo", "args": [1, "two"], "kwargs": {"three": 3.0}, "verb": "delay"},
        {"task": "shop.echo", "verb": "apply_async"},
        {"task": "shop.old_echo", "args": ["by an alias"]},
        {"task": "shop.echo", "args": [ODD], "kwargs": {"straße": ODD}},
        {"task": "shop.echo", "args": [BIG]},
        {"task": "shop.echo", "options": {"task_id": own_id}, "verb": "apply_async"},
        {"task": "shop.echo", "options": {"retries": 2}},
        {"task": "shop.echo", "options": {"priority": 7, "expires": 60.0, "shadow": "x", "headers": {"tenant": 7}}},
        {"task": "shop.echo", "options": {"time_limit": 60, "soft_time_limit": 50, "delivery_mode": 1}},
    )
    got = values(found)
    assert {answer["state"] for answer in found} == {"SUCCESS"}
    assert {value["by"] for value in got} == {"ours"}
    assert [value["id"] for value in got] == [answer["id"] for answer in found]
    assert got[5]["id"] == own_id
    assert [value["attempt"] for value in got] == [1, 1, 1, 1, 1, 1, 3, 1, 1]
    assert (got[0]["args"], got[0]["kwargs"]) == ([1, "two"], {"three": 3.0})
    assert got[2]["args"] == ["by an alias"]
    assert (got[3]["args"], got[3]["kwargs"]) == ([ODD], {"straße": ODD})
    assert got[4]["args"] == [BIG]
    assert not TaskRecord.objects.exists()


def test_a_celery_caller_hears_of_failures_by_their_class_and_words(start: Callable[..., Shop]) -> None:
    shop = start()
    start_worker(shop.project, f"--queues={CELERY}")
    known, own, unbound = shop.call(
        {"task": "shop.fail", "args": [ODD]},
        {"task": "shop.fail", "args": ["no stock", "ShopError"]},
        {"task": "shop.hand_over", "args": ["one is missing"]},
    )
    assert {answer["state"] for answer in (known, own, unbound)} == {"FAILURE"}
    assert (known["error"]["module"], known["error"]["class"]) == ("builtins", "ValueError")
    assert known["error"]["message"] == ODD
    assert "in fail\n" in known["error"]["traceback"]
    # A class that the caller has not loaded is one that Celery makes up, under this name.
    assert (own["error"]["class"], own["error"]["message"]) == ("ShopError", "no stock")
    assert unbound["error"]["class"] == "TypeError"


def test_a_call_that_expires_in_the_worker_does_not_run_and_its_caller_hears_of_it(
    start: Callable[..., Shop], tmp_path: Path
) -> None:
    # In the queue RabbitMQ drops it, and tells nobody. So the worker is to hold it while another one runs.
    shop = start(prefetch=10)
    gate = Gate(tmp_path / "gate")
    start_worker(shop.project, f"--queues={CELERY}")
    shop.call({"task": "shop.stumble", "args": [gate.path], "get": 0})
    gate.wait_for("fail")
    path = str(shop.marks)
    caller = shop.caller(
        {"task": "shop.mark", "args": [path, "too late"], "options": {"expires": 1.0}},
        {"task": "shop.mark", "args": [path, "in time"], "options": {"expires": 3600}},
    )
    wait_until(lambda: shop.unacked(CELERY) == 3, what="the worker to have all three")
    expires = datetime.now(UTC) + timedelta(seconds=1)
    wait_until(lambda: datetime.now(UTC) > expires, what="the call to expire")
    gate.open()
    late, good = answers(caller)
    assert (late["state"], good["state"]) == ("REVOKED", "SUCCESS")
    assert (late["error"]["class"], late["error"]["message"]) == ("TaskRevokedError", "expired")
    assert [line["args"] for line in shop.marked()] == [["in time"]]
    wait_until(lambda: not shop.left(), what="nothing to be left")


def test_groups_of_celery_run_here_and_other_canvas_is_set_aside(start: Callable[..., Shop]) -> None:
    shop = start()
    worker = start_worker(shop.project, f"--queues={CELERY}")
    chained, grouped = shop.call(
        {"task": "shop.echo", "verb": "chain", "args": [1, 2], "get": 0},
        {"task": "shop.echo", "verb": "group", "args": [1, 2, 3]},
    )
    assert [value["args"] for value in values([grouped])[0]] == [[1], [2], [3]]
    worker.wait_for("part of a Celery canvas (chain)")
    assert chained["id"]
    wait_until(lambda: not shop.left(), what="nothing to be left")


def test_who_ignores_the_result_is_not_answered(start: Callable[..., Shop]) -> None:
    shop = start()
    start_worker(shop.project, f"--queues={CELERY}")
    path = str(shop.marks)
    ignored, told = shop.call(
        {"task": "shop.mark", "args": [path, "ignored"], "options": {"ignore_result": True}},
        {"task": "shop.mark", "args": [path, "told"]},
    )
    assert {line["args"][0] for line in shop.wait_for_marks(2)} == {"ignored", "told"}
    assert (ignored["state"], told["state"]) == ("PENDING", "SUCCESS")


def test_callers_without_a_result_backend_are_served_too(start: Callable[..., Shop]) -> None:
    shop = start()
    worker = start_worker(shop.project, f"--queues={CELERY}")
    shop.call({"task": "shop.mark", "args": [str(shop.marks), 1], "get": 0}, result_backend=None)
    (line,) = shop.wait_for_marks(1)
    assert line["by"] == "ours"
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert "WARNING" not in worker.text()
    assert not shop.left()


def test_a_countdown_is_waited_for_in_a_row(start: Callable[..., Shop]) -> None:
    shop = start()
    start_worker(shop.project, f"--queues={CELERY}")
    path = str(shop.marks)
    before = datetime.now(UTC)
    later = shop.call(
        {"task": "shop.mark", "args": [path, "soon"], "options": {"countdown": 2.0, "expires": 3600}, "get": 0},
        {"task": "shop.mark", "args": [path, "own"], "options": {"countdown": 3600, "task_id": "order 7"}, "get": 0},
        {"task": "shop.mark", "args": [path, "eta"], "options": {"eta": "2100-01-01T00:00:00+02:00"}, "get": 0},
    )
    soon, own, eta = (
        wait_until(TaskRecord.objects.filter(pk=row_id(answer["id"])).first, what="the row") for answer in later
    )
    assert str(soon.pk) == later[0]["id"]
    assert (own.state, eta.state) == (State.SCHEDULED, State.SCHEDULED)
    assert eta.run_after == datetime(2099, 12, 31, 22, tzinfo=UTC)
    assert soon.run_after is not None
    assert soon.run_after > before + timedelta(seconds=1.9)
    assert soon.expires_at is not None
    assert timedelta(seconds=3500) < soon.expires_at - before < timedelta(seconds=3700)
    (line,) = shop.wait_for_marks(1)
    assert (line["args"], line["id"]) == (["soon"], later[0]["id"])
    # It was to leave no record.
    wait_until(lambda: not TaskRecord.objects.filter(pk=soon.pk).exists(), what="its end")
    assert datetime.now(UTC) >= soon.run_after


def test_what_celery_sends_and_we_do_not_read_is_set_aside_once(start: Callable[..., Shop]) -> None:
    shop = start()
    path = str(shop.marks)
    mark = {"task": "shop.mark", "args": [path, "refused"], "get": 0}
    shop.call(
        {**mark, "options": {"serializer": "pickle"}},
        {**mark, "options": {"compression": "gzip"}},
        {"task": "os.system", "args": [f"touch {path}"], "get": 0},
        {"task": "django.conf.settings", "get": 0},
        accept_content=["json", "pickle"],
    )
    shop.call(mark, task_protocol=1)
    shop.call({**mark, "args": [path, "good"]})
    worker = start_worker(shop.project, f"--queues={CELERY}")
    (line,) = shop.wait_for_marks(1)
    assert line["args"] == ["good"]
    wait_until(lambda: not shop.left(), what="nothing to be left")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    text = worker.text()
    # Who waits for a reply hears of it from the slot.
    assert (text.count("was set aside"), text.count(" cannot run: ")) == (3, 2)
    for reason in (
        "application/x-python-serialize",
        "compressed",
        "'os.system'",
        "'django.conf.settings'",
        "protocol 1",
    ):
        assert text.count(reason) == 1, reason


# Our caller, a Celery worker


def test_our_unrecorded_task_runs_in_a_celery_worker(start: Callable[..., Shop]) -> None:
    shop = start(routes={"shop.*": CELERY})
    path = str(shop.marks)
    late = ours.mark.using(expires=0.1).enqueue(path, "too late")
    first = ours.mark.enqueue(path, 1, "two", three=3.0)
    odd = ours.mark.using(priority=50, expires=3600).enqueue(path, ODD, straße=ODD)
    big = ours.mark.enqueue(path, BIG)
    unknown = ours.nobody.enqueue()
    worker = shop.celery_worker(arguments=["--pool", "prefork"])
    many = ours.mark.enqueue_many([(path, number) for number in range(20)])
    found = {line["id"]: line for line in shop.wait_for_marks(23)}
    assert set(found) == {first.id, odd.id, big.id, *(one.id for one in many)}
    assert {line["by"] for line in found.values()} == {"celery"}
    assert {line["attempt"] for line in found.values()} == {1}
    assert (found[first.id]["args"], found[first.id]["kwargs"]) == ([1, "two"], {"three": 3.0})
    assert (found[odd.id]["args"], found[odd.id]["kwargs"]) == ([ODD], {"straße": ODD})
    assert datetime.fromisoformat(found[odd.id]["expires"]) > datetime.now(UTC) + timedelta(seconds=3000)
    assert found[big.id]["args"] == [BIG]
    # Arguments are private: they are not in what a Celery worker logs, and nobody waits for an answer.
    assert found[first.id]["shown"] == ["(...)", "{...}"]
    assert found[first.id]["reply_to"] is None
    worker.wait_for(f"Discarding revoked task: shop.mark[{late.id}]")
    worker.wait_for("Received unregistered task of type 'shop.nobody'")
    assert unknown.id in worker.text()
    assert not TaskRecord.objects.exists()


def test_a_retry_of_ours_may_run_in_a_celery_worker(start: Callable[..., Shop], tmp_path: Path) -> None:
    shop = start(routes={"shop.*": CELERY})
    gate = Gate(tmp_path / "gate")
    worker = start_worker(shop.project, f"--queues={CELERY}")
    ours.stumble.enqueue(gate.path)
    gate.wait_for("fail")
    # It drains: the task may end, and its second attempt is somebody else's.
    worker.send(signal.SIGTERM)
    gate.open()
    assert worker.wait() == 0
    celery = shop.celery_worker()
    wait_until(lambda: lines(gate.directory / "celery"), what="the second attempt")
    celery.wait_for("succeeded in")
    assert len(gate.started()) == 1


def test_a_retry_of_celery_may_run_here(start: Callable[..., Shop]) -> None:
    shop = start()
    start_worker(shop.project, "--queues=ours")
    shop.celery_worker()
    (value,) = values(shop.call({"task": "shop.hand_over", "args": ["ours", 0]}))
    assert value == "ours in attempt 2"
    shop.call({"task": "shop.hand_over", "args": ["ours", 1.0], "get": 0})
    wait_until(
        TaskRecord.objects.filter(state=State.SCHEDULED, attempt=1).exists, what="the row of a retry with a delay"
    )
    wait_until(lambda: not TaskRecord.objects.exists(), what="its end")


def test_both_workers_share_a_queue_and_each_task_runs_once(start: Callable[..., Shop]) -> None:
    shop = start(routes={"shop.*": CELERY})
    path = str(shop.marks)
    shop.celery_worker()
    start_worker(shop.project, f"--queues={CELERY}")
    wait_until(lambda: shop.consumers(CELERY) == 2, what="both to receive")
    caller = shop.caller(*({"task": "shop.mark", "args": [path, number]} for number in range(100)))
    ours.mark.enqueue_many([(path, number) for number in range(100, 200)])
    values(answers(caller))
    found = shop.wait_for_marks(200)
    assert sorted(line["args"][0] for line in found) == list(range(200))
    assert {line["by"] for line in found} == {"ours", "celery"}
    wait_until(lambda: not shop.left(), what="nothing to be left")


def test_a_recorded_task_that_a_celery_worker_throws_away_runs_all_the_same(start: Callable[..., Shop]) -> None:
    """Its message is for our workers only. Celery's delete what they do not know."""
    shop = start(routes={"*": CELERY})
    recorded = add.enqueue(1, 2)
    celery = shop.celery_worker()
    celery.wait_for("Received and deleted unknown message")
    celery.send(signal.SIGTERM)
    assert celery.wait() == 0
    start_worker(shop.project, f"--queues={CELERY}")
    assert ended(recorded).result == "3"


# Both of them declare


@pytest.mark.parametrize(
    ("celery", "options"),
    [
        ({}, {}),
        ({"task_queue_max_priority": 10, "task_default_priority": 5}, {"queue_defaults": {"max_priority": 10}}),
        (
            {"task_default_queue_type": "quorum", "task_create_missing_queue_type": "quorum"},
            {"queue_defaults": {"arguments": {"x-queue-type": "quorum"}}},
        ),
    ],
    ids=["plain", "priorities", "quorum"],
)
def test_queues_are_declared_alike_whoever_is_first(
    start: Callable[..., Shop], celery: dict[str, Any], options: dict[str, Any]
) -> None:
    shop = start(**options)
    path = str(shop.marks)
    # Celery's caller makes the one queue, ours the other; then each meets what the other has made.
    shop.call({"task": "shop.mark", "args": [path, 1], "options": {"queue": "theirs"}, "get": 0}, **celery)
    ours.mark.using(queue_name="ours").enqueue(path, 2)
    shop.call({"task": "shop.mark", "args": [path, 3], "options": {"queue": "ours"}, "get": 0}, **celery)
    ours.mark.using(queue_name="theirs", priority=50).enqueue(path, 4)
    start_worker(shop.project, "--queues=ours,theirs")
    assert sorted(line["args"][0] for line in shop.wait_for_marks(4)) == [1, 2, 3, 4]
    shop.celery_worker("ours,theirs", settings=celery)
    wait_until(lambda: shop.consumers("ours") == shop.consumers("theirs") == 2, what="both to receive from both")
    assert not TaskRecord.objects.exists()


def test_priorities_of_both_are_on_one_scale(start: Callable[..., Shop]) -> None:
    shop = start(queue_defaults={"max_priority": 10}, routes={"shop.*": CELERY})
    path = str(shop.marks)
    calls = [
        {"task": "shop.mark", "args": [path, f"Celery's {level}"], "options": {"priority": level}, "get": 0}
        for level in (1, 9, 4)
    ]
    shop.call(*calls, task_queue_max_priority=10)
    for priority in (-100, 100, 0):
        ours.mark.using(priority=priority).enqueue(path, f"our {priority}")
    start_worker(shop.project, f"--queues={CELERY}")
    ran = [line["args"][0] for line in shop.wait_for_marks(6)]
    assert ran == ["our 100", "Celery's 9", "our 0", "Celery's 4", "Celery's 1", "our -100"]


# Replies of a Celery worker


class ReplyQueue:
    """A caller's queue for replies: durable, not auto-delete, gone some time after its caller, named by a UUID."""

    def __init__(self, connection: kombu.Connection) -> None:
        self.name = str(uuid.uuid4())
        self._queue = kombu.Queue(self.name, durable=True, auto_delete=False, expires=60.0)(connection.default_channel)
        self._queue.declare()

    def next(self) -> Reply:
        """Wait for a reply and read it."""
        message = wait_until(lambda: self._queue.get(no_ack=True), what="a reply")
        return decode_reply(
            message.body,
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            headers=message.headers,
            properties=message.properties,
        )


@contextmanager
def reply_queue(url: str) -> Iterator[ReplyQueue]:
    with closing(kombu.Connection(url)) as connection:
        yield ReplyQueue(connection)


def test_replies_of_a_celery_worker_are_read(start: Callable[..., Shop]) -> None:
    shop = start()
    backend = cast("TaskqBackend", task_backends["default"])
    with reply_queue(shop.url) as replies:

        def request(name: str, arguments: str, **fields: Any) -> Call:
            call = Call(
                id=str(uuid.uuid4()),
                name=name,
                arguments=arguments,
                reply_to=replies.name,
                correlation_id=uuid.uuid4().hex,
                **fields,
            )
            assert backend.publisher.publish([Outgoing(queue_name=CELERY, wire=encode_call(call))]) == [True]
            return call

        def answer(call: Call) -> Reply:
            found = replies.next()
            assert (found.task_id, found.correlation_id) == (call.id, call.correlation_id)
            return found

        expired = request("shop.echo", "[[],{}]", expires=datetime.now(UTC) - timedelta(seconds=1))
        shop.celery_worker()
        late = answer(expired)
        assert (late.state, late.result) == (State.EXPIRED, None)

        good = answer(request("shop.echo", json.dumps([[1, ODD], {"straße": None}])))
        assert (good.state, good.error) == (State.SUCCESSFUL, None)
        value = json.loads(good.result or "")
        assert (value["by"], value["args"], value["kwargs"]) == ("celery", [1, ODD], {"straße": None})

        big = answer(request("shop.echo", json.dumps([[BIG], {}])))
        assert json.loads(big.result or "")["args"] == [BIG]

        failed = answer(request("shop.fail", json.dumps([[ODD], {}])))
        assert (failed.state, failed.result) == (State.FAILED, None)
        assert failed.error is not None
        assert (failed.error.exception_class_path, failed.error.message) == ("builtins.ValueError", ODD)
        assert failed.error.traceback.startswith("Traceback (most recent call last):\n")

        own = answer(request("shop.fail", json.dumps([["no stock", "ShopError"], {}]))).error
        assert own is not None
        # Words, and no class: nothing of theirs is imported here.
        assert own.exception_class_path == "tests.celeryapp.theirs.ShopError"
        assert own.message == "no stock"
        assert "tests.celeryapp.theirs" not in sys.modules

        unknown = answer(request("shop.nobody", "[[],{}]"))
        assert unknown.state is State.FAILED
        assert unknown.error is not None
        assert unknown.error.exception_class_path == "celery.exceptions.NotRegistered"

        again = request("shop.hand_over", json.dumps([[CELERY, 3600], {}]))
        retry = answer(again)
        assert (retry.state, retry.result) == (State.SCHEDULED, None)


def test_results_of_a_celery_worker_are_waited_for(start: Callable[..., Shop]) -> None:
    shop = start(routes={"shop.*": CELERY}, results="rpc://")
    late = ours.echo.using(expires=0.001).enqueue()
    shop.celery_worker()
    with pytest.raises(TaskExpired):
        late.get(30)

    good = ours.echo.enqueue(1, ODD, straße=None)
    value = good.get(30)
    assert (value["by"], value["id"], value["args"]) == ("celery", good.id, [1, ODD])
    assert (good.state, good.return_value) == (State.SUCCESSFUL, value)
    assert ours.echo.enqueue(BIG).get(30)["args"] == [BIG]

    failed = ours.fail.enqueue(ODD, "ShopError")
    with pytest.raises(TaskFailed) as raised:
        failed.get(30)
    # Words, and no class: nothing of theirs is imported here.
    assert raised.value.exception_class_path == "tests.celeryapp.theirs.ShopError"
    assert ODD in str(raised.value)
    assert raised.value.traceback.startswith("Traceback (most recent call last):\n")
    assert "tests.celeryapp.theirs" not in sys.modules
    with pytest.raises(TaskFailed, match="NotRegistered"):
        ours.nobody.enqueue().get(30)

    # That it is going to run again is no end, whoever runs it then.
    start_worker(shop.project, "--queues=ours")
    assert ours.hand_over.enqueue("ours", 0.5).get(30) == "ours in attempt 2"
    many = ours.echo.enqueue_many([(number,) for number in range(100)])
    assert [result.get(30)["args"] for result in many] == [[number] for number in range(100)]
    assert not TaskRecord.objects.exists()


def test_a_forged_reply_queue_is_no_way_into_a_queue_of_tasks(start: Callable[..., Shop]) -> None:
    shop = start()
    worker = start_worker(shop.project, f"--queues={CELERY}")
    shop.call({"task": "shop.echo", "options": {"reply_to": CELERY}, "get": 0})
    worker.wait_for("its reply_to is no queue of a caller")
    shop.call({"task": "shop.echo"})
    assert not shop.left()
    assert "was set aside" not in worker.text()
