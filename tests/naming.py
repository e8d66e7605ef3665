"""Names of the cases of a parametrised test."""

from __future__ import annotations

import re
import reprlib

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 200


def shown(value: object) -> str:
    """Return a short ``repr`` without addresses and with sets in order.

    pytest-xdist needs the same names in every process.
    """
    return _ADDRESS.sub("", _repr.repr(value))
