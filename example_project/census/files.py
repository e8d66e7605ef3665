"""Which files a census counts."""

import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

#: Directories inside a standard library that hold other people's code, or no source.
LEFT_OUT = frozenset({"site-packages", "dist-packages", "__pycache__"})


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The files to count.

    `paths` are absolute and sorted. `unnameable` counts files left out because their name is not UTF-8: such a name
    can be neither an argument of a task nor a line in a report.
    """

    directory: Path
    paths: tuple[str, ...]
    unnameable: int


def standard_library() -> Path:
    """The directory that holds the standard library of the running Python."""
    return Path(sysconfig.get_path("stdlib"))


def find(directory: Path, *, limit: int | None = None) -> Sources:
    """All `.py` files under a directory, or the first `limit` of them in alphabetical order.

    Links to directories are not followed. A directory that cannot be listed raises its OSError: a census that
    silently leaves out a part is wrong.
    """
    directory = directory.resolve()
    paths: list[str] = []
    unnameable = 0
    for parent, children, names in os.walk(directory, onerror=_refuse):
        children[:] = [child for child in children if child not in LEFT_OUT]
        for name in names:
            if not name.endswith(".py"):
                continue
            path = f"{parent}{os.sep}{name}"
            if _is_text(path):
                paths.append(path)
            else:
                unnameable += 1
    return Sources(directory=directory, paths=tuple(sorted(paths)[:limit]), unnameable=unnameable)


def _is_text(path: str) -> bool:
    """Python hands out the bytes of a name that is not UTF-8 as lone surrogates, which do not encode."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse(error: OSError) -> NoReturn:
    raise error
