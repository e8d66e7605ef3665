"""``manage.py taskq``: what arguments mean, what is masked, and how things are printed."""

from __future__ import annotations

import argparse
import io
import json
import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import CommandParser

from django_taskq.core.states import State
from django_taskq.management.commands.runworker import Command as Runworker
from django_taskq.management.commands.taskq import SUBCOMMANDS, Command
from django_taskq.management.taskq.config import mask
from django_taskq.management.taskq.console import Console, duration
from django_taskq.management.taskq.filters import selection_of, told
from django_taskq.management.taskq.health import max_depth, max_wait
from django_taskq.selection import Selection

ID = "0199c0de-0000-7000-8000-000000000000"


def parsed(*arguments: str) -> dict[str, Any]:
    return vars(Command().create_parser("manage.py", "taskq").parse_args(arguments))


def printed(*arguments: str) -> str:
    out = io.StringIO()
    call_command("taskq", *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("arguments", "selection"),
    [
        ([ID, ID.upper(), ID.replace("-", "")], Selection(ids=(ID,))),
        (
            ["--state", "failed", "--state=EXPIRED", "--task=shop.*", "--queue=mail"],
            Selection(states=frozenset({State.FAILED, State.EXPIRED}), task="shop.*", queue="mail"),
        ),
        (
            ["--older-than=90s", "--newer-than", "2h", "--error", "KeyError", "--worker=w", "--backend=b", "--limit=5"],
            Selection(older_than=90.0, newer_than=7200.0, error="KeyError", worker="w", backend="b", limit=5),
        ),
        ([], Selection()),
    ],
)
def test_filters_become_a_selection(arguments: list[str], selection: Selection) -> None:
    assert selection_of(parsed("cancel", *arguments)) == selection


def test_an_alias_and_a_limit_alone_mean_everything() -> None:
    assert Selection(backend="default", limit=3).is_everything
    assert not Selection(queue="mail").is_everything


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["cancel", "1234"], "'1234' is not the id of a task"),
        (["cancel", "--state=FAILD"], "did you mean 'FAILED'?"),
        (["cancel", "--older-than=5"], "--older-than: '5' has no unit."),
        (["cancel", "--queue=a", "--limit=0"], "--limit 0: give a whole number from 1 up."),
        (["cancel"], "Say which tasks to cancel: ids, or a filter"),
        (["purge", "--yes", "--limit=5"], "Say which tasks to purge"),
        (["purge", "--broker", "--queue=m*"], "--broker: name one queue, by --queue."),
        (["list", "--backend=defualt"], "did you mean 'default'?"),
        (["list", "--limit=0"], "--limit 0: give a whole number from 1 up."),
        (["show", "1234"], "'1234' is not the id of a task"),
        (["enqueue", "shop.tasks.nothing"], "shop.tasks.nothing"),
        (["enqueue", "tests.taskapp.tasks.nop"], "did you mean 'tests.taskapp.tasks.noop'?"),
        (["enqueue", "tests.taskapp.tasks.noop", "--args={}"], "--args must be a JSON list."),
        (["enqueue", "tests.taskapp.tasks.noop", "--kwargs={"], "--kwargs is not JSON"),
        (["enqueue", "tests.taskapp.tasks.noop", "--delay=5"], "--delay: '5' has no unit."),
        (["queues", "pause"], "Say which queues to pause."),
        (["queues", "list", "mail"], "Did you mean: pause mail?"),
        (["tasks", "pause", "x" * 256], "has 1 to 255 characters"),
        (["workers", "stop"], "Say which workers to stop, or --all."),
        (["systemd", '--flags="--queues'], "--flags: No closing quotation."),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(arguments: list[str], text: str) -> None:
    with pytest.raises(CommandError, match=re.escape(text)):
        printed(*arguments)


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (max_wait, "mail=60s", ("mail", 60.0)),
        (max_wait, "5m", ("", 300.0)),
        (max_wait, "a=b=1h", ("a=b", 3600.0)),
        (max_depth, "mail=1000", ("mail", 1000)),
        (max_depth, "0", ("", 0)),
    ],
)
def test_rules_have_a_queue_or_none(parse: Callable[[str], Any], text: str, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text"), [(max_wait, "mail=60"), (max_wait, "mail"), (max_depth, "mail=-1"), (max_depth, "mail=")]
)
def test_rules_that_cannot_be_checked_are_refused(parse: Callable[[str], Any], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse(text)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("broker", "amqp://user:s3cret@host:5672/v", "amqp://user:***@host:5672/v"),
        ("broker", "redis://:s3@cret@host", "redis://:***@host"),
        ("broker", "amqp://a:s3cret@h1;amqp://b:s3cret@h2", "amqp://a:***@h1;amqp://b:***@h2"),
        ("results", "s3://bucket?secret_key=s3cret&region=eu", "s3://bucket?secret_key=***&region=eu"),
        ("result_options", {"password": "s3cret", "deep": [{"api_key": "s3cret"}]}, None),
        ("exchanges", {"x": {"routing_key": "mail.#"}}, {"x": {"routing_key": "mail.#"}}),
        ("result_options", {"auth": object()}, {"auth": "<object>"}),
        ("lease", 30.0, 30.0),
        ("prefetch", None, None),
        ("confirm", True, True),
    ],
)
def test_passwords_are_masked(name: str, value: Any, shown: Any) -> None:
    masked = mask(name, value)
    assert "s3" not in str(masked).replace("s3://", "")
    if shown is not None:
        assert masked == shown


