"""Which failures are the same one.

Those of one class, from one function of the project's own code, with the same message but for numbers and ids. Lines are
left out, so that an edit above the place makes no new group, and paths, which differ between hosts.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from pathlib import Path
from types import FrameType, TracebackType

#: characters of a fingerprint
LENGTH = 16
#: characters of a message that count; what comes later is seldom said of every case alike
_COUNTED = 300
#: words with a digit in them: numbers, ids, moments, addresses, names of hosts and workers
_VARIABLE = re.compile(r"[\w.:+-]*\d[\w.:+-]*")
#: files that are nobody's own: installed packages, the standard library, what has no file
_LIBRARY = re.compile(r"[\\/](site|dist)-packages[\\/]|[\\/]lib(64)?[\\/]python\d|[\\/]Lib[\\/]|^<frozen ")
_OURS = str(Path(__file__).parent.parent)


def is_library(filename: str) -> bool:
    """Whether a frame of this file is not the project's own; judged by the path alone, which may be another host's."""
    return filename.startswith(_OURS) or _LIBRARY.search(filename) is not None


def innermost_own(frames: TracebackType | None) -> str:
    """The function of the project's own code that was nearest to the error, as ``module.function``; "" without one."""
    found: FrameType | None = None
    while frames is not None:
        if not is_library(frames.tb_frame.f_code.co_filename):
            found = frames.tb_frame
        frames = frames.tb_next
    if found is None:
        return ""
    module = found.f_globals.get("__name__")
    return f"{module if isinstance(module, str) else '?'}.{found.f_code.co_qualname}"


def general(message: str) -> str:
    """A message without what differs from case to case: numbers and ids are ``#``."""
    return " ".join(_VARIABLE.sub("#", message[: 2 * _COUNTED]).split())[:_COUNTED]


def fingerprint(exception_class_path: str, place: str, message: str) -> str:
    """``LENGTH`` hexadecimal digits, the same for failures that are the same one.

    ``place``: see :func:`innermost_own`, or the task's name where no code of the project's was reached.
    """
    whole = "\n".join((exception_class_path, place, general(message)))
    return blake2b(whole.encode("utf-8", "replace"), digest_size=LENGTH // 2).hexdigest()
