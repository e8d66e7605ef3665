"""A census of Python source: one task counts one file, one task adds up what the others returned.

`files`, `source`, `summary` and `report` are plain Python without Django or tasks. `tasks` makes tasks of them,
`run` enqueues and drains them, `worker` is the process that does the work, and the command `demo` shows all of it.
"""
