"""``taskq groups``: the groups "Task viewer" and "Task operator"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import connections

from ...core.options import nearest
from ...staff_groups import GroupGrant, grant_groups
from .console import Console, Row, add_format
from .subcommand import Subcommand

_COLUMNS = ("group", "outcome", "added")


def _add(parser: CommandParser) -> None:
    parser.add_argument(
        "--database", metavar="ALIAS", help="where groups are, an alias of DATABASES; by default as routers say"
    )
    add_format(parser)


def _run(console: Console, options: Mapping[str, Any]) -> int:
    using = options["database"]
    if using is not None and using not in connections:
        raise CommandError(f"--database {using!r} is no alias of DATABASES{nearest(using, connections) or '.'}")
    is_table = options["format"] == "table"
    console.rows((_row(one, is_table) for one in grant_groups(using)), options["format"], columns=_COLUMNS)
    return 0


def _row(one: GroupGrant, is_table: bool) -> Row:
    return {
        "group": one.group,
        "outcome": "made" if one.is_new else "changed" if one.added else "unchanged",
        "added": (", ".join(one.added) or "-") if is_table else one.added,
        "permissions": one.permissions,
    }


GROUPS = Subcommand(
    name="groups",
    help='make the groups "Task viewer" and "Task operator", or give them what they lack',
    arguments=_add,
    run=_run,
)
