"""Messages that nobody should have sent: set aside once, with one log line, and nothing of them happens."""

from __future__ import annotations

import base64
import bz2
import json
import os
import pickle
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import kombu
import psutil
import pytest
import redis
from pytest_django import DjangoDbBlocker

from django_taskq import State
from django_taskq.brokers.kombu.frames import CHANNEL, frames, publish_method
from django_taskq.core.wire import Call, encode_call, encode_reference
from django_taskq.models import TaskRecord
from tests.acceptance.load import broker
from tests.acceptance.project import Project
from tests.acceptance.workers import Gate, ended, lines, start_worker
from tests.databases import chosen
from tests.factories import make_tasks
from tests.servers import shared, shared_broker
from tests.taskapp import tasks
from tests.waiting import wait_until

# What a message is refused for is the same on every database.
pytestmark = [pytest.mark.once, pytest.mark.databases("sqlite")]

JSON = "application/json"
#: Seconds in which a good message behind a bad one has run.
AT_ONCE = 2.0
#: Bytes; what RabbitMQ takes at most (3.10, ``max_message_size``), and enough for a Redis that copies it many times.
LARGEST = {"amqp": 128 * 2**20, "redis": 48 * 2**20}
#: Megabytes by which the worker may have grown in the end.
GROWTH = 40
#: A log line about a message that was not run, or of which something was not done.
COMPLAINT = re.compile(r"(was set aside|was dropped|nobody is answered).*")

NOOP = "tests.taskapp.tasks.noop"
EMBED: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


class Rig:
    """A broker with one queue, and a worker process that must live through everything."""

    def __init__(self, kind: str, url: str, project: Project, directory: Path) -> None:
        self.kind = kind
        self.url = url
        self.directory = directory
        self.marks = directory / "marks"
        self.gate = Gate(directory / "gate")
        self.trap = directory / "trapped"
        #: outside of all apps; whoever imports it leaves a file
        (project.directory / "canary.py").write_text(f"import os\nos.mkdir({str(self.trap)!r})\n")
        self.worker = start_worker(project, "--threads=4")
        self.run_good("first")
        self.process = psutil.Process(self.worker.pid).children()[0]
        self.size = self.rss()

    def rss(self) -> int:
        """Megabytes of the worker process."""
        return int(self.process.memory_info().rss) // 2**20

    def publish(self, body: bytes | str, **options: Any) -> None:
        """Put any message into the queue."""
        given = {"content_type": JSON, "content_encoding": "utf-8", **options}
        with kombu.Connection(self.url, transport_options={"confirm_publish": True}) as connection:
            connection.Producer(auto_declare=False).publish(body, routing_key="default", **given)

    def call(self, name: str = NOOP, body: Any = ([], {}, EMBED), **headers: Any) -> None:
        """Put a call into the queue, as Celery's producers do."""
        properties = headers.pop("properties", {})
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.publish(text, headers={"lang": "py", "task": name, "id": str(uuid4()), **headers}, **properties)

    def publish_properties(self, written: bytes) -> None:
        """Put a message into the queue whose properties no client library would write."""
        with kombu.Connection(self.url) as connection:
            amqp: Any = connection.connection
            amqp.channel(CHANNEL)
            # The end of the connection is answered once the broker has read what comes before.
            amqp.transport.write(frames(publish_method("", "default", False), written, b"{}" * 100_000, amqp.frame_max))

    def push(self, item: bytes | dict[str, Any]) -> None:
        """Put something into the Redis list that no client library would."""
        with redis.Redis.from_url(self.url) as client:
            client.lpush("default", item if isinstance(item, bytes) else json.dumps(item))

    def run_good(self, name: str, within: float = 30.0) -> None:
        """Enqueue a good task and wait until it has run."""
        tasks.mark.using(record=False).enqueue(str(self.marks), name)
        wait_until(lambda: name in lines(self.marks), within, what=f"the good task behind {name}")

    def complaints(self) -> list[str]:
        """Return what the worker has said of messages."""
        return [match.group() for match in COMPLAINT.finditer(self.worker.text())]


