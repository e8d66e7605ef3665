"""How a run is shown: the seam between what happens and who reads it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

#: What a line is about, and what it says.
Line = tuple[str, str]


class Display(Protocol):
    """Shows a run, in the order of these calls; `PlainDisplay` for files and pipes, `TerminalDisplay` for people."""

    def heading(self, text: str, detail: str) -> None:
        """Open the run."""

    def step(self, text: str) -> None:
        """Say that a step is done."""

    def progress(self, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Follow a step while it is being done; call what comes out with how much of `total` is."""

    def section(self, title: str, lines: Sequence[Line]) -> None:
        """Show facts under a title."""

    def commands(self, text: str, commands: Sequence[str]) -> None:
        """Say what to type next."""
