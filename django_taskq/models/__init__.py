"""The rows, and ways to read them. Nothing here writes: that is ``transitions``' alone."""

from .control import OrderRecord, PauseRecord
from .dashboard import DashboardRecord
from .failure import FailureRecord
from .fields import InstantField, StateIndex
from .keeper import KeeperRecord
from .operation import OperationRecord
from .queue import QueueRecord
from .schedule import ScheduleRecord, TickRecord
from .statistics import StatisticsRecord
from .task import TaskQuerySet, TaskRecord
from .worker import WorkerRecord

__all__ = [
    "DashboardRecord",
    "FailureRecord",
    "InstantField",
    "KeeperRecord",
    "OperationRecord",
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
