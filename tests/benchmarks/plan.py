"""What the measuring processes are told, in a file: they share no memory with the program that starts them."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

#: Names the file.
VARIABLE = "TASKQ_BENCHMARK"
#: Tasks before a measurement, for what happens once: connections, plans, imports.
WARM_UP = 100


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much of what, and where.

    ``database``: an entry of Django's DATABASES. ``server``: pid of its main process, 0 without one. ``broker``: URL,
    and ``broker_server`` the pid behind it, 0 without one. ``package``: the directory that ``django_taskq`` must come
    from. ``idle``: seconds.
    """

    database: dict[str, Any]
    server: int
    package: str
    directory: str
    broker: str
    broker_server: int
    confirm: bool
    results: str
    tasks: int
    processes: int
    worker_options: list[str]
    round_trips: int
    rested_round_trips: int
    in_flight: int
    in_flight_tasks: int
    idle: float
    history: int

    @property
    def has_messages(self) -> bool:
        """Whether there is a message broker."""
        return not self.broker.startswith("database:")

    def divided(self, divisor: int) -> Self:
        """Return the same with so many times fewer tasks where many are under way, and at least one for each."""
        return replace(
            self,
            tasks=max(self.tasks // divisor, 1),
            in_flight_tasks=max(self.in_flight_tasks // divisor, self.in_flight),
        )

    def save(self, file: Path) -> None:
        """Write the plan where `load` finds it, given the file's name in the environment."""
        file.touch(mode=0o600)
        file.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls) -> Self:
        """Return the plan of this process."""
        return cls(**json.loads(Path(os.environ[VARIABLE]).read_text()))
