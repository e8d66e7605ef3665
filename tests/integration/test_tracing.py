"""One trace from an enqueue to the run, as OpenTelemetry's own SDK records it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from django_taskq import instrument as seam
from django_taskq.core import codec
from django_taskq.core.wire import Call, decode, encode_call
from django_taskq.models import TaskRecord
from django_taskq.monitoring.tracing import TaskqInstrumentor, instrument, uninstrument
from django_taskq.testing import run_tasks
from tests.taskapp import tasks

pytestmark = [pytest.mark.django_db, pytest.mark.once]

Spans = Callable[[], dict[str, ReadableSpan]]


@pytest.fixture
def provider() -> TracerProvider:
    return TracerProvider()


@pytest.fixture
def spans(provider: TracerProvider) -> Iterator[Spans]:
    """Return the ended spans by their operation."""
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrument(provider)
    yield lambda: {span.name.split()[0]: span for span in exporter.get_finished_spans()}
    uninstrument()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_run_continues_the_trace_of_its_enqueue(provider: TracerProvider, spans: Spans) -> None:
    with provider.get_tracer("test").start_as_current_span("request 1") as request:
        result = tasks.add.using(queue_name="default").enqueue(1, 2)
    run_tasks()
    found = spans()
    sent, ran = found["enqueue"], found["run"]
    assert sent.context is not None
    assert ran.context is not None
    assert {span.context.trace_id for span in (sent, ran)} == {request.get_span_context().trace_id}
    assert sent.parent is not None
    assert sent.parent.span_id == request.get_span_context().span_id
    assert ran.parent is not None
    assert ran.parent.span_id == sent.context.span_id
    assert (sent.kind, ran.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    common = {
        "messaging.system": "django_taskq",
        "messaging.destination.name": "default",
        "messaging.message.id": result.id,
        "django_taskq.task": "tests.taskapp.tasks.add",
        "django_taskq.backend": "default",
    }
    assert attributes(sent) == {
        **common,
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        "django_taskq.broker": "database",
    }
    assert attributes(ran) == {
        **common,
        "messaging.operation.name": "run",
        "messaging.operation.type": "process",
        "django_taskq.attempt": 1,
        "django_taskq.state": "SUCCESSFUL",
    }
    assert ran.status.status_code is StatusCode.UNSET


def test_a_failure_is_recorded_with_its_exception(spans: Spans) -> None:
    tasks.fail.enqueue("no such order")
    run_tasks()
    ran = spans()["run"]
    assert (ran.status.status_code, ran.status.description) == (StatusCode.ERROR, "no such order")
    assert attributes(ran)["error.type"] == "builtins.ValueError"
    (event,) = ran.events
    assert (event.name, dict(event.attributes or {})["exception.message"]) == ("exception", "no such order")


def test_a_task_that_is_not_here_fails_in_a_span_of_its_own(spans: Spans) -> None:
    result = tasks.noop.enqueue()
    TaskRecord.objects.filter(pk=result.id).update(name="no.such.task")
    run_tasks()
    ran = spans()["run"]
    assert ran.status.status_code is StatusCode.ERROR
    assert attributes(ran)["error.type"] == "django_taskq.exceptions.UnknownTask"


def test_a_burst_has_one_span_and_each_run_is_a_part_of_it(provider: TracerProvider, spans: Spans) -> None:
    tasks.noop.enqueue_many([()] * 3)
    assert attributes(spans()["enqueue"])["messaging.batch.message_count"] == 3
    assert len(set(TaskRecord.objects.values_list("headers", flat=True))) == 1


def test_a_failed_enqueue_ends_its_span_with_the_error(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr("django_taskq.producer.insert", broken)
    with pytest.raises(RuntimeError, match="the disk is full"):
        tasks.noop.enqueue()
    assert spans()["enqueue"].status.status_code is StatusCode.ERROR


def test_baggage_travels_and_is_there_while_the_task_runs(spans: Spans) -> None:
    token = context.attach(baggage.set_baggage("customer", "7"))
    try:
        result = tasks.noop.enqueue()
    finally:
        context.detach(token)
    headers = codec.decode(TaskRecord.objects.get(pk=result.id).headers)
    assert isinstance(headers, dict)
    assert headers["baggage"] == "customer=7"


def test_a_run_can_link_to_its_enqueue_instead(provider: TracerProvider) -> None:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    TaskqInstrumentor().instrument(tracer_provider=provider, link=True)
    try:
        tasks.noop.enqueue()
        run_tasks()
    finally:
        TaskqInstrumentor().uninstrument()
    sent, ran = exporter.get_finished_spans()
    assert ran.context is not None
    assert sent.context is not None
    assert ran.parent is None
    assert ran.context.trace_id != sent.context.trace_id
    assert [link.context.span_id for link in ran.links] == [sent.context.span_id]


def test_nobody_watches_unless_asked() -> None:
    result = tasks.noop.enqueue()
    assert not seam.is_watched()
    assert TaskRecord.objects.get(pk=result.id).headers == ""
    assert not trace.get_current_span().is_recording()


def test_headers_travel_with_messages_where_celery_has_them() -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    call = Call(id="1", name="shop.send", arguments="[[],{}]", headers=codec.encode({"traceparent": parent, "x": "y"}))
    wire = encode_call(call)
    assert wire.headers["traceparent"] == parent
    assert wire.headers["headers"] == {"traceparent": parent}
    assert "x" not in wire.headers

    def read(**more: object) -> str:
        content = decode(
            wire.body,
            content_type="application/json",
            content_encoding="utf-8",
            headers={**wire.headers, **more},
            properties=wire.properties,
        )
        assert isinstance(content, Call)
        return content.headers

    assert codec.decode(read()) == {"traceparent": parent}
    # What cannot be a trace's is left out; the task runs.
    assert codec.decode(read(tracestate=7, baggage="x" * 9_000, b3="a\x00b")) == {"traceparent": parent}


def test_a_watcher_that_fails_disturbs_neither_the_caller_nor_the_task(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def sending(self, sending: object) -> Any:
            raise RuntimeError("broken tracing")

        def running(self, running: object) -> Any:
            return self

        def flush(self, seconds: float) -> None:
            raise RuntimeError("broken tracing")

        def __enter__(self) -> None: ...

        def __exit__(self, *error: object) -> None:
            raise RuntimeError("broken tracing")

    broken = Broken()
    seam.watch(broken)
    try:
        with caplog.at_level(logging.ERROR, "django_taskq.task"):
            result = tasks.add.enqueue(1, 2)
            run_tasks()
            seam.flush(1.0)
    finally:
        seam.unwatch(broken)
    result.refresh()
    assert result.return_value == 3
    assert [record.__dict__["action"] for record in caplog.records] == ["watcher_failed"] * 3
