"""``manage.py cleartasks``: what it deletes, what it keeps, what it says and what it refuses."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import signal
import sys
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from django_taskq import registry
from django_taskq.aliases import taskq_backends
from django_taskq.core.states import FINAL, State
from django_taskq.definition import Task
from django_taskq.keeper.duties import prune
from django_taskq.models import TaskRecord
from django_taskq.retention import carry_out
from tests.factories import make_tasks

pytestmark = pytest.mark.django_db

HOUR = 3600.0
DAY = 24 * HOUR

OURS = "django_taskq.TaskqBackend"


def run(*arguments: str, **options: Any) -> str:
    """Return what the command prints; nothing may go to the standard error away from a terminal."""
    out, err = io.StringIO(), io.StringIO()
    call_command("cleartasks", *arguments, stdout=out, stderr=err, **options)
    assert err.getvalue() == ""
    return out.getvalue()


def clear(*arguments: str, **options: Any) -> int:
    """Return how many rows the command says and really deletes, after its dry run has said the same."""
    rows = TaskRecord.objects.count()
    announced = run(*arguments, "--dry-run", **options)
    assert TaskRecord.objects.count() == rows, "a dry run deletes nothing"
    said = run(*arguments, **options)
    deleted = rows - TaskRecord.objects.count()
    noun = "finished task" if deleted == 1 else "finished tasks"
    assert announced == f"Would delete {deleted} {noun}.\n"
    assert said == f"Deleted {deleted} {noun}.\n"
    return deleted


def names() -> list[str]:
    return sorted(TaskRecord.objects.values_list("name", flat=True))


def test_without_arguments_fresh_rows_stay_and_old_ones_go() -> None:
    for state in sorted(FINAL):
        make_tasks(state=state, ended_ago=0, name=f"fresh {state}")
        make_tasks(state=state, ended_ago=7 * DAY - 60, name=f"week {state}")
        make_tasks(state=state, ended_ago=7 * DAY + 60, name=f"old {state}")
        make_tasks(state=state, ended_ago=30 * DAY + 60, name=f"ancient {state}")

    assert clear() == 7
    assert [name for name in names() if not name.startswith(("fresh", "week"))] == ["old FAILED"]
    assert clear() == 0


@pytest.mark.parametrize("state", sorted(set(State) - FINAL))
def test_rows_that_have_not_ended_always_stay(state: State) -> None:
    make_tasks(2, state=state, ended_ago=400 * DAY)

    assert clear("--older-than", "0s", "--failed-older-than", "0s") == 0


def test_each_alias_has_the_ages_of_its_options(settings: Any) -> None:
    settings.TASKS = {
        "default": {"BACKEND": OURS},
        "brief": {"BACKEND": OURS, "OPTIONS": {"result_ttl": 60, "failure_ttl": 3600}},
        "keeps": {"BACKEND": OURS, "OPTIONS": {"result_ttl": None, "failure_ttl": None}},
    }
    for alias in (*settings.TASKS, "gone"):
        for state in (State.SUCCESSFUL, State.FAILED):
            make_tasks(backend=alias, state=state, ended_ago=HOUR / 2, name=f"{alias} {state}")
            make_tasks(backend=alias, state=state, ended_ago=400 * DAY, name=f"{alias} old {state}")

    assert clear("--backend", "brief") == 3
    assert clear() == 2
    assert [name for name in names() if name.startswith(("brief", "default"))] == [
        "brief FAILED",
        "default FAILED",
        "default SUCCESSFUL",
    ]
    assert clear("--backend", "keeps", "--older-than", "1h") == 2
    assert clear("--older-than", "1h") == 2, "an age that is given is for rows of any alias"
    assert clear("--older-than", "0s", "--backend=default", "--backend=brief") == 3
    assert names() == ["gone FAILED", "gone SUCCESSFUL", "keeps FAILED", "keeps SUCCESSFUL"]


def test_tasks_may_say_how_long_their_rows_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_tasks", dict(registry._tasks))
    Task(func=_brief, name="brief", aliases=("short",), result_ttl=60, failure_ttl=2 * HOUR)
    Task(func=_long, name="long", result_ttl=timedelta(days=20))
    for name in ("brief", "short", "long", "other"):
        for state in (State.SUCCESSFUL, State.CANCELLED, State.FAILED):
            make_tasks(state=state, ended_ago=30, name=name)
            make_tasks(state=state, ended_ago=HOUR, name=name)
            make_tasks(state=state, ended_ago=10 * DAY, name=name)
    left = Counter(TaskRecord.objects.values_list("name", flat=True))
    assert set(left.values()) == {9}

    # What ended an hour ago and 10 days ago of the brief ones, but for the failures of an hour ago; 10 days of others.
    assert clear() == 10 + 2
    left -= Counter({"brief": 5, "short": 5, "other": 2})
    assert Counter(TaskRecord.objects.values_list("name", flat=True)) == left
    assert clear() == 0
    # Also by the keeper, and with an age that is given whatever tasks say.
    make_tasks(3, ended_ago=61, name="brief")
    prune(taskq_backends())(0.0)
    assert Counter(TaskRecord.objects.values_list("name", flat=True)) == left
    # The failures of 10 days ago: of the brief ones there are none left.
    assert clear("--older-than=1d", "--state=FAILED") == 2
    assert clear("--older-than=1d") == 2


def _brief() -> None:
    """Become a task."""


def _long() -> None:
    """Become another."""


@pytest.mark.parametrize(("age", "gone"), [("90s", 3), ("15m", 2), ("2h", 1), ("1d", 0), ("0s", 4), ("1w", 0)])
def test_older_than(age: str, gone: int) -> None:
    for seconds in (1, 120, 1800, 3 * HOUR):
        make_tasks(ended_ago=seconds)

    assert clear("--older-than", age) == gone


def test_failed_older_than_wins_for_failed_rows_and_older_than_is_for_all_others() -> None:
    for state in sorted(FINAL):
        make_tasks(state=state, ended_ago=HOUR)

    assert clear("--older-than=2h", "--failed-older-than=30m") == 1
    assert clear("--older-than=30m", "--failed-older-than=2h") == 3
    make_tasks(2, state=State.FAILED, ended_ago=HOUR)
    make_tasks(2, state=State.SUCCESSFUL, ended_ago=HOUR)
    assert clear("--failed-older-than=30m") == 2
    assert set(TaskRecord.objects.values_list("state", flat=True)) == {State.SUCCESSFUL}


def test_states_are_chosen_one_by_one_in_any_case() -> None:
    for state in sorted(FINAL):
        make_tasks(state=state)

    assert clear("--older-than=0s", "--state", "failed", "--state=EXPIRED") == 2
    assert clear(older_than="0s", state="CANCELLED") == 1
    assert names() == ["tests.taskapp.tasks.noop"]


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["--queue", "mail"], ["mail-slow", "other"]),
        (["--queue", "mail", "--queue", "other"], ["mail-slow"]),
        (["--queues", "mail,other"], ["mail-slow"]),
        (["--queues", "mail*"], ["other"]),
        (["--queues", "mail*,-*slow"], ["mail-slow", "other"]),
        (["--queues=-other"], ["other"]),
        (["--queues", "*"], []),
        (["--queue", "nothing"], ["mail", "mail-slow", "other"]),
        (["--queue", "nothing*"], ["mail", "mail-slow", "other"]),
        (["--queue=mail,-mail"], ["mail", "mail-slow", "other"]),
    ],
)
def test_queues_are_chosen_by_name_and_pattern(arguments: list[str], kept: list[str]) -> None:
    for queue in ("mail", "mail-slow", "other"):
        make_tasks(queue_name=queue)

    assert clear("--older-than=0s", *arguments) == 3 - len(kept)
    assert sorted(TaskRecord.objects.values_list("queue_name", flat=True)) == kept


def test_rows_go_in_batches_of_the_size_asked_for() -> None:
    make_tasks(10)

    assert clear("--older-than=0s", "--batch-size=3") == 10


def test_nothing_is_said_with_verbosity_0() -> None:
    make_tasks(2)

    assert run("--older-than=0s", verbosity=0) == ""
    assert not TaskRecord.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--older-than=90"], "--older-than: '90' has no unit"),
        (["--older-than=-1h"], "--older-than: '-1h' is negative"),
        (["--older-than", "-1h"], "--older-than: give a duration such as 90s, 1h or 7d; it cannot be negative"),
        (["--older-than", "-1"], "--older-than: '-1' is negative"),
        (["--older-than"], "--older-than: give a duration"),
        (["--older-than=soon"], "--older-than: 'soon' is not a duration"),
        (["--older-than=9999w"], "--older-than: '9999w' is longer than 100 years"),
        (["--failed-older-than=7"], "--failed-older-than: '7' has no unit"),
        (["--state=RUNNING"], "--state RUNNING: such tasks have not ended"),
        (["--state=FAILD"], "--state 'FAILD' is not a state; did you mean 'FAILED'?"),
        (["--state=SUCCESSFUL", "--failed-older-than=1d"], "--failed-older-than is about FAILED tasks"),
        (["--queues=a,,b"], "an empty queue name"),
        (["--queue", "x" * 129], "longer than 128 characters"),
        (["--backend=defult"], "--backend 'defult': no such alias of TASKS uses TaskqBackend; did you mean 'default'?"),
        (["--batch-size=0"], "--batch-size 0: must be from 1"),
        (["--batch-size=-5"], "--batch-size -5: must be from 1"),
        (["--batch-size=many"], "--batch-size: invalid int value: 'many'"),
        (["--batch-size=1000000000"], "must be from 1 to 100000"),
    ],
)
@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_what_cannot_be_meant_is_refused(arguments: list[str], message: str, dry_run: list[str]) -> None:
    make_tasks(3)

    with pytest.raises(CommandError, match=re.escape(message)):
        run(*arguments, *dry_run)
    assert TaskRecord.objects.count() == 3


def test_without_an_alias_of_ours_it_says_so(settings: Any) -> None:
    settings.TASKS = {}
    with pytest.raises(CommandError, match=r"No alias of TASKS uses django_taskq\.TaskqBackend"):
        run()


def test_options_that_cannot_be_are_an_error_not_a_traceback(settings: Any) -> None:
    settings.TASKS = {"default": {"BACKEND": OURS, "OPTIONS": {"result_ttl": -1}}}
    with pytest.raises(CommandError, match="result_ttl"):
        run()


def failing_after(batches: int, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command's next batch fail once this many have gone."""

    def fail(*args: Any) -> Any:
        for done, count in enumerate(carry_out(*args), start=1):
            yield count
            if done == batches:
                raise error

    monkeypatch.setattr("django_taskq.management.commands.cleartasks.carry_out", fail)


