"""What a subcommand is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ...aliases import taskq_backends
from ...backend import TaskqBackend
from ...core.options import nearest
from .console import Console


@dataclass(frozen=True, slots=True, kw_only=True)
class Subcommand:
    """``run`` gives the exit status; it may raise ``CommandError`` and what services raise for wrong input."""

    name: str
    help: str
    arguments: Callable[[CommandParser], None]
    run: Callable[[Console, Mapping[str, Any]], int]


def add_backend(parser: CommandParser) -> None:
    """``--backend``."""
    parser.add_argument("--backend", metavar="ALIAS", help="only this alias of TASKS")


def chosen_backends(options: Mapping[str, Any]) -> list[TaskqBackend]:
    """The backend that ``--backend`` names; all of ours without it. Raises ``CommandError``."""
    ours = {backend.alias: backend for backend in taskq_backends()}
    if not ours:
        raise CommandError('No alias in TASKS uses django_taskq: set "BACKEND": "django_taskq.TaskqBackend".')
    alias = options["backend"]
    if not alias:
        return list(ours.values())
    if alias not in ours:
        known = f"{nearest(alias, ours) or '.'} Known: {', '.join(ours)}."
        raise CommandError(f"--backend {alias!r}: no such alias of TASKS uses TaskqBackend{known}")
    return [ours[alias]]


def by_database(backends: Sequence[TaskqBackend]) -> dict[str, list[TaskqBackend]]:
    """Backends by the database of their rows."""
    found: dict[str, list[TaskqBackend]] = {}
    for backend in backends:
        found.setdefault(backend.database, []).append(backend)
    return found
