"""One sentence of health: what is wrong, the worst first, or that all is well."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.utils import translation

from django_taskq.admin.health import Ends, Finding, Severity, look_at
from django_taskq.admin.wording import in_full, in_short, per_minute
from django_taskq.overview import Overview, QueueState, WorkerState

MOST = 100
NOTHING = Ends()


def queue(name: str = "default", ready: int = 0, *, wait: float | None = None, paused: bool = False) -> QueueState:
    return QueueState(
        backend="default",
        queue=name,
        ready=ready,
        running=0,
        oldest_wait=0.5 if wait is None and ready else wait,
        is_paused=paused,
    )


def worker(queues: str = "*", *, is_alive: bool = True) -> WorkerState:
    return WorkerState(
        id="w",
        name="w",
        host="h",
        pid=1,
        queues=queues,
        slots=1,
        running=0,
        started_at=datetime.now(UTC),
        silent_for=1.0,
        is_alive=is_alive,
    )


def look(
    *queues: QueueState, workers: tuple[WorkerState, ...] = (worker(),), due: float | None = None, ends: Ends = NOTHING
) -> list[Finding]:
    found = Overview(
        database="default", queues=queues, workers=workers, scheduled=0, next_due=due, ended={}, total=None
    )
    with translation.override("en"):
        return look_at(found, ends, most=MOST)


def sentence(*queues: QueueState, workers: tuple[WorkerState, ...] = (worker(),), due: float | None = None) -> str:
    (finding,) = look(*queues, workers=workers, due=due)
    return f"{finding.severity.name}: {finding.text}"


def test_all_is_well() -> None:
    assert sentence() == "WELL: All is well: 1 worker process, nothing waits."
    text = "WELL: All is well: 3 worker processes, nothing waits longer than 2 s."
    assert sentence(queue(ready=3, wait=1.3), workers=(worker(),) * 3) == text


def test_peace_does_not_change_with_each_moment() -> None:
    assert sentence(queue(ready=3, wait=2.1)) == sentence(queue(ready=4, wait=4.9))


def test_nothing_to_do_and_nobody_to_do_it_is_no_trouble() -> None:
    assert sentence(workers=()) == "NOTE: Nothing waits, and no worker is alive."


def test_nothing_runs() -> None:
    text = "CRITICAL: Nothing runs: 1 task waits and no worker is alive."
    assert sentence(queue(ready=1), workers=()) == text
    text = "CRITICAL: Nothing runs: 120+ tasks wait and no worker is alive."
    assert sentence(queue(ready=100), queue("mail", 20), workers=()) == text


def test_what_is_paused_is_meant_to_wait() -> None:
    assert sentence(queue("mail", 12, wait=900, paused=True)) == "WARNING: Queue mail is paused with 12 tasks."
    assert sentence(queue("mail", paused=True)).startswith("WELL")
    names = [queue(name, 2, paused=True) for name in "abcd"]
    assert sentence(*names) == "WARNING: 4 queues are paused with 8 tasks: a, b, c, …."


def test_a_queue_that_nobody_serves() -> None:
    text = "CRITICAL: No worker serves queue mail, where 12 tasks wait."
    assert sentence(queue("mail", 12), workers=(worker("default, slow"), worker("*, -mail"))) == text
    assert sentence(queue("mail", 12), workers=(worker("default"), worker("ma*"))).startswith("WELL")
    text = "CRITICAL: No worker serves 2 queues in which tasks wait: mail, news."
    assert sentence(queue("mail", 1), queue("news", 1), workers=(worker("default"),)) == text


def test_a_row_that_somebody_has_spoilt_is_no_alarm() -> None:
    assert sentence(queue("mail", 12), workers=(worker(",,"),)).startswith("WELL")


def test_tasks_wait_long() -> None:
    text = "WARNING: Tasks wait long: for 12 min 5 s in queue mail."
    assert sentence(queue("mail", 1, wait=725.0), queue("slow", 1, wait=70.0)) == text


def test_nobody_keeps_house() -> None:
    text = "WARNING: Tasks that were due 5 min ago are still not ready: no worker keeps house."
    assert sentence(due=-300.0) == text
    assert sentence(due=-3.0).startswith("WELL")


def test_many_tasks_fail() -> None:
    (finding,) = look(ends=Ends(ended=120, failed=37, seconds=600.0))
    assert finding.text == "Many tasks fail: 37 of the 120 that ended in the last 10 min."
    for few in (Ends(ended=4, failed=4, seconds=600.0), Ends(ended=1000, failed=40, seconds=600.0)):
        assert look(ends=few)[0].severity is Severity.WELL


def test_the_worst_comes_first_and_a_note_beside_peace() -> None:
    found = look(queue(ready=5), queue("mail", 2, paused=True), workers=(worker(is_alive=False),), due=-99.0)
    assert [one.kind for one in found] == ["no worker", "paused", "overdue", "lost"]
    assert [one.kind for one in look(workers=(worker(), worker(is_alive=False)))] == ["well", "lost"]


def test_each_severity_has_a_sign_and_a_word_of_its_own() -> None:
    assert len({one.icon for one in Severity}) == len({str(one.word) for one in Severity}) == len(Severity)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (1.25, "1.2 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.7, "1 min"),
        (61, "1 min 1 s"),
        (3599.7, "1 h"),
        (3661, "1 h 1 min"),
        (86399, "1 d"),
        (90000, "1 d 1 h"),
        (86400 * 2000, "2,000 d"),
    ],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    with translation.override("en"):
        assert in_short(seconds) == text


def test_numbers_are_short() -> None:
    with translation.override("en"):
        assert in_short(3661, is_rough=True) == "1 h"
        assert in_full(12345) == "12,345"
        assert in_full(10_000, 10_000) == "10,000+"
        assert [per_minute(rate) for rate in (0, 0.04, 1.0, 3.26, 9.96, 1200)] == [
            "0",
            "0.04",
            "1",
            "3.3",
            "10",
            "1,200",
        ]
    with translation.override("de"):
        assert in_short(1.25) == "1,2 s"
