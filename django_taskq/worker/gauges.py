"""Counters and histograms of a worker, in memory that its supervisor can read without asking anybody.

Each process writes one :class:`Sheet`, shared over ``fork``: only its I/O thread does, a number at a time, so that nothing
is locked. The supervisor's :class:`Ledger` has the sheets of the living and the sum of the dead, and renders them in
Prometheus' text format (prometheus.io/docs, "Exposition formats", version 0.0.4). Standard library only.
"""

from __future__ import annotations

import json
import mmap
import threading
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

#: upper bounds in seconds; log-spaced, so that one layout fits milliseconds and hours
BOUNDS = tuple(digit * 10.0**power for power in range(-3, 4) for digit in (1, 2, 5))

#: ends of attempts, in the order of their cells
ENDS = ("succeeded", "failed", "retried", "cancelled", "expired", "lost")

#: what a process says of itself; ``threads`` and ``coroutines``: slots, ``*_busy``: those that run a task
GAUGES = ("threads", "threads_busy", "coroutines", "coroutines_busy")

#: pairs of a task and a queue that are counted apart; what comes beyond is counted under "other"
MAX_SERIES = 200
OTHER = ("other", "other")

_BUCKETS = len(BOUNDS) + 1
#: a histogram: its buckets, then the sum of the seconds
_HISTOGRAM = _BUCKETS + 1
_RUN = len(ENDS)
_WAIT = _RUN + _HISTOGRAM
_CELLS = _WAIT + _HISTOGRAM
_CELL_BYTES = 8
#: a label: its length in two bytes, then JSON text, in which a character takes up to six; characters of each name
_LABEL_BYTES = 2_048
_MAX_NAME = 150
#: before the series: how many there are, then the gauges
_HEAD = 1 + len(GAUGES)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class Figures:
    """What was read from sheets. ``series``: cells by task and queue."""

    series: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=lambda: dict.fromkeys(GAUGES, 0.0))

    def add(self, other: Figures, *, gauges: bool = True) -> None:
        """Count another's, too; ``gauges``: also what holds only while that process lives."""
        for key, cells in other.series.items():
            # As many pairs as in a sheet: a worker may outlive thousands of its processes.
            known = key if key in self.series or len(self.series) <= MAX_SERIES else OTHER
            mine = self.series.get(known)
            self.series[known] = list(cells) if mine is None else [a + b for a, b in zip(mine, cells, strict=True)]
        if gauges:
            for name, value in other.gauges.items():
                self.gauges[name] += value


