"""What is over in stores that do not delete by themselves: ``cleartasks``, and the keeper once in a while."""

from __future__ import annotations

import io
import logging
import re
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_taskq import registry
from django_taskq.aliases import taskq_backends
from django_taskq.core.reply import Reply
from django_taskq.core.states import State
from django_taskq.definition import Task
from django_taskq.keeper.stores import sweep_stores
from django_taskq.models import TaskRecord
from tests.factories import make_tasks
from tests.memory_store import MEMORY, MemoryServer, memory_server
from tests.waiting import LATE, wait_until

pytestmark = pytest.mark.django_db

OURS = "django_taskq.TaskqBackend"
DAY = 86400.0


@pytest.fixture
def memory() -> MemoryServer:
    return memory_server("shelf")


@pytest.fixture(autouse=True)
def _empty(memory: MemoryServer) -> None:
    memory.renew()


@pytest.fixture
def aliases(settings: Any) -> Callable[..., None]:
    """Return a function that makes TASKS from options by alias; results are in memory unless they say more."""

    def make(**given: dict[str, Any]) -> None:
        settings.TASKS = {
            alias: {"BACKEND": OURS, "OPTIONS": {"results": "mem://shelf", "result_stores": MEMORY, **options}}
            for alias, options in given.items()
        }

    return make


def clear(*arguments: str, **options: Any) -> list[str]:
    """Return the lines that the command prints."""
    out = io.StringIO()
    call_command("cleartasks", *arguments, stdout=out, **options)
    return out.getvalue().splitlines()


def longest(memory: MemoryServer) -> list[float]:
    return [longest for _, longest in memory.sweeps]


# ---- by command ------------------------------------------------------------------------------------------------


def test_a_store_is_swept_once_whoever_shares_it(aliases: Callable[..., None], memory: MemoryServer) -> None:
    aliases(default={}, brief={"result_ttl": 60, "failure_ttl": 60}, long={"result_ttl": 90 * DAY})
    make_tasks(2, ended_ago=100 * DAY)
    assert clear() == ["Deleted 2 finished tasks.", "Deleted 1 result from mem://shelf."]
    ((now, age),) = memory.sweeps
    assert abs(now - time.time()) < 60
    assert age == 90 * DAY
    assert clear("--backend=brief")[1] == "Deleted 2 results from mem://shelf."
    assert longest(memory) == [90 * DAY] * 2, "also when only one of them is asked for"


def test_what_one_keeps_for_ever_all_of_them_keep(aliases: Callable[..., None], memory: MemoryServer) -> None:
    aliases(default={}, keeps={"failure_ttl": None})
    clear("--backend=default")
    assert longest(memory) == [float("inf")], "for stores that know of each value until when it is to be kept"


