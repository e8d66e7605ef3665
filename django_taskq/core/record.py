"""Values that are made for each task: nobody changes them, and mypy sees to it.

At run time nothing does. A frozen dataclass sets each of its fields by a call of ``object.__setattr__``, which takes
three times as long as setting it; some ten of them are made on a task's way, and were 7 % of what it costs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def record(cls: type[_T]) -> type[_T]:
    """A dataclass with slots and keyword arguments, to be used as if it was frozen."""
    return dataclass(slots=True, kw_only=True, unsafe_hash=True)(cls)