def test_an_error_of_the_database_says_how_many_rows_had_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    make_tasks(10)
    failing_after(2, OperationalError("gone away"), monkeypatch)

    with pytest.raises(CommandError, match=r"^gone away\nDeleted 6 finished tasks before that\.$"):
        run("--older-than=0s", "--batch-size=3")
    assert TaskRecord.objects.count() == 4


def pressing(presses: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C after these batches."""

    def press(*args: Any) -> Any:
        for done, count in enumerate(carry_out(*args), start=1):
            for _ in range(presses.count(done)):
                os.kill(os.getpid(), signal.SIGINT)
            yield count

    monkeypatch.setattr("django_taskq.management.commands.cleartasks.carry_out", press)


def test_ctrl_c_ends_it_between_two_batches_and_it_says_how_many_rows_had_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    make_tasks(10)
    pressing([2], monkeypatch)
    before = signal.getsignal(signal.SIGINT)

    with pytest.raises(CommandError, match=r"^Interrupted\. Deleted 6 finished tasks before that\.$") as error:
        run("--older-than=0s", "--batch-size=3")
    assert error.value.returncode == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert TaskRecord.objects.count() == 4


def test_a_second_ctrl_c_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    make_tasks(10)
    pressing([2, 2], monkeypatch)

    with pytest.raises(CommandError, match=r"^Interrupted\. Deleted at least 3 finished tasks before that\.$") as error:
        run("--older-than=0s", "--batch-size=3")
    assert error.value.returncode == 130
    assert TaskRecord.objects.count() == 4


class Terminal(io.StringIO):
    """A stream somebody looks at."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("has_rich", [True, False])
def test_on_a_terminal_it_shows_how_far_it_is(has_rich: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "django_taskq.management.progress.find_spec", lambda name: find_spec(name) if has_rich else None
    )
    monkeypatch.setenv("TERM", "xterm")
    make_tasks(10)
    out, err = io.StringIO(), Terminal()
    monkeypatch.setattr(sys, "stderr", err)

    call_command("cleartasks", "--older-than=0s", "--batch-size=4", stdout=out, stderr=err)
    assert out.getvalue() == "Deleted 10 finished tasks.\n"
    assert "Deleting" in err.getvalue()
    assert "10 of 10" in err.getvalue()
    if not has_rich:
        shown = [line.strip() for line in err.getvalue().split("\r")]
        assert shown == ["", *(f"Deleting: {done} of 10" for done in (0, 4, 8, 10)), "", ""]
