"""The admin: tasks, failures, queues and workers to look at and to act on, schedules to change.

Imported by Django's ``autodiscover`` alone, so only where ``django.contrib.admin`` is installed.
Classes here translate; what a page costs must not grow with the number of rows.
"""

from .control import PauseRecordAdmin
from .failures import FailureAdmin
from .queues import QueueAdmin
from .schedules import ScheduleRecordAdmin
from .tasks import TaskRecordAdmin
from .workers import WorkerRecordAdmin

__all__ = [
    "FailureAdmin",
    "PauseRecordAdmin",
    "QueueAdmin",
    "ScheduleRecordAdmin",
    "TaskRecordAdmin",
    "WorkerRecordAdmin",
]
