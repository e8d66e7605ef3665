"""For tests of projects that use tasks: run what is due, here and now, through the real path."""

from .runner import run_tasks

__all__ = ["run_tasks"]
