"""Sentry: what fails for good, with its task, in the trace of whoever enqueued it.

::

    sentry_sdk.init(dsn=…, integrations=[TaskqIntegration()])

Tags ``task``, ``queue`` and ``attempt``, and a context ``django_taskq`` with the id. Arguments only with
``send_default_pii=True`` or ``data_collection={"queues": True}``, and never those that the task calls sensitive, or that
Django hides by their names: of a task with sensitive ones no local variables are sent, either.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sentry_sdk
from sentry_sdk.integrations import Integration
from sentry_sdk.integrations.logging import ignore_logger
from sentry_sdk.scope import should_send_default_pii
from sentry_sdk.utils import event_from_exception

from .. import registry
from ..core import codec
from ..core.states import State
from ..current import Running
from ..hiding import seen_arguments
from ..instrument import Sending, watch
from ..signals import task_lost

__all__ = ["TaskqIntegration"]

_ORIGIN = "auto.queue.django_taskq"
#: They tell of each failure, in the same process: one event is enough.
_LOGGERS = ("django_taskq.task", "django.tasks", "django_tasks")


class TaskqIntegration(Integration):
    """Goes into ``sentry_sdk.init(integrations=[…])``.

    ``report_retries``: send also errors after which the task runs again.
    """

    identifier = "django_taskq"
    origin = _ORIGIN

    def __init__(self, *, report_retries: bool = False) -> None:
        self.report_retries = report_retries

    @staticmethod
    def setup_once() -> None:
        """Once per process, however often Sentry is initialised."""
        for name in _LOGGERS:
            ignore_logger(name)
        watch(_Watcher())
        task_lost.connect(_lost, dispatch_uid="django_taskq.sentry")


class _Watcher:
    """See ``instrument.Watcher``."""

    @contextmanager
    def sending(self, sending: Sending) -> Iterator[None]:
        """A span around the write, whose place in its trace goes into the headers."""
        if _integration() is None:
            yield
            return
        with sentry_sdk.start_span(op="queue.publish", name=sending.name, origin=_ORIGIN) as span:
            span.set_data("messaging.system", "django_taskq")
            span.set_data("messaging.destination.name", sending.queue_name)
            if len(sending.ids) == 1:
                span.set_data("messaging.message.id", sending.ids[0])
            _carry(sending.headers, sentry_sdk.get_traceparent(), sentry_sdk.get_baggage())
            yield

    @contextmanager
    def running(self, running: Running) -> Iterator[None]:
        """A transaction around the attempt; what it failed with is an event."""
        integration = _integration()
        if integration is None:
            yield
            return
        message = running.message
        headers = codec.decode(message.headers) if message.headers else {}
        with sentry_sdk.isolation_scope() as scope:
            scope.clear_breadcrumbs()
            scope.set_tag("task", message.name)
            scope.set_tag("queue", message.queue_name)
            scope.set_tag("attempt", message.attempt)
            scope.set_tag("task_id", message.id)
            scope.add_event_processor(lambda event, hint: _describe(running, event))
            transaction = sentry_sdk.continue_trace(
                headers if isinstance(headers, dict) else {},
                op="queue.task.django_taskq",
                name=message.name,
                source="task",
                origin=_ORIGIN,
            )
            with (
                sentry_sdk.start_transaction(transaction),
                sentry_sdk.start_span(op="queue.process", name=message.name, origin=_ORIGIN) as span,
            ):
                waited = message.last_attempted_at - (message.run_after or message.enqueued_at)
                span.set_data("messaging.system", "django_taskq")
                span.set_data("messaging.destination.name", message.queue_name)
                span.set_data("messaging.message.id", message.id)
                span.set_data("messaging.message.retry.count", message.attempt - 1)
                span.set_data("messaging.message.receive.latency", max(waited.total_seconds(), 0.0) * 1_000)
                yield
                status = _status(running)
                span.set_status(status)
                transaction.set_status(status)
                if status == "internal_error" or (status == "aborted" and integration.report_retries):
                    _capture(running)

    def flush(self, seconds: float) -> None:
        """Send what waits."""
        sentry_sdk.flush(seconds)


def _integration() -> TaskqIntegration | None:
    integration: TaskqIntegration | None = sentry_sdk.get_client().get_integration(TaskqIntegration)
    return integration


def _carry(headers: dict[str, str], traceparent: str | None, baggage: str | None) -> None:
    if traceparent:
        headers["sentry-trace"] = traceparent
    if baggage:
        # What OpenTelemetry has put there stays (W3C Baggage: members are separated by commas).
        headers["baggage"] = ",".join(filter(None, (baggage, headers.get("baggage"))))


def _status(running: Running) -> str:
    """In Sentry's words (develop.sentry.dev, "Span Operations and Status")."""
    outcome, result = running.outcome, running.task_result
    state = getattr(result, "state", None)
    if outcome is None or outcome.is_unstarted or state is State.CANCELLED or outcome.state is State.CANCELLED:
        return "cancelled"
    if outcome.is_retry:
        return "aborted"
    return "internal_error" if outcome.state is State.FAILED else "ok"


def _capture(running: Running) -> None:
    if running.exception is not None:
        event, hint = event_from_exception(
            running.exception,
            client_options=sentry_sdk.get_client().options,
            mechanism={"type": "django_taskq", "handled": False},
        )
        sentry_sdk.capture_event(event, hint=hint)
    elif running.outcome is not None and running.outcome.error is not None:
        # It could not even start.
        error = running.outcome.error
        sentry_sdk.capture_message(f"{error.exception_class_path}: {error.message}", level="error")


def _describe(running: Running, event: Any) -> Any:
    """An event processor of Sentry's: what it says goes with each event and transaction of the attempt."""
    message, result = running.message, running.task_result
    described: dict[str, object] = {
        "task": message.name,
        "task_id": message.id,
        "queue": message.queue_name,
        "backend": message.backend,
        "attempt": message.attempt,
    }
    names = running.sensitive
    if result is not None and _wants_arguments():
        parameters = list(registry.signature(result.task.func).parameters.values())
        skipped = 1 if result.task.takes_context else 0
        described["args"], described["kwargs"] = seen_arguments(result.args, result.kwargs, names, parameters[skipped:])
    if names:
        for value in (event.get("exception") or {}).get("values") or ():
            for frame in (value.get("stacktrace") or {}).get("frames") or ():
                frame.pop("vars", None)
    event.setdefault("contexts", {})["django_taskq"] = described
    return event


def _wants_arguments() -> bool:
    """What the project said: with ``data_collection`` (SDK 2.60 or so), else with ``send_default_pii``."""
    collection = sentry_sdk.get_client().options.get("data_collection")
    if isinstance(collection, dict) and collection.get("provided_by_user"):
        return bool(collection.get("queues"))
    return should_send_default_pii()


def _lost(task_result: Any, worker_id: str, runs_again: bool, **kwargs: object) -> None:
    """A receiver of ``task_lost``: the end of a task that nobody else could tell of."""
    if runs_again or _integration() is None:
        return
    with sentry_sdk.isolation_scope() as scope:
        scope.set_tag("task", task_result.task.registered_name)
        scope.set_tag("task_id", task_result.id)
        sentry_sdk.capture_message(f"Worker {worker_id} was lost while it ran this task, which ends.", level="error")
