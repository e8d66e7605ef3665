"""A run on a terminal, drawn by rich."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from example_project.census.display import Line


class TerminalDisplay:
    """Draws on the terminal the process runs in. All text is taken literally: paths may look like rich's markup."""

    def __init__(self, *, colour: bool) -> None:
        self._console = Console(no_color=not colour, highlight=False)

    def heading(self, text: str, detail: str) -> None:
        self._console.print()
        self._console.print(Text(text, style="bold"))
        self._console.print(Text(detail, style="dim"))
        self._console.print()

    def step(self, text: str) -> None:
        self._console.print(Text.assemble((" ✓ ", "green"), text))

    @contextmanager
    def progress(self, total: int) -> Iterator[Callable[[int], None]]:
        columns = (
            TextColumn("  "),
            BarColumn(bar_width=40, complete_style="cyan", finished_style="green"),
            TextColumn("{task.completed:>7,.0f} of {task.total:,.0f}"),
            TimeElapsedColumn(),
        )
        # Transient: what stays on the screen is the step that says how it went.
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task("", total=total)
            yield lambda done: bar.update(task, completed=done)

    def section(self, title: str, lines: Sequence[Line]) -> None:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for label, text in lines:
            grid.add_row(Text(label), Text(text))
        self._console.print()
        self._console.print(Text(title, style="bold"))
        self._console.print(Padding(grid, (0, 0, 0, 2)))

    def commands(self, text: str, commands: Sequence[str]) -> None:
        self._console.print()
        self._console.print(Text(text, style="bold"))
        for command in commands:
            # Not wrapped: a command line that was broken in two cannot be copied.
            self._console.print(Text(f"  {command}", style="cyan"), soft_wrap=True)
        self._console.print()