class Sheet:
    """One process's numbers. Everything but :meth:`read` is for the one thread that writes it."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, (_HEAD + (MAX_SERIES + 1) * _CELLS) * _CELL_BYTES)
        # Eight aligned bytes are stored at once: a reader finds the number before or the number after.
        self._cells = memoryview(self._memory).cast("d")
        self._labels = mmap.mmap(-1, (MAX_SERIES + 1) * _LABEL_BYTES)
        self._bases: dict[tuple[str, str], int] = {}
        self._add(OTHER)

    def ended(self, name: str, queue_name: str, end: str, *, seconds: float | None, waited: float | None) -> None:
        """Count the end of an attempt, one of ``ENDS``; ``seconds`` it took and ``waited``, None where nobody knows."""
        base = self._bases.get((name, queue_name))
        if base is None:
            base = self._add((name, queue_name))
        cells = self._cells
        cells[base + ENDS.index(end)] += 1.0
        if seconds is not None:
            cells[base + _RUN + bisect_left(BOUNDS, seconds)] += 1.0
            cells[base + _RUN + _BUCKETS] += seconds
        if waited is not None:
            cells[base + _WAIT + bisect_left(BOUNDS, waited)] += 1.0
            cells[base + _WAIT + _BUCKETS] += waited

    def set_slots(self, threads: int, coroutines: int) -> None:
        """Say how many slots there are."""
        self._cells[1] = threads
        self._cells[3] = coroutines

    def set_busy(self, threads: int, coroutines: int) -> None:
        """Say how many run a task."""
        self._cells[2] = threads
        self._cells[4] = coroutines

    def _add(self, key: tuple[str, str]) -> int:
        count = int(self._cells[0])
        if count > MAX_SERIES:
            # Remembered, so that it is as quick as the others; task names and queues are few compared to tasks.
            base = _HEAD
        else:
            text = json.dumps([name[:_MAX_NAME] for name in key], ensure_ascii=False).encode("utf-8", "replace")
            start = count * _LABEL_BYTES
            self._labels[start + 2 : start + 2 + len(text)] = text
            self._labels[start : start + 2] = len(text).to_bytes(2, "big")
            base = _HEAD + count * _CELLS
            # Last: from here on readers look at it.
            self._cells[0] = count + 1
        if len(self._bases) < 100 * MAX_SERIES:
            self._bases[key] = base
        return base

    def read(self) -> Figures:
        """The numbers as they are; for any process, at any time."""
        figures = Figures()
        for index in range(int(self._cells[0])):
            start = index * _LABEL_BYTES
            length = int.from_bytes(self._labels[start : start + 2], "big")
            label = json.loads(self._labels[start + 2 : start + 2 + length])
            base = _HEAD + index * _CELLS
            cells = list(self._cells[base : base + _CELLS])
            if index or any(cells):
                figures.add(Figures({(label[0], label[1]): cells}), gauges=False)
        figures.gauges = dict(zip(GAUGES, self._cells[1:_HEAD], strict=True))
        return figures

    def close(self) -> None:
        """Give the memory back."""
        self._cells.release()
        self._memory.close()
        self._labels.close()


class Ledger:
    """The supervisor's: opens a sheet for each process, and keeps what the dead have counted."""

    def __init__(self) -> None:
        self._sheets: list[Sheet] = []
        self._past = Figures()
        # The probe reads in a thread of its own. Never taken by a child.
        self._lock = threading.Lock()

    def open(self) -> Sheet:
        """A sheet for a process that is about to be forked."""
        sheet = Sheet()
        with self._lock:
            self._sheets.append(sheet)
        return sheet

    def bury(self, sheet: Sheet) -> None:
        """Its process is dead: its counts stay, its slots are gone."""
        with self._lock:
            self._sheets.remove(sheet)
            self._past.add(sheet.read(), gauges=False)
            sheet.close()

    def read(self) -> Figures:
        """The sum of all processes there are and were."""
        figures = Figures()
        with self._lock:
            figures.add(self._past)
            for sheet in self._sheets:
                figures.add(sheet.read())
        return figures

    def render(self) -> str:
        """:meth:`read` as Prometheus reads it."""
        return render(self.read())


def render(figures: Figures) -> str:
    """Numbers in Prometheus' text format, with a newline at the end."""
    lines: list[str] = []
    series = sorted(figures.series.items())
    _head(lines, "taskq_worker_tasks_total", "counter", "Attempts that ended, by how.")
    for key, cells in series:
        for index, end in enumerate(ENDS):
            if cells[index]:
                lines.append(f"taskq_worker_tasks_total{{{_labels(key)},end={_quote(end)}}} {_number(cells[index])}")
    for name, text, start in (
        ("taskq_worker_run_seconds", "How long attempts took.", _RUN),
        ("taskq_worker_wait_seconds", "How long tasks waited for their first attempt, once they were due.", _WAIT),
    ):
        _head(lines, name, "histogram", text)
        for key, cells in series:
            lines += _histogram(name, _labels(key), cells[start : start + _HISTOGRAM])
    for name, text in (
        ("slots", "Tasks that can run at once."),
        ("slots_busy", "Tasks that run."),
    ):
        _head(lines, f"taskq_worker_{name}", "gauge", text)
        for kind in ("threads", "coroutines"):
            value = figures.gauges[f"{kind}{name.removeprefix('slots')}"]
            lines.append(f"taskq_worker_{name}{{kind={_quote(kind)}}} {_number(value)}")
    return "\n".join(lines) + "\n"


def _histogram(name: str, labels: str, cells: list[float]) -> Iterable[str]:
    total = 0.0
    if not any(cells[:_BUCKETS]):
        return
    for bound, count in zip((*map(_number, BOUNDS), "+Inf"), cells[:_BUCKETS], strict=True):
        total += count
        yield f'{name}_bucket{{{labels},le="{bound}"}} {_number(total)}'
    yield f"{name}_sum{{{labels}}} {cells[_BUCKETS]:.6f}"
    yield f"{name}_count{{{labels}}} {_number(total)}"


def _head(lines: list[str], name: str, kind: str, text: str) -> None:
    lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _labels(key: tuple[str, str]) -> str:
    return f"task={_quote(key[0])},queue={_quote(key[1])}"


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _number(value: float) -> str:
    return f"{value:.12g}"
