"""``taskq worker``: ``runworker`` under a name that no other app has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TextIO, cast

from django.core.management.base import CommandParser

from ..commands.runworker import Command as Runworker
from .console import Console
from .subcommand import Subcommand


def _add(parser: CommandParser) -> None:
    Runworker().add_arguments(parser)


def _run(console: Console, options: Mapping[str, Any]) -> int:
    command = Runworker(stdout=cast(TextIO, console.out), stderr=cast(TextIO, console.err))
    command._called_from_command_line = options["called_from_command_line"]  # type: ignore[attr-defined]  # noqa: SLF001  # as Django sets it
    command.handle(**options)
    return 0


WORKER = Subcommand(name="worker", help="the same as runworker, with the same flags", arguments=_add, run=_run)
