"""All that can be asked of the admin, as data: each page, each action, who may, and what it changes.

What is not in here is found by ``test_admin_permissions``, which goes through the addresses and actions there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.contrib.admin.models import LogEntry
from django.db import transaction
from django.db.models import Model
from django.urls import reverse

from django_taskq import bulk, task
from django_taskq.admin.duplicates import new_seed
from django_taskq.admin.once import moment_of_page
from django_taskq.core.states import State
from django_taskq.database import as_project_time, database_now
from django_taskq.finding.search import Search
from django_taskq.models import OperationRecord, OrderRecord, PauseRecord, ScheduleRecord, TaskRecord, TickRecord
from django_taskq.schedule_control import create_schedule
from django_taskq.schedules.definition import Schedule
from tests.factories import make_tasks, make_worker

#: Sets of permissions: who has all of one of them may.
Rights = tuple[frozenset[str], ...]


@contextmanager
def undone() -> Iterator[None]:
    """As if nothing in here had been."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def address(page: str, row: Any) -> str:
    """Where a page is, of a row if it is one's."""
    is_of_row = row is not None and PAGES[page].make is not None
    return reverse(f"admin:django_taskq_{page}", args=[row.pk] if is_of_row else []) + PAGES[page].query


def any_of(*codenames: str) -> Rights:
    """Each of these alone is enough."""
    return tuple(frozenset({one}) for one in codenames)


def all_of(*codenames: str) -> Rights:
    """These together are needed."""
    return (frozenset(codenames),)


NOBODY: Rights = ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """An address: who may look. ``make``: writes the row that it names. ``query``: what else it has to say, from "?" on."""

    sees: Rights
    make: Callable[[], Model] | None = None
    query: str = ""


@dataclass(frozen=True, kw_only=True)
class Deed:
    """Something that changes rows: a POST to ``page``. ``data``: what a browser sends, from the row.

    ``changes``: the models in which rows are added, changed or deleted; ``effect``: what is so afterwards, and stays so
    when the same is asked for twice.
    """

    page: str
    rights: Rights
    make: Callable[[], Any]
    data: Callable[[Any], Mapping[str, Any]]
    effect: Callable[[], bool]
    changes: frozenset[type[Model]]


@task
def clean(days: int = 1) -> None:
    """A task for a schedule."""


def make_schedule(**changes: Any) -> ScheduleRecord:
    """Write a schedule."""
    given = {"name": "nightly", "task": f"{__name__}.clean", "kind": "cron", "expression": "0 3 * * *"}
    return create_schedule(Schedule(**{**given, **changes}))


def make_pause() -> PauseRecord:
    """Write a pause."""
    return PauseRecord.objects.create(kind="queue", name="mail", paused_at=as_project_time(database_now("default")))


def make_failed() -> TaskRecord:
    """Write a task that has failed."""
    return make_tasks(state=State.FAILED)[0]


def make_copied() -> TaskRecord:
    """Write a task that can be enqueued once more."""
    return make_tasks(state=State.FAILED, name=f"{__name__}.clean")[0]


def make_operation() -> OperationRecord:
    """Ask for all failed tasks to run again."""
    return bulk.ask("default", "retry", Search(state="FAILED"), token="a" * 32, by="ann")[0]


def form_of_schedule(record: ScheduleRecord | None) -> dict[str, str]:
    """What a browser sends of a filled in form."""
    return {
        "name": "hourly",
        "description": "",
        "enabled": "on",
        "kind": "cron",
        "expression": "0 * * * *",
        "timezone": "UTC",
        "latitude": "",
        "longitude": "",
        "start_at_0": "",
        "start_at_1": "",
        "end_at_0": "",
        "end_at_1": "",
        "jitter": "0",
        "task": f"{__name__}.clean",
        "args": "[]",
        "kwargs": "{}",
        "backend": "default",
        "queue_name": "",
        "priority": "",
        "expires": "",
        "missed": "last",
        "window": "86400",
        "overlap": "allow",
        **({"read_version": str(record.version)} if record is not None else {}),
    }


def states() -> list[str]:
    """The states of all tasks."""
    return sorted(TaskRecord.objects.values_list("state", flat=True))


