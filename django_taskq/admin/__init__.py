"""The admin: tasks and workers to look at, and what people do to them.

Imported by Django's ``autodiscover`` alone, so only where ``django.contrib.admin`` is installed.
Classes here translate; what a page costs must not grow with the number of rows.
"""

from .control import PauseRecordAdmin
from .tasks import TaskRecordAdmin
from .workers import WorkerRecordAdmin

__all__ = ["PauseRecordAdmin", "TaskRecordAdmin", "WorkerRecordAdmin"]
