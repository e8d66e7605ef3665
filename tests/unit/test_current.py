"""What a running task leaves in log records, and in its own log."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextvars import Context
from datetime import UTC, datetime
from typing import Any

import pytest

from django_taskq.core.message import Message
from django_taskq.core.outcome import Outcome
from django_taskq.core.states import State
from django_taskq.current import MAX_LINE, MAX_LOG, Running, begin
from django_taskq.monitoring.logging import JsonFormatter, TaskContextFilter, TextFormatter
from django_taskq.worker.kept_log import LogKeeper

NOW = datetime(2026, 11, 28, 20, 0, tzinfo=UTC)
MESSAGE = Message(
    id="019aa1f2-8301-7a3d-b966-37b0f09e91d2",
    name="shop.send",
    queue_name="mail",
    backend="default",
    priority=0,
    arguments="[[],{}]",
    options="",
    metadata="",
    errors="",
    worker_ids="anne\nbert\n",
    attempt=2,
    claim=2,
    losses=0,
    acks_late=True,
    enqueued_at=NOW,
    run_after=None,
    started_at=NOW,
    last_attempted_at=NOW,
    expires_at=None,
)
SUCCESS = Outcome(state=State.SUCCESSFUL)


def record(text: str = "hello %s", *args: Any, **extra: Any) -> logging.LogRecord:
    made = logging.getLogger("shop").makeRecord("shop", logging.INFO, __file__, 1, text, args, None, extra=extra)
    made.created = NOW.timestamp()
    return made


def in_task(function: Any, *args: Any) -> Any:
    def run() -> Any:
        begin(Running(MESSAGE))
        return function(*args)

    return Context().run(run)


# ---- records ---------------------------------------------------------------------------------------------------


def test_a_json_line_of_a_task_says_which() -> None:
    line = json.loads(in_task(JsonFormatter().format, record("hello %s", "wörld", answer=42, where={1, 2})))
    assert line.pop("process") > 0
    assert line.pop("thread")
    assert line == {
        "time": "2026-11-28T20:00:00.000+00:00",
        "level": "INFO",
        "logger": "shop",
        "message": "hello wörld",
        "task_id": MESSAGE.id,
        "task": "shop.send",
        "queue": "mail",
        "attempt": 2,
        "worker": "bert",
        "answer": 42,
        "where": "{1, 2}",
    }


def test_a_json_line_outside_of_tasks_has_no_empty_keys() -> None:
    line = json.loads(JsonFormatter().format(record("hello")))
    assert set(line) == {"time", "level", "logger", "message", "process", "thread"}


def test_what_a_record_says_itself_wins() -> None:
    line = json.loads(in_task(JsonFormatter().format, record("hello", task_id="other", action="greeted")))
    assert (line["task_id"], line["action"]) == ("other", "greeted")
    given = record("hello", task_id="other")
    in_task(TaskContextFilter().filter, given)
    assert (vars(given)["task_id"], vars(given)["task"]) == ("other", "shop.send")


def test_a_json_line_is_one_line_with_its_traceback() -> None:
    texts = []
    try:
        int("first\nsecond")
    except ValueError:
        failed = logging.LogRecord("shop", logging.ERROR, __file__, 1, "a\nb", (), sys.exc_info())
        texts.append(JsonFormatter().format(failed))
    (text,) = texts
    assert "\n" not in text
    assert "ValueError: invalid literal" in json.loads(text)["exception"]


def test_the_filter_makes_names_for_formats_in_and_outside_of_tasks() -> None:
    formatter = logging.Formatter("%(task_id)s|%(task)s|%(queue)s|%(attempt)s|%(worker)s|%(message)s")
    outside, inside = record("hello"), record("hello")
    assert TaskContextFilter().filter(outside)
    assert formatter.format(outside) == "|||||hello"
    assert in_task(TaskContextFilter().filter, inside)
    assert formatter.format(inside) == f"{MESSAGE.id}|shop.send|mail|2|bert|hello"


def test_a_text_line_has_the_id_once() -> None:
    assert in_task(TextFormatter().format, record("hello")).endswith(f" hello [id={MESSAGE.id}]")
    assert in_task(TextFormatter().format, record("Task id=%s", MESSAGE.id)).count(MESSAGE.id) == 1
    assert TextFormatter().format(record("hello")).endswith(" hello")


# ---- the task's own log ----------------------------------------------------------------------------------------


@pytest.fixture
def shop() -> Iterator[logging.Logger]:
    """A logger whose lines are kept."""
    logger, keeper = logging.getLogger("shop"), LogKeeper(logging.INFO)
    logger.addHandler(keeper)
    logger.setLevel(logging.DEBUG)
    # What is logged here is not for pytest's report, which cannot hold it all.
    logger.propagate = False
    yield logger
    logger.setLevel(logging.NOTSET)
    logger.propagate = True
    logger.removeHandler(keeper)


def kept(function: Any, *, keeps_log: bool = True) -> str:
    def run() -> Running:
        one = begin(Running(MESSAGE))
        one.keeps_log = keeps_log
        function()
        return one

    running: Running = Context().run(run)
    return running.ended(SUCCESS).log


def test_lines_from_info_up_are_kept_with_time_level_and_logger(shop: logging.Logger) -> None:
    def work() -> None:
        shop.debug("plumbing")
        shop.getChild("orders").info("order %d", 7)
        logging.getLogger("shop").warning("late")

    lines = [line.partition("Z ")[2] for line in kept(work).splitlines()]
    assert lines == ["INFO shop.orders: order 7", "WARNING shop: late"]


def test_nothing_is_kept_outside_of_tasks_or_of_tasks_that_do_not_want_it(shop: logging.Logger) -> None:
    shop.info("nobody's")
    assert kept(lambda: shop.info("unwanted"), keeps_log=False) == ""
    assert Running(MESSAGE).ended(SUCCESS) is SUCCESS


def test_a_log_is_bounded_and_its_newest_lines_stay(shop: logging.Logger) -> None:
    def work() -> None:
        shop.info("x" * 1_000_000)
        for number in range(5_000):
            shop.info("line %d", number)

    log = kept(work)
    assert len(log) <= MAX_LOG
    assert log.endswith("line 4999\n")
    assert "x" not in log
    assert len(kept(lambda: shop.info("y" * 1_000_000))) <= MAX_LINE + 1


def test_a_log_holds_what_a_database_can_store() -> None:
    one = Running(MESSAGE)
    one.add_line("a\x00b\ud800c")
    assert one.ended(SUCCESS).log == "a\\x00b\\xd800c\n"


def test_a_traceback_is_kept(shop: logging.Logger) -> None:
    def work() -> None:
        try:
            int("no")
        except ValueError:
            shop.exception("It failed")

    assert "ERROR shop: It failed\nTraceback" in kept(work)
    assert kept(work).endswith("invalid literal for int() with base 10: 'no'\n")


def test_a_message_that_cannot_be_formatted_disturbs_nobody(
    shop: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    assert kept(lambda: shop.info("%d", "text")) == ""
