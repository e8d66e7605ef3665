"""Texts for people, as the sources have them and as the catalogues have them; with nothing but Python and Django.

``make messages`` takes GNU gettext for the same; a machine that only runs the tests need not have it.
"""

from __future__ import annotations

import ast
import gettext
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path

from django.utils.translation.template import templatize

PACKAGE = Path(__file__).parents[1] / "django_taskq"
LOCALES = PACKAGE / "locale"
LANGUAGES = ("de", "es", "fr")

#: functions that mark a text -> the positions of context, text, plural
_MARKS: dict[str, tuple[int | None, int, int | None]] = {
    **dict.fromkeys(("_", "gettext", "gettext_lazy", "gettext_noop"), (None, 0, None)),
    **dict.fromkeys(("ngettext", "ngettext_lazy"), (None, 0, 1)),
    **dict.fromkeys(("pgettext", "pgettext_lazy"), (0, 1, None)),
    **dict.fromkeys(("npgettext", "npgettext_lazy"), (0, 1, 2)),
}
#: a call as Django writes it where a template has a text
_CALL = re.compile(
    r"\b(?P<mark>n?p?gettext|_)\((?P<args>(?:\s*u?(?:'''.*?'''|\"\"\".*?\"\"\"|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"),?)+)",
    re.DOTALL,
)
#: what stands for a value: %(name)s, {name}, {}
_PLACE = re.compile(r"%\((\w+)\)[#0 +-]*\d*(?:\.\d+)?[a-z]|%[sd]|\{\w*\}")


@dataclass(frozen=True, kw_only=True)
class Message:
    """A text, and where it stands."""

    id: str
    plural: str = ""
    context: str = ""
    where: str = field(default="", compare=False)

    @property
    def key(self) -> tuple[str, str]:
        """What catalogues find it by."""
        return self.context, self.id


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A text in a catalogue, with what it is in that language."""

    message: Message
    texts: tuple[str, ...]
    flags: frozenset[str] = frozenset()
    is_obsolete: bool = False


@cache
def messages() -> dict[tuple[str, str], Message]:
    """Return all texts of the package; to be read only."""
    found: dict[tuple[str, str], Message] = {}
    sources = [_of_python(path) for path in sorted(PACKAGE.rglob("*.py"))]
    sources += [_of_template(path) for path in sorted((PACKAGE / "templates").rglob("*.html"))]
    for one in chain.from_iterable(sources):
        # A text that stands alone somewhere, and elsewhere with its plural, is one entry.
        if one.key not in found or one.plural:
            found[one.key] = one
    return found


def _of_python(path: Path) -> Iterator[Message]:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in _MARKS and node.args:
            texts = [one.value if isinstance(one, ast.Constant) else None for one in node.args]
            yield _message(name, texts, f"{path.relative_to(PACKAGE)}:{node.lineno}")


def _of_template(path: Path) -> Iterator[Message]:
    where = str(path.relative_to(PACKAGE))
    for found in _CALL.finditer(templatize(path.read_text(), origin=where)):
        call = ast.parse(f"f({found['args'].rstrip().rstrip(',')})", mode="eval").body
        assert isinstance(call, ast.Call)
        yield _message(found["mark"], [ast.literal_eval(one) for one in call.args], where)


def _message(mark: str, texts: Sequence[object], where: str) -> Message:
    context, text, plural = (None if at is None else texts[at] for at in _MARKS[mark])
    assert isinstance(text, str), f"{where}: a text that is not written there cannot be translated"
    return Message(id=text, plural=str(plural or ""), context=str(context or ""), where=where)


# ---- catalogues --------------------------------------------------------------------------------------------


def entries(language: str) -> list[Entry]:
    """Return a catalogue as it is edited, but for its header."""
    text = (LOCALES / language / "LC_MESSAGES" / "django.po").read_text()
    found = [_entry(block) for block in re.split(r"\n\s*\n", text) if "msgid" in block]
    return [one for one in found if one.message.id]


def _entry(block: str) -> Entry:
    parts: dict[str, str] = {}
    flags: set[str] = set()
    key = ""
    for raw in block.splitlines():
        line = raw.removeprefix("#~ ")
        if line.startswith("#,"):
            flags |= {one.strip() for one in line[2:].split(",")}
        if line.startswith(("#", '""')) or not line.strip():
            continue
        if not line.startswith('"'):
            key, _space, line = line.partition(" ")
        parts[key] = parts.get(key, "") + ast.literal_eval(line)
    message = Message(id=parts["msgid"], plural=parts.get("msgid_plural", ""), context=parts.get("msgctxt", ""))
    texts = tuple(text for name, text in parts.items() if name.startswith("msgstr"))
    return Entry(message=message, texts=texts, flags=frozenset(flags), is_obsolete="#~ msgid" in block)


def compiled(language: str) -> dict[object, str]:
    """Return a catalogue as programs read it."""
    with (LOCALES / language / "LC_MESSAGES" / "django.mo").open("rb") as file:
        catalogue: dict[object, str] = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]  # all of it
    return {key: text for key, text in catalogue.items() if key != ""}


def places(text: str) -> list[str]:
    """Return what stands for values in a text."""
    return sorted(found.group() for found in _PLACE.finditer(text.replace("%%", "")))
