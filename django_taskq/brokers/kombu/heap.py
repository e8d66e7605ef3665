"""Memory that huge messages leave behind.

They are received in a thousand pieces. Whatever small thing is allocated among them keeps the pages around it from
going back to the system when the pieces are freed (glibc, malloc(3), "M_TRIM_THRESHOLD").
"""

from __future__ import annotations

import ctypes

#: bytes of a body from which on it is worth a look
HUGE = 4 * 1024 * 1024
#: seconds until nobody holds such a body any more
SETTLED = 1.0

#: malloc_trim(3); only glibc has it, and only glibc needs it
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back_memory() -> None:
    """Give pages without anything on them back to the system; takes some milliseconds."""
    if _trim is not None:
        _trim(0)
