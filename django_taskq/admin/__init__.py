"""The admin: tasks, failures, operations, queues and workers to look at and to act on, schedules to change.

Imported by Django's ``autodiscover`` alone, so only where ``django.contrib.admin`` is installed.
Classes here translate; what a page costs must not grow with the number of rows.
"""

from django.contrib.admin import AdminSite, ModelAdmin
from django.db.models import Model

from ..models import (
    DashboardRecord,
    FailureRecord,
    OperationRecord,
    PauseRecord,
    QueueRecord,
    ScheduleRecord,
    TaskRecord,
    WorkerRecord,
)
from .control import PauseRecordAdmin
from .dashboard import DashboardAdmin
from .failures import FailureAdmin
from .operations import OperationRecordAdmin
from .queues import QueueAdmin
from .schedules import ScheduleRecordAdmin
from .tasks import TaskRecordAdmin
from .workers import WorkerRecordAdmin

__all__ = [
    "DashboardAdmin",
    "FailureAdmin",
    "OperationRecordAdmin",
    "PauseRecordAdmin",
    "QueueAdmin",
    "ScheduleRecordAdmin",
    "TaskRecordAdmin",
    "WorkerRecordAdmin",
    "register",
]

#: all pages there are
_PAGES: dict[type[Model], type[ModelAdmin]] = {  # type: ignore[type-arg]  # generic only in the stubs
    DashboardRecord: DashboardAdmin,
    FailureRecord: FailureAdmin,
    OperationRecord: OperationRecordAdmin,
    PauseRecord: PauseRecordAdmin,
    QueueRecord: QueueAdmin,
    ScheduleRecord: ScheduleRecordAdmin,
    TaskRecord: TaskRecordAdmin,
    WorkerRecord: WorkerRecordAdmin,
}


def register(site: AdminSite) -> None:
    """Have all pages on another site, too. ``admin.site`` has them, whichever class ``default_site`` names."""
    for model, page in _PAGES.items():
        if not site.is_registered(model):
            site.register(model, page)
