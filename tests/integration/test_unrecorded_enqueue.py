"""Enqueues of an unrecorded task: each is judged, routed and timed by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from django_taskq import registry, task
from django_taskq.brokers.kombu.outgoing import Outgoing
from django_taskq.compat import InvalidTask, task_backends
from django_taskq.core.wire import Call, decode
from django_taskq.producer import enqueue_many

if TYPE_CHECKING:
    from pytest_django import Settings

# Messages leave after the commit.
pytestmark = pytest.mark.django_db(transaction=True)


def function(number: int = 0) -> None:
    """Be an unrecorded task."""


def by_number(name: str, args: Sequence[Any], kwargs: Any) -> str:
    return f"shard-{args[0] % 2}"


class Recorder:
    """Takes what is published, in place of a publisher."""

    is_up = True

    def __init__(self) -> None:
        self.taken: list[Outgoing] = []

    def publish(self, messages: Sequence[Outgoing]) -> list[bool]:
        self.taken += messages
        return [True] * len(messages)

    def calls(self) -> list[Call]:
        found = []
        for outgoing in self.taken:
            wire = outgoing.wire
            call = decode(
                wire.body,
                content_type=wire.properties["content_type"],
                content_encoding=wire.properties["content_encoding"],
                headers=wire.headers,
                properties=wire.properties,
            )
            assert isinstance(call, Call)
            found.append(call)
        return found


@pytest.fixture
def publish(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recorder]:
    """Return a function from OPTIONS to what is published under them."""
    monkeypatch.setattr(registry, "_tasks", dict(registry._tasks))

    def make(**options: Any) -> Recorder:
        given = {"broker": "memory://", "results": "disabled://", **options}
        settings.TASKS = {"default": {"BACKEND": "django_taskq.TaskqBackend", "QUEUES": [], "OPTIONS": given}}
        recorder = Recorder()
        task_backends["default"].publisher = recorder  # type: ignore[attr-defined]  # ours
        return recorder

    return make


def test_every_enqueue_is_a_call_of_its_own(publish: Callable[..., Recorder]) -> None:
    recorder = publish(queues={"mail": {}})
    ours = task(record=False)(function)
    other = ours.using(queue_name="mail", max_attempts=7)
    ids = [ours.enqueue(1).id, other.enqueue(2).id, ours.enqueue(number=3).id, other.enqueue(4).id]
    calls = recorder.calls()
    assert [call.id for call in calls] == ids
    assert [call.arguments for call in calls] == ["[[1],{}]", "[[2],{}]", '[[],{"number":3}]', "[[4],{}]"]
    assert [call.options for call in calls] == ["", '{"max_attempts":7}'] * 2
    assert [outgoing.queue_name for outgoing in recorder.taken] == ["default", "mail"] * 2


def test_arguments_are_judged_every_time(publish: Callable[..., Recorder]) -> None:
    recorder = publish()
    ours = task(record=False)(function)
    ours.enqueue(1)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        ours.enqueue(colour="red")
    with pytest.raises(TypeError, match="Unsupported type"):
        ours.enqueue(object())
    assert len(recorder.taken) == 1


def test_a_task_that_cannot_be_enqueued_never_can(publish: Callable[..., Recorder]) -> None:
    recorder = publish(queues={"news": {"broadcast": True}})
    recorded = task()(function).using(queue_name="news")
    for _ in range(2):
        with pytest.raises(InvalidTask, match="broadcast"):
            recorded.enqueue()
    recorded.using(record=False).enqueue()
    assert len(recorder.taken) == 1


def test_a_moment_is_counted_from_each_enqueue(publish: Callable[..., Recorder]) -> None:
    recorder = publish()
    ours = task(record=False, expires=60)(function)
    ours.enqueue()
    ours.enqueue()
    first, second = [call.expires for call in recorder.calls()]
    assert first is not None
    assert second is not None
    assert first < second


def test_a_route_is_asked_every_time(publish: Callable[..., Recorder]) -> None:
    recorder = publish(routes=f"{__name__}.by_number", queues={"shard-0": {}, "shard-1": {}})
    ours = task(record=False)(function)
    for number in (0, 1, 2):
        ours.enqueue(number)
    assert [outgoing.queue_name for outgoing in recorder.taken] == ["shard-0", "shard-1", "shard-0"]


def test_metadata_may_change_in_place(publish: Callable[..., Recorder]) -> None:
    recorder = publish()
    ours = task(record=False, metadata={"shop": 1})(function)
    ours.enqueue()
    ours.options.metadata["shop"] = 2  # type: ignore[index]  # nothing keeps a project from it
    ours.enqueue()
    assert [call.metadata for call in recorder.calls()] == ['{"shop":1}', '{"shop":2}']


def test_a_task_that_takes_the_name_changes_what_is_said(publish: Callable[..., Recorder]) -> None:
    """Only what differs from the worker's own definition travels, and that one is another after a reload."""
    recorder = publish()
    ours = task(record=False, max_attempts=3)(function)
    ours.enqueue()
    registry._tasks.pop(ours.registered_name)
    task(record=False)(function)
    ours.enqueue()
    assert [call.options for call in recorder.calls()] == ["", '{"max_attempts":3}']


def test_tasks_that_are_made_for_one_call_are_not_taken_for_each_other(publish: Callable[..., Recorder]) -> None:
    """They come and go, and with them what they are known by."""
    recorder = publish()
    ours = task(record=False)(function)
    for number in range(1, 500):
        ours.using(max_attempts=number).enqueue()
        if number % 7 == 0:
            ours.enqueue()
    said = [call.options for call in recorder.calls()]
    assert [text for text in said if text] == [f'{{"max_attempts":{number}}}' for number in range(1, 500)]
    assert said.count("") == 499 // 7


def test_each_burst_says_anew_where_its_answers_go(
    publish: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for some; and after a fork, answers go to the child's own queue."""
    recorder = publish(results="database://")
    backend: Any = task_backends["default"]
    ours = task(record=False)(function)
    calls: Any = [((1,), {}), ((2,), {})]
    for queue_name, awaited in (("first", True), ("first", False), ("second", True), ("second", True)):
        monkeypatch.setattr(backend.result_store, "open", lambda queue_name=queue_name: queue_name)
        enqueue_many(backend, ours, calls, awaited=awaited)
    assert [call.reply_to for call in recorder.calls()[::2]] == ["first", "", "second", "second"]
    assert [call.reply_to for call in recorder.calls()[1::2]] == ["first", "", "second", "second"]
