"""What a project's own app would do when it is ready."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentry_sdk
from django.apps import AppConfig
from django.dispatch import Signal
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from django_taskq import signals

NAMES = signals.__all__


def leave(name: str, value: object) -> None:
    """Append a line of JSON to one of the files."""
    line = f"{json.dumps(value)}\n".encode()
    path = Path(os.environ["TASKQ_WATCHED"], name)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


class FileExporter(SpanExporter):
    """Writes spans."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write a line for each."""
        for span in spans:
            leave("spans", json.loads(span.to_json(indent=None)))
        return SpanExportResult.SUCCESS


class FileTransport(Transport):
    """Writes events."""

    def capture_envelope(self, envelope: Envelope) -> None:
        """Write a line for each."""
        for item in envelope.items:
            leave(item.type or "item", item.payload.json)


class WatchedConfig(AppConfig):
    """Begins to watch, before any process forks."""

    name = "tests.watchedapp"

    def ready(self) -> None:
        """As the documentation has it."""
        from django_taskq.monitoring.sentry import TaskqIntegration
        from django_taskq.monitoring.tracing import instrument

        provider = TracerProvider()
        # So late that only the flush at the end of a process can have exported anything.
        provider.add_span_processor(BatchSpanProcessor(FileExporter(), schedule_delay_millis=600_000))
        instrument(provider)
        sentry_sdk.init(
            dsn="http://key@localhost/1",
            transport=FileTransport,
            traces_sample_rate=1.0,
            auto_enabling_integrations=False,
            integrations=[TaskqIntegration()],
        )
        for name in NAMES:
            signal: Signal = getattr(signals, name)
            signal.connect(receiver(name), weak=False)


def receiver(name: str) -> Any:
    """Return a receiver that writes down what it is told."""

    def receive(sender: type, **named: Any) -> None:
        result = named.pop("task_result", None)
        for key in ("signal", "exception"):
            named.pop(key, None)
        leave(
            "signals",
            {"told": name, "sender": sender.__name__, **({"id": result.id} if result is not None else {}), **named},
        )

    return receive