def own_broker(kind: str) -> tuple[str, Callable[[], None]]:
    """Return the URL of an empty corner of the run's broker, and what gives it back."""
    if kind == "amqp":
        rabbitmq, vhost = shared_broker("amqp"), f"bad-{uuid4().hex}"
        rabbitmq.make_vhost(vhost)
        return rabbitmq.url(vhost), lambda: rabbitmq.drop_vhost(vhost)
    server = shared_broker("redis")
    db = server.next_db()
    return server.url(db), lambda: server.flushdb(db)


@pytest.fixture(scope="module", params=["amqp", "redis"])
def rig(
    request: pytest.FixtureRequest,
    template: Callable[[tuple[str, ...]], str],
    tmp_path_factory: pytest.TempPathFactory,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Rig]:
    """Return a rig for all tests of a broker; should its worker die, all those after it fail."""
    directory = tmp_path_factory.mktemp("bad")
    url, forget = own_broker(request.param)
    name = f"taskq_bad_{request.param}_{os.getpid()}"
    project = Project(shared(chosen()), name, directory, tasks=broker(url))
    project.databases.clone_database(template(()), name)
    with django_db_blocker.unblock(), project.attached():
        try:
            yield Rig(request.param, url, project, directory)
        finally:
            project.close()
            forget()


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A kind of bad message. ``says``: what each of ``count`` complaints is about."""

    send: Callable[[Rig], Any]
    says: str
    count: int = 1
    brokers: tuple[str, ...] = ("amqp", "redis")
    within: float = AT_ONCE


def packed(item: dict[str, Any], **properties: Any) -> dict[str, Any]:
    """Return a message as kombu's Redis transport stores it."""
    tag = str(uuid4())
    base = {"delivery_tag": tag, "delivery_info": {"exchange": "", "routing_key": "default"}, "body_encoding": "base64"}
    return {"content-type": JSON, "content-encoding": "utf-8", "headers": {}, "properties": base | properties, **item}


def finished(rig: Rig) -> None:
    """References to rows that have ended in every way there is."""
    for state in (State.SUCCESSFUL, State.FAILED, State.CANCELLED, State.EXPIRED):
        (record,) = make_tasks(state=state)
        wire = encode_reference(str(record.pk))
        rig.publish(wire.body)


def running(rig: Rig) -> None:
    """A reference to a row that runs in this very worker."""
    result = tasks.hold.enqueue(rig.gate.path, "held")
    rig.gate.wait_for("held")
    rig.publish(encode_reference(result.id).body)
    wait_until(lambda: "it is RUNNING" in rig.worker.text(), what="the complaint")
    rig.gate.open()
    ended(result)
    assert rig.gate.started() == ["held"]


def copies(rig: Rig) -> None:
    """Fifty references to one task."""
    result = tasks.mark.enqueue(str(rig.directory / "copies"), "once")
    for _ in range(49):
        rig.publish(encode_reference(result.id).body)


def foreign_backend(rig: Rig) -> None:
    """A reference to a row of an alias that this project does not have any more."""
    (record,) = make_tasks(state=State.READY, backend="gone")
    rig.publish(encode_reference(str(record.pk)).body)


def raw_twice(rig: Rig) -> None:
    """The same bytes with the same tag, twice."""
    item = json.dumps(packed({"body": base64.b64encode(b"rubbish").decode()})).encode()
    rig.push(item)
    rig.push(item)


