"""The admin: tasks and workers to look at, schedules to change.

Imported by Django's ``autodiscover`` alone, so only where ``django.contrib.admin`` is installed.
Classes here translate; what a page costs must not grow with the number of rows.
"""

from .control import PauseRecordAdmin
from .schedules import ScheduleRecordAdmin
from .tasks import TaskRecordAdmin
from .workers import WorkerRecordAdmin

__all__ = ["PauseRecordAdmin", "ScheduleRecordAdmin", "TaskRecordAdmin", "WorkerRecordAdmin"]
