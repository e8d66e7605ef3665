"""OpenTelemetry: a span where a task is enqueued, another where it runs, in one trace.

``instrument()`` once per process, for instance in ``AppConfig.ready``, or ``opentelemetry-instrument manage.py runworker``,
which finds :class:`TaskqInstrumentor` by itself. Attributes are those of the semantic conventions for messaging
(opentelemetry.io/docs/specs/semconv/messaging), and ``django_taskq.*`` for what these have no word for. The context
travels as W3C Trace Context (or what the global propagator writes) in the task's headers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

try:
    from opentelemetry import context, propagate, trace
    from opentelemetry.trace import Link, SpanKind, Status, StatusCode, TracerProvider
    from opentelemetry.util.types import AttributeValue
except ImportError as error:
    raise ImportError("Tracing needs OpenTelemetry: pip install 'django-taskq-kombu[opentelemetry]'") from error

from ..core import codec
from ..core.retry import class_path
from ..current import Running
from ..exceptions import Retry
from ..instrument import Sending, unwatch, watch

__all__ = ["TaskqInstrumentor", "instrument", "uninstrument"]

_SYSTEM = "django_taskq"


class Tracer:
    """Makes the spans; see ``instrument.Watcher``."""

    def __init__(self, provider: TracerProvider | None, *, link: bool) -> None:
        self._provider = provider
        self._tracer = trace.get_tracer(_SYSTEM, tracer_provider=provider)
        self._links = link

    @contextmanager
    def sending(self, sending: Sending) -> Iterator[None]:
        """The producer's span, around the write; its context goes into the headers."""
        attributes: dict[str, AttributeValue] = {
            **_attributes(sending.name, sending.queue_name, sending.backend),
            "messaging.operation.name": "enqueue",
            "messaging.operation.type": "send",
            "django_taskq.broker": sending.broker,
        }
        if len(sending.ids) == 1:
            attributes["messaging.message.id"] = sending.ids[0]
        else:
            attributes["messaging.batch.message_count"] = len(sending.ids)
        with self._tracer.start_as_current_span(
            f"enqueue {sending.queue_name}", kind=SpanKind.PRODUCER, attributes=attributes
        ):
            propagate.inject(sending.headers)
            yield

    @contextmanager
    def running(self, running: Running) -> Iterator[None]:
        """The consumer's span, around one attempt."""
        message = running.message
        creation = propagate.extract(_headers(message.headers), context=context.Context())
        origin = trace.get_current_span(creation).get_span_context()
        attributes = {
            **_attributes(message.name, message.queue_name, message.backend),
            "messaging.operation.name": "run",
            "messaging.operation.type": "process",
            "messaging.message.id": message.id,
            "django_taskq.attempt": message.attempt,
        }
        if self._links:
            # What else travels (baggage) stays; the trace is a new one.
            creation = trace.set_span_in_context(trace.INVALID_SPAN, creation)
        token = context.attach(creation)
        try:
            with self._tracer.start_as_current_span(
                f"run {message.queue_name}",
                kind=SpanKind.CONSUMER,
                attributes=attributes,
                links=[Link(origin)] if self._links and origin.is_valid else None,
            ) as span:
                yield
                _end(span, running)
        finally:
            context.detach(token)

    def flush(self, seconds: float) -> None:
        """Let the SDK export; the API alone has nothing to flush."""
        provider = self._provider or trace.get_tracer_provider()
        force_flush = getattr(provider, "force_flush", None)
        if force_flush is not None:
            force_flush(int(seconds * 1_000))


def _end(span: trace.Span, running: Running) -> None:
    outcome = running.outcome
    if outcome is None or not span.is_recording():
        return
    span.set_attribute("django_taskq.state", outcome.state.value)
    exception = running.exception
    if exception is not None and not isinstance(exception, Retry):
        span.record_exception(exception)
        span.set_attribute("error.type", class_path(type(exception)))
        span.set_status(Status(StatusCode.ERROR, str(outcome.error.message) if outcome.error else ""))
    elif outcome.error is not None and exception is None:
        # It could not even start.
        span.set_attribute("error.type", outcome.error.exception_class_path)
        span.set_status(Status(StatusCode.ERROR, outcome.error.message))


def _attributes(name: str, queue_name: str, backend: str) -> dict[str, AttributeValue]:
    return {
        "messaging.system": _SYSTEM,
        "messaging.destination.name": queue_name,
        "django_taskq.task": name,
        "django_taskq.backend": backend,
    }


def _headers(text: str) -> dict[str, str]:
    given = codec.decode(text) if text else {}
    return {str(name): str(value) for name, value in given.items()} if isinstance(given, dict) else {}


_tracer: Tracer | None = None


def instrument(tracer_provider: TracerProvider | None = None, *, link: bool = False) -> None:
    """Begin to trace in this process, and in those it forks; a second call changes nothing.

    ``link``: each run begins a trace of its own that links to where it was enqueued, instead of being a part of that
    trace. For tasks that run long after, or for many that one request enqueues.
    """
    global _tracer  # noqa: PLW0603  # tracing is one thing per process
    if _tracer is None:
        _tracer = Tracer(tracer_provider, link=link)
        watch(_tracer)


def uninstrument() -> None:
    """Trace no more."""
    global _tracer  # noqa: PLW0603  # as above
    if _tracer is not None:
        unwatch(_tracer)
        _tracer = None


class TaskqInstrumentor:
    """What ``opentelemetry-instrument`` looks for (entry point ``opentelemetry_instrumentor``)."""

    def instrument(self, *, tracer_provider: TracerProvider | None = None, link: bool = False, **kwargs: Any) -> None:
        """See :func:`instrument`; what other instrumentors know is not meant for this one."""
        instrument(tracer_provider, link=link)

    def uninstrument(self, **kwargs: Any) -> None:
        """See :func:`uninstrument`."""
        uninstrument()

    def instrumentation_dependencies(self) -> tuple[str, ...]:
        """None: it comes with what it instruments."""
        return ()
