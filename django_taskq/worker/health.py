"""Whether a worker lives, and whether it works, judged by the pulses of its processes.

Live: each process has turned a short while ago. Ready: each has its databases and its brokers. What waits
for a broker or a database is not ready, but lives: to kill it would not bring them back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .pulse import Vital
from .recycle import resident_in

#: seconds that a process without a database may be silent: connecting to one that does not answer takes minutes
CONNECTING = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A worker at one moment, as its supervisor sees it.

    ``stale_after``: seconds after which a process is silent. ``ends``: how processes have ended, by cause.
    """

    processes: int
    vitals: Collection[Vital]
    stale_after: float
    is_quiet: bool = False
    is_stopping: bool = False
    ends: Mapping[str, int] = field(default_factory=dict)

    def reasons_not_live(self) -> list[str]:
        """Empty when it lives."""
        return [
            f"process {vital.index} (pid {vital.pid}) has been silent for {vital.age:.0f} s"
            for vital in self.vitals
            if vital.age > (self.stale_after if vital.has_database else max(self.stale_after, CONNECTING))
        ]

    def reasons_not_ready(self) -> list[str]:
        """Empty when it takes tasks."""
        if self.is_stopping:
            return ["the worker is stopping"]
        reasons = self.reasons_not_live()
        if self.is_quiet:
            reasons.append("the worker was told to start nothing")
        by_index: dict[int, list[Vital]] = {index: [] for index in range(self.processes)}
        for vital in self.vitals:
            by_index.setdefault(vital.index, []).append(vital)
        for index, vitals in by_index.items():
            # One that retires stands in for its successor, which is on its way.
            if not any(vital.has_database and vital.has_brokers for vital in vitals):
                reasons.append(f"process {index} {_lack(vitals)}")
        return reasons


def _lack(vitals: Collection[Vital]) -> str:
    if not vitals:
        return "is not there"
    if any(vital.has_database for vital in vitals):
        return "waits for its broker"
    return "waits for its database"


def metrics(picture: Picture) -> str:
    """What the supervisor knows, in Prometheus's text format (version 0.0.4)."""
    now = [(vital, _memory(vital.pid)) for vital in picture.vitals]
    families: list[tuple[str, str, str, Iterable[tuple[str, float]]]] = [
        ("live", "gauge", "1 while every process turns.", [("", not picture.reasons_not_live())]),
        ("ready", "gauge", "1 while every process takes tasks.", [("", not picture.reasons_not_ready())]),
        ("processes_wanted", "gauge", "Processes there should be.", [("", picture.processes)]),
        ("processes", "gauge", "Processes there are, those that retire included.", [("", len(picture.vitals))]),
        (
            "process_ends_total",
            "counter",
            "Processes that ended and were replaced, by cause.",
            [(f'{{cause="{cause}"}}', count) for cause, count in sorted(picture.ends.items())],
        ),
        (
            "process_silence_seconds",
            "gauge",
            "Seconds since a process last turned.",
            [(_labels(vital), round(vital.age, 3)) for vital, _ in now],
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Memory of a process.",
            [(_labels(vital), memory) for vital, memory in now if memory],
        ),
    ]
    lines = []
    for name, kind, text, samples in families:
        lines += [f"# HELP taskq_worker_{name} {text}", f"# TYPE taskq_worker_{name} {kind}"]
        lines += [f"taskq_worker_{name}{labels} {float(value):.15g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _labels(vital: Vital) -> str:
    return f'{{process="{vital.index}",pid="{vital.pid}"}}'


def _memory(pid: int) -> int:
    """Bytes; 0 for a process that has just gone, or where the system does not tell."""
    try:
        return resident_in(Path(f"/proc/{pid}/statm"))
    except OSError:
        return 0
