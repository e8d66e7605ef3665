"""The rows, and ways to read them. Nothing here writes: that is ``transitions``' alone."""

from .control import OrderRecord, PauseRecord
from .failure import FailureRecord
from .fields import InstantField, StateIndex
from .keeper import KeeperRecord
from .operation import OperationRecord
from .schedule import ScheduleRecord, TickRecord
from .task import TaskQuerySet, TaskRecord
from .worker import WorkerRecord

__all__ = [
    "FailureRecord",
    "InstantField",
    "KeeperRecord",
    "OperationRecord",
    "OrderRecord",
    "PauseRecord",
    "ScheduleRecord",
    "StateIndex",
    "TaskQuerySet",
    "TaskRecord",
    "TickRecord",
    "WorkerRecord",
]
