"""A run as plain lines, for files, pipes and build logs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOBase

from example_project.census.display import Line

#: Lines a progress bar becomes.
PROGRESS_LINES = 5
#: Characters; the widest label of a report fits.
LABEL_WIDTH = 16


class PlainDisplay:
    """Writes to a stream; what its encoding lacks comes out as an escape instead of an error."""

    def __init__(self, stream: TextIOBase) -> None:
        self._stream = stream
        self._encoding = stream.encoding or "utf-8"

    def heading(self, text: str, detail: str) -> None:
        self._line(text)
        self._line(detail)
        self._line("")

    def step(self, text: str) -> None:
        self._line(f"- {text}")

    @contextmanager
    def progress(self, total: int) -> Iterator[Callable[[int], None]]:
        shown = 0

        def show(done: int) -> None:
            nonlocal shown
            part = done * PROGRESS_LINES // total
            if part > shown:
                shown = part
                self._line(f"  {done:,} of {total:,}")

        yield show

    def section(self, title: str, lines: Sequence[Line]) -> None:
        self._line("")
        self._line(title)
        for label, text in lines:
            self._line(f"  {label:<{LABEL_WIDTH}}{text}".rstrip())

    def commands(self, text: str, commands: Sequence[str]) -> None:
        self._line("")
        self._line(text)
        for command in commands:
            self._line(f"  {command}")

    def _line(self, text: str) -> None:
        self._stream.write(text.encode(self._encoding, "backslashreplace").decode(self._encoding) + "\n")
        self._stream.flush()
