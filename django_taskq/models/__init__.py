"""The rows, and ways to read them. Nothing here writes: that is ``transitions``' alone."""

from .fields import InstantField, StateIndex
from .keeper import KeeperRecord
from .task import TaskQuerySet, TaskRecord
from .worker import WorkerRecord

__all__ = ["InstantField", "KeeperRecord", "StateIndex", "TaskQuerySet", "TaskRecord", "WorkerRecord"]