def test_the_three_formats() -> None:
    rows: list[dict[str, Any]] = [{"a_b": 1, "at": datetime(2026, 1, 2, tzinfo=UTC)}, {"a_b": None, "at": "\x1b[2J"}]
    texts = {}
    for form in ("table", "json", "jsonl"):
        out = io.StringIO()
        Console(out, io.StringIO()).rows(rows, form)
        texts[form] = out.getvalue()
    assert texts["table"].splitlines() == ["a b  at", "1    2026-01-02 00:00:00", "-    ?[2J"]
    assert json.loads(texts["json"]) == [json.loads(line) for line in texts["jsonl"].splitlines()]
    assert json.loads(texts["json"])[0] == {"a_b": 1, "at": "2026-01-02T00:00:00+00:00"}


def test_durations_and_counts_are_told_in_words() -> None:
    assert [duration(seconds) for seconds in (None, 0.04, 119, 120, 7200, 200_000)] == [
        "-",
        "0.0s",
        "119.0s",
        "2.0m",
        "2.0h",
        "2.3d",
    ]
    assert told({"cancelled": 2, "asked to stop": 0, "not found": 1}) == "2 cancelled, 1 not found"
    assert told({}) == "no task is meant"


def test_the_twin_of_runworker_has_the_same_flags() -> None:
    def flags(parser: argparse.ArgumentParser) -> set[str]:
        return {flag for action in parser._actions for flag in action.option_strings}

    twin = CommandParser()
    SUBCOMMANDS["worker"].arguments(twin)
    original = argparse.ArgumentParser()
    Runworker().add_arguments(original)
    assert flags(twin) == flags(original) > {"--queues"}


def test_flags_of_django_stand_before_or_behind_the_subcommand() -> None:
    assert parsed("--verbosity=2", "list")["verbosity"] == 2
    assert parsed("list", "-v", "3")["verbosity"] == 3
    assert parsed("list", "--traceback")["traceback"]
    assert not parsed("list")["traceback"]


def test_manifests_start_this_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "manage.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "shop.settings")
    unit = printed("systemd", "--user=www", "--grace=90", '--flags=--queues="mail 100%"')
    entries = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))
    assert entries["Type"] == "notify"
    assert entries["User"] == "www"
    assert entries["WorkingDirectory"] == str(tmp_path)
    assert entries["Environment"] == "DJANGO_SETTINGS_MODULE=shop.settings"
    assert entries["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert (entries["KillSignal"], entries["KillMode"], entries["TimeoutStopSec"]) == ("SIGTERM", "mixed", "95")
    words = shlex.split(entries["ExecStart"].replace("%%", "%"))
    assert words[1:] == [str(tmp_path / "manage.py"), "taskq", "worker", "--shutdown-timeout=85", "--queues=mail 100%"]

    deployment = printed("k8s", "--image=shop:1", "--replicas=3", "--probe-port=9000")
    for line in (
        "replicas: 3",
        "image: shop:1",
        "terminationGracePeriodSeconds: 65",
        "{path: /live, port: probe}",
        "{path: /ready, port: probe}",
        '"--probe-port=9000"',
        "containerPort: 9000",
    ):
        assert line in deployment
