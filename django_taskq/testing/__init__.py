"""For tests of projects that use tasks: run what is due, here and now, and move schedules forward."""

from .runner import run_tasks
from .schedules import Run, ScheduleClock, schedule_clock

__all__ = ["Run", "ScheduleClock", "run_tasks", "schedule_clock"]
