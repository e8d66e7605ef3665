"""What happens to tasks and workers, beyond ``task_enqueued``, ``task_started`` and ``task_finished`` of ``django.tasks``.

Signals about tasks have ``task_result``, and as their sender the backend's class, as upstream's do. What a receiver raises
is logged and disturbs nobody.
"""

from __future__ import annotations

from django.dispatch import Signal

__all__ = ["task_cancelled", "task_lost", "task_retrying", "worker_ready", "worker_stopping"]

#: An attempt failed and another follows. ``task_result``, ``exception``, ``delay`` (seconds). In the slot, where the
#: exception is active; the end of the attempt is not written yet.
task_retrying = Signal()

#: A task was stopped by somebody. ``task_result``. For one that waited, where it was cancelled, after the commit;
#: for one that ran, in its slot, after ``task_finished``.
task_cancelled = Signal()

#: A worker was lost while it ran the task. ``task_result`` as it is now, ``worker_id``, ``runs_again``. In a thread of the
#: worker process that took the task back.
task_lost = Signal()

#: A worker process begins to look for tasks. ``worker_id``, ``name``, ``queues`` (as given), ``backends`` (aliases).
#: In a thread of its own.
worker_ready = Signal()

#: A worker process starts no task any more; those that run may still end. As above.
worker_stopping = Signal()
