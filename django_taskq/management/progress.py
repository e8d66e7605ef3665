"""How far a command is, for people at a terminal; nothing for files and pipes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TextIO

#: tells a progress display how many of its total are done
Show = Callable[[int], None]


@contextmanager
def progress(stream: TextIO, total: int, what: str, *, shown: bool) -> Iterator[Show]:
    """Follow work while it is done; call what comes out with how much of ``total`` is.

    A bar by rich where that is installed, else a line that is written over; ``shown=False``: nothing.
    Leaves nothing behind.
    """
    if not shown:
        yield lambda done: None
    elif find_spec("rich") is None:
        with _line(stream, total, what) as show:
            yield show
    else:
        with _bar(stream, total, what) as show:
            yield show


@contextmanager
def _line(stream: TextIO, total: int, what: str) -> Iterator[Show]:
    width = 0

    def show(done: int) -> None:
        nonlocal width
        text = f"{what}: {done:,} of {total:,}"
        width = max(width, len(text))
        stream.write(f"\r{text:<{width}}")
        stream.flush()

    try:
        show(0)
        yield show
    finally:
        stream.write(f"\r{' ' * width}\r")
        stream.flush()


@contextmanager
def _bar(stream: TextIO, total: int, what: str) -> Iterator[Show]:
    # Imported only here: an extra, and of no use away from a terminal.
    rich: Any = import_module("rich.progress")
    console = import_module("rich.console").Console(file=stream, highlight=False)
    columns = (
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(bar_width=40),
        rich.TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
