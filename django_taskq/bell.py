"""A pipe that wakes a thread out of ``select``."""

from __future__ import annotations

import os


class Bell:
    """Rung by any thread, or by a signal's handler; ``watched`` turns readable until :meth:`quieten`.

    Neither end blocks: a bell that rings already need not ring louder. ``rung``: the end that a byte rings.
    """

    def __init__(self) -> None:
        self.watched, self.rung = os.pipe()
        os.set_blocking(self.watched, False)
        os.set_blocking(self.rung, False)

    def __del__(self) -> None:
        # Not before: whoever has it may still ring, and the numbers may be somebody else's by then.
        os.close(self.watched)
        os.close(self.rung)

    def ring(self) -> None:
        """Wake whoever watches."""
        try:
            os.write(self.rung, b"!")
        except BlockingIOError:
            # It rings already.
            return

    def quieten(self) -> None:
        """Make ``watched`` unreadable; also where nobody rang."""
        try:
            os.read(self.watched, 4096)
        except BlockingIOError:
            # Nobody rang.
            return