def _tasks() -> dict[str, Page]:
    sees = all_of("view_taskrecord")
    return {
        "taskrecord_changelist": Page(sees=sees),
        "taskrecord_add": Page(sees=NOBODY),
        "taskrecord_change": Page(sees=sees, make=make_failed),
        "taskrecord_history": Page(sees=sees, make=make_failed),
        "taskrecord_delete": Page(sees=NOBODY, make=make_failed),
        "taskrecord_duplicate": Page(sees=all_of("view_taskrecord", "operate_tasks"), make=make_copied),
        "failurerecord_changelist": Page(sees=sees),
    }


def _operations() -> dict[str, Page]:
    sees = any_of("view_operationrecord", "operate_tasks", "delete_tasks")
    return {
        "operationrecord_changelist": Page(sees=sees),
        "operationrecord_add": Page(sees=NOBODY),
        "operationrecord_change": Page(sees=sees, make=make_operation),
        "operationrecord_history": Page(sees=sees, make=make_operation),
        "operationrecord_delete": Page(sees=NOBODY, make=make_operation),
        # By POST alone.
        "operationrecord_abort": Page(sees=NOBODY, make=make_operation),
    }


def _workers() -> dict[str, Page]:
    sees = all_of("view_workerrecord")
    return {
        "workerrecord_changelist": Page(sees=sees),
        "workerrecord_add": Page(sees=NOBODY),
        "workerrecord_change": Page(sees=sees, make=make_worker),
        "workerrecord_history": Page(sees=sees, make=make_worker),
        "workerrecord_delete": Page(sees=NOBODY, make=make_worker),
        "workerrecord_stacks": Page(
            sees=all_of("view_workerrecord", "control_workers", "view_payload"), make=make_worker
        ),
    }


def _pauses() -> dict[str, Page]:
    sees = all_of("view_pauserecord")
    return {
        "pauserecord_changelist": Page(sees=sees),
        "pauserecord_add": Page(sees=all_of("control_queues")),
        "pauserecord_change": Page(sees=sees, make=make_pause),
        "pauserecord_history": Page(sees=sees, make=make_pause),
        "pauserecord_delete": Page(sees=all_of("control_queues"), make=make_pause),
    }


def _queues() -> dict[str, Page]:
    return {
        "queuerecord_changelist": Page(sees=all_of("view_taskrecord")),
        "queuerecord_purge": Page(
            sees=all_of("view_taskrecord", "control_queues"), query="?queue=mail&backend=default"
        ),
    }


def _schedules() -> dict[str, Page]:
    sees = any_of("view_schedulerecord", "change_schedules")
    return {
        "schedulerecord_changelist": Page(sees=sees),
        "schedulerecord_add": Page(sees=all_of("change_schedules")),
        "schedulerecord_change": Page(sees=sees, make=make_schedule),
        "schedulerecord_history": Page(sees=sees, make=make_schedule),
        "schedulerecord_delete": Page(sees=all_of("change_schedules"), make=make_schedule),
        # By POST alone.
        **{f"schedulerecord_{verb}": Page(sees=NOBODY, make=make_schedule) for verb in ("run", "enable", "disable")},
        "schedulerecord_preview": Page(sees=NOBODY),
    }


#: address, without "admin:django_taskq_" -> page
PAGES: dict[str, Page] = {
    "dashboardrecord_changelist": Page(sees=all_of("view_dashboard")),
    **_tasks(),
    **_operations(),
    **_workers(),
    **_pauses(),
    **_queues(),
    **_schedules(),
}


def _chosen(action: str, **more: str) -> Callable[[Model], Mapping[str, Any]]:
    """What a list sends when an action is chosen for one row."""
    return lambda row: {"action": action, "_selected_action": str(row.pk), "index": "0", **more}


@dataclass(frozen=True, kw_only=True)
class _OnTasks:
    rights: Rights = field(default_factory=lambda: all_of("view_taskrecord", "operate_tasks"))

    def __call__(self, action: str, before: State, after: list[str], **more: str) -> Deed:
        return Deed(
            page="taskrecord_changelist",
            rights=self.rights,
            make=lambda: make_tasks(state=before)[0],
            data=_chosen(action, **more),
            effect=lambda: states() == after,
            changes=frozenset({TaskRecord, LogEntry}),
        )


def _twins() -> TaskRecord:
    make_copied()
    return make_copied()


