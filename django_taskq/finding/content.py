"""Searches that look into what a task was given and what went wrong, as far as that may be seen."""

from __future__ import annotations

from ..core import codec
from ..core.sensitive import HIDDEN
from ..models import TaskRecord
from ..sight import SPOILT, argument_at, sight_of
from .search import Search


def content_has(record: TaskRecord, search: Search) -> bool:
    """Whether the visible content of a task is what is looked for; what is hidden cannot be guessed this way."""
    sight = sight_of(record)
    for path, wanted in search.arguments:
        value = argument_at(sight, path)
        if value is None or value == HIDDEN or _text(value) != wanted:
            return False
    if not search.error:
        return True
    try:
        errors = [f"{one.exception_class_path}\n{one.message}\n{one.traceback}" for one in record.attempt_errors]
    except SPOILT:
        return False
    return any(search.error.lower() in sight.text(text).lower() for text in errors)


def _text(value: object) -> str:
    return value if isinstance(value, str) else codec.encode(value)
