"""How subcommands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

FORMATS = ("table", "json", "jsonl")

Row = Mapping[str, Any]


def add_format(parser: CommandParser) -> None:
    """``--format``."""
    parser.add_argument(
        "--format", choices=FORMATS, default="table", help="table for people; json or jsonl for programs (%(default)s)"
    )


class Stream(Protocol):
    """What is asked of a stream; Django wraps its own around those of the system."""

    def write(self, text: str, /) -> object:
        """Append."""

    def flush(self) -> None:
        """Let it be seen."""


@dataclass(frozen=True, slots=True)
class Console:
    """Where a subcommand prints."""

    out: Stream
    err: Stream

    def line(self, text: str = "") -> None:
        """Print a line."""
        self.out.write(f"{text}\n")

    def warn(self, text: str) -> None:
        """Print a line beside the output."""
        self.err.write(f"{text}\n")

    def rows(self, rows: Iterable[Row], form: str, *, columns: Sequence[str] | None = None) -> None:
        """Print rows; as a table only ``columns``, None for all. JSON has every key."""
        if form == "jsonl":
            for row in rows:
                self.line(_json(row))
        elif form == "json":
            self.line(_json(list(rows), indent=2))
        else:
            self.table(list(rows), columns)

    def document(self, value: Any) -> None:
        """Print one JSON value."""
        self.line(_json(value, indent=2))

    def table(self, rows: Sequence[Row], columns: Sequence[str] | None = None) -> None:
        """Print a table: by rich on a terminal where that is installed."""
        if not rows:
            return
        names = list(columns or rows[0])
        cells = [[show(row[name]) for name in names] for row in rows]
        if is_terminal(self.out) and find_spec("rich") is not None:
            _rich_table(self.out, names, cells)
            return
        titles = [name.replace("_", " ") for name in names]
        widths = [max(len(line[index]) for line in [titles, *cells]) for index in range(len(names))]
        for line in [titles, *cells]:
            self.line("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

    def confirm(self, question: str) -> None:
        """Go on when somebody says yes. Raises ``CommandError`` otherwise, also where nobody can be asked."""
        if not (is_terminal(sys.stdin) and is_terminal(self.err)):
            raise CommandError(f"{question} Nobody is here to be asked: give --yes.")
        self.err.write(f"{question} [y/N] ")
        self.err.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise CommandError("Nothing was changed.")


def is_terminal(stream: Any) -> bool:
    """Whether people read this."""
    return bool(getattr(stream, "isatty", lambda: False)())


def show(value: Any) -> str:
    """A value in a table."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.2f}"
        case datetime():
            return (timezone.make_naive(value) if timezone.is_aware(value) else value).isoformat(" ", "seconds")
        case _:
            # A name may hold what moves a terminal's cursor.
            return "".join(one if one.isprintable() else "?" for one in str(value))


def duration(seconds: float | None) -> str:
    """Seconds for people."""
    if seconds is None:
        return "-"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.1f}{unit}"
    return f"{seconds:.1f}s"


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return (timezone.make_aware(value) if timezone.is_naive(value) else value).isoformat()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


def _rich_table(stream: Stream, names: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    # Imported only here: an extra, and of no use away from a terminal.
    table = import_module("rich.table").Table(box=None, pad_edge=False, header_style="bold")
    text = import_module("rich.text").Text
    for name in names:
        table.add_column(name.replace("_", " "), overflow="fold")
    for line in cells:
        table.add_row(*map(text, line))
    import_module("rich.console").Console(file=stream, highlight=False).print(table)
