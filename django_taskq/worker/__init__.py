"""``runworker``: a supervisor, its worker processes, and in each one I/O thread and slots that run tasks.

``supervisor`` forks and watches; ``process`` is one worker process; ``flow`` decides how much to claim;
``slots`` run tasks through ``runner``; ``cleanup`` leaves a slot as a task found it. Rows are written by
``transitions`` alone.
"""