def _all_chosen(row: Any) -> Mapping[str, Any]:
    chosen = [str(pk) for pk in TaskRecord.objects.values_list("pk", flat=True)]
    return {
        "action": "duplicate_tasks",
        "_selected_action": chosen,
        "index": "0",
        "post": "yes",
        "seed": new_seed(),
    }


def _operation_is(state: str) -> Callable[[], bool]:
    return lambda: list(OperationRecord.objects.values_list("state", flat=True)) == [state]


def _on_workers(action: str, verb: str) -> Deed:
    return Deed(
        page="workerrecord_changelist",
        rights=all_of("view_workerrecord", "control_workers"),
        make=make_worker,
        data=_chosen(action),
        # A worker that is told twice does it once.
        effect=lambda: set(OrderRecord.objects.values_list("verb", flat=True)) == {verb},
        changes=frozenset({OrderRecord, LogEntry}),
    )


def _on_schedules(
    page: str, data: Callable[[Any], Mapping[str, Any]], effect: Callable[[], bool], *models: type[Model], **given: Any
) -> Deed:
    return Deed(
        page=page,
        rights=all_of("change_schedules"),
        make=lambda: make_schedule(**given),
        data=data,
        effect=effect,
        changes=frozenset({ScheduleRecord, LogEntry, *models}),
    )


def _no_data(row: Any) -> Mapping[str, Any]:
    return {}


def _asked(row: Any) -> Mapping[str, Any]:
    return {"asked_at": moment_of_page()}


def _schedules_are(*wanted: tuple[str, bool]) -> Callable[[], bool]:
    return lambda: {(one.name, one.is_enabled) for one in ScheduleRecord.objects.all()} == set(wanted)


def _paused(*names: str) -> bool:
    return sorted(PauseRecord.objects.values_list("name", flat=True)) == sorted(names)


def _on_queues(page: str, data: Mapping[str, Any], effect: Callable[[], bool], model: type[Model], make: Any) -> Deed:
    return Deed(
        page=page,
        rights=all_of("view_taskrecord", "control_queues"),
        make=make,
        data=lambda row: data,
        effect=effect,
        changes=frozenset({model, LogEntry}),
    )


_on_tasks = _OnTasks()

