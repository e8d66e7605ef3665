"""Which queues a worker serves: ``a,b,"mail*",-slow``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ..exceptions import OptionError

_WILDCARD = re.compile(r"[*?\[]")
#: AMQP 0-9-1 allows 255 bytes (section 4.2.5.3, short strings); the column is narrower, for its indexes
MAX_QUEUE_NAME = 128


@dataclass(frozen=True, slots=True)
class QueueSelection:
    """A choice of queues by name and pattern.

    ``include``: names or patterns with ``* ? [...]``; empty means every queue.
    ``exclude``: the same, taken away. A selection is ``exact`` when it names every queue it serves,
    so that nobody has to look which queues exist.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> QueueSelection:
        """From the command line; a leading ``-`` excludes. Raises ``OptionError``."""
        include: list[str] = []
        exclude: list[str] = []
        for part in (item.strip() for item in text.split(",")):
            name = part.removeprefix("-")
            if not name:
                raise OptionError(f"--queues {text!r}: an empty queue name; write e.g. --queues=mail,-slow.")
            if len(name) > MAX_QUEUE_NAME:
                raise OptionError(f"--queues: {name[:20]!r}… is longer than {MAX_QUEUE_NAME} characters.")
            (exclude if part.startswith("-") else include).append(name)
        return cls(tuple(dict.fromkeys(include)), tuple(dict.fromkeys(exclude)))

    @property
    def is_everything(self) -> bool:
        """Whether no queue is left out."""
        return not self.exclude and (not self.include or "*" in self.include)

    @property
    def exact(self) -> tuple[str, ...] | None:
        """The names of all served queues, or None when that takes a look at which exist."""
        if not self.include or any(_WILDCARD.search(name) for name in self.include):
            return None
        return tuple(name for name in self.include if name in self)

    def __contains__(self, queue_name: str) -> bool:
        served = not self.include or any(fnmatchcase(queue_name, pattern) for pattern in self.include)
        return served and not any(fnmatchcase(queue_name, pattern) for pattern in self.exclude)

    def of(self, queue_names: Iterable[str]) -> list[str]:
        """Those of ``queue_names`` that are served."""
        return [name for name in queue_names if name in self]

    def __str__(self) -> str:
        parts = [*(self.include or ("*",)), *(f"-{name}" for name in self.exclude)]
        return ", ".join(parts)
