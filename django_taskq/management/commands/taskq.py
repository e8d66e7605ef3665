"""``manage.py taskq``: look at tasks, queues and workers, and do something about them."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseProblem

from ...conf import OptionsError
from ...exceptions import TaskqError
from ...worker.startup import CannotStart
from ..taskq.changes import CANCEL, PURGE, REQUEUE, RETRY
from ..taskq.config import CONFIG
from ..taskq.console import Console
from ..taskq.enqueue import ENQUEUE
from ..taskq.groups import GROUPS
from ..taskq.health import HEALTH
from ..taskq.import_beat import IMPORT_BEAT
from ..taskq.listing import LIST, SHOW
from ..taskq.manifests import K8S, SYSTEMD
from ..taskq.pauses import QUEUES, TASKS
from ..taskq.schedules import SCHEDULES
from ..taskq.status import STATUS, TOP
from ..taskq.worker import WORKER
from ..taskq.workers import WORKERS

SUBCOMMANDS = {
    one.name: one
    for one in (
        STATUS,
        TOP,
        LIST,
        SHOW,
        RETRY,
        CANCEL,
        REQUEUE,
        PURGE,
        QUEUES,
        TASKS,
        WORKERS,
        SCHEDULES,
        IMPORT_BEAT,
        ENQUEUE,
        CONFIG,
        HEALTH,
        GROUPS,
        SYSTEMD,
        K8S,
        WORKER,
    )
}


class Command(BaseCommand):
    """Finds the subcommand and lets it run."""

    help = "Look at tasks, queues and workers, and do something about them."
    # Who looks into a project that is broken must be able to.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Those of each subcommand, and Django's own after them, too."""
        group = parser.add_subparsers(title="subcommands", dest="subcommand", required=True, metavar="SUBCOMMAND")
        for one in SUBCOMMANDS.values():
            sub = group.add_parser(one.name, help=one.help, description=f"{one.help[0].upper()}{one.help[1:]}.")
            one.arguments(sub)
            for action in BaseCommand().create_parser("manage.py", "taskq")._actions:  # noqa: SLF001  # no other way
                if (
                    action.option_strings
                    and "--help" not in action.option_strings
                    and "--version" not in action.option_strings
                ):
                    _add_again(sub, action)

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit status: 0 done, 1 not done or a rule does not hold, 2 wrong arguments, 130 interrupted."""
        options["called_from_command_line"] = getattr(self, "_called_from_command_line", False)
        console = Console(self.stdout, self.stderr)
        try:
            status = SUBCOMMANDS[options["subcommand"]].run(console, options)
        except (TaskqError, OptionsError, CannotStart, DatabaseProblem) as error:
            raise CommandError(str(error)) from error
        if status:
            sys.exit(status)


def _add_again(parser: CommandParser, action: argparse.Action) -> None:
    """One of Django's own flags, so that it may stand behind the subcommand; what stood before it stays."""
    kept = {name: getattr(action, name) for name in ("dest", "help", "metavar", "choices", "type")}
    if action.nargs == 0:
        parser.add_argument(
            *action.option_strings,
            dest=action.dest,
            action="store_true",
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS,
        )
    else:
        parser.add_argument(
            *action.option_strings, **(kept | {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS})
        )
