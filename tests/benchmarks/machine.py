"""What the figures depend on and the queue cannot help: the machine, its disk, its other users."""

from __future__ import annotations

import os
import platform
import resource
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.benchmarks.figures import median
from tests.benchmarks.processes import machine_busy_seconds, machine_cores, server_cpu_seconds

#: File systems on which a commit costs nothing, because nothing would outlive a power cut.
_VOLATILE = frozenset({"tmpfs", "ramfs"})


def facts(directory: Path) -> dict[str, str | int | float]:
    """Return the machine's; `directory` is where the databases are."""
    found: dict[str, str | int | float] = {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _first("/proc/cpuinfo", "model name") or platform.machine(),
        "memory": _first("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "file system": file_system(directory),
        "fdatasync (median, µs)": round(_sync_microseconds(directory)),
        "load average": os.getloadavg()[0],
    }
    return found


def file_system(path: Path) -> str:
    """Return the type of the file system that holds the path."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = {str(parent) for parent in (path.resolve(), *path.resolve().parents)}
    # The longest mount point that is above it; of two at one place the later one covers the other.
    return max((len(point), index, kind) for index, (point, kind) in enumerate(mounts) if point in above)[2]


def is_volatile(path: Path) -> bool:
    """Tell whether commits below the path are free of cost, and worth nothing."""
    return file_system(path) in _VOLATILE


def _first(file: str, name: str) -> str:
    lines = (line.partition(":") for line in Path(file).read_text().splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "")


def _sync_microseconds(directory: Path) -> float:
    """Return what every durable commit costs at least."""
    times = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(100):
            started = time.perf_counter()
            os.write(file.fileno(), b"x" * 4096)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return median(times) * 1e6


@dataclass(frozen=True, kw_only=True)
class Meter:
    """The CPU time of all and of ours, at one moment."""

    at: float
    all: float
    ours: float

    @classmethod
    def read(cls, servers: Iterable[int]) -> Self:
        """``ours``: of this process, of the children it has waited for, and of the servers."""
        own = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        ours = sum(usage.ru_utime + usage.ru_stime for usage in own)
        return cls(
            at=time.monotonic(),
            all=machine_busy_seconds(),
            ours=ours + sum(map(server_cpu_seconds, servers)),
        )

    def others_since(self, before: Self) -> float:
        """Return the share of the machine's CPU that other programs used since an earlier reading, 0 to 1."""
        others = (self.all - before.all) - (self.ours - before.ours)
        return max(others, 0.0) / ((self.at - before.at) * machine_cores())