#: name -> what can be done. Of an action: the model, a dot, its name.
DEEDS: dict[str, Deed] = {
    "taskrecord.retry_tasks": _on_tasks("retry_tasks", State.FAILED, ["READY"]),
    "taskrecord.run_tasks_now": _on_tasks("run_tasks_now", State.SCHEDULED, ["READY"]),
    "taskrecord.cancel_tasks": _on_tasks("cancel_tasks", State.READY, ["CANCELLED"]),
    "taskrecord.requeue_tasks": _on_tasks(
        "requeue_tasks", State.SCHEDULED, ["READY"], post="yes", queue="slow", priority=""
    ),
    "taskrecord.discard_tasks": _on_tasks("discard_tasks", State.FAILED, [], post="yes"),
    "taskrecord.delete_tasks": _OnTasks(rights=all_of("view_taskrecord", "delete_tasks"))(
        "delete_tasks", State.SUCCESSFUL, [], post="yes"
    ),
    "taskrecord.duplicate_tasks": Deed(
        page="taskrecord_changelist",
        rights=all_of("view_taskrecord", "operate_tasks"),
        make=_twins,
        data=_all_chosen,
        effect=lambda: states() == ["FAILED", "FAILED", "READY", "READY"],
        changes=frozenset({TaskRecord, LogEntry}),
    ),
    "tasks: duplicate": Deed(
        page="taskrecord_duplicate",
        rights=all_of("view_taskrecord", "operate_tasks"),
        make=make_copied,
        data=lambda row: {"queue": "default", "priority": "0", "seed": new_seed()},
        effect=lambda: states() == ["FAILED", "READY"],
        changes=frozenset({TaskRecord, LogEntry}),
    ),
    "tasks: retry all that match": Deed(
        page="taskrecord_changelist",
        rights=all_of("view_taskrecord", "operate_tasks"),
        make=make_failed,
        data=lambda row: {
            "action": "retry_tasks",
            "index": "0",
            "taskq_all": "1",
            "post": "yes",
            "token": "a" * 32,
        },
        effect=_operation_is("WAITING"),
        changes=frozenset({OperationRecord, LogEntry}),
    ),
    "operations: abort": Deed(
        page="operationrecord_abort",
        rights=all_of("operate_tasks"),
        make=make_operation,
        data=_no_data,
        effect=_operation_is("ABORTED"),
        changes=frozenset({OperationRecord, LogEntry}),
    ),
    "failures: discard": Deed(
        page="failurerecord_changelist",
        rights=all_of("view_taskrecord", "operate_tasks"),
        make=make_failed,
        data=lambda row: {"group": row.fingerprint, "verb": "discard", "post": "yes"},
        effect=lambda: states() == [],
        changes=frozenset({TaskRecord, LogEntry}),
    ),
    "workers: stacks": Deed(
        page="workerrecord_stacks",
        rights=all_of("view_workerrecord", "control_workers", "view_payload"),
        make=make_worker,
        data=_no_data,
        effect=lambda: set(OrderRecord.objects.values_list("verb", flat=True)) == {"ping", "stacks"},
        changes=frozenset({OrderRecord, LogEntry}),
    ),
    "failures: retry": Deed(
        page="failurerecord_changelist",
        rights=all_of("view_taskrecord", "operate_tasks"),
        make=make_failed,
        data=lambda row: {"group": row.fingerprint},
        effect=lambda: states() == ["READY"],
        changes=frozenset({TaskRecord, LogEntry}),
    ),
    "workerrecord.drain_workers": _on_workers("drain_workers", "drain"),
    "workerrecord.resume_workers": _on_workers("resume_workers", "resume"),
    "workerrecord.stop_workers": _on_workers("stop_workers", "stop"),
    "pauses: add": Deed(
        page="pauserecord_add",
        rights=all_of("control_queues"),
        make=lambda: None,
        data=lambda row: {"kind": "queue", "name": "slow"},
        effect=lambda: _paused("slow"),
        changes=frozenset({PauseRecord, LogEntry}),
    ),
    "pauses: delete": Deed(
        page="pauserecord_delete",
        rights=all_of("control_queues"),
        make=make_pause,
        data=lambda row: {"post": "yes"},
        effect=_paused,
        changes=frozenset({PauseRecord, LogEntry}),
    ),
    "queues: pause": _on_queues(
        "queuerecord_changelist",
        {"verb": "pause", "name": "slow"},
        lambda: _paused("slow"),
        PauseRecord,
        lambda: None,
    ),
    "queues: resume": _on_queues(
        "queuerecord_changelist", {"verb": "resume", "name": "mail"}, _paused, PauseRecord, make_pause
    ),
    "queues: purge": _on_queues(
        "queuerecord_purge",
        {"queue": "mail", "backend": "default", "typed": "mail"},
        lambda: not TaskRecord.objects.exists(),
        TaskRecord,
        lambda: make_tasks(state=State.READY, queue_name="mail")[0],
    ),
    "schedules: add": Deed(
        page="schedulerecord_add",
        rights=all_of("change_schedules"),
        make=lambda: None,
        data=lambda row: form_of_schedule(None),
        effect=_schedules_are(("hourly", True)),
        changes=frozenset({ScheduleRecord, LogEntry}),
    ),
    "schedules: change": _on_schedules("schedulerecord_change", form_of_schedule, _schedules_are(("hourly", True))),
    "schedules: delete": _on_schedules("schedulerecord_delete", lambda row: {"post": "yes"}, _schedules_are()),
    "schedules: enable": _on_schedules(
        "schedulerecord_enable", _no_data, _schedules_are(("nightly", True)), enabled=False
    ),
    "schedules: disable": _on_schedules("schedulerecord_disable", _no_data, _schedules_are(("nightly", False))),
    "schedules: run": _on_schedules(
        "schedulerecord_run", _asked, lambda: states() == ["READY"], TaskRecord, TickRecord
    ),
    "schedulerecord.enable": _on_schedules(
        "schedulerecord_changelist", _chosen("enable"), _schedules_are(("nightly", True)), enabled=False
    ),
    "schedulerecord.disable": _on_schedules(
        "schedulerecord_changelist", _chosen("disable"), _schedules_are(("nightly", False))
    ),
    "schedulerecord.run_now": _on_schedules(
        "schedulerecord_changelist",
        lambda row: {**_chosen("run_now")(row), **_asked(row)},
        lambda: states() == ["READY"],
        TaskRecord,
        TickRecord,
    ),
}
