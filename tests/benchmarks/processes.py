"""What processes use, as the kernel counts it. Linux only, standard library only."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """Return the process and all its living descendants, itself first."""
    found = [pid]
    for one in found:
        # A list that grows while it is walked: children of children come later.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time of the processes, of all their threads, also of those that have ended; to the nanosecond.

    Counters in /proc are in hundredths of a second, which is much for a process that does nothing.
    """
    # What clock_getcpuclockid(3) gives: the kernel's CPUCLOCK_SCHED of a process (include/linux/posix-timers.h).
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def server_cpu_seconds(pid: int) -> float:
    """Return the CPU time of a server: its processes that live, and those that it had and has buried."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    # proc(5): fields 16 and 17, time of children waited for; the first two went with the command's name.
    buried = (int(fields[13]) + int(fields[14])) / _TICK
    living = 0.0
    for one in family(pid):
        # Ended since the list was made: the next reading has it among the buried.
        with contextlib.suppress(OSError):
            living += cpu_seconds([one])
    return buried + living


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes: the proportional share of all pages, and of those that no file backs."""

    pss: int
    anonymous: int


def memory(pids: Iterable[int]) -> Memory:
    """Return the memory of the processes; pages they share among themselves count once."""
    sums = {"Pss:": 0, "Pss_Anon:": 0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, *rest = line.split()
            if name in sums:
                sums[name] += int(rest[0]) * 1024
    return Memory(pss=sums["Pss:"], anonymous=sums["Pss_Anon:"])


def machine_busy_seconds() -> float:
    """Return the CPU time of everything on this machine since it was started."""
    user, nice, system, _idle, _waiting, irq, softirq = Path("/proc/stat").read_text().split()[1:8]
    return sum(map(int, (user, nice, system, irq, softirq))) / _TICK


def machine_cores() -> int:
    """Return the cores that `machine_busy_seconds` counts."""
    return sum(line.startswith("cpu") for line in Path("/proc/stat").read_text().splitlines()) - 1
