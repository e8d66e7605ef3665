"""What a worker was told on its command line."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.queues import QueueSelection

#: `async def` tasks that run at once in one process; each is an object, not a thread
DEFAULT_COROUTINES = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """A worker's settings.

    ``backends``: aliases of ``TASKS``. ``threads``: slots for ``def`` tasks per process; ``coroutines``: for
    ``async def`` tasks, 0 runs these in thread slots, too. ``strict``: claim no task before a slot is free,
    so that one slot keeps the exact order. ``prefetch``: messages that a broker sends ahead, None: as many as
    can start soon. ``burst``: end when nothing due is left. ``max_tasks``: end after
    that many in all. ``shutdown_timeout``: seconds that running tasks get to end, None: as long as they take.
    ``soft_time_limit``, ``time_limit``: seconds for tasks that have none of their own.
    ``max_tasks_per_child``, ``max_memory_per_child`` (bytes): after which a process is replaced. ``probe_port``: None
    answers no probes, 0 takes any port. ``heartbeat_file``: its age tells whether the worker lives. ``reload``: begin anew when
    files of the code change. ``scheduler``: stand for election as the keeper.
    """

    backends: tuple[str, ...]
    queues: QueueSelection = field(default_factory=QueueSelection)
    processes: int = 1
    threads: int = 1
    coroutines: int = DEFAULT_COROUTINES
    strict: bool = False
    prefetch: int | None = None
    burst: bool = False
    max_tasks: int | None = None
    name: str = ""
    shutdown_timeout: float | None = None
    soft_time_limit: float | None = None
    time_limit: float | None = None
    max_tasks_per_child: int | None = None
    max_memory_per_child: int | None = None
    probe_host: str = "127.0.0.1"
    probe_port: int | None = None
    heartbeat_file: str | None = None
    reload: bool = False
    scheduler: bool = True

    @property
    def slots(self) -> int:
        """Tasks that can run at once in one process."""
        return self.threads + self.coroutines

    @property
    def keeps_house(self) -> bool:
        """Whether it stands for election; who is gone soon does not."""
        return self.scheduler and not self.burst

    @property
    def has_early_successors(self) -> bool:
        """Whether the next process starts while the last one still ends its tasks.

        Not where each process runs one task at a time: there a retiring one has no slot free, and whoever asked for so
        many at once gets no more.
        """
        return self.threads > 1 or self.coroutines > 0
