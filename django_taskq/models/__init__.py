"""The rows, and ways to read them. Nothing here writes: that is ``transitions``' alone."""

from .control import OrderRecord, PauseRecord
from .failure import FailureRecord
from .fields import InstantField, StateIndex
from .keeper import KeeperRecord
from .queue import QueueRecord
from .schedule import ScheduleRecord, TickRecord
from .statistics import StatisticsRecord
from .task import TaskQuerySet, TaskRecord
from .worker import WorkerRecord

__all__ = [
    "FailureRecord",
    "InstantField",
    "KeeperRecord",
    "OrderRecord",
    "PauseRecord",
    "QueueRecord",
    "ScheduleRecord",
    "StateIndex",
    "StatisticsRecord",
    "TaskQuerySet",
    "TaskRecord",
    "TickRecord",
    "WorkerRecord",
]
