"""A worker's counters: written by one process, read by another, summed over the dead, rendered for Prometheus."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from django_taskq.worker.gauges import BOUNDS, MAX_SERIES, OTHER, Ledger, Sheet, render


@pytest.fixture
def sheet() -> Iterator[Sheet]:
    one = Sheet()
    yield one
    one.close()


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and its labels' values, as Prometheus' own client understands the text."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_sheet_counts_ends_and_spreads_seconds_over_buckets(sheet: Sheet) -> None:
    for seconds in (0.0, 0.001, 0.0011, 3.0, 1e6):
        sheet.ended("shop.send", "mail", "succeeded", seconds=seconds, waited=seconds / 10)
    sheet.ended("shop.send", "mail", "retried", seconds=0.2, waited=None)
    found = samples(render(sheet.read()))
    assert found["taskq_worker_tasks_total", "succeeded", "mail", "shop.send"] == 5
    assert found["taskq_worker_tasks_total", "retried", "mail", "shop.send"] == 1
    assert ("taskq_worker_tasks_total", "failed", "mail", "shop.send") not in found
    run = {labels[1]: value for labels, value in found.items() if labels[0] == "taskq_worker_run_seconds_bucket"}
    assert len(run) == len(BOUNDS) + 1
    assert [run[bound] for bound in ("0.001", "0.002", "0.2", "2", "5", "5000", "+Inf")] == [2, 3, 4, 4, 5, 5, 6]
    assert found["taskq_worker_run_seconds_count", "mail", "shop.send"] == 6
    assert found["taskq_worker_run_seconds_sum", "mail", "shop.send"] == pytest.approx(1_000_003.2021)
    assert found["taskq_worker_wait_seconds_count", "mail", "shop.send"] == 5


def test_labels_may_hold_anything(sheet: Sheet) -> None:
    names = ['a"b', "a\\b", "a\nb", "ä€😀", "x" * 300]
    for name in names:
        sheet.ended(name, name, "failed", seconds=None, waited=None)
    found = {labels[2] for labels in samples(render(sheet.read())) if labels[0] == "taskq_worker_tasks_total"}
    assert found == {*names[:-1], "x" * 150}


def test_the_longest_labels_fit(sheet: Sheet) -> None:
    for letter in ("\U0001f600", "\x01", '"'):
        sheet.ended(letter * 255, letter * 128, "failed", seconds=None, waited=None)
    names = {"\U0001f600" * 150, "\x01" * 150, '"' * 150}
    assert {name for name, _ in sheet.read().series} == names


def test_more_tasks_than_places_are_counted_together(sheet: Sheet) -> None:
    for number in range(MAX_SERIES + 50):
        sheet.ended(f"task{number}", "default", "succeeded", seconds=0.1, waited=None)
    sheet.ended("task0", "default", "succeeded", seconds=0.1, waited=None)
    series = sheet.read().series
    assert len(series) == MAX_SERIES + 1
    assert series[OTHER][0] == 50
    assert series["task0", "default"][0] == 2


def test_a_sheet_is_read_while_another_process_writes_it() -> None:
    ledger = Ledger()
    sheet = ledger.open()
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        try:
            sheet.set_slots(2, 10)
            sheet.set_busy(1, 3)
            sheet.ended("shop.send", "mail", "succeeded", seconds=0.1, waited=0.1)
            os.write(ready[1], b"x")
            os.read(go[0], 1)
            sheet.ended("shop.send", "mail", "failed", seconds=0.1, waited=0.1)
        finally:
            os._exit(0)
    os.read(ready[0], 1)
    found = samples(ledger.render())
    assert found["taskq_worker_slots", "threads"] == 2
    assert found["taskq_worker_slots_busy", "coroutines"] == 3
    assert found["taskq_worker_tasks_total", "succeeded", "mail", "shop.send"] == 1
    os.write(go[1], b"x")
    os.waitpid(pid, 0)
    for end in (*ready, *go):
        os.close(end)
    ledger.bury(sheet)
    found = samples(ledger.render())
    # What it counted stays; what it was is gone.
    assert found["taskq_worker_tasks_total", "succeeded", "mail", "shop.send"] == 1
    assert found["taskq_worker_tasks_total", "failed", "mail", "shop.send"] == 1
    assert found["taskq_worker_slots", "threads"] == 0


def test_a_ledger_sums_the_living_and_the_dead_and_stays_bounded() -> None:
    ledger = Ledger()
    for life in range(4):
        sheet = ledger.open()
        for number in range(100):
            sheet.ended(f"life{life}.task{number}", "default", "succeeded", seconds=0.1, waited=None)
        sheet.ended("same", "default", "succeeded", seconds=0.1, waited=None)
        if life < 3:
            ledger.bury(sheet)
    series = ledger.read().series
    assert sum(cells[0] for cells in series.values()) == 404
    assert series["same", "default"][0] == 4
    assert len(series) <= MAX_SERIES + 2


def test_the_module_needs_nothing_but_the_standard_library() -> None:
    program = "import sys; import importlib.util as u; s = u.spec_from_file_location('g', sys.argv[1]);"
    program += "m = u.module_from_spec(s); sys.modules['g'] = m; s.loader.exec_module(m);"
    program += "print(m.render(m.Sheet().read())); assert 'django' not in sys.modules"
    path = sys.modules["django_taskq.worker.gauges"].__file__
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert 'taskq_worker_slots{kind="threads"} 0' in done.stdout
