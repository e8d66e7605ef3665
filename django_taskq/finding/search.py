"""What somebody looks for in the task list, read from what was typed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self
from uuid import UUID

from django.db.models import Q
from django.db.models.functions import Substr
from django.db.models.lookups import Exact
from django.utils.translation import gettext as _

from ..core import codec
from ..core.states import State
from ..selection import Selection

#: one word: a qualifier or none, and its value, which may stand in quotation marks
_WORD = re.compile(r'(?:([A-Za-z][\w.-]*):)?(?:"([^"]*)"?|(\S+))')
_FINGERPRINT = re.compile(r"[0-9a-f]{1,16}")
#: characters; more is not typed
_MAX_QUERY = 500


class BadSearch(ValueError):
    """What was typed is no search; says why in words for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Tasks to which all that is given applies; "" is anything. To the letter, unlike ``selection.Selection``.

    ``task``: the whole name; ``prefix``: how it begins. ``error``: a part of an error of a task that FAILED.
    ``arguments``: path -> value, as text; a path begins with a name or a position. ``is_nothing``: two that exclude
    each other were asked for.
    """

    id: str = ""
    state: str = ""
    task: str = ""
    prefix: str = ""
    queue: str = ""
    worker: str = ""
    error: str = ""
    group: str = ""
    arguments: tuple[tuple[str, str], ...] = ()
    is_nothing: bool = False

    @property
    def reads_content(self) -> bool:
        """Whether it looks into what not everybody may see."""
        return bool(self.error or self.arguments)

    def narrowed(self, **more: str) -> Self:
        """With these conditions, too."""
        found = self
        for name, value in more.items():
            if not value:
                continue
            if getattr(found, name) not in ("", value):
                found = replace(found, is_nothing=True)
            found = replace(found, **{name: value})  # type: ignore[arg-type]  # texts all
        return found

    def condition(self) -> Q:
        """The same for a queryset, but for ``arguments``."""
        if self.is_nothing:
            return Q(pk__in=[])
        given = {
            "pk": self.id,
            "state": self.state,
            "name": self.task,
            "queue_name": self.queue,
            "worker_id": self.worker,
            "errors__icontains": codec.encode(self.error)[1:-1],
            "fingerprint": self.group,
        }
        condition = Q(**{lookup: value for lookup, value in given.items() if value})
        if self.prefix:
            # Not LIKE, which does not tell upper case from lower on SQLite.
            condition &= Q(Exact(Substr("name", 1, len(self.prefix)), self.prefix))
        return condition

    def selection(self) -> Selection | None:
        """The same for what changes many tasks; None where it cannot be said, as with ``arguments``."""
        # There, names are patterns.
        if self.is_nothing or self.arguments or set("*?") & set(self.task + self.prefix + self.queue):
            return None
        if self.task and not self.task.startswith(self.prefix):
            return None
        pattern = self.task or (f"{self.prefix}*" if self.prefix else "")
        return Selection(
            ids=(self.id,) if self.id else (),
            states=frozenset({State(self.state)} if self.state else ()),
            task=pattern,
            queue=self.queue,
            error=self.error,
            worker=self.worker,
            group=self.group,
        )


def parse(text: str) -> Search:
    """A search from what was typed: an id, the beginning of a task's name, or words with qualifiers.

    Raises ``BadSearch``.
    """
    search = Search()
    for qualifier, quoted, bare in _WORD.findall(text[:_MAX_QUERY].replace("\x00", "")):
        value = quoted or bare
        if value:
            search = _add(search, qualifier, value)
    return search


def _add(search: Search, qualifier: str, value: str) -> Search:
    first, _dot, path = qualifier.partition(".")
    if first == "args" and path:
        return replace(search, arguments=(*search.arguments, (path, value)))
    if qualifier == "":
        task_id = _id_of(value)
        return search.narrowed(id=task_id) if task_id else search.narrowed(prefix=value)
    if qualifier not in _READERS:
        raise BadSearch(
            _("“%(word)s:” is not known here; there are id, task, queue, worker, state, error, group and args.NAME.")
            % {"word": qualifier}
        )
    read = _READERS[qualifier](value)
    if not read:
        raise BadSearch(_("“%(value)s”: there is no such %(word)s.") % {"value": value, "word": qualifier})
    found = search.narrowed(**{qualifier: read})
    # An error is looked for in tasks that FAILED alone: those are few, and an index has them.
    return found.narrowed(state=State.FAILED.value) if qualifier == "error" else found


def _id_of(value: str) -> str:
    try:
        return str(UUID(value))
    except ValueError:
        return ""


#: how the value of each qualifier is read; "": it is none
_READERS: dict[str, Callable[[str], str]] = {
    "id": _id_of,
    "task": str,
    "queue": str,
    "worker": str,
    "state": lambda value: value.upper() if value.upper() in State.__members__ else "",
    "error": str,
    "group": lambda value: value if _FINGERPRINT.fullmatch(value) else "",
}