def test_tasks_that_keep_theirs_longer_are_thought_of(
    aliases: Callable[..., None], memory: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_tasks", dict(registry._tasks))
    Task(func=_long, result_ttl=timedelta(days=100))
    aliases(default={})
    clear()
    assert longest(memory) == [100 * DAY]


def _long() -> None:
    """Become a task."""


def test_stores_of_their_own_are_swept_for_themselves(aliases: Callable[..., None]) -> None:
    aliases(default={}, other={"results": "mem://other", "result_ttl": 5 * DAY, "failure_ttl": 5})
    assert [line.rpartition(" ")[2] for line in clear()] == ["tasks.", "mem://shelf.", "mem://other."]
    assert longest(memory_server("other"))[-1:] == [5 * DAY]


def test_a_dry_run_names_the_stores_and_touches_nothing(aliases: Callable[..., None], memory: MemoryServer) -> None:
    aliases(default={})
    assert clear("--dry-run") == ["Would delete 0 finished tasks.", "Would delete what is over in mem://shelf."]
    assert memory.calls == {}


def test_who_asks_for_certain_rows_leaves_stores_alone(aliases: Callable[..., None], memory: MemoryServer) -> None:
    aliases(default={})
    assert clear("--queues=mail") == clear("--state=FAILED") == ["Deleted 0 finished tasks."]
    assert memory.calls == {}
    assert len(clear("--older-than=1h")) == 2


def test_a_server_that_counts_nothing(
    aliases: Callable[..., None], memory: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    aliases(default={})
    monkeypatch.setattr("tests.memory_store.MemoryStore.sweep", lambda *arguments: -1)
    assert clear()[1] == "Deleted what was over in mem://shelf; it does not say how much."
    assert clear(verbosity=0) == []


def test_stores_that_delete_by_themselves_and_rows_are_no_stores_to_sweep(
    aliases: Callable[..., None], memory: MemoryServer
) -> None:
    aliases(
        default={"results": "database://"},
        own={"result_stores": {"mem": "tests.memory_store.ForgetfulStore"}},
        none={"results": "disabled://"},
        replies={"results": "rpc+amqp://guest:secret@127.0.0.1:1//"},
    )
    assert clear() == ["Deleted 0 finished tasks."]
    assert memory.calls == {}


def test_a_store_that_fails_is_named_and_the_others_are_swept_all_the_same(
    aliases: Callable[..., None], memory: MemoryServer
) -> None:
    url = f"mem://ann:s3cret@{uuid.uuid4()}"
    aliases(
        broken={"results": url},
        wrong={"result_options": {"colour": "red"}},
        default={},
    )
    memory_server(url.partition("://")[2]).problem = OSError("refused, says s3cret")
    make_tasks(3, ended_ago=400 * DAY)
    with pytest.raises(CommandError) as error:
        clear()
    lines = str(error.value).splitlines()
    assert lines[0] == "Not all results that are over could be deleted."
    assert lines[1] == "wrong: mem:// has no option 'colour'."
    assert re.fullmatch(r"mem://\*\*\*@[0-9a-f-]+ failed: refused, says \*\*\* \(OSError\)", lines[2])
    assert error.value.returncode == 1
    assert longest(memory) == [30 * DAY]
    assert not TaskRecord.objects.exists()


def test_files_that_are_over_go_and_others_stay(aliases: Callable[..., None], tmp_path: Path) -> None:
    aliases(default={"results": f"file://{tmp_path}"})
    (backend,) = taskq_backends()
    for seconds in (-60, 3600):
        expires_at = datetime.now(UTC) + timedelta(seconds=seconds)
        backend.result_store.keep(
            Reply(task_id=str(uuid.uuid4()), state=State.SUCCESSFUL, result="1", expires_at=expires_at)
        )
    # What is over already is kept for a second all the same.
    wait_until(lambda: clear()[1] == f"Deleted 1 result from file://{tmp_path}.", what="the second to pass")
    assert len(list(tmp_path.iterdir())) == 1


def test_tasks_that_cannot_be_imported_stop_it_since_nobody_knows_how_long_they_keep_theirs(
    aliases: Callable[..., None], memory: MemoryServer
) -> None:
    aliases(default={"imports": ["no_such_module"]})
    make_tasks(1, ended_ago=400 * DAY)
    with pytest.raises(CommandError, match="no_such_module does not import"):
        clear()
    assert TaskRecord.objects.count() == 1
    assert memory.calls == {}


# ---- by the keeper ---------------------------------------------------------------------------------------------


def keep_house() -> None:
    """Do the keeper's duty once, as a worker that has just been elected does."""
    assert sweep_stores(taskq_backends())(0.0) == 600.0
    wait_until(
        lambda: not [thread for thread in threading.enumerate() if thread.name == "taskq-sweeper"],
        what="the end of its thread",
    )


def test_workers_sweep_once_a_day_however_many_there_are(aliases: Callable[..., None], memory: MemoryServer) -> None:
    aliases(default={}, brief={"result_ttl": 60})
    for _ in range(3):
        keep_house()
    assert longest(memory) == [30 * DAY]
    (key,) = memory.values
    assert memory.ttls[key] == DAY
    # A day later it is gone, or over.
    memory.values[key] = str(time.time() - DAY - 1).encode()
    keep_house()
    assert len(memory.sweeps) == 2


def test_how_often_is_said_by_the_alias_and_the_shortest_counts(
    aliases: Callable[..., None], memory: MemoryServer
) -> None:
    aliases(default={"result_sweep": None}, often={"result_sweep": 3600})
    keep_house()
    assert list(memory.ttls.values()) == [3600]


def test_workers_leave_a_store_alone_when_told_to(aliases: Callable[..., None], memory: MemoryServer) -> None:
    aliases(default={"result_sweep": None})
    keep_house()
    assert memory.calls == {}


def test_a_store_that_fails_is_a_warning_without_secrets(
    aliases: Callable[..., None], memory: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"mem://ann:s3cret@{uuid.uuid4()}"
    aliases(broken={"results": url}, default={})
    memory_server(url.partition("://")[2]).problem = OSError("refused, says s3cret")
    with caplog.at_level(logging.INFO, "django_taskq.keeper"):
        keep_house()
    warning, told = (record.getMessage() for record in caplog.records if record.name == "django_taskq.keeper")
    assert "failed: refused, says *** (OSError)" in warning
    assert told == "Deleted 1 old results from mem://shelf."


def test_one_that_takes_its_time_holds_up_no_other_duty(aliases: Callable[..., None], memory: MemoryServer) -> None:
    aliases(default={})
    memory.may_answer.clear()
    duty = sweep_stores(taskq_backends())
    try:
        began = time.monotonic()
        for _ in range(3):
            assert duty(0.0) == 600.0
        assert time.monotonic() - began < LATE
        wait_until(lambda: memory.calls["get"], what="a look")
    finally:
        memory.may_answer.set()
    wait_until(lambda: memory.sweeps, what="the sweep")
    assert len(memory.sweeps) == 1