BAD = {
    # The body
    "empty": Bad(send=lambda rig: rig.publish(b""), says="is not JSON"),
    "random bytes": Bad(send=lambda rig: rig.publish(os.urandom(1000) + b"\xff"), says="is not UTF-8"),
    "truncated JSON": Bad(send=lambda rig: rig.publish(b'{"version": 1, "id": "01'), says="is not JSON"),
    "deep JSON": Bad(send=lambda rig: rig.publish(b"[" * 1_000_000), says="nested too deeply"),
    "deep arguments": Bad(send=lambda rig: rig.call(body=b"[" * 900 + b"]" * 900), says="."),
    "wrong types": Bad(send=lambda rig: rig.publish(b"[1, null, true]"), says="no header 'task'"),
    "a number": Bad(send=lambda rig: rig.publish(b"42"), says="neither a reference nor a call"),
    "text": Bad(send=lambda rig: rig.publish(b'"os.system"'), says="neither a reference nor a call"),
    "NaN": Bad(send=lambda rig: rig.call(body=b"[[NaN], {}, {}]"), says="is not JSON"),
    "a long number": Bad(send=lambda rig: rig.call(body=b"[[" + b"9" * 5_000 + b"], {}, {}]"), says="is not JSON"),
    "a key twice": Bad(send=lambda rig: rig.call(body=b'[[], {"a": 1, "a": 2}, {}]'), says="given twice"),
    "NUL": Bad(send=lambda rig: rig.call(body=b'[["\\u0000"], {}, {}]'), says="the arguments"),
    # Kinds of content
    "pickle": Bad(
        send=lambda rig: rig.publish(
            pickle.dumps(Trap(rig.trap)), content_type="application/x-python-serialize", content_encoding="binary"
        ),
        says="is not read",
    ),
    "pickle said to be JSON": Bad(send=lambda rig: rig.publish(pickle.dumps(Trap(rig.trap))), says="is not UTF-8"),
    "pickled call": Bad(
        send=lambda rig: rig.call(
            body=pickle.dumps(Trap(rig.trap)),
            properties={"content_type": "application/x-python-serialize", "content_encoding": "binary"},
        ),
        says="is not read",
    ),
    "yaml": Bad(
        send=lambda rig: rig.publish(
            f"!!python/object/apply:os.mkdir ['{rig.trap}']".encode(), content_type="application/x-yaml"
        ),
        says="is not read",
    ),
    "msgpack": Bad(
        send=lambda rig: rig.publish(b"\x81\xa1a\x01", content_type="application/x-msgpack", content_encoding="binary"),
        says="is not read",
    ),
    "another encoding": Bad(send=lambda rig: rig.publish(b"{}", content_encoding="utf-16"), says="is not read"),
    "zlib bomb": Bad(
        send=lambda rig: rig.publish(zlib.compress(b"0" * 2**26), headers={"compression": "application/x-gzip"}),
        says="compressed",
    ),
    "bzip2 bomb": Bad(
        send=lambda rig: rig.publish(bz2.compress(b"0" * 2**24), headers={"compression": "application/x-bz2"}),
        says="compressed",
    ),
    "an unknown compression": Bad(
        send=lambda rig: rig.publish(b"{}", headers={"compression": "os.system"}), says="compressed"
    ),
    "128 MB": Bad(send=lambda rig: rig.publish(b" " * LARGEST[rig.kind]), says="more than the", within=20.0),
    # References
    "no id": Bad(send=lambda rig: rig.publish(b'{"version": 1}'), says="'version' and 'id'"),
    "no UUID": Bad(send=lambda rig: rig.publish(b'{"version": 1, "id": "1 OR 1=1"}'), says="is not a UUID"),
    "an id that nobody has": Bad(
        send=lambda rig: rig.publish(encode_reference(str(uuid4())).body), says="there is no task"
    ),
    "the id of another project": Bad(send=foreign_backend, says="there is no task"),
    "ids of finished rows": Bad(send=finished, says="it is (SUCCESSFUL|FAILED|CANCELLED|EXPIRED)", count=4),
    "the id of a running row": Bad(send=running, says="it is RUNNING"),
    "50 copies": Bad(send=copies, says="it is|more than once", count=49),
    "a newer version": Bad(
        send=lambda rig: rig.publish(json.dumps({"version": 2, "id": str(uuid4())}).encode()), says="a newer version"
    ),
    "a wrong version": Bad(
        send=lambda rig: rig.publish(json.dumps({"version": "1", "id": str(uuid4())}).encode()), says="whole number"
    ),
    # Calls
    "no task id": Bad(send=lambda rig: rig.call(id=None), says="header 'id'"),
    "an unknown name": Bad(send=lambda rig: rig.call("shop.tasks.nothing"), says="No task is named"),
    "os.system": Bad(
        send=lambda rig: rig.call("os.system", ([f"mkdir {rig.trap}"], {}, EMBED)), says="No task is named 'os.system'"
    ),
    "eval": Bad(send=lambda rig: rig.call("builtins.eval", (["1"], {}, EMBED)), says="No task is named"),
    "a module outside": Bad(send=lambda rig: rig.call("canary.boom"), says="not inside an installed app"),
    "a function": Bad(
        send=lambda rig: rig.call("tests.taskapp.tasks.leave", ([f"{rig.trap}", "x"], {}, EMBED)),
        says="leads to a function, not to a task",
    ),
    "a class": Bad(send=lambda rig: rig.call("tests.taskapp.models.Note"), says="not to a task"),
    "a name of a task's attribute": Bad(send=lambda rig: rig.call(f"{NOOP}.func"), says="No task is named"),
    "a name that is none": Bad(send=lambda rig: rig.call("a\nb\x1b[31m"), says="printable"),
    "a long name": Bad(send=lambda rig: rig.call("a" * 5_000), says="printable"),
    "arguments that are no list": Bad(send=lambda rig: rig.call(body=({}, {}, EMBED)), says="not a list"),
    "keyword arguments that are none": Bad(send=lambda rig: rig.call(body=([], [], EMBED)), says="not an object"),
    "protocol 1": Bad(
        send=lambda rig: rig.publish(
            json.dumps({"task": NOOP, "id": str(uuid4()), "args": [], "kwargs": {}, "retries": 0}).encode()
        ),
        says="protocol 1",
    ),
    "a canvas": Bad(
        send=lambda rig: rig.call(body=([], {}, EMBED | {"chain": [{"task": "os.system"}]})), says="canvas"
    ),
    "odd retries": Bad(send=lambda rig: rig.call(retries=-1), says="'retries'"),
    "an odd moment": Bad(send=lambda rig: rig.call(eta="tomorrow"), says="ISO 8601"),
    "odd extras": Bad(send=lambda rig: rig.call(taskq="[]"), says="'taskq'"),
    "a forged reply_to": Bad(
        send=lambda rig: rig.call(properties={"reply_to": "default"}), says="its reply_to is no queue"
    ),
    "a long reply_to": Bad(
        send=lambda rig: rig.call(properties={"reply_to": "x" * 300}), says="255 bytes", brokers=("redis",)
    ),
    # What only AMQP's layout allows: a correlation id, a message id, a header
    "a property that is not UTF-8": Bad(
        send=lambda rig: rig.publish_properties(b"\x04\x00\x01\xff"), says="cannot be read", brokers=("amqp",)
    ),
    "another property that is not UTF-8": Bad(
        send=lambda rig: rig.publish_properties(b"\x00\x80\x01\xff"), says="cannot be read", brokers=("amqp",)
    ),
    "a moment that no calendar has": Bad(
        send=lambda rig: rig.publish_properties(b"\x20\x00\x00\x00\x00\x0b\x01aT" + b"\x7f" * 8),
        says="cannot be read",
        brokers=("amqp",),
    ),
    # What only the layout of Redis allows
    "raw rubbish": Bad(send=lambda rig: rig.push(b"\x00rubbish\xff"), says="cannot unpack", brokers=("redis",)),
    "raw nothing": Bad(send=lambda rig: rig.push(b""), says="cannot unpack", brokers=("redis",)),
    "raw list": Bad(send=lambda rig: rig.push(b"[]"), says="cannot unpack", brokers=("redis",)),
    "raw null": Bad(send=lambda rig: rig.push(b"null"), says="cannot unpack", brokers=("redis",)),
    "raw depth": Bad(send=lambda rig: rig.push(b"[" * 100_000), says="cannot unpack", brokers=("redis",)),
    "no properties": Bad(send=lambda rig: rig.push(b'{"body": ""}'), says="cannot unpack", brokers=("redis",)),
    "no delivery tag": Bad(send=lambda rig: rig.push(b'{"properties": {}}'), says="cannot unpack", brokers=("redis",)),
    "a body that is no base64": Bad(
        send=lambda rig: rig.push(packed({"body": "abc"})), says="cannot unpack", brokers=("redis",)
    ),
    "a body that is no text": Bad(
        send=lambda rig: rig.push(packed({"body": {"a": 1}})), says="cannot unpack", brokers=("redis",)
    ),
    "an encoding of the body that is none": Bad(
        send=lambda rig: rig.push(packed({"body": "e30="}, body_encoding="os.system")),
        says="cannot unpack",
        brokers=("redis",),
    ),
    "headers that are no table": Bad(
        send=lambda rig: rig.push(packed({"body": "e30=", "headers": [1]})), says="set aside", brokers=("redis",)
    ),
    "a message twice": Bad(send=raw_twice, says="is not JSON", count=2, brokers=("redis",)),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_message_is_set_aside_once_and_holds_up_nobody(rig: Rig, name: str) -> None:
    bad = BAD[name]
    if rig.kind not in bad.brokers:
        # This broker takes no such message.
        return
    before = len(rig.complaints())
    bad.send(rig)
    rig.run_good(name, bad.within)
    wait_until(lambda: len(rig.complaints()) >= before + bad.count, bad.within, what="the complaints")
    complaints = rig.complaints()[before:]
    assert len(complaints) == bad.count, complaints
    assert all(re.search(bad.says, f"{line}") for line in complaints), complaints
    assert all(len(line) < 600 for line in complaints)
    assert "Traceback" not in rig.worker.text(), rig.worker.text()
    assert not rig.trap.exists()
    assert rig.process.is_running()


def test_nothing_of_it_is_left(rig: Rig) -> None:
    """After all of the above: the same process, as small as before, with nothing unacked and nothing imported."""
    rig.run_good("last")
    before = len(rig.complaints())
    assert psutil.Process(rig.worker.pid).children() == [rig.process]
    wait_until(lambda: rig.rss() <= rig.size + GROWTH, what=f"{rig.rss()} MB to be {rig.size} again")
    assert not rig.trap.exists()
    assert lines(rig.directory / "copies") in ([], ["once"])
    assert not TaskRecord.objects.filter(state="RUNNING").exists()
    if rig.kind == "amqp":
        vhost = rig.url.rpartition("/")[2]
        wait_until(
            lambda: shared_broker("amqp").queue_info(vhost)["default"].messages == 0,
            what="a queue with nothing unacked",
        )
    else:
        with redis.Redis.from_url(rig.url) as client:
            wait_until(lambda: not client.exists("default", "unacked", "unacked_index"), what="an empty queue")
    assert len(rig.complaints()) == before


def test_a_call_that_comes_often_runs_as_often(rig: Rig) -> None:
    """There is nothing that could remember it: ``record=False`` says so."""
    path = rig.directory / "calls"
    wire = encode_call(Call(id=str(uuid4()), name="tests.taskapp.tasks.mark", arguments=json.dumps([[str(path)], {}])))
    for _ in range(3):
        rig.publish(wire.body, headers=wire.headers)
    wait_until(lambda: len(lines(path)) == 3, what="three runs")
