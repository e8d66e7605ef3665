"""The rows, and ways to read them. Nothing here writes: that is ``transitions``' alone."""

from .control import OrderRecord, PauseRecord
from .fields import InstantField, StateIndex
from .keeper import KeeperRecord
from .schedule import ScheduleRecord, TickRecord
from .task import TaskQuerySet, TaskRecord
from .worker import WorkerRecord

__all__ = [
    "InstantField",
    "KeeperRecord",
    "OrderRecord",
    "PauseRecord",
    "ScheduleRecord",
    "StateIndex",
    "TaskQuerySet",
    "TaskRecord",
    "TickRecord",
    "WorkerRecord",
]
